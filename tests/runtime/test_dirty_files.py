"""Files of the wild are read whole: encodings, NUL, lines of another encoding, cells too many; each repair is told."""

from __future__ import annotations

import pytest

from keepfit.runtime import sources
from keepfit.runtime.sources import Read, Rejects
from keepfit.runtime.table import concat

CHINESE = "城市,人口,说明\n" + "".join(
    f"北京,{n},中华人民共和国的首都和政治中心\n上海,{n},是一个很大的港口城市\n" for n in range(30)
)
TAIWAN = "城市,人口,說明\n" + "".join(f"台北,{n},這是一個很大的城市\n高雄,{n},南部的重要港口\n" for n in range(30))


def rows_of(path, **said):
    rejects = Rejects()
    table = concat(list(sources.chunks(path, Read(**said), rejects)))
    return table.names, [tuple(column[n] for column in table.columns.values()) for n in range(len(table))], rejects


@pytest.mark.parametrize(
    ("encoding", "text"),
    [(name, CHINESE) for name in ("gbk", "gb18030", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")]
    + [("big5", TAIWAN)],
)
def test_chinese_files_are_read_in_every_usual_encoding(tmp_path, encoding, text):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    names, rows, rejects = rows_of(tmp_path / "a.csv")
    assert ",".join(names) == text.split("\n")[0] and len(rows) == 60 and not rejects.lines
    assert ",".join(rows[0]) == text.split("\n")[1] and ",".join(rows[-1]) == text.split("\n")[-2]


def test_a_file_with_more_lines_of_another_encoding_than_whole_ones_is_read_line_by_line(tmp_path):
    names = ["Zoë", "Jürgen", "Ann", "José"] * 6
    raw = [f"{name},{n}".encode("utf-8" if n % 3 == 0 else "cp1252") for n, name in enumerate(names)]
    (tmp_path / "a.csv").write_bytes(b"\n".join([b"name,n", *raw]) + b"\n")
    _, rows, rejects = rows_of(tmp_path / "a.csv")
    assert [row[0] for row in rows] == names
    assert len(rejects.repairs) == sum(not name.isascii() and n % 3 != 0 for n, name in enumerate(names))


def test_a_line_of_another_encoding_is_read_by_itself_and_told(tmp_path):
    lines = ["name,n", *[f"Zoë Müller,{n}" for n in range(40)]]
    raw = [line.encode() for line in lines]
    raw[7] = "José,6".encode("cp1252")
    (tmp_path / "a.csv").write_bytes(b"\n".join(raw) + b"\n")
    _, rows, rejects = rows_of(tmp_path / "a.csv")
    assert rows[6] == ("José", "6") and rows[5][0] == "Zoë Müller" and len(rows) == 40
    assert [(r.line, r.rule, r.after) for r in rejects.repairs] == [
        (8, "a line of another encoding: read as cp1252", "José,6")
    ]


def test_nul_characters_are_left_out_and_told(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"1,2\n" * 50 + b"3\x00,4\n" + b"5,6\n" * 50)
    _, rows, rejects = rows_of(tmp_path / "a.csv")
    assert (
        len(rows) == 101
        and rows[50] == ("3", "4")
        and [(r.line, r.rule) for r in rejects.repairs] == [(52, "NUL characters left out")]
    )


def test_empty_cells_too_many_are_left_out_and_other_ragged_lines_are_kept_apart(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4, ,\n5\n6,7,8\n9,10\n")
    _, rows, rejects = rows_of(tmp_path / "a.csv")
    assert rows == [("1", "2"), ("9", "10"), ("3", "4")] and [line[1] for line in rejects.lines] == [4, 5]
    assert [(r.row, r.line, r.before, r.after) for r in rejects.repairs] == [(2, 3, "3,4, ,", "3,4")]


def test_a_quoted_newline_is_one_cell(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n"x\ny, ""z""",2\n3,4\n')
    assert rows_of(tmp_path / "a.csv")[1] == [('x\ny, "z"', "2"), ("3", "4")]


def test_lines_are_counted_as_an_editor_does_and_a_record_of_two_is_one(tmp_path):
    rows = [f'{n},"a\nb"' for n in range(30)]
    text = "\n".join(["a,b", *rows[:10], "lone", *rows[10:20], '7,"two\nlines",more', *rows[20:], ""])
    (tmp_path / "a.csv").write_text(text)
    _, found, rejects = rows_of(tmp_path / "a.csv")
    lines = text.split("\n")
    assert len(found) == 30 and [line[1] for line in rejects.lines] == [
        lines.index("lone") + 1,
        lines.index('7,"two') + 1,
    ]
    assert rejects.lines[1][3] == '7,"two\nlines",more'


def test_what_two_stray_quotes_and_blank_lines_swallow_is_told_line_by_line(tmp_path):
    rows = [f"{n},x" for n in range(300)]
    rows[100], rows[180] = '100,"open', '180,"y'
    (tmp_path / "a.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    _, found, rejects = rows_of(tmp_path / "a.csv")
    assert len(found) + len(rejects.lines) == 300 and len(rejects.lines) >= 80
    rows = [f"{n},x" for n in range(6000)]
    rows[100], rows[5100] = '100,"open', '5100,"y'
    (tmp_path / "a.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    _, found, rejects = rows_of(tmp_path / "a.csv")
    assert len(found) == 999 and [line[1] for line in rejects.lines] == list(range(102, 5103))
    (tmp_path / "b.csv").write_text("a,b\n" + "1,2\n" * 50 + "\n\n\n9,9,9\n" + "1,2\n" * 5)
    assert [(line[1], line[3]) for line in rows_of(tmp_path / "b.csv")[2].lines] == [(55, "9,9,9")]


def test_quotes_that_are_never_closed_are_told_as_such(tmp_path):
    from keepfit.core.errors import DataError
    from keepfit.recipe.data import DataOptions, ReadOptions
    from keepfit.stages.ingest import ingest

    (tmp_path / "a.csv").write_text("a,size,y\n" + "".join(f'{n},"{n},b\n' for n in range(50)))
    with pytest.raises(DataError) as caught:
        ingest(DataOptions(source="a.csv", target="y"), tmp_path, None)
    assert caught.value.code == "mostly_unreadable" and "quote" in str(caught.value.hint)
    ingest(DataOptions(source="a.csv", target="y", read=ReadOptions(quote="none")), tmp_path, None)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "\r\nsep=;"])
def test_the_line_in_which_excel_says_its_delimiter_is_no_record(tmp_path, first):
    (tmp_path / "a.csv").write_bytes(f"{first}\r\na,b;c\r\n1,5;2\r\n3,5;4\r\n".encode("utf-8-sig"))
    assert rows_of(tmp_path / "a.csv")[:2] == (["a,b", "c"], [("1,5", "2"), ("3,5", "4")])


def test_a_broken_file_among_others_is_kept_apart_and_a_single_one_ends_the_run(tmp_path):
    import json

    from keepfit.core.errors import DataError
    from keepfit.recipe.data import DataOptions
    from keepfit.stages.ingest import ingest

    (tmp_path / "a.csv").write_text("a,y\n" + "1,2\n3,4\n" * 5)
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(bytes(range(256)) * 4)
    files = ingest(DataOptions(source="*.csv", target="y"), tmp_path, None)
    entries = json.loads(files["ledger.json"])
    assert [(e["source"], e["action"]) for e in entries] == [("b.csv", "dropped"), ("c.csv", "dropped")]
    assert all(e["rule"].startswith("unreadable file: ") for e in entries)
    with pytest.raises(DataError, match="empty"):
        ingest(DataOptions(source="b.csv", target="y"), tmp_path, None)
