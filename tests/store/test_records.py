"""Records: torn tails, order over writers, joins with late and doubled feedback, retention, sketches, two backends."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfit.core.errors import DataError, EnvironmentFault, UsageError
from keepfit.runtime.answers import class_name
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import from_rows
from keepfit.store import segments
from keepfit.store.record_files import FileRecords
from keepfit.store.recorder import MOST_BITE, Answered, Limits, Recorder
from keepfit.store.records import Records, checked_labels
from keepfit.store.request_ids import MANY, RequestIds
from keepfit.store.segments import Segment
from keepfit.store.sketches import Sketch, Sketcher, merged

GOLDEN = Path(__file__).parents[1] / "data" / "golden_bundle"
ROWS = [json.loads(line)["input"] for line in (GOLDEN / "golden.jsonl").read_text("utf-8").splitlines()]


def test_any_torn_or_damaged_line_is_passed_over_and_no_other(tmp_path):
    writer = Segment(tmp_path, "answers")
    entries = [{"t": float(n), "id": f"ü{n}\n\t"} for n in range(20)]
    writer.append(entries)
    writer.close()
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    for cut in range(0, len(whole) + 1, 3):
        path.write_bytes(whole[:cut])
        assert list(segments.read(tmp_path, "answers")) == entries[: sum(end <= cut for end in ends)]
    draw = random.Random(0)
    for _ in range(200):
        at = draw.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << draw.randrange(8))]) + whole[at + 1 :])
        found = list(segments.read(tmp_path, "answers"))
        assert all(entry in entries for entry in found) and len(found) >= 18  # a line feed lost takes two lines along


def test_writers_are_merged_by_time(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(segments.time, "time", lambda: clock[0])
    writers = [Segment(tmp_path, "answers", max_bytes=400) for _ in range(3)]
    for step in range(300):
        clock[0] = 1000.0 + step
        writers[step % 3].append([{"t": clock[0] - 0.5, "n": step}])
        writers[step % 3].roll()
    for path in tmp_path.glob("*.jsonl"):
        begun = int(path.name.split("-")[1]) / 1000
        last = [json.loads(line.split(b"\t")[0])["t"] for line in path.read_bytes().splitlines()][-1]
        os.utime(path, (begun, last + 0.5))
    assert len(list(tmp_path.glob("*.jsonl"))) > 20
    assert [e["n"] for e in segments.read(tmp_path, "answers")] == list(range(300))
    assert [e["n"] for e in segments.read(tmp_path, "answers", 1049.5, 1059.5)] == list(range(50, 60))


def test_retention_by_age_and_by_size_spares_what_is_being_written(tmp_path):
    store = FileRecords(tmp_path, segment_bytes=1000)
    for n in range(40):
        store.write("answers", [{"t": time.time(), "n": n, "x": "y" * 200}], durable=True)
    before = sorted(tmp_path.glob("answers-*"))
    assert len(before) >= 8
    assert store.prune(time.time(), 3600, 4000) > 0
    assert sum(path.stat().st_size for path in tmp_path.glob("answers-*")) <= 5000
    left = [e["n"] for e in store.read("answers")]
    assert left == list(range(40 - len(left), 40)) and len(left) > 5
    store.write("answers", [{"t": 1.0, "n": 99}])
    store.prune(time.time() + 10_000, 3600, 10**9)
    assert [e["n"] for e in store.read("answers")][-1:] == [99]
    store.close()
    store.prune(time.time() + 10_000, 3600, 10**9)
    assert list(store.read("answers")) == []


def test_a_full_disk_is_said_and_the_next_line_is_whole(tmp_path, monkeypatch):
    store, real = FileRecords(tmp_path), os.write
    store.write("feedback", [{"t": 1.0, "id": "a"}], durable=True)

    def short(handle: int, data: Any) -> int:
        real(handle, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.os, "write", short)
    with pytest.raises(EnvironmentFault) as caught:
        store.write("feedback", [{"t": 2.0, "id": "b"}], durable=True)
    assert caught.value.code == "disk_full"
    monkeypatch.setattr(segments.os, "write", real)
    store.write("feedback", [{"t": 3.0, "id": "c"}], durable=True)
    assert [e["id"] for e in store.read("feedback")] == ["a", "c"]


def test_ids_say_time_and_rows_and_prove_their_origin():
    ids, others = RequestIds(b"k" * 32), RequestIds(b"l" * 32)
    made = [ids.new(rows, at=1_700_000_000.123) for rows in (0, 1, 9999, MANY, MANY + 5)]
    assert [ids.read(one).rows for one in made] == [0, 1, 9999, None, None]
    assert {ids.read(one).at for one in made} == {1_700_000_000.123} and len(set(made)) == 5
    assert RequestIds(b"k" * 32).read(made[0]) is not None and others.read(made[0]) is None
    for bad in ("", "x", made[0][:-1], made[0].upper(), "0" * 32, made[0][:-1] + "g", "ü" * 32, " " + made[0][1:]):
        assert ids.read(bad) is None


@pytest.fixture
def bundle() -> Bundle:
    return Bundle.open(GOLDEN)


def backend(kind: str, folder: Path) -> Any:
    if kind == "files":
        return FileRecords(folder / "records")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed (extra sql)")
    from keepfit.store.sql_records import SqlRecords

    return SqlRecords(f"sqlite:///{folder}/records.sqlite")


@pytest.mark.parametrize("kind", ["files", "sql"])
def test_late_doubled_and_unordered_feedback_is_joined(tmp_path, bundle, kind):
    store = backend(kind, tmp_path)
    recorder = Recorder(store, limits=Limits(pause_s=0.01))
    predictor = bundle.predictor()
    sketcher = recorder.describe(bundle, "small", "3")
    ids = []
    for n in range(30):
        table = from_rows(ROWS[: 1 + n % 3], list(ROWS[0]))
        ids.append(recorder.ids.new(len(table)))
        assert recorder.put(
            Answered(ids[-1], time.time(), "small", "3", sketcher, bundle.sha256, table, predictor.predict(table), 100)
        )
    middle = time.time()
    for n in [7, 2, 20, 7, 2]:
        recorder.feedback(ids[n], ["yes"] * (1 + n % 3)).result(10)
    recorder.feedback(ids[20], ["no", None, "yes"]).result(10)
    recorder.close()
    records = Records(backend(kind, tmp_path))
    rows = list(records.rows())
    assert [row.request_id for row in rows if row.row == 0] == ids and len(rows) == 60
    assert rows[0].inputs == ROWS[0] and rows[0].version == "3" and rows[0].prediction in ("no", "yes")
    assert rows[0].probabilities == pytest.approx(
        predictor.predict(from_rows(ROWS[:1], list(ROWS[0]))).probabilities[0]
    )
    wanted = {(ids[7], 0): "yes", (ids[7], 1): "yes", (ids[2], 0): "yes", (ids[2], 1): "yes", (ids[2], 2): "yes",
              (ids[20], 0): "no", (ids[20], 2): "yes"}  # fmt: skip
    assert {(r.request_id, r.row): r.label for r in records.rows(labelled=True)} == wanted
    assert {(r.request_id, r.row): r.label for r in records.labelled(since=middle - 1)} == wanted
    assert list(records.labelled(until=middle - 60)) == [] and len(list(records.rows(labelled=False))) == 53
    assert [len(window) for window in records.windows(25)] == [25, 25, 10]
    assert [row.label for row in records.find(ids[20])] == ["no", None, "yes"] and records.find("0" * 32) == []
    assert records.models()[bundle.sha256]["classes"] == ["no", "yes"] and len(list(records.feedback())) == 6
    total = merged([Sketch.from_json(entry) for entry in records.sketches()])
    assert total.rows == 60 and total.predictions.sum() == 60 and total.confidence.sum() == 60
    records.backend.close()


def test_hosts_that_start_together_share_one_database(tmp_path):
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed (extra sql)")
    from keepfit.store.sql_records import SqlRecords

    # With KEEPFIT_POSTGRES, the URL of an empty database, the same against Postgres.
    url = os.environ.get("KEEPFIT_POSTGRES", f"sqlite:///{tmp_path}/r.sqlite")
    with ThreadPoolExecutor(4) as pool:
        hosts = list(pool.map(lambda _: SqlRecords(url), range(4)))
        assert len(set(pool.map(lambda host: host.key(), hosts))) == 1

        def write(number: int) -> None:
            for n in range(10):
                entry = {"t": 1000.0 + n + number / 10, "id": f"{number}-{n}"}
                hosts[number].write("feedback", [entry], durable=True)
                hosts[number].write("answers", [{**entry, "n": m} for m in range(60)])

        list(pool.map(write, range(4)))
    times = [entry["t"] for entry in hosts[0].read("answers")]
    assert len(times) == 2400 and times == sorted(times)
    assert len(list(hosts[1].read("feedback", 1002.0, 1004.0))) == 8
    assert hosts[2].prune(2000.0, 1e9, 50_000) > 0 and len(list(hosts[3].read("answers"))) < 1700
    assert hosts[2].prune(9000.0, 1.0, 10**9) > 0 and list(hosts[0].read("feedback")) == []
    for host in hosts:
        host.close()


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(tmp_path, bundle):
    told: dict[str, int] = {}
    recorder = Recorder(
        FileRecords(tmp_path),
        limits=Limits(waiting=5, pause_s=3600),
    )
    recorder.listen(lambda what, count: told.update({what: told.get(what, 0) + count}))
    sketcher, predictor = recorder.describe(bundle, "small", "1"), bundle.predictor()
    table = from_rows(ROWS[:1], list(ROWS[0]))
    one = Answered(recorder.ids.new(1), 1.0, "small", "1", sketcher, bundle.sha256, table, predictor.predict(table), 10)
    assert [recorder.put(one) for _ in range(8)] == [True] * 5 + [False] * 3
    recorder.flush()
    recorder.close()
    assert told == {"dropped": 3, "written": 5}


def test_what_comes_fast_is_removed_before_its_time(tmp_path, bundle):
    store = FileRecords(tmp_path, segment_bytes=20_000)
    recorder = Recorder(store, limits=Limits(pause_s=0.02, prune_s=3600, size_bytes=100_000))
    sketcher, predictor = recorder.describe(bundle, "small", "1"), bundle.predictor()
    table = from_rows(ROWS[:1], list(ROWS[0]))
    said = predictor.predict(table)

    def kept() -> int:
        total = 0
        for path in tmp_path.glob("answers-*"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile, which is what is waited for
                total += path.stat().st_size
        return total

    for n in range(1500):
        recorder.put(Answered(recorder.ids.new(1), float(n), "s", "1", sketcher, bundle.sha256, table, said, 300))
    recorder.flush()
    before, until = kept(), time.monotonic() + 10
    while kept() > 130_000 and time.monotonic() < until:
        time.sleep(0.05)
    recorder.close()
    assert before and kept() <= 130_000  # of some 400,000 that were written


def test_a_long_queue_is_written_in_bites_and_looked_into_evenly(tmp_path, bundle):
    sizes: list[int] = []

    class Seen(FileRecords):
        def write(self, kind, entries, durable=False):
            if kind == "answers":
                sizes.append(len(entries))
            super().write(kind, entries, durable)

    store = Seen(tmp_path)
    recorder = Recorder(store, limits=Limits(pause_s=3600, looked_per_s=0))
    sketcher, predictor = recorder.describe(bundle, "small", "1"), bundle.predictor()
    table = from_rows(ROWS[:1], list(ROWS[0]))
    said = predictor.predict(table)
    for n in range(600):
        recorder.put(Answered(recorder.ids.new(1), float(n), "s", "1", sketcher, bundle.sha256, table, said, 10))
    recorder.flush()
    recorder.close()
    assert sum(sizes) == 600 and len(sizes) > 2 and max(sizes) <= MOST_BITE
    (sketch,) = [Sketch.from_json(entry) for entry in Records.open(tmp_path).sketches()]
    assert (sketch.rows, sketch.looked) == (600, 1)  # a bite more is no row more


def test_numbers_whose_model_is_not_described_have_no_names(tmp_path, bundle, caplog):
    store = FileRecords(tmp_path)
    block = base64.b64encode(np.arange(6, dtype="<f8").tobytes()).decode()
    ids = RequestIds(store.key())
    for n, model in enumerate(("a", "b")):
        store.write("answers", [{"id": ids.new(2), "t": 1.0 + n, "model": ["m", "1", model * 64], "predictions": [0, 1],
                                 "inputs": {"x": ["p", "q"]}, "block": block}])  # fmt: skip
    store.describe({"sha256": "a" * 64, "name": "m", "block": ["u", "v", "w"]})
    records = Records(store)
    rows = list(records.rows())
    assert [row.inputs for row in rows] == [
        {"x": "p", "u": "0", "v": "1", "w": "2"},
        {"x": "q", "u": "3", "v": "4", "w": "5"},
        None,
        None,
    ]
    assert [row.prediction for row in rows] == [0, 1, 0, 1]
    assert len(list(records.rows())) == 4 and caplog.text.count("not with its records") == 1
    assert "b" * 12 in caplog.text
    store.describe({"sha256": "b" * 64, "name": "m", "block": ["r", "s", "t"]})
    assert list(records.rows())[2].inputs == {"x": "p", "r": "0", "s": "1", "t": "2"}  # it came late, and is seen
    store.close()


def test_only_the_sketch_is_kept_where_that_is_said(tmp_path, bundle):
    recorder = Recorder(FileRecords(tmp_path), "sketch")
    table = from_rows(ROWS, list(ROWS[0]))
    sketcher = recorder.describe(bundle, "small", "1")
    answers = bundle.predictor().predict(table)
    recorder.put(Answered(recorder.ids.new(len(table)), 1.0, "s", "1", sketcher, bundle.sha256, table, answers, 10))
    recorder.close()
    records = Records.open(tmp_path)
    assert {row.inputs for row in records.rows()} == {None} and len(list(records.rows())) == len(ROWS)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))
    assert not any(str(row["note"]).encode() in written for row in ROWS if row["note"])
    (sketch,) = [Sketch.from_json(entry) for entry in records.sketches()]
    assert sketch.looked == len(ROWS) and sketch.columns["age"].sum() == len(ROWS)


def test_sketches_merge_to_the_sketch_of_all_and_agree_with_a_count_by_hand(bundle):
    draw = np.random.default_rng(0)
    profile = json.loads(bundle.files["profile.json"])["columns"]["age"]["quantiles"]
    ages = [None if n % 7 == 0 else "old" if n % 50 == 1 else f"{draw.normal(35, 20):.3f}" for n in range(600)]
    rows = [
        {"age": age, "city": c, "joined": "2020-03-01", "note": "x"}
        for age, c in zip(ages, ["Paris", "Rom", None] * 200, strict=True)
    ]
    sketcher = Sketcher(bundle)
    predictor = bundle.predictor()
    whole = from_rows(rows, list(rows[0]))
    answers = predictor.predict(whole)

    def part(low: int, high: int) -> Sketch:
        table = from_rows(rows[low:high], list(rows[0]))
        return sketcher.sketch(table, predictor.predict(table), 10**6)

    parts = [part(low, min(low + 70, 600)) for low in range(0, 600, 70)]
    one = sketcher.sketch(whole, answers, 10**6)
    for made in (merged(parts), merged(parts[::-1]), Sketch.from_json(json.loads(json.dumps(one.as_json())))):
        assert made.as_json() == one.as_json()
    numbers = np.array([float(a) for a in ages if a not in (None, "old")])
    counts = one.columns["age"]
    assert counts[-1] == ages.count("old") and counts[-2] == ages.count(None)
    assert (
        counts[0] == (numbers < profile[0]).sum() and counts[len(np.unique(profile))] == (numbers > profile[-1]).sum()
    )
    assert one.columns["city"].sum() == 600 and one.columns["city"][-2] == 200
    assert len(json.dumps(one.as_json())) < 5000


@pytest.mark.parametrize(
    ("labels", "task", "classes", "found"),
    [
        (["no", None], "classification", ["no", "yes"], ["no", None]),
        ([1, "0", 1.0, True], "classification", [0, 1], [1, 0, 1, None]),
        ([True, "false"], "classification", [False, True], [True, False]),
        ([1, 2.5], "regression", [], [1.0, 2.5]),
    ],
)
def test_labels_take_the_type_of_the_classes(labels, task, classes, found):
    if True in [label is True for label in labels] and classes == [0, 1]:
        labels, found = labels[:-1], found[:-1]
    assert checked_labels(labels, task, classes, class_name) == found


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [(["maybe"], "classification", ["no", "yes"]), ([[1]], "classification", [0, 1]), ([True], "classification", [0, 1]),
     (["3"], "regression", []), ([True], "regression", []), ([{}], "regression", [])],
)  # fmt: skip
def test_labels_that_are_none_are_refused(labels, task, classes):
    with pytest.raises(DataError) as caught:
        checked_labels([None, *labels], task, classes, class_name)
    assert caught.value.where == "labels, row 1" and caught.value.hint


def test_records_that_are_not_there_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError) as caught:
        Records.open("churn", tmp_path)
    assert caught.value.code == "no_records"
