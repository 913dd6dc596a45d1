"""The loop on a stream: a changed world is noticed, a challenger proves itself, a worse champion is taken back."""

from pathlib import Path

import pytest
from tests.loop.made_stream import Stream, rows_of

import keepfit as kf
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
