"""Evaluate measures what can be measured of a file, and accounts for every row that it leaves out."""

from __future__ import annotations

import json

import pytest
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit import api
from keepfit.cli import main
from keepfit.core.errors import DataError


@pytest.fixture
def dirty(tmp_path):
    """240 rows: 3 without an answer, and below them 2 lines that cannot be read."""
    rows = mixed()
    for place in (4, 7, 9):
        rows[place]["answer"] = "" if place != 7 else "NA"
    text = csv_text(rows) + "1,2,3\n" + ",".join("abcdefghij") + "\n"
    (tmp_path / "dirty.csv").write_text(text, "utf-8")
    clean = [row for place, row in enumerate(rows) if place not in (4, 7, 9)]
    (tmp_path / "clean.csv").write_text(csv_text(clean), "utf-8")
    return tmp_path


def test_rows_that_training_would_drop_are_left_out_and_counted(finished, dirty):
    found = api.evaluate(finished.bundle, dirty / "dirty.csv")
    assert found["metrics"] == api.evaluate(finished.bundle, dirty / "clean.csv")["metrics"]
    assert (found["in"], found["rows"], found["errors"]) == (242, 237, 5)
    assert found["in"] == found["rows"] + sum(one["rows"] for one in found["left_out"])
    assert found["left_out"][0] == {"why": "no label in column 'answer'", "rows": 3, "first": "dirty.csv#4"}
    unread = found["left_out"][1:]
    assert sum(one["rows"] for one in unread) == 2 and all("cannot be read" in one["why"] for one in unread)
    assert "dirty.csv, line 242" in {one["first"] for one in unread}


def test_files_of_one_name_are_told_apart_as_in_a_ledger(finished, tmp_path):
    for place, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        rows = mixed(20)
        rows[3 + place]["answer"] = ""
        (tmp_path / folder / "p.csv").write_text(csv_text(rows) + "1,2\n" * place, "utf-8")
    found = api.evaluate(finished.bundle, str(tmp_path / "*" / "p.csv"))
    assert [one["first"] for one in found["left_out"]] == ["p.csv#3", "p.csv~2, line 22"]
    (tmp_path / "a" / "p.csv").write_text(csv_text(mixed(20)), "utf-8")
    found = api.evaluate(finished.bundle, str(tmp_path / "*" / "p.csv"))
    assert [one["first"] for one in found["left_out"]] == ["p.csv~2, line 22", "p.csv~2#4"]


def test_a_person_is_told_how_many_and_why(finished, dirty, capsys):
    assert main.run(["evaluate", str(finished.bundle), str(dirty / "dirty.csv"), "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert told["in"] == told["rows"] + told["errors"] == 242
    assert any("237 of 242; 5 left out" in line for line in lines)
    assert any("3 no label in column 'answer'; first: dirty.csv#4" in line for line in lines)
    assert main.run(["evaluate", str(finished.bundle), str(dirty / "clean.csv")]) == 0
    assert "left out" not in capsys.readouterr().out


def test_what_cannot_be_measured_at_all_is_refused_with_the_reason(finished, dirty):
    rows = [{**row, "answer": ""} for row in mixed(20)]
    (dirty / "none.csv").write_text(csv_text(rows), "utf-8")
    with pytest.raises(DataError) as caught:
        api.evaluate(finished.bundle, dirty / "none.csv")
    assert caught.value.code == "no_rows" and "20 rows: no label" in caught.value.seen and caught.value.hint
    (dirty / "ragged.csv").write_text(csv_text(mixed(2)) + "1,2\n" * 5, "utf-8")
    with pytest.raises(DataError) as caught:
        api.evaluate(finished.bundle, dirty / "ragged.csv")
    assert caught.value.code == "mostly_unreadable" and "5 of 7 lines" in caught.value.seen


def test_a_file_of_several_that_is_none_counts_as_one(finished, dirty):
    (dirty / "part_a.csv").write_text(csv_text(mixed(40)), "utf-8")
    (dirty / "part_b.csv").write_bytes(b"")
    found = api.evaluate(finished.bundle, str(dirty / "part_*.csv"))
    assert (found["in"], found["rows"]) == (41, 40)
    assert found["left_out"] == [
        {"why": "cannot be read: the whole file: the file is empty", "rows": 1, "first": "part_b.csv"}
    ]


def test_numbers_that_are_none_and_very_many_reasons(tmp_path):
    rows = mixed()
    (tmp_path / "t.csv").write_text(csv_text(rows), "utf-8")
    (tmp_path / "r.yaml").write_text("data: {source: t.csv, target: price}\nmodel: {use: linear}\n")
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    for place, row in enumerate(rows[:30]):
        row["age"] = f"about {place}"
    rows[40]["price"] = "cheap"
    rows[41]["price"] = ""
    (tmp_path / "new.csv").write_text(csv_text(rows), "utf-8")
    found = api.evaluate(run.bundle, tmp_path / "new.csv")
    why = {one["why"]: one["rows"] for one in found["left_out"]}
    assert why["no label in column 'price'"] == why["the label in column 'price' is not a number"] == 1
    assert found["in"] == 240 == found["rows"] + sum(why.values())
    assert len(why) <= 21 and sum(rows for one, rows in why.items() if one.startswith(("no answer", "12"))) == 30
