"""A bundle is what was packaged or is refused; rows it never saw are answered and counted."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from made_tables import mixed

import keepfit as kf
from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault, KeepfitError, UsageError
from keepfit.runtime.table import Table

FILES = [
    "SHA256SUMS",
    "bundle.json",
    "card.md",
    "golden.jsonl",
    "model.onnx",
    "preparation.json",
    "profile.json",
    "recipe.yaml",
]


@pytest.fixture
def bundle(finished, tmp_path):
    shutil.copytree(finished.bundle, tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == FILES
    return tmp_path / "b"


def resealed(folder):
    """Hashes that fit what is there: a change by somebody who knows how."""
    names = sorted(p.name for p in folder.iterdir() if p.name != "SHA256SUMS")
    sums = "".join(f"{digest.of_file(folder / name)}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(sums)
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "gone", "symlink", "empty"])
def test_no_file_can_be_changed(bundle, name, how, tmp_path):
    path = bundle / name
    raw = path.read_bytes()
    if how == "flip":
        path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    if how == "symlink":
        shutil.copy(finished_copy(tmp_path, raw), tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(KeepfitError) as caught:
        kf.load(bundle)
    assert caught.value.code in ("tampered_bundle", "damaged_bundle", "not_a_bundle")
    assert caught.value.exit_code in (2, 5)


def finished_copy(folder, raw):
    (folder / "raw").write_bytes(raw)
    return folder / "raw"


@pytest.mark.parametrize("name", ["x.py", ".hidden", "weights.pkl"])
def test_no_file_can_be_added(bundle, name):
    (bundle / name).write_bytes(b"x")
    with pytest.raises(EnvironmentFault, match="not listed") as caught:
        kf.load(bundle)
    assert caught.value.code == "tampered_bundle"


def test_no_folder_can_be_added_and_no_path_listed(bundle):
    (bundle / "sub").mkdir()
    with pytest.raises(EnvironmentFault):
        kf.load(bundle)
    (bundle / "sub").rmdir()
    sums = (bundle / "SHA256SUMS").read_text()
    for line in (
        f"{digest.of_bytes(b'')}  ../../etc/passwd\n",
        f"{digest.of_bytes(b'')}  /etc/passwd\n",
        "junk\n",
        "\n",
    ):
        (bundle / "SHA256SUMS").write_text(sums + line)
        with pytest.raises(EnvironmentFault, match="not there"):
            kf.load(bundle)


@pytest.mark.parametrize("version", [2, 99, 0, -1])
def test_another_format_is_refused_by_number(bundle, version):
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_text(json.dumps({**manifest, "format": version}))
    with pytest.raises(EnvironmentFault, match=str(version)) as caught:
        kf.load(resealed(bundle))
    assert caught.value.code == "newer_format" and caught.value.exit_code == 5


def test_other_answers_than_the_recorded_ones_are_refused(bundle):
    lines = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    lines[7]["scores"] = [s + 0.01 for s in lines[7]["scores"]]
    (bundle / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(EnvironmentFault, match="golden row 7") as caught:
        kf.load(resealed(bundle))
    assert caught.value.code == "golden_mismatch"


HOSTILE = {
    "model.onnx": [b"", b"junk", b"\x08\x09" * 50],
    "preparation.json": [
        b"{}",
        b"[]",
        b"null",
        b'{"version": 2}',
        b'{"version": 1, "columns": [], "features": []}',
        b'{"version": 1, "columns": [{}], "features": [{"op": "system"}]}',
        b'{"version": 1, "columns": [], "features": [{"op": "number", "column": "nope", "names": ["a"]}]}',
    ],
    "golden.jsonl": [
        b"{}\n",
        b"[]\n",
        b"junk\n",
        b'{"input": {}, "scores": [1]}\n',
        b'{"input": [], "scores": [0.5, 0.5]}\n',
        b"\xff\n",
    ],
    "bundle.json": [
        b"{}",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": "x"}',
        b'{"format": 1, "task": "classification", "classes": 3, "inputs": [1], "ignored": [], "target": "y"}',
    ],
}


@pytest.mark.parametrize(("name", "data"), [(n, d) for n, many in HOSTILE.items() for d in many])
def test_hostile_content_with_good_hashes_is_a_coded_error(bundle, name, data):
    (bundle / name).write_bytes(data)
    with pytest.raises(EnvironmentFault) as caught:
        kf.load(resealed(bundle))
    assert caught.value.exit_code == 5 and sum(map(len, HOSTILE.values())) == 22
    assert name == "golden.jsonl" or str(bundle) in caught.value.where
    assert caught.value.hint or caught.value.code == "damaged_bundle"


def test_what_is_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "x.csv"):
        with pytest.raises(UsageError):
            kf.load(path)


def test_a_run_folder_opens_its_bundle(finished):
    assert kf.load(finished.path).bundle.sha256 == kf.load(finished.bundle).bundle.sha256


def test_unseen_categories_are_answered_and_counted(finished):
    model = kf.load(finished.bundle)
    rows = mixed(50, seed=9)
    plain = model.predict(rows)
    assert plain.unseen == {} and plain.errors == [""] * 50
    for row in rows[:20]:
        row["city"] = "Atlantis"
    found = model.predict(rows)
    assert found.unseen == {"city": 20} and len(found) == 50 and None not in found.labels
    assert (found.probabilities[20:] == plain.probabilities[20:]).all()
    assert abs(found.probabilities.sum(1) - 1).max() < 1e-5


def test_cells_that_cannot_be_read_are_errors_of_their_row_only(finished):
    model = kf.load(finished.bundle)
    rows = mixed(20, seed=9)
    rows[3]["age"], rows[5]["joined"] = "old", "someday"
    found = model.predict(rows)
    assert [n for n, e in enumerate(found.errors) if e] == [3, 5] and found.labels[3] is found.labels[5] is None
    assert "'age'" in found.errors[3] and "'old'" in found.errors[3] and "a date" in found.errors[5]


def test_no_rows_and_absent_columns(finished):
    model = kf.load(finished.bundle)
    names = [column.name for column in model.bundle.inputs]
    empty = model.predict(Table({name: __import__("numpy").empty(0, object) for name in names}))
    assert len(empty) == 0 and empty.probabilities.shape == (0, 2)
    with pytest.raises(KeepfitError, match="no column 'city'"):
        model.predict([{k: v for k, v in row.items() if k != "city"} for row in mixed(5)])


def test_rows_are_answered_alone_as_together(finished):
    model = kf.load(finished.bundle)
    rows = mixed(30, seed=4)
    together = model.predict(rows).probabilities
    alone = [model.predict([row]).probabilities[0] for row in rows]
    assert max(abs(a - b).max() for a, b in zip(alone, together, strict=True)) < 1e-6 and len(alone) == 30
