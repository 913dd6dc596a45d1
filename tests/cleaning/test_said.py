"""What findings say of a run that goes on all the same, of classes that are evened out, of groups that the recipe names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit.cli.main import run as main
from keepfit.core.errors import DataError, GateError
from keepfit.stages.results import found_in, json_of


def recipe(folder: Any, data: str, more: str = "") -> Any:
    path = folder / "r.yaml"
    path.write_text(f"version: 1\nname: r\ndata: {data}\nmodel: {{use: linear}}\n{more}")
    return path


def test_a_leak_that_is_only_told_is_said_to_be(tmp_path: Any, capsys: Any) -> None:
    rows = mixed(150)
    (tmp_path / "t.csv").write_text(csv_text([{**row, "again": f"x{row['answer']}"} for row in rows]), "utf-8")
    path = recipe(tmp_path, "{source: t.csv, target: answer}")
    with pytest.raises(GateError):
        kf.run(path, workspace=tmp_path)
    assert main(["check", str(path), "--workspace", str(tmp_path), "clean.leaks=report"]) == 0
    said = capsys.readouterr().out
    assert (
        "\ntold  " in said
        and "told only, by clean.leaks: report: such a column" in said
        and "the run stops" not in said
    )


def test_balance_is_said_beside_the_rare_class(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    rows = [{"a": float(a), "y": "rare" if n % 20 == 0 else "usual"} for n, a in enumerate(rng.normal(size=400))]
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row['a']},{row['y']}\n" for row in rows))
    path = recipe(tmp_path, "{source: t.csv, target: y}")
    for said, words in (("none", "learned as it is"), ("oversample", "evened out by data.balance: oversample")):
        run = kf.run(path, [f"data.balance={said}"], until="clean", workspace=tmp_path)
        (found,) = [one for one in found_in(run.files["clean"], said) if one["rule"] == "class_balance"]
        assert [s["status"] for s in run.stages] == (["made"] * 3 if said == "none" else ["kept"] * 3)
        assert found["proposal"].startswith(words) and bool(found["override"]) == (said == "none")


def test_the_recipe_names_the_group_of_given_splits(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    for name, rows in (("train", 200), ("test", 60)):
        lines = "".join(f"{n % 40},{rng.normal():.5f},{'ab'[n % 2]}\n" for n in range(rows))
        (tmp_path / f"{name}.csv").write_text("ward,x,y\n" + lines)
    data = "{train: train.csv, test: test.csv, target: y, split: {by: given, column: COLUMN}}"
    with pytest.raises(GateError, match="ward"):
        kf.run(recipe(tmp_path, data.replace("COLUMN", "ward")), workspace=tmp_path)
    with pytest.raises(DataError, match="no column 'wards'"):
        kf.run(recipe(tmp_path, data.replace("COLUMN", "wards")), workspace=tmp_path)


def test_test_rows_without_an_answer_are_told(tmp_path: Any, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{x:.4f}", "ab"[int(x > 0)]) for x in rng.normal(size=200)]
    (tmp_path / "train.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in rows))
    for odd in (3, 60):
        cells = ["about 3"] * odd + [x for x, _ in rows[odd:60]]
        (tmp_path / "test.csv").write_text(
            "x,y\n" + "".join(f"{x},{y}\n" for x, (_, y) in zip(cells, rows, strict=False))
        )
        path = recipe(tmp_path, "{train: train.csv, test: test.csv, target: y}", "clean: {leaks: report}\n")
        status = main(["run", str(path), "--workspace", str(tmp_path), "-q"])
        told = capsys.readouterr()
        if odd == 3:
            assert status == 0 and "3 test rows more could not be read" in told.out
        else:
            assert status == 3 and "nothing_answered" in told.err and "about 3" in told.err


def test_few_coarse_columns_are_said_to_hide_near_rows(tmp_path: Any) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{n % 7},{'xz'[n % 2]}\n" for n in range(200)))
    run = kf.run(recipe(tmp_path, "{source: t.csv, target: y}"), until="clean", workspace=tmp_path)
    rules = [one["rule"] for one in json_of(run.files["clean"], "findings.json")]
    assert "near_rows_by_chance" in rules
