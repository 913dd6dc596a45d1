"""The parity gate: a bundle that does not answer like the trained model is refused; what golden rows hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_tables import LEARNERS, made_run

from keepfit.core.errors import GateError
from keepfit.recipe.outcome import PackageOptions
from keepfit.runtime.arrays import pack, unpack
from keepfit.stages.package import check_parity, package
from keepfit.stages.packing import unpack_table
from keepfit.stages.results import as_json, json_of


def packaged(run, trained=None, golden="synthetic"):
    files = run.files
    return package(
        PackageOptions(golden=golden),
        "small",
        "version: 1\n",
        "card",
        {},
        files["ingest"],
        files["split"],
        files["clean"],
        {**files["train"], **(trained or {})},
    )


def test_the_gate_refuses_scores_that_differ(finished):
    native = unpack(json_of(finished.files["train"], "native.json"))
    whole = packaged(finished)
    assert set(whole) == {
        "bundle.json",
        "model.onnx",
        "preparation.json",
        "profile.json",
        "recipe.yaml",
        "card.md",
        "golden.jsonl",
        "SHA256SUMS",
    }
    said = json.loads(whole["bundle.json"])["parity"]
    assert said["rows"] == len(native) == 60 and said["labels_equal"] == 1.0 and said["largest_difference"] <= 1e-4
    for row in (0, 11, 30, 59):
        wrong = native.copy()
        wrong[row] += np.array([3e-4, -3e-4])
        with pytest.raises(GateError) as caught:
            packaged(finished, {"native.json": as_json(pack(wrong, "f8"))})
        assert caught.value.code == "parity" and caught.value.exit_code == 4 and "3.00e-04" in str(caught.value)


def test_the_gate_refuses_another_network(finished, tmp_path):
    other = made_run(tmp_path, learner="{use: linear, params: {c: 0.001}}")
    with pytest.raises(GateError, match="does not answer like"):
        packaged(finished, {"model.onnx": other.files["train"]["model.onnx"]})


def test_labels_count_apart_from_probabilities():
    native = np.full((1000, 2), 0.5)
    native[:, 0] += 1e-6
    flipped = native[:, ::-1].copy()
    assert check_parity(native, native, "classification", 1.0)["labels_equal"] == 1.0
    with pytest.raises(GateError, match="labels equal"):
        check_parity(native, flipped, "classification", 1.0)
    assert check_parity(native[:, :1] * 1e6, native[:, :1] * 1e6 + 9, "regression", 1e5)["labels_equal"] == 1.0
    with pytest.raises(GateError):
        check_parity(native[:, :1], native[:, :1] + 0.1, "regression", 100.0)
    with pytest.raises(GateError):
        check_parity(np.full((3, 2), np.nan), native[:3], "classification", 1.0)


def test_golden_rows_are_nobodys_unless_asked(finished):
    table = unpack_table(finished.files["ingest"]["table"])
    real = {
        tuple(sorted((k, str(v)) for k, v in zip(("age", "city"), pair, strict=True)))
        for pair in zip(table.columns["age"], table.columns["city"], strict=True)
    }
    for kind, lines in (("synthetic", 12), ("rows", 20), ("off", 0)):
        files = packaged(finished, golden=kind)
        assert json.loads(files["bundle.json"])["golden"] == kind
        rows = [json.loads(line)["input"] for line in files.get("golden.jsonl", b"").decode().splitlines()]
        assert len(rows) == lines and ("golden.jsonl" in files) == (kind != "off")
        inside = sum(
            tuple(sorted((k, str(row[k])) for k in ("age", "city"))) in real for row in rows if row["age"] is not None
        )
        assert inside == 0 if kind == "synthetic" else inside >= 15 or kind == "off"


@pytest.mark.parametrize("name", list(LEARNERS))
def test_no_host_path_clock_or_pickle_in_a_bundle(name, tmp_path):
    run = made_run(tmp_path / "a-very-special-folder", learner=name)
    files = list(run.bundle.iterdir())
    assert len(files) == 8
    for path in files:
        data = path.read_bytes()
        assert b"a-very-special-folder" not in data and b"/work/" not in data and not data.startswith(b"\x80\x04"), path
