"""The data page of the report: pictures of suspects, duplicates side by side, and the scores before and after."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from keepfit.cleaning.findings import Cell, Finding
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import encode_array
from keepfit.runtime.table import Table, text_column
from keepfit.stages import data_page, report_sections
from keepfit.tasks.task import Task


def test_suspects_and_pictures_beside_their_copies_are_shown():
    pictures, ids = np.empty(6, object), np.empty(6, object)
    pictures[:] = [encode_array(np.full((8, 8, 3), 40 * n, np.uint8)) for n in range(6)]
    ids[:] = [f"{n}.png#0:{n}" for n in range(6)]
    table = Table({COLUMN: pictures, "label": text_column(list("aabbab"))}, ids)
    groups = ((ids[0], ids[3]), (ids[1], ids[4], ids[5]), (ids[2], "gone.png#0:9"))
    twice = Finding("repeats an earlier row", (), (ids[3], ids[4]), "", "", groups=groups)
    doubted = Finding("wrong_labels", ("label",), (ids[5], ids[2]), "", "")
    crossing = Finding("copies", (), (), "", "", groups=((ids[1], ids[2]),))
    found = data_page.sheets(table, [twice, doubted], [crossing])
    assert set(found) == {"suspected.png", "copies.png", "duplicates.png"}
    assert data_page.sheets(table, [], []) == {}
    seen = np.asarray(Image.open(io.BytesIO(found["duplicates.png"])).convert("L"))
    assert {0, 40, 120, 160} <= set(np.unique(seen)) and 200 not in np.unique(seen)


def page_of(told: list[Finding], shown: dict[str, str]) -> str:
    facts = SimpleNamespace(
        findings=[one.as_json() for one in told],
        shown=shown,
        sheets={},
        described={},
        modality="tabular",
        task=Task("classification", "y", ("a", "b")),
    )
    return data_page.of(facts, report_sections.table)


def test_rows_stand_beside_their_copies_and_scores_before_and_after_are_said():
    ids = np.array([f"t.csv#{n}:{n % 2}" for n in range(4)], object)
    table = Table({"town": text_column(["Rome", "Oslo", "Rome", "Oslo"]), "y": text_column(list("abab"))}, ids)
    twice = Finding(
        "repeats an earlier row", (), (ids[2],), "1 row", "dropped from training",
        cells=(Cell(ids[2], "", ids[0]),), groups=((ids[0], ids[2]),),
    )  # fmt: skip
    doubted = Finding(
        "wrong_labels", ("y",), (ids[1],), "1 of 4", "relabelled: better", cells=(Cell(ids[1], "y", "b", "a"),),
        scores=({"judge": "a forest", "before": 0.25, "after": 0.125, "rows": 4},),
    )  # fmt: skip
    shown = data_page.contents(table, [twice, doubted], "y")
    assert shown == {ids[0]: "town Rome", ids[1]: "town Oslo", ids[2]: "town Rome"}
    page = page_of([twice, doubted], shown)
    assert page.count("town Rome") == 2 and "Repeats an earlier row: 1 side by side" in page and "t.csv#2" in page
    assert "Before and after: doubted labels" in page and ">25.0" in page and ">12.5" in page and "a forest" in page
    assert "town Oslo" in page and "proposed" in page and ":0</td>" not in page


def test_what_was_only_proposed_is_not_shown_as_done():
    cell = Cell("t.csv#1:ab", "age", "900", None)
    kept = page_of([Finding("outlier", ("age",), ("t.csv#1:ab",), "1 value", "kept", cells=(cell,))], {})
    done = page_of([Finding("outlier", ("age",), ("t.csv#1:ab",), "1 value", "clipped", cells=(cell,))], {})
    assert ">proposed<" in kept and ">done<" not in kept and ">done<" in done and "Outlier (age): 1 of 1" in done
    assert "None" not in kept + done
