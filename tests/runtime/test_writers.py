"""Answers come out as they are, in every format; exports for people are safe in a spreadsheet."""

from __future__ import annotations

import csv
import json

import pytest

from keepfit import api
from keepfit.core.errors import DataError
from keepfit.runtime import writers
from keepfit.runtime.sources import Read, chunks

NAMES = ["prediction", "probability_Yes", "probability_yes", "probability_yes_2", "probability_YES"]
UNIQUE = ["prediction", "probability_Yes", "probability_yes_3", "probability_yes_2", "probability_YES_4"]


def test_names_that_differ_in_case_are_told_apart(tmp_path):
    row = ["yes", 0.1, 0.2, 0.3, 0.4]
    assert writers.apart(NAMES) == UNIQUE and writers.apart(UNIQUE) == UNIQUE
    kinds = ["VARCHAR", *["DOUBLE"] * 4]
    writers.write(tmp_path / "a.parquet", NAMES, kinds, [row])
    (table,) = chunks(tmp_path / "a.parquet", Read())
    assert [(name, column[0]) for name, column in table.columns.items()] == [
        (name, str(cell)) for name, cell in zip(UNIQUE, row, strict=True)
    ]
    writers.write(tmp_path / "a.jsonl", NAMES, kinds, [row])
    assert json.loads((tmp_path / "a.jsonl").read_text()) == dict(zip(NAMES, row, strict=True))


def test_what_parquet_cannot_hold_is_a_coded_error(tmp_path):
    with pytest.raises(DataError) as caught:
        writers.write(tmp_path / "a.parquet", ["a"], ["BIGINT"], [["x"]])
    assert caught.value.code == "not_parquet" and "x" in caught.value.seen and not (tmp_path / "a.parquet").exists()


def test_only_exports_for_people_are_escaped():
    rows = [["+", "=1+1", -3], ["-", "plain", None]]
    assert [line.strip() for line in writers.csv_lines(["a", "b", "c"], rows)][1:] == ["+,=1+1,-3", "-,plain,"]
    assert [line.strip() for line in writers.csv_lines(["a", "b", "c"], rows, for_people=True)][1:] == [
        "'+,'=1+1,-3",
        "'-,plain,",
    ]


@pytest.mark.parametrize(
    ("classes", "kind"),
    [
        ((1, 1.5, 2.5), "DOUBLE"),
        ((0, 1), "BIGINT"),
        ((0.5, 1.5), "DOUBLE"),
        ((False, True), "BOOLEAN"),
        (("a", "b"), "VARCHAR"),
        ((), "DOUBLE"),
    ],
)
def test_the_type_of_the_answers_holds_every_class(classes, kind):
    assert api._kind(classes) == kind


def test_classes_of_signs_and_case_come_out_as_they_are(tmp_path):
    from made_tables import made_run, mixed

    run = made_run(tmp_path, rows=mixed(classes=("+", "Yes", "yes")))
    out = tmp_path / "a.csv"
    api.predict(run.bundle, tmp_path / "small.csv", out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["prediction"] for row in rows} == {"+", "Yes", "yes"} and len(rows) == 240
    api.predict(run.bundle, tmp_path / "small.csv", tmp_path / "a.parquet")
    (table,) = chunks(tmp_path / "a.parquet", Read())
    assert table.names == ["prediction", "probability_+", "probability_Yes", "probability_yes_2", "error"]
    assert list(table.columns["prediction"]) == [row["prediction"] for row in rows]
