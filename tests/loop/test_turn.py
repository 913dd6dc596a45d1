"""The loop on a stream: a changed world is noticed, a challenger proves itself, a worse champion is taken back."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.loop.made_stream import Stream, rows_of

import keepfit as kf
from keepfit.core.events import Event
from keepfit.loop import rows, turn
from keepfit.loop.accuracy import Errors, errors_of
from keepfit.loop.attempts import Attempt
from keepfit.loop.decide import worth
from keepfit.loop.journal import Entry, Journal
from keepfit.loop.rows import Memory
from keepfit.loop.state import state_of
from keepfit.loop.up import look
from keepfit.monitor.streams import watch_of
from keepfit.store.registry import Registry


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(tmp_path)
    kf.run(tmp_path / "recipe.yaml", workspace=tmp_path)
    return made


def test_a_changed_world_is_noticed_learned_and_served(stream: Stream):
    stream.send(rows_of(600, False, 1))
    assert stream.told() == ["champion"]
    stream.send(rows_of(1200, True, 2))
    told = stream.told()
    assert told[:4] == ["champion", "changed", "retrain", "challenger"]
    assert "promoted" in told and "rolled_back" not in told
    registry = Registry(stream.home)
    assert registry.pointer("stream").aliases["champion"] == 2
    assert registry.get("stream", 2).parents == (1,)
    assert sum(stream.right[-300:]) / 300 > 0.85


def worse_one(tmp_path: Path) -> None:
    """A model of another world is made champion by hand."""
    bad = tmp_path / "bad"
    bad.mkdir()
    lines = ["a,b,y", *(f"{r['a']},{r['b']},{r['y']}" for r in rows_of(400, True, 5))]
    (bad / "first.csv").write_text("\n".join(lines) + "\n")
    (bad / "recipe.yaml").write_text((tmp_path / "recipe.yaml").read_text())
    worse = kf.run(bad / "recipe.yaml", workspace=bad)
    version = Registry(tmp_path).register(worse.bundle, "stream")
    Registry(tmp_path).promote("stream", version.version, why="by force")


def test_a_regression_promoted_by_force_is_taken_back(stream: Stream, tmp_path: Path):
    stream.send(rows_of(200, False, 1))
    worse_one(tmp_path)
    stream.send(rows_of(500, False, 6))
    assert "rolled_back" in stream.told()
    assert Registry(tmp_path).pointer("stream").aliases["champion"] == 1
    assert list((stream.loop.journal.folder / "incidents").glob("*.json"))


def test_a_loop_that_was_killed_goes_on_where_it_was(stream: Stream):
    stream.send(rows_of(300, False, 1))
    for start in range(0, 1200, 200):
        stream.loop = stream.opened()
        stream.send(rows_of(1200, True, 2)[start : start + 200])
    told = stream.told()
    assert told.count("changed") == 1 and "promoted" in told
    assert [entry.number for entry in stream.loop.journal] == list(range(1, len(told) + 1))


def test_a_trainer_that_always_dies_is_given_up(stream: Stream, monkeypatch: pytest.MonkeyPatch):
    dead = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(Attempt, "start", lambda attempt: subprocess.Popen(dead))
    monkeypatch.setattr(turn, "_MOST_STARTS", 2)
    stream.send(rows_of(140, False, 1))
    stream.loop.turn(stream.clock, True)
    stream.look()
    assert stream.told() == ["champion", "retrain", "failed"]


def test_asked_by_hand_without_labels_says_why_it_waits(stream: Stream):
    assert stream.loop.turn(stream.clock, True)
    last = list(stream.loop.journal)[-1]
    assert last.what == "waiting" and "20 labelled rows" in last.data["why"]


def test_a_figure_that_is_not_finite_is_written_as_unknown(tmp_path: Path):
    Journal(tmp_path, "m").write(1.0, "challenger", scores={"full": float("nan"), "fresh": 0.5}, version=2)
    assert next(iter(Journal(tmp_path, "m"))).data["scores"] == {"full": None, "fresh": 0.5}


def test_quarantines_are_joined_where_they_touch_and_none_is_forgotten():
    entries = [
        Entry(n, 0.0, "quarantined", {"since": s, "until": s + 1.5, "why": ""}) for n, s in enumerate([9, 1, 2, 5])
    ]
    state = state_of(entries)
    assert [(one.since, one.until) for one in state.quarantines] == [(1, 3.5), (5, 6.5), (9, 10.5)]
    assert [state.quarantined(at) for at in (0.9, 1, 3.4, 3.5, 6, 8, 10.5)] == [0, 1, 1, 0, 1, 0, 0]


def test_whatever_goes_wrong_in_a_look_is_told_and_the_loop_goes_on(stream: Stream, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    told: list[Event] = []
    monkeypatch.setattr(stream.loop, "turn", broken)
    stream.loop.journal.folder.mkdir(parents=True, exist_ok=True)
    look(stream.loop, told.append)
    assert told[0].data["code"] == "internal"
    assert "nobody foresaw this" in (stream.loop.journal.folder / "faults.log").read_text()


def test_a_crash_between_promotion_and_its_line_loses_no_figure(stream: Stream, monkeypatch: pytest.MonkeyPatch):
    stream.send(rows_of(400, False, 1))
    write = Journal.write

    def torn(self: Journal, at: float, what: str, **data: object) -> Entry:
        if what == "promoted":
            raise KeyboardInterrupt
        return write(self, at, what, **data)

    monkeypatch.setattr(Journal, "write", torn)
    with pytest.raises(KeyboardInterrupt):
        stream.send(rows_of(1200, True, 2))
    monkeypatch.setattr(Journal, "write", write)
    assert Registry(stream.home).pointer("stream").aliases["champion"] == 2 and stream.loop.state.champion == 1
    stream.loop = stream.opened()
    stream.look()
    said = next(entry for entry in stream.loop.journal if entry.what == "promoted")
    assert said.data["evidence"]["labels"] > 0 and stream.loop.state.shown[1] > 0
    assert stream.loop.state.previous == 1 and stream.told().count("champion") == 1


def test_an_incident_after_a_crash_has_its_rows(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stream.send(rows_of(200, False, 1))
    worse_one(tmp_path)

    def torn(self: Journal, at: float, what: str, **data: object) -> Entry:
        if what == "rolled_back":
            raise KeyboardInterrupt
        return write(self, at, what, **data)

    write = Journal.write
    monkeypatch.setattr(Journal, "write", torn)
    with pytest.raises(KeyboardInterrupt):
        stream.send(rows_of(500, False, 6))
    monkeypatch.setattr(Journal, "write", write)
    for place in (stream.loop.journal.folder / "incidents").glob("*.json"):
        place.unlink()
    stream.loop = stream.opened()
    stream.look()
    (incident,) = (stream.loop.journal.folder / "incidents").glob("*.json")
    assert "rolled_back" in stream.told() and json.loads(incident.read_text())["wrong_answers"]


def test_a_run_waits_until_staleness_has_cost_as_much(stream: Stream):
    section = stream.loop.recipe.retrain
    harm = {"error_before": 0.1, "error_after": 0.6, "labels": 100}
    assert worth(section, None) is None and worth(section, harm) is None
    for cost, waits in ((49.9, False), (50.1, True)):
        assert (worth(section.model_copy(update={"cost": cost}), harm) is not None) is waits
    assert worth(section.model_copy(update={"cost": 1.0}), None) is not None
    stream.loop.recipe = stream.loop.recipe.model_copy(update={"retrain": section.model_copy(update={"cost": 1e9})})
    stream.send(rows_of(200, False, 1))
    stream.send(rows_of(600, True, 2))
    assert "changed" in stream.told() and "retrain" not in stream.told()


def test_a_rise_that_is_not_worth_a_run_does_not_ring():
    draw = np.random.default_rng(0)
    for rate, rings in ((0.12, False), (0.25, True)):
        errors = Errors(watch_of(50, 500), 50_000.0, rise=0.04)
        rang = [errors.see([(float(n), bool(draw.random() < rate))]) for n in range(4000)]
        found = [one for one in rang if one]
        assert bool(found) is rings and (not rings or abs(found[0]["error_before"] - 0.11) < 0.01)


@pytest.mark.parametrize("wrong", [920, 950, 985])
def test_the_rate_before_is_what_was_measured_where_nearly_all_is_wrong(wrong):
    errors = Errors(watch_of(wrong, 1000), 5_000.0, rise=0.04)
    assert errors.before == pytest.approx(wrong / 1000, abs=0.01)
    assert errors.before <= errors.watch.rate < 1 and errors.watch.rate <= max(errors.before, 0.95)
    found = next(one for n in range(9000) if (one := errors.see([(float(n), True)])))
    assert found["error_before"] == round(errors.before, 4) < found["error_after"] == 1
    errors.expect(watch_of(980, 1000))
    assert errors.before == pytest.approx(0.98, abs=0.01)


def test_a_run_ends_with_its_loop(stream: Stream):
    stream.loop._trainer = process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    stream.loop.close()
    assert process.poll() is not None


def test_a_restarted_loop_reads_the_labels_that_it_remembers(stream: Stream, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "_OVERLAP_S", 0.1)
    stream.send(rows_of(600, False, 1))
    place = stream.loop.journal.folder / "memory.json"
    few = Memory(100, place)
    few.take(stream.loop._store(), stream.clock)
    assert len(few.rows) == 100 and place.exists()
    again = Memory(100, place)
    read = again.take(stream.loop._store(), stream.clock)
    assert 100 <= len(read) < 400 and [row.request_id for row in again.rows] == [row.request_id for row in few.rows]


def test_errors_are_trusted_as_far_as_there_were_rows(stream: Stream):
    bundle = Registry(stream.home).get("stream", 1).open()
    said = json.loads(bundle.files["profile.json"])["monitor"]
    assert said["labels"] > 20
    tight, loose = (
        errors_of(bundle, 1e5),
        errors_of(dataclasses.replace(bundle, files={**bundle.files, "profile.json": b"{}"}), 1e5),
    )
    assert tight.watch.rate != loose.watch.rate
