"""The loop on a stream: a changed world is noticed, a challenger proves itself, a worse champion is taken back."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.loop.made_stream import Stream, rows_of

import keepfit as kf
from keepfit.core.events import Event
from keepfit.loop import turn
from keepfit.loop.attempts import Attempt
from keepfit.loop.journal import Entry, Journal
from keepfit.loop.state import state_of
from keepfit.loop.up import look
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


def test_a_regression_promoted_by_force_is_taken_back(stream: Stream, tmp_path: Path):
    stream.send(rows_of(200, False, 1))
    bad = tmp_path / "bad"
    bad.mkdir()
    lines = ["a,b,y", *(f"{r['a']},{r['b']},{r['y']}" for r in rows_of(400, True, 5))]
    (bad / "first.csv").write_text("\n".join(lines) + "\n")
    (bad / "recipe.yaml").write_text((tmp_path / "recipe.yaml").read_text())
    worse = kf.run(bad / "recipe.yaml", workspace=bad)
    version = Registry(tmp_path).register(worse.bundle, "stream")
    Registry(tmp_path).promote("stream", version.version, why="by force")
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
