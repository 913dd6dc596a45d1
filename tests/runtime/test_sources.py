"""Every kind of file gives the same rows as text, with the same count; lines that cannot be read are told of."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import csv_text, mixed

from keepfit.core.errors import DataError
from keepfit.runtime import delimited, sources
from keepfit.runtime.sources import Read, Rejects
from keepfit.runtime.table import concat, from_rows
from keepfit.runtime.writers import write

ROWS = mixed(203)
NAMES = list(ROWS[0])
KINDS = ["DOUBLE", "VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "DOUBLE", "VARCHAR"]


def rows_of(path, read=Read(), **said):  # noqa: B008
    rejects = Rejects()
    table = concat(list(sources.chunks(path, read, rejects, **said)))
    return (
        [tuple(column[n] for column in table.columns.values()) for n in range(len(table))],
        table.names,
        rejects.lines,
    )


def as_text():
    table = from_rows(ROWS, NAMES)
    return [tuple(column[n] for column in table.columns.values()) for n in range(len(table))]


def without_blank(rows):
    return [tuple(None if cell == "" else cell for cell in row) for row in rows]


def numbers_alike(rows):
    return [
        tuple(None if c in (None, "") else float(c) if n in (0, 5) else c for n, c in enumerate(row)) for row in rows
    ]


def dumped(form):
    text = csv_text(ROWS)
    if form in ("csv", "csv.gz", "CSV"):
        return text.encode()
    if form in ("tsv", "txt"):
        return text.replace(",", "\t" if form == "tsv" else "|").encode()
    if form == "json":
        return json.dumps(ROWS, indent=1).encode()
    return "\n".join(json.dumps(row, ensure_ascii=form == "ndjson") for row in ROWS).encode()


@pytest.mark.parametrize(
    "form", ["csv", "CSV", "csv.gz", "tsv", "txt", "jsonl", "ndjson", "jsonl.gz", "json", "json.gz", "parquet"]
)
@pytest.mark.parametrize("size", [50_000, 50])
def test_every_form_gives_the_same_rows(tmp_path, form, size):
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        write(path, NAMES, KINDS, [list(row.values()) for row in ROWS])
    else:
        data = dumped(form.removesuffix(".gz"))
        path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    rows, names, rejects = rows_of(path, size=size)
    assert len(rows) == 203 and names == NAMES and rejects == []
    assert numbers_alike(rows) == numbers_alike(as_text())


def test_json_values_are_the_text_of_csv(tmp_path):
    rows = [
        {"f": 1.0, "i": 7, "b": True, "n": None, "s": "007", "d": "2020-01-01T05:00:00", "mixed": 1, "t": "12:30"},
        {"f": 2.5, "i": -1, "b": False, "n": 3, "s": "x", "d": "2020-01-02", "mixed": "a b", "t": 'é"北'},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    wanted = [
        ("1", "7", "true", None, "007", "2020-01-01T05:00:00", "1", "12:30"),
        ("2.5", "-1", "false", "3", "x", "2020-01-02", "a b", 'é"北'),
    ]
    assert rows_of(tmp_path / "a.jsonl")[0] == wanted == rows_of(tmp_path / "a.json")[0]
    (tmp_path / "a.csv").write_text(
        csv_text([{k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()} for row in rows]).replace(
            "1.0,", "1,"
        )
    )
    assert rows_of(tmp_path / "a.csv")[0] == wanted


def test_json_keys_that_come_late_are_columns_of_every_chunk(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"a": n} | ({"b": n} if n > 7 else {})) for n in range(10)))
    tables = list(sources.chunks(tmp_path / "a.jsonl", Read(), size=4))
    assert [t.names for t in tables] == [["a", "b"]] * 3 and [len(t) for t in tables] == [4, 4, 2]


def test_json_lines_that_are_no_objects_go_to_the_rejects(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": \n[1]\n{"a": 2}\n3\n')
    rows, _, rejects = rows_of(tmp_path / "a.jsonl")
    assert rows == [("1",), ("2",)] and [line[1] for line in rejects] == [3, 4, 6] and len(rejects) == 3


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "name,n\nKöln,1\n北京,2\n"),
        ("utf-8-sig", "name,n\nKöln,1\n北京,2\n"),
        ("utf-16", "name,n\nKöln,1\n北京,2\n"),
        ("latin-1", "name,n\nKöln,1\nÉvry,2\n"),
        ("cp1252", "name,n\nKöln – “x”,1\nÉvry €,2\n"),
        ("gb18030", "城市,数\n北京,1\n上海,2\n"),
    ],
)
def test_encodings_are_noticed_and_can_be_said(tmp_path, encoding, text):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    lines = [tuple(line.split(",")) for line in text.splitlines()]
    for read in (Read(), Read(encoding=encoding)):
        rows, names, rejects = rows_of(path, read)
        assert [tuple(names), *rows] == lines and rejects == []


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(tmp_path, mark, end):
    path = tmp_path / "a.csv"
    lines = [["a", "b", "c"], *[[str(n), f"x{n}", "1.5"] for n in range(30)]]
    path.write_bytes(end.join(mark.join(line) for line in lines).encode())
    rows, names, rejects = rows_of(path)
    assert [names, *map(list, rows)] == lines and len(rows) == 30 and rejects == []
    assert rows_of(path, Read(delimiter=mark))[0] == rows


def test_mixed_line_ends_lose_no_row(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\r\n1,2\n3,4\r\n5,6\n")
    assert rows_of(tmp_path / "a.csv")[0] == [("1", "2"), ("3", "4"), ("5", "6")]


def test_quotes_that_hold_delimiters_newlines_and_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n"1,5","x\ny"\n"say ""hi""",2\n, \n')
    rows, _, rejects = rows_of(tmp_path / "a.csv")
    assert without_blank(rows) == [("1,5", "x\ny"), ('say "hi"', "2"), (None, " ")] and rejects == []
    (tmp_path / "b.csv").write_text('a\tb\nsay "hi\t1\nx\t2\n')
    assert rows_of(tmp_path / "b.csv", Read(quote="none"))[0] == [('say "hi', "1"), ("x", "2")]
    (tmp_path / "c.csv").write_text("a,b\n'1,5',2\n")
    assert rows_of(tmp_path / "c.csv", Read(quote="'"))[0] == [("1,5", "2")]


def test_headerless_with_and_without_names(tmp_path):
    (tmp_path / "a.data").write_text("1,x\n2,y\n")
    assert rows_of(tmp_path / "a.data", Read(header=False, names=("n", "c"))) == (
        [("1", "x"), ("2", "y")],
        ["n", "c"],
        [],
    )
    assert rows_of(tmp_path / "a.data", Read(header=False))[1] == ["column_0", "column_1"]
    assert rows_of(tmp_path / "a.data", Read(header=True, names=("n", "c")))[0] == [("2", "y")]


def test_ragged_lines_go_to_the_rejects_with_their_numbers(tmp_path):
    lines = [f"{n},{n}" for n in range(100)]
    lines[20], lines[50], lines[70] = "1", "1,2,3", "1,2,3,4"
    (tmp_path / "a.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    rows, _, rejects = rows_of(tmp_path / "a.csv")
    assert len(rows) == 97 and [line[1] for line in rejects] == [22, 52, 72]
    assert [line[3] for line in rejects] == ["1", "1,2,3", "1,2,3,4"] and rejects[0][0] == "a.csv"


def test_an_open_quote_is_told_of_for_every_line_that_it_swallows(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n1,2\n3,"open\n5,6\n7,8\n')
    rows, _, rejects = rows_of(tmp_path / "a.csv")
    assert len(rows) + len(rejects) == 4 and rows == [("1", "2")]


@pytest.mark.parametrize("quoted", [False, True])
def test_a_header_of_any_length_is_read_whole(tmp_path, quoted):
    names = [f"a column whose name is quite long{chr(10) if quoted else ' '}{n}" for n in range(2000)]
    lines = [names, *[[str(n)] * 2000 for n in range(3)]]
    text = "\n".join(",".join(f'"{cell}"' if quoted else cell for cell in line) for line in lines)
    (tmp_path / "a.csv").write_text(text)
    rows, found, rejects = rows_of(tmp_path / "a.csv")
    assert len(",".join(names)) > 70_000 and found == names and rejects == []
    assert [row[0] for row in rows] == ["0", "1", "2"] and len(rows[0]) == 2000


def test_a_header_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "LONGEST_LINE", 100_000)
    for text in ("a," * 60_000 + "\n1\n", '"a,\n' + "1,2\n" * 30_000):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match="not complete") as caught:
            rows_of(tmp_path / "a.csv")
        assert caught.value.code == "line_too_long" and caught.value.hint
    (tmp_path / "a.csv").write_text("a" * 200_000 + ",b\n1,2\n")
    monkeypatch.undo()
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / "a.csv")
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("blank", ["\n", "\r\n", " \n\t\n", "\n" * 100_000])
def test_blank_lines_above_the_header_are_skipped_and_counted(tmp_path, blank):
    above = blank.count("\n")
    (tmp_path / "a.csv").write_bytes(f"{blank}a,b\n1,2\n3\n4,5\n".encode())
    rows, names, rejects = rows_of(tmp_path / "a.csv")
    assert names == ["a", "b"] and rows == [("1", "2"), ("4", "5")]
    assert [line[1] for line in rejects] == [above + 3]
    for read in (Read(names=("x", "y")), Read(header=False), Read(header=False, names=("x", "y"))):
        rows, names, rejects = rows_of(tmp_path / "a.csv", read)
        assert rows == [*([] if read.header else [("a", "b")]), ("1", "2"), ("4", "5")], read
        assert [line[1] for line in rejects] == [above + 3] and len(names) == 2


def test_a_blank_cell_of_one_column_without_a_header_is_a_row(tmp_path):
    (tmp_path / "a.csv").write_text("\n1\n\n2\n")
    assert rows_of(tmp_path / "a.csv", Read(header=False))[0] == [(None,), ("1",), (None,), ("2",)]


def test_names_that_are_said_need_no_readable_first_line(tmp_path):
    (tmp_path / "a.csv").write_text("x" * 200_000 + ",1\n")
    assert rows_of(tmp_path / "a.csv", Read(delimiter=",", header=False, names=("text", "n")))[0][0][1] == "1"


def test_sources_that_are_to_come_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="sources of the kind hf: are not available yet") as caught:
        sources.files_of("hf:imdb", tmp_path)
    assert caught.value.code == "not_available" and caught.value.where and caught.value.hint


def test_globs_are_sorted_and_names_come_near(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"part-{name}.csv").write_text("x\n1\n")
    assert [p.name for p in sources.files_of("part-*.csv", tmp_path)] == [f"part-{n}.csv" for n in "abc"]
    with pytest.raises(DataError, match=r"did you mean 'part-a\.csv'"):
        sources.files_of("prt-a.csv", tmp_path)


def test_variables_in_sources(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("x\n1\n")
    monkeypatch.setenv("WHERE_IT_IS", "a")
    assert sources.files_of("${WHERE_IT_IS}.csv", tmp_path)[0].name == "a.csv"
    with pytest.raises(DataError, match="NOT_SET_HERE"):
        sources.files_of("${NOT_SET_HERE}.csv", tmp_path)


BROKEN = [
    ("a.csv", b"", "empty_file"),
    ("a.csv", b"  \n \n", "empty_file"),
    ("a.csv", bytes(range(256)) * 40, "binary_file"),
    ("a.csv", b"a,a\n1,2\n", "duplicate_columns"),
    ("a.csv.gz", b"not gzip", "damaged_gzip"),
    ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "damaged_gzip"),
    ("a.jsonl.gz", b"not gzip", "damaged_gzip"),
    ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "damaged_gzip"),
    ("a.parquet", b"PAR1 not really", "unreadable"),
    ("a.jsonl", b"not json\n", "unreadable"),
    ("a.json", b"[{]", "unreadable"),
    ("a.json", b"[]", "unreadable"),
    ("a.json", b"[1, 2]", "unreadable"),
    ("a.jsonl", b'{"a": [1, 2]}\n', "cell_type"),
    ("a.jsonl", b"\xff\xfe\x00", "bad_encoding"),
    ("a.docx", b"x", "unknown_format"),
    ("a", b"x", "unknown_format"),
]


@pytest.mark.parametrize(("name", "data", "code"), BROKEN)
def test_broken_files_are_coded_errors(tmp_path, name, data, code):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / name)
    assert caught.value.code == code and caught.value.where and len(BROKEN) == 17


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[
                st.text(
                    st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cc", "Cs"]),
                    min_size=1,
                    max_size=12,
                )
            ]
            * 3
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_written_comes_back(tmp_path_factory, rows):
    import csv

    folder = tmp_path_factory.mktemp("back")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    (folder / "a.jsonl").write_text("\n".join(json.dumps(dict(zip("abc", row, strict=True))) for row in rows))
    assert rows_of(folder / "a.csv", Read(delimiter=",", encoding="utf-8"))[0] == rows
    assert rows_of(folder / "a.jsonl")[0] == rows


def test_a_file_by_codes_has_the_cells_and_the_order_of_its_pages(tmp_path):
    """More rows than DuckDB takes at once: a join, by which codes are looked up, does not keep their order."""
    path, wide = tmp_path / "long.csv", tmp_path / "wide.csv"
    lines = (f'{row % 977},"{"" if row % 7 else row}",{"é" if row % 3 else "x, y"!r}\n' for row in range(260_000))
    path.write_text("a,b,c\n" + "".join(lines), encoding="utf-8")
    names = [f"c{n}" for n in range(40)]
    wide.write_text(
        ",".join(names) + "\n" + "".join(",".join(str(r * n % 5 or "") for n in range(40)) + "\n" for r in range(50))
    )
    for file in (path, wide):
        read = Read()
        (whole,), pages = list(sources.chunks(file, read, None, None)), concat(list(sources.chunks(file, read)))
        assert whole.names == pages.names and len(whole) == len(pages)
        for name in whole.names:
            assert whole.columns[name].tolist() == pages.columns[name].tolist()
            assert list(whole.columns[name].counts()) == whole.columns[name].values.tolist()
