"""Nothing fitted sees the test split, copies stand on one side of it, and a proposal is no mistake for a rare truth."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tables import CITIES, csv_text, mixed

import keepfit as kf
from keepfit.cleaning.dependencies import DependencyOptions, violated
from keepfit.runtime.table import Column
from keepfit.stages.results import json_of, part_of, table_of

FITTED = {
    "clean": ("rules.json", "changes.json", "columns.json", "profile.json", "golden.json"),
    "train": ("preparation.json", "model.onnx"),
}
ROWS = mixed(150)
CELLS = {
    "age": st.one_of(st.none(), st.floats(-1e6, 1e6), st.just("forty")),
    "city": st.one_of(st.none(), st.sampled_from((*CITIES, "KÖLN ", "Kolm", "Atlantis"))),
    "joined": st.sampled_from(("1999-01-01", "2031-12-31", "yesterday")),
    "note": st.text("ab c", max_size=20),
    "answer": st.sampled_from(("no", "yes")),
}


def fitted_on(folder: Path, name: str, held: list[dict[str, Any]]) -> dict[str, bytes]:
    """Every file that is fitted, by stage, of a run whose test rows are `held`."""
    place = folder / name
    place.mkdir()
    (place / "train.csv").write_text(csv_text(ROWS[:110]), "utf-8")
    (place / "test.csv").write_text(csv_text(held), "utf-8")
    (place / "r.yaml").write_text(
        "version: 1\nname: r\ndata: {train: train.csv, test: test.csv, target: answer, columns: {price: ignore}, balance: smote}\n"
        "clean: {duplicates: drop, near_duplicates: drop, outliers: clip, spellings: apply, rare: group, dependencies: repair,\n"
        "  formats: blank, labels: relabel, missing: {numeric: iterative}, leaks: report}\n"
        "model: {use: gbdt, params: {rounds: 3, min_data_in_leaf: 5}, refit: true}\n"
    )
    run = kf.run(place / "r.yaml", until="train", workspace=place)
    made = {
        f"{stage}/{file}": data for stage in FITTED for file, data in run.files[stage].items() if file in FITTED[stage]
    }
    made |= {f"train/{file}": data for file, data in run.files["train"].items() if file.endswith((".onnx", ".npz"))}
    return made


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return fitted_on(tmp_path_factory.mktemp("usual"), "usual", ROWS[110:])


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.fixed_dictionaries(CELLS), min_size=40, max_size=40))
def test_no_fitted_parameter_depends_on_a_test_row(
    usual: Any, tmp_path_factory: Any, cells: list[dict[str, Any]]
) -> None:
    held = [{**row, **said} for row, said in zip(ROWS[110:], cells, strict=True)]
    made = fitted_on(tmp_path_factory.mktemp("other"), "other", held)
    assert made.keys() == usual.keys() and len(made) >= 6
    assert {file for file in made if made[file] != usual[file]} == set()


def test_a_training_row_does_change_what_is_fitted(usual: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The check of the check: were nothing compared, the test above would pass as well."""
    monkeypatch.setitem(ROWS[3], "age", 63.5)
    made = fitted_on(tmp_path, "other", ROWS[110:])
    assert {"clean/profile.json", "train/preparation.json"} <= {file for file in made if made[file] != usual[file]}


def test_the_copies_of_real_messages_are_found_and_none_crosses_the_split(tmp_path: Path) -> None:
    shared = os.environ.get("KEEPFIT_SHARED", str(Path(__file__).parents[3] / "shared"))
    file = Path(shared) / "data" / "text" / "sms_spam.tsv.gz"
    if not file.is_file():
        pytest.skip("the shared data is not there (KEEPFIT_SHARED)")
    (tmp_path / "r.yaml").write_text(
        f"version: 1\nname: sms\nmodality: text\ndata: {{source: {file}, target: label, text: sms, "
        'read: {delimiter: "\\t", header: false, names: [label, sms], quote: none}}\n'
        "clean: {duplicates: drop, labels: off}\nmodel: {use: tfidf}\n"
    )
    run = kf.run(tmp_path / "r.yaml", until="clean", workspace=tmp_path)
    told = [
        one["message"]
        for stage in ("clean",)
        for name in ("findings.json", "leaks.json")
        for one in json_of(run.files[stage], name)
    ]
    assert any(message.startswith("403 rows repeat an earlier one exactly") for message in told), told
    assert any(message.startswith("292 training rows repeat an earlier one") for message in told), told
    table, part = table_of(run.files["ingest"]), part_of(run.files["split"]).tolist()
    places: dict[str, list[str]] = defaultdict(list)
    for text, side in zip(table.columns["text"], part, strict=True):
        places[str(text)].append(side)
    assert sum(len(sides) - 1 for sides in places.values()) == 403
    assert [sides for sides in places.values() if len(set(sides)) > 1] == []
    assert Counter(side for sides in places.values() for side in sides[1:])["train"] == 292
    left = Counter(part_of(run.files["clean"]).tolist())
    assert left[""] == 292 and left["train"] == part.count("train") - 292


def columns_of(pairs: list[tuple[str, str]]) -> dict[str, Column]:
    return {name: np.array([pair[n] for pair in pairs], object) for n, name in enumerate(("left", "right"))}


def test_a_rare_truth_is_not_proposed_to_be_the_usual_value() -> None:
    """As Married-AF-spouse among husbands and wives: twelve rows, the exception in each of their groups."""
    rows = [("Husband", "Married-civ-spouse")] * 3000 + [("Wife", "Married-civ-spouse")] * 400
    rows += [("Own-child", "Never-married")] * 1500 + [("Not-in-family", "Never-married")] * 900
    rows += [("Husband", "Married-AF-spouse")] * 5 + [("Wife", "Married-AF-spouse")] * 7
    assert violated(columns_of(rows), DependencyOptions()) == {}
    lone = [*rows, ("Husband", "Never-maried")]
    found = violated(columns_of(lone), DependencyOptions())
    assert found["right"][:2] == ([len(rows)], ["Married-civ-spouse"])
