"""Records as a table source: what was served and labelled is evaluated and learned from, as any other source is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_tables import mixed

import keepfit as kf
from keepfit.core.errors import DataError, UsageError
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import from_rows
from keepfit.store.record_files import FileRecords
from keepfit.store.record_tables import read_table
from keepfit.store.recorder import Answered, Mode, Recorder


def serve(folder: Path, run: Any, rows: list[dict[str, Any]], labelled: int, mode: Mode = "full") -> None:
    bundle = Bundle.open(run.bundle)
    predictor, recorder = bundle.predictor(), Recorder(FileRecords(folder), mode)
    sketcher = recorder.describe(bundle, "small", "1")
    names = [column.name for column in bundle.inputs]
    for place, row in enumerate(rows):
        table = from_rows([row], names)
        known = recorder.ids.new(1)
        answered = Answered(
            known, time.time(), "small", "1", sketcher, bundle.sha256, table, predictor.predict(table), 10
        )
        recorder.put(answered)
        if place < labelled:
            recorder.feedback(known, [row["answer"]]).result(10)
    recorder.close()


def test_records_are_evaluated_and_learned_from(tmp_path, finished):
    rows = mixed()[:150]
    place = tmp_path / ".keepfit" / "records" / "small"
    serve(place, finished, rows, 120)
    table = read_table("records:.keepfit/records/small", tmp_path)
    assert len(table) == 120 and list(table.columns["answer"]) == [row["answer"] for row in rows[:120]]
    found = kf.evaluate(finished.bundle, f"records:{place}")
    assert found["rows"] == 120 and found["metrics"]["accuracy"] > 0.8
    recipe = {"version": 1, "name": "again", "data": {"source": "records:.keepfit/records/small", "target": "answer"},
              "model": {"use": "linear"}}  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    assert run.metrics["test"]["accuracy"] > 0.6 and run.version == 1
    again = kf.run(run.path / "recipe.yaml", workspace=tmp_path)
    assert {stage["status"] for stage in again.stages} == {"kept"}
    said = yaml.safe_load(Bundle.open(run.bundle).files["recipe.yaml"])
    assert said["data"]["source"] == "records:small"
    serve(place, finished, rows[120:], 30)
    third = kf.run(tmp_path / "r.yaml", workspace=tmp_path, until="ingest")
    assert [stage["status"] for stage in third.stages] == ["made"]


def test_records_without_what_is_asked_for_are_refused_by_name(tmp_path, finished):
    with pytest.raises(UsageError):
        read_table("records:nowhere", tmp_path)
    serve(tmp_path / "sketched", finished, mixed()[:3], 3, "sketch")
    serve(tmp_path / "unlabelled", finished, mixed()[:3], 0)
    for name in ("sketched", "unlabelled"):
        with pytest.raises(DataError) as caught:
            read_table(f"records:{name}", tmp_path)
        assert caught.value.code == "no_rows" and "feedback" in caught.value.hint
    assert len(read_table("records:unlabelled", tmp_path, labelled=None)) == 3
