"""A workbook is read as it is shown: stored values, dates, the right sheet; what is damaged or a bomb is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keepfit as kf
from keepfit.core.errors import DataError
from keepfit.runtime import sources
from keepfit.runtime.sources import Read, Rejects
from keepfit.runtime.spreadsheet import date_text
from keepfit.runtime.table import concat

openpyxl = pytest.importorskip("openpyxl")

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
PARTS = {
    "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="r"><sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/></Relationships>',
}


def book(path, sheet, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in {**PARTS, "xl/worksheets/sheet1.xml": sheet, **more}.items():
            file.writestr(name, text)
    return path


def rows_of(path, **said):
    rejects = Rejects()
    table = concat(list(sources.chunks(path, Read(**said), rejects, size=7)))
    return table.names, [tuple(column[n] for column in table.columns.values()) for n in range(len(table))], rejects


def made(path, rows, title="Data"):
    workbook = openpyxl.Workbook()
    workbook.active.title = title
    for row in rows:
        workbook.active.append(row)
    workbook.save(path)
    return workbook


def test_cells_of_every_kind_are_read_as_they_are_meant(tmp_path):
    when = dt.datetime(2024, 2, 29, 13, 30)
    rows = [
        ["n", "t", "b", "d", "m", "empty"],
        [1.5, "Köln, 北京\nx", True, dt.date(2024, 3, 1), when, None],
        [2, None, False, None, None, None],
    ]
    made(tmp_path / "a.xlsx", rows)
    names, found, rejects = rows_of(tmp_path / "a.xlsx")
    assert names == rows[0]
    assert found[0] == ("1.5", "Köln, 北京\nx", "true", "2024-03-01", "2024-02-29 13:30:00", None)
    assert found[1] == ("2", None, "false", None, None, None) and not rejects.lines and not rejects.repairs
    (tmp_path / "b.xlsx.gz").write_bytes(gzip.compress((tmp_path / "a.xlsx").read_bytes()))
    assert rows_of(tmp_path / "b.xlsx.gz")[1] == found


def test_a_sheet_is_chosen_by_name_or_number_and_a_wrong_name_is_told(tmp_path):
    workbook = made(tmp_path / "a.xlsx", [["x"], [1]])
    second = workbook.create_sheet("Zweites")
    second.append(["y"])
    second.append([2])
    workbook.save(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx")[0] == ["x"]
    assert rows_of(tmp_path / "a.xlsx", sheet="Zweites")[0] == rows_of(tmp_path / "a.xlsx", sheet=2)[0] == ["y"]
    with pytest.raises(DataError, match="no sheet 'Zweite'") as caught:
        rows_of(tmp_path / "a.xlsx", sheet="Zweite")
    assert "Zweites" in caught.value.hint


def test_formulas_give_their_stored_value_and_errors_and_absent_values_are_told(tmp_path):
    sheet = f"""<worksheet {MAIN}><sheetData>
      <row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="str"><f>x</f><v>b</v></c></row>
      <row r="2"><c r="A2"><f>1+1</f><v>2</v></c><c r="B2" t="str"><f>"x"</f><v>text</v></c></row>
      <row r="3"><c r="A3"><f>1+2</f></c><c r="B3" t="e"><f>A9</f><v>#REF!</v></c></row>
      <row r="9"><c r="B9"><v>4.25</v></c><c r="C9"><v>1</v></c></row>
      <row r="10"><c r="B10"><v>4.25</v></c></row>
    </sheetData></worksheet>"""
    names, rows, rejects = rows_of(book(tmp_path / "a.xlsx", sheet))
    assert names == ["a", "b"] and rows == [("2", "text"), (None, None), (None, "4.25")]
    assert [(r.row, r.line, r.column, r.before) for r in rejects.repairs] == [(1, 3, "a", ""), (1, 3, "b", "#REF!")]
    assert [line[1:3] for line in rejects.lines] == [(9, "3 cells under 2 column names")]


@given(
    st.lists(
        st.tuples(
            st.floats(-1e9, 1e9, allow_nan=False),
            st.text(
                st.characters(
                    codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"], exclude_characters="_\ufffe\uffff"
                ),
                min_size=1,
                max_size=9,
            ),
        ),
        min_size=1,
        max_size=9,
    )
)
@settings(max_examples=8, deadline=None)
def test_a_written_table_is_read_back_cell_by_cell(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("books") / "a.xlsx"
    rows = [(number, "t" + text) for number, text in rows]  # openpyxl takes a leading = for a formula
    made(path, [["n", "t"], *rows])
    _, found, _ = rows_of(path)
    assert [(float(n), t) for n, t in found] == [(pytest.approx(n), t) for n, t in rows]


def test_serial_days_are_those_of_openpyxl():
    from openpyxl.utils.datetime import from_excel

    looked = 0
    for serial in [1, 59, 61, 366, 25_569, 45_000, 45_000.75, 100_000.5, 2_957_003]:
        for late in (False, True):
            expected = from_excel(serial, dt.datetime(1904, 1, 1) if late else dt.datetime(1899, 12, 30))
            if not late and serial < 60:
                expected = dt.datetime(1899, 12, 31) + dt.timedelta(days=serial)
            if True:
                text = date_text(serial, late)
                assert text is not None and dt.datetime.fromisoformat(text) == expected, (serial, late)
                looked += 1
    assert looked >= 16 and date_text(0.5, False) == "12:00:00" and date_text(-1, False) is None


BOMBS = {
    "entities": (
        "xl/worksheets/sheet1.xml",
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><worksheet>&b;</worksheet>',
        "document type",
    ),
    "outer entity": (
        "xl/workbook.xml",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><workbook>&a;</workbook>',
        "document type",
    ),
    "zip bomb": ("xl/sharedStrings.xml", "<sst><si><t>" + "a" * (80 << 20) + "</t></si></sst>", "zip bomb"),
    "one cell": (
        "xl/worksheets/sheet1.xml",
        f'<worksheet {MAIN}><sheetData><row><c t="str"><v>{"a" * (2 << 20)}</v></c></row></sheetData></worksheet>',
        "million characters",
    ),
    "far cell": (
        "xl/worksheets/sheet1.xml",
        f'<worksheet {MAIN}><sheetData><row><c r="ZZZZZ1"><v>1</v></c></row></sheetData></worksheet>',
        "ZZZZZ1",
    ),
    "cut short": ("xl/worksheets/sheet1.xml", f"<worksheet {MAIN}><sheetData><row>", "no element found"),
    "no sheet": ("xl/_rels/workbook.xml.rels", "<Relationships/>", "rId1"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_damaged_or_a_bomb_is_refused_with_its_reason(tmp_path, name):
    part, text, reason = BOMBS[name]
    book(tmp_path / "a.xlsx", "<worksheet/>", **{part: text})
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / "a.xlsx")
    assert (
        caught.value.code == "damaged_workbook"
        and reason in str(caught.value.seen)
        and "root:" not in str(caught.value)
    )


def test_a_file_that_is_no_workbook_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="workbook cannot be read"):
        rows_of(tmp_path / "a.xlsx")


def test_a_model_is_trained_on_a_workbook_and_answers_one(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[float(x), ["yes", "no"][int(x > 0)]] for x in rng.normal(size=120)]
    made(tmp_path / "a.xlsx", [["x", "answer"], *rows])
    (tmp_path / "r.yaml").write_text(
        "version: 1\ndata: {source: a.xlsx, target: answer, read: {sheet: Data}}\nmodel: {use: linear}\n"
    )
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    assert run.metrics["test"]["accuracy"] > 0.8
    from keepfit import api

    assert api.predict(run.bundle, tmp_path / "a.xlsx", tmp_path / "out.jsonl")["rows"] == 120
    assert "prediction" in json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
