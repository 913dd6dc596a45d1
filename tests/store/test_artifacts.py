"""The store: content names, damage, several writers at once, and the account of rows."""

from __future__ import annotations

import os
import threading
import time

import pytest

from keepfit.core.errors import EnvironmentFault, InternalFault
from keepfit.store.artifacts import Store
from keepfit.store.ledger import Entry, conserve


def test_the_same_files_have_the_same_name_and_come_back(tmp_path):
    store = Store(tmp_path)
    files = {"a.json": b"{}", "plots/b.png": b"\x00\x01", "empty": b""}
    assert store.put(files) == store.put(dict(reversed(files.items())))
    assert store.get(store.put(files)) == files and len(files) == 3
    assert store.put({**files, "empty": b"x"}) != store.put(files)


def test_writers_at_once_of_the_same_files(tmp_path):
    files = {str(n): bytes([n]) * 1000 for n in range(20)}
    names, errors = [], []
    barrier = threading.Barrier(8)

    def write():
        store = Store(tmp_path)
        for number in range(10):
            barrier.wait()
            try:
                names.append(store.put({**files, "n": b"%d" % number}))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert errors == [] and len(names) == 80 and len(set(names)) == 10
    assert all(Store(tmp_path).get(name) for name in set(names))
    assert not list((tmp_path / ".keepfit").rglob("*.part"))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "listing", "extra listing"])
def test_damage_is_noticed_and_forgotten(tmp_path, damage):
    store = Store(tmp_path)
    name = store.put({"a": b"abc", "b": b"def"})
    store.record("key", name, "train", 1.0)
    assert store.made_by("key") == (name, {"a": b"abc", "b": b"def"}) and store.is_made("key")
    place = tmp_path / ".keepfit/objects" / name[:2] / name
    if damage == "flip":
        (place / "a").write_bytes(b"abd")
    elif damage == "cut":
        (place / "b").write_bytes(b"")
    elif damage == "gone":
        (place / "a").unlink()
    elif damage == "listing":
        (place / "files.json").write_bytes(b"{")
    else:
        (place / "files.json").write_bytes(b"[1]")
    assert store.made_by("key") is None and not store.is_made("key") and not place.exists()
    assert store.put({"a": b"abc", "b": b"def"}) == name and store.get(name)


def test_what_killed_writers_left_is_swept_after_a_day(tmp_path):
    names = {".x.ab.part": 90_000, ".y.ab.old": 90_000, ".z.ab.part": 3_000, "kept": 90_000}
    for name, age in names.items():
        place = tmp_path / ".keepfit/objects/ab" / name
        (place / "sub").mkdir(parents=True)
        os.utime(place, (time.time() - age,) * 2)
    Store(tmp_path).put({"a": b"1"})
    assert {p.name for p in (tmp_path / ".keepfit/objects/ab").iterdir()} >= {".z.ab.part", "kept"}
    assert not [n for n in (".x.ab.part", ".y.ab.old") if (tmp_path / ".keepfit/objects/ab" / n).exists()]


def test_a_damaged_artifact_is_removed_by_one_writer_at_a_time(tmp_path):
    store = Store(tmp_path)
    name = store.put({"a": b"1"})
    store.record("key", name, "train", 1.0)
    (tmp_path / ".keepfit/objects" / name[:2] / name / "a").write_bytes(b"2")
    found = []
    with store._writing():  # another process is writing
        waiting = threading.Thread(target=lambda: found.append(store.made_by("key")))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and (tmp_path / ".keepfit/objects" / name[:2] / name).exists()
        (tmp_path / ".keepfit/objects" / name[:2] / name / "a").write_bytes(b"1")  # and makes it again
    waiting.join(10)
    assert found == [(name, {"a": b"1"})]


def test_run_numbers_are_never_given_twice(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Store(tmp_path).new_run(tmp_path / "runs", "r", ["k"])))
        for _ in range(12)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(set(found)) == len(found) == 12


def test_a_journal_that_is_junk_is_a_coded_error(tmp_path):
    (tmp_path / ".keepfit/objects").mkdir(parents=True)
    (tmp_path / ".keepfit/journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(EnvironmentFault) as caught:
        Store(tmp_path)
    assert caught.value.code == "workspace"


def entry(name: str, action: str = "dropped") -> Entry:
    return Entry(name, "f", 1, "", "rule", "", "", "clean", action)


def test_conservation_counts_each_dropped_sample_once():
    conserve(3, 1, [entry("a"), entry("b"), entry("a", "noted")])
    for rows_in, kept, entries in [
        (3, 1, [entry("a")]),
        (3, 1, [entry("a"), entry("a")]),
        (2, 2, [entry("a")]),
        (2, 1, [entry("a"), entry("a")]),
    ]:
        with pytest.raises(InternalFault, match="does not add up"):
            conserve(rows_in, kept, entries)
