"""The ledger from the command line: shown, filtered, exported, decisions taken back for the next run and let stand again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit import accounts
from keepfit.cli.main import run as main
from keepfit.core.errors import UsageError
from keepfit.runtime.coerce import ColumnRule
from keepfit.stages.results import json_of, part_of


def made(folder: Any) -> Any:
    rows = mixed(120)
    rows += [dict(rows[0]), dict(rows[1]), {**rows[2], "answer": None}]
    rows[9]["age"], rows[11]["age"], rows[12]["city"] = 9000, "forty", "=cmd()"
    (folder / "t.csv").write_text(csv_text(rows), "utf-8")
    path = folder / "t.yaml"
    path.write_text(
        "version: 1\nname: t\ndata: {source: t.csv, target: answer, columns: {price: ignore, age: numeric}, split: {by: random}}\n"
        "clean: {duplicates: drop, outliers: clip, missing: {numeric: mean}}\nmodel: {use: gbdt, params: {rounds: 4}}\n"
        "explain: {rows: 10}\n"
    )
    return path


def test_decisions_are_taken_back_alone_and_the_next_run_keeps_them(tmp_path: Any, capsys: Any) -> None:
    recipe = made(tmp_path)
    run = kf.run(recipe, workspace=tmp_path)
    rows = accounts.ledger(run.path)
    rules = {row["rule"] for row in rows}
    assert {
        "repeats an earlier row",
        "outlier",
        "imputed: mean",
        "missing target",
        "unreadable cell: not a number",
    } <= rules
    fenced = {rule.name: rule.clip for rule in map(ColumnRule.from_json, json_of(run.files["clean"], "rules.json"))}
    assert fenced["age"] is not None and fenced["age"][1] < 200
    clipped = next(row for row in rows if row["rule"] == "outlier" and row["before"] == "9000")
    filled = next(row for row in rows if row["rule"] == "imputed: mean")
    again = next(row for row in rows if row["rule"] == "repeats an earlier row")
    assert float(filled["after"]) == pytest.approx(40, abs=10)
    assert main(["ledger", str(run.path), "undo", clipped["entry"], filled["entry"], again["id"]]) == 0
    assert "taken back" in capsys.readouterr().out
    second = kf.run(recipe, workspace=tmp_path)
    assert {s["name"]: s["status"] for s in second.stages}["clean"] == "made"
    after = {row["entry"]: row for row in accounts.ledger(second.path)}
    for row in (clipped, filled, again):
        assert after[row["entry"]]["action"] == "noted" and after[row["entry"]]["rule"].endswith(": taken back")
    told = [
        one["rule"] for one in json_of(second.files["clean"], "findings.json") if "; 1 taken back" in one["proposal"]
    ]
    assert sorted(told) == sorted(row["rule"] for row in (clipped, filled, again))
    others = {row["entry"] for row in rows} - {clipped["entry"], filled["entry"], again["entry"]}
    assert all(after[row["entry"]] == row for row in rows if row["entry"] in others) and len(others) > 5
    assert sum(map(bool, part_of(second.files["clean"]).tolist())) == 1 + sum(
        map(bool, part_of(run.files["clean"]).tolist())
    )
    assert clipped["entry"] in (second.path / "recipe.yaml").read_text("utf-8")
    capsys.readouterr()
    assert main(["ledger", str(second.path), "redo", clipped["entry"], filled["entry"], again["entry"]]) == 0
    said = capsys.readouterr().out
    assert said.count("stands  ") == 3 and "taken back" not in said
    third = kf.run(recipe, workspace=tmp_path)
    assert all(stage["status"] == "kept" for stage in third.stages) and len(third.stages) == 8


def test_what_cannot_be_taken_back_is_refused_and_filters_are_columns(tmp_path: Any, capsys: Any) -> None:
    run = kf.run(made(tmp_path), workspace=tmp_path)
    lost = accounts.ledger(run.path, ["rule=missing target"])
    assert len(lost) == 1
    with pytest.raises(UsageError, match="cannot be taken back"):
        accounts.undo(run.path, [lost[0]["id"]], tmp_path)
    with pytest.raises(UsageError, match="no entry 'ffff'"):
        accounts.undo(run.path, ["ffff"], tmp_path)
    with pytest.raises(UsageError, match="no entry") as caught:
        accounts.undo(run.path, [lost[0]["id"].rpartition(":")[0]], tmp_path)
    assert lost[0]["id"] in str(caught.value.hint)
    with pytest.raises(UsageError, match="no column 'colum'"):
        accounts.ledger(run.path, ["colum=age"])
    assert not (tmp_path / ".keepfit" / "undo").exists()
    some = accounts.ledger(run.path, ["column=age", "action=changed"])
    assert some and {(row["column"], row["action"]) for row in some} == {("age", "changed")}
    assert main(["ledger", str(run.path), "undo"]) == 2 and main(["ledger", str(run.path), "ondo", "x"]) == 2
    capsys.readouterr()
    assert main(["ledger", str(run.path), "--where", "column=age", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.strip().splitlines()[-1])["entries"]) >= len(some)


def test_test_rows_have_no_say_in_what_is_cleaned(tmp_path: Any) -> None:
    rows = mixed(120)
    changed = [dict(row) for row in rows[100:]]
    for row in changed:
        row["age"], row["city"] = 5000, "KÖLN "
    found = []
    for name, held in (("a", rows[100:]), ("b", changed)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.csv").write_text(csv_text(rows[:100]), "utf-8")
        (folder / "test.csv").write_text(csv_text(held), "utf-8")
        (folder / "r.yaml").write_text(
            "version: 1\nname: r\ndata: {train: train.csv, test: test.csv, target: answer, columns: {price: ignore}}\n"
            "clean: {outliers: clip, spellings: apply, rare: group, dependencies: repair, missing: {numeric: knn}, leaks: report}\n"
        )
        run = kf.run(folder / "r.yaml", until="clean", workspace=folder)
        files = run.files["clean"]
        found.append(
            [files[part] for part in ("rules.json", "changes.json", "ledger.json", "findings.json", "profile.json")]
        )
    assert found[0] == found[1] and len(found[0]) == 5
