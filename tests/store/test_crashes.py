"""Crashes at any point of checkpoint, publish, register, promote, rollback and feedback leave the old or the new, and nothing
acknowledged is lost; without fsync, or without the rename, the same check finds states that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from crash_states import Tape, failures
from made_bundles import constant_bundle

from keepfit.core import atomic
from keepfit.loop.journal import Journal
from keepfit.loop.state import state_of
from keepfit.store import segments
from keepfit.store.artifacts import Store
from keepfit.store.record_files import FileRecords
from keepfit.store.registry import Registry

MADE: dict[str, tuple[Any, Any]] = {}


def scenario(name: str) -> Any:
    def taken(pair: Any) -> Any:
        MADE[name] = pair()
        return pair

    return taken


@scenario("promote and roll back")
def _() -> tuple[Any, Any]:
    seen = [(0, None, None), (1, None, None), (1, 1, None), (2, 1, None), (2, 1, 2), (2, 2, None), (2, 1, None, "back")]
    least = {"one": 2, "two": 4, "promoted": 5, "back": 6}

    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        registry = Registry(root)
        registry.register(bundles[0])
        tape.ack("one")
        registry.register(bundles[1])
        tape.ack("two")
        registry.promote("constant", 2)
        tape.ack("promoted")
        registry.rollback("constant")
        tape.ack("back")

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        registry = Registry(root)
        if registry.names() == []:
            assert acked == [] and registry.register(bundles[0]).version == 1
            return
        pointer = registry.pointer("constant")
        for number in (1, 2)[: len(registry.versions("constant"))]:
            assert b"always %d" % number in registry.get("constant", number).open().files["card.md"]
        aliases = pointer.aliases
        found: tuple[Any, ...] = (
            len(registry.versions("constant")),
            aliases.get("champion"),
            aliases.get("challenger"),
        )
        found = (*found, "back") if pointer.log and pointer.log[-1].how == "rollback" else found
        assert seen.index(found) >= max((least[what] for what in acked), default=0)
        assert registry.register(bundles[1]).version == 2 and registry.resolve("constant").version in (1, 2)

    return act, check


@scenario("the loop promotes")
def _() -> tuple[Any, Any]:
    """It says what it is about to do, moves the pointer, and says that it is done."""

    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        registry, journal = Registry(root), Journal(root, "constant")
        for bundle in bundles:
            registry.register(bundle)
        journal.write(1.0, "champion", version=1)
        tape.ack(1)
        for number, (version, before) in enumerate(((2, 1), (1, 2))):
            journal.write(2.0, "intends", move="promote", version=version, before=before, evidence={})
            tape.ack(2 + 3 * number)
            registry.promote("constant", version, expect=before)
            tape.ack(3 + 3 * number)
            journal.write(3.0, "promoted", version=version, before=before, evidence={})
            tape.ack(4 + 3 * number)

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        journal = Journal(root, "constant")
        state, said = state_of(journal), [entry.what for entry in journal]
        assert [entry.number for entry in journal] == list(range(1, len(said) + 1))
        assert len(said) >= {0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5}[max(acked, default=0)]
        champion = Registry(root).pointer("constant").aliases.get("champion") if said else state.champion
        if champion != state.champion:  # a crash between the move and its line: the loop knows that it was its own
            assert state.intent is not None
            assert (state.intent["version"], state.intent["before"]) == (champion, state.champion)
        assert journal.write(9.0, "noted").number == len(said) + 1
        assert [entry.what for entry in Journal(root, "constant")] == [*said, "noted"]

    return act, check


@scenario("publish a folder over another")
def _() -> tuple[Any, Any]:
    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        for number, bundle in enumerate(bundles):
            with atomic.new_folder(root / "runs" / "bundle") as scratch:
                for file in bundle.iterdir():
                    (scratch / file.name).write_bytes(file.read_bytes())
            tape.ack(number)

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        from keepfit.runtime.bundle import Bundle

        place = root / "runs" / "bundle"
        if not place.exists():
            assert acked == []
            return
        Bundle.open(place).predictor()
        assert acked != [0, 1] or (place / "card.md").read_bytes() == (bundles[1] / "card.md").read_bytes()

    return act, check


@scenario("keep an artifact")
def _() -> tuple[Any, Any]:
    files = {"a": b"x" * 50, "b/c": b"y" * 50}

    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        with mock.patch.object(Store, "_journal"):  # sqlite writes by itself, and is left to its own tests
            tape.ack(Store(root).put(files))

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        for name in acked:
            assert Store(root).get(name) == files

    return act, check


@scenario("feedback")
def _() -> tuple[Any, Any]:
    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        store = FileRecords(root / ".keepfit" / "records" / "m", segment_bytes=200)
        tape.ack(("key", store.key()))
        for n in range(6):
            store.write(
                "feedback", [{"t": float(n), "id": f"{n}-{m}", "labels": ["x" * 20]} for m in range(2)], durable=True
            )
            tape.ack(("ids", {f"{n}-0", f"{n}-1"}))
        store.close()

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        store = FileRecords(root / ".keepfit" / "records" / "m")
        found = list(store.read("feedback"))
        assert all(entry["labels"] == ["x" * 20] for entry in found) and len({e["id"] for e in found}) == len(found)
        for kind, what in acked:
            assert store.key() == what if kind == "key" else what <= {entry["id"] for entry in found}
        store.write("feedback", [{"t": 99.0, "id": "after"}], durable=True)
        assert [entry["id"] for entry in store.read("feedback")] == [*(entry["id"] for entry in found), "after"]

    return act, check


@scenario("checkpoint")
def _() -> tuple[Any, Any]:
    def act(root: Path, tape: Tape, bundles: list[Path]) -> None:
        import torch

        from keepfit.training import checkpoint

        for step in (1, 2, 3):
            checkpoint.save(
                root / "c", step, {"w": {"a": torch.full((8,), float(step))}}, {"identity": {}, "step": step}, keep=2
            )
            tape.ack(step)

    def check(root: Path, acked: list[Any], bundles: list[Path]) -> None:
        from keepfit.training import checkpoint

        found = checkpoint.latest(root / "c", {})
        step = 0 if found is None else found.state["step"]
        assert step >= max(acked, default=0)
        assert found is None or found.tensors["w"]["a"].tolist() == [float(step)] * 8

    return act, check


def tried(name: str, tmp_path: Path) -> tuple[int, list[str]]:
    if name == "checkpoint":
        pytest.importorskip("torch", reason="torch is not installed (extra networks)")
    act, check = MADE[name]
    bundles = [constant_bundle(tmp_path / f"b{n}", n) for n in (1, 2)]
    root = tmp_path / "root"
    root.mkdir()
    with Tape(root) as tape:
        act(root, tape, bundles)
    return failures(tape.ops, tmp_path / "state", lambda place, acked: check(place, acked, bundles))


@pytest.mark.parametrize("name", sorted(MADE))
def test_every_crash_leaves_the_old_or_the_new(name, tmp_path):
    count, wrong = tried(name, tmp_path)
    print(f"{name}: {count} states, {len(wrong)} wrong")
    assert wrong == [] and count >= 10


@pytest.mark.parametrize("name", sorted(MADE))
def test_without_fsync_states_are_wrong(name, tmp_path, monkeypatch):
    def lazy(*said: Any) -> None:
        return None

    monkeypatch.setattr(atomic, "sync_folder", lazy)
    monkeypatch.setattr(atomic, "sync_tree", lazy)
    monkeypatch.setattr(segments.Segment, "sync", lazy)
    count, wrong = tried(name, tmp_path)
    print(f"{name} without fsync: {count} states, {len(wrong)} wrong")
    assert len(wrong) >= 2


def test_without_the_rename_states_are_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "write_bytes", lambda path, data: path.write_bytes(data))
    count, wrong = tried("promote and roll back", tmp_path)
    print(f"promote without the rename: {count} states, {len(wrong)} wrong")
    assert len(wrong) >= 2
