"""The registry: numbers, lineage, aliases, the way back, damage, two writers at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registered import GOLDEN, other

from keepfit.cli import main
from keepfit.core.errors import EnvironmentFault, GateError, UsageError
from keepfit.store.registry import Registry


@pytest.fixture
def three(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path)
    for number in range(3):
        registry.register(other(tmp_path, str(number)), parents=[number] if number else [], run=f"run {number}")
    return registry


def test_versions_have_numbers_lineage_and_parents(three):
    assert three.names() == ["small"] and [v.version for v in three.versions("small")] == [1, 2, 3]
    last = three.newest("small")
    said = json.loads((GOLDEN / "bundle.json").read_text())
    assert (last.lineage, last.metrics, last.parents, last.run) == (said["lineage"], said["metrics"], (2,), "run 2")
    assert last.open().sha256 == last.sha256 and last.reference == "small@3"
    assert three.pointer("small").aliases == {"champion": 1, "challenger": 3}
    assert [three.resolve(r).version for r in ("small", "small@challenger", "small@2")] == [1, 3, 2]


def test_the_same_bytes_are_the_version_that_they_are(three, tmp_path):
    before = three.pointer("small")
    assert three.register(other(tmp_path / "again", "1")).version == 2
    assert three.pointer("small") == before and len(three.versions("small")) == 3


def test_promote_and_the_way_back(three):
    moved = three.promote("small", 3, why="better")
    assert moved.aliases == {"champion": 3} and moved.previous == {"champion": (1,)}
    three.promote("small", 2, expect=3)
    with pytest.raises(GateError, match="not the one"):
        three.promote("small", 1, expect=3)
    assert [three.rollback("small", why="worse").aliases["champion"] for _ in range(2)] == [3, 1]
    with pytest.raises(GateError) as caught:
        three.rollback("small")
    assert caught.value.code == "nothing_before"
    log = three.pointer("small").log
    assert [(m.how, m.before, m.version) for m in log[-4:]] == [
        ("promote", 1, 3), ("promote", 3, 2), ("rollback", 2, 3), ("rollback", 3, 1)
    ]  # fmt: skip
    assert [m.serial for m in log] == list(range(1, len(log) + 1))


def test_a_challenger_can_be_released(three):
    assert three.release("small", "challenger", why="refused").aliases == {"champion": 1}
    assert three.release("small", "challenger").serial == three.pointer("small").serial


def test_a_damaged_version_is_never_promoted_and_verify_names_it(three):
    model = three.get("small", 2).path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(EnvironmentFault) as caught:
        three.promote("small", 2)
    assert caught.value.code == "tampered_bundle" and three.pointer("small").aliases["champion"] == 1
    errors = [version["error"] for version in three.verify("small")]
    assert [bool(error) for error in errors] == [False, True, False] and "tampered_bundle" in errors[1]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"pointer": {"format": 1}, "sum": ""}'])
def test_a_damaged_pointer_is_said(three, damage):
    three.pointer_path("small").write_bytes(damage)
    with pytest.raises(EnvironmentFault) as caught:
        three.resolve("small")
    assert caught.value.code == "damaged_registry" and "backup" in caught.value.hint


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("smal", "model_unknown"),
        ("../small", "name_wrong"),
        ("small@nobody", "alias_unknown"),
        ("small@9", "version_unknown"),
        ("small@../1", "alias_unknown"),
    ],
)
def test_what_is_not_there_is_refused_by_name(three, what, code):
    with pytest.raises(UsageError) as caught:
        three.resolve(what)
    assert caught.value.code == code and caught.value.hint


def test_a_registration_that_is_refused_leaves_nothing(tmp_path):
    registry, bad = Registry(tmp_path), other(tmp_path, "bad")
    (bad / "card.md").write_text("changed")
    with pytest.raises(EnvironmentFault):
        registry.register(bad)
    for name in ("UP", "..", "a/b"):
        with pytest.raises(UsageError):
            registry.register(GOLDEN, name)
    with pytest.raises(UsageError):
        registry.register(GOLDEN, parents=[4])
    assert registry.names() == []


def test_many_at_once_get_a_number_each(tmp_path):
    bundles = [other(tmp_path, f"b{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda place: Registry(tmp_path).register(place).version, bundles))
    assert sorted(made) == list(range(1, 9))
    assert Registry(tmp_path).pointer("small").aliases["challenger"] == 8


def test_the_command_line_moves_the_champion(tmp_path, capsys):
    def said_json(*words):
        code = main.run([*map(str, words), "--workspace", str(tmp_path), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    for number in range(2):
        said = said_json("models", "register", other(tmp_path, f"c{number}"), "--name", "shop")
    assert (said["version"], said["aliases"]) == (2, ["challenger"])
    assert [(m["version"], m["aliases"]) for m in said_json("models", "list")["models"]] == [
        (1, ["champion"]),
        (2, ["challenger"]),
    ]
    assert said_json("models", "promote", "shop", "--why", "better")["aliases"] == {"champion": 2}
    shown = said_json("models", "show", "shop@champion")
    assert shown["version"] == 2 and shown["pointer"]["log"][-1]["why"] == "better"
    assert said_json("models", "rollback", "shop")["version"] == 1
    assert len(said_json("models", "verify", "shop")["models"]) == 2
