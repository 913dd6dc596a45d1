"""Reads a sheet of an .xlsx workbook as text, row by row: stored values of formulas, dates, shared strings.

The file is not trusted: a document type (where entities are declared) is refused, and so is what unpacks to far more than it is.
Written from ECMA-376 part 1 (SpreadsheetML); nothing in a workbook is calculated or run.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from keepfit.core.errors import DataError, from_os_error, nearest
from keepfit.runtime.reading import Read, Rejects, Repair, names_of
from keepfit.runtime.table import Table, text_column, to_text

_BLOCK = 1 << 16
_MOST_PART = 8 << 30
_MOST_TABLES = 512 << 20  # strings, styles and the list of sheets are held in memory
_MOST_RATIO = 400
_MOST_CELL = 1 << 20
_MOST_COLUMNS = 16_384
_DATES = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
_ERRORS = frozenset({"#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#N/A"})
Cells = list[str | None]


class _Bomb(Exception):
    """What unpacks to more than a workbook of this size may."""


def sheet_chunks(path: Path, read: Read, rejects: Rejects | None, size: int) -> Iterator[Table]:
    """The rows of one sheet in tables of at most `size` rows; rows with cells right of the header are rejected."""
    try:
        with zipfile.ZipFile(_opened(path)) as book:
            yield from _tables(_Book(book, path), read, rejects, size, path)
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        expat.ExpatError,
        KeyError,
        ValueError,
        _Bomb,
        RuntimeError,
    ) as error:
        raise DataError(
            "damaged_workbook",
            "the workbook cannot be read",
            where=str(path),
            seen=str(error)[:200],
            hint="open it in a spreadsheet program and save it again, without a password, or save the sheet as CSV",
        ) from None


def _opened(path: Path) -> Any:
    if path.suffix.lower() != ".gz":
        return path
    import gzip

    with gzip.open(path) as file:
        data = file.read(_MOST_TABLES + 1)
    if len(data) > _MOST_TABLES:
        raise _Bomb("the packed workbook is larger than 512 MB")
    return io.BytesIO(data)


def _tables(book: _Book, read: Read, rejects: Rejects | None, size: int, path: Path) -> Iterator[Table]:
    found = ((line, row) for line, row in book.rows(read.sheet) if any(cell is not None for cell in row))
    first = next(found, None)
    if first is None:
        return
    names = names_of([cell or "" for cell in _trimmed(first[1])], read, path)
    rows = found if read.header else itertools.chain([first], found)
    notes, done, some = rejects if rejects is not None else Rejects(), 0, False
    for page in iter(lambda: list(itertools.islice(rows, size)), []):
        kept: list[Cells] = []
        for line, row in page:
            cells = _trimmed(row)
            if len(cells) > len(names):
                reason = f"{len(cells)} cells under {len(names)} column names"
                notes.lines.append((path.name, line, reason, "\t".join(cell or "" for cell in cells)[:200]))
                continue
            _note(notes, path, done + len(kept), line, cells, names)
            kept.append(
                [None if cell in ("", "\x00", *_ERRORS) else cell for cell in cells]
                + [None] * (len(names) - len(cells))
            )
        done, some = done + len(kept), some or bool(kept)
        if kept:
            yield Table({name: text_column([row[place] for row in kept]) for place, name in enumerate(names)})
    if not some:
        yield Table({name: text_column([]) for name in names})


def _note(notes: Rejects, path: Path, row: int, line: int, cells: Cells, names: list[str]) -> None:
    """What a sheet has and a text file has not: errors of formulas, and formulas whose value was never stored."""
    for name, cell in zip(names, cells, strict=False):
        if cell in _ERRORS:
            notes.repairs.append(Repair(path.name, row, line, name, "an error of a spreadsheet: missing", cell, ""))
        elif cell == "\x00":
            rule = "a formula without a stored value: missing"
            notes.repairs.append(Repair(path.name, row, line, name, rule, "", ""))


def _trimmed(cells: Cells) -> Cells:
    width = next((n for n in range(len(cells), 0, -1) if cells[n - 1] is not None), 0)
    return cells[:width]


class _Book:
    """The parts of a workbook that cells refer to."""

    def __init__(self, book: zipfile.ZipFile, path: Path) -> None:
        self._zip, self._path = book, path
        self._links: dict[str, str] = {}
        self._sheets: list[tuple[str, str]] = []
        self._from_1904 = False
        self._parse("xl/_rels/workbook.xml.rels", self._link)
        self._parse("xl/workbook.xml", self._sheet)
        names = set(book.namelist())
        self._strings = _Strings()
        if "xl/sharedStrings.xml" in names:
            self._parse("xl/sharedStrings.xml", self._strings.begin, self._strings.end, self._strings.text)
        self._styles = _Styles()
        if "xl/styles.xml" in names:
            self._parse("xl/styles.xml", self._styles.begin, self._styles.end)

    def _link(self, name: str, said: dict[str, str]) -> None:
        if name == "Relationship" and said.get("TargetMode") != "External":
            self._links[said["Id"]] = posixpath.normpath(posixpath.join("/xl", said["Target"])).lstrip("/")

    def _sheet(self, name: str, said: dict[str, str]) -> None:
        if name == "sheet":
            self._sheets.append((said["name"], next(v for k, v in said.items() if k.rpartition(":")[2] == "id")))
        elif name == "workbookPr":
            self._from_1904 = said.get("date1904", "0") in ("1", "true")

    def rows(self, sheet: str | int | None) -> Iterator[tuple[int, Cells]]:
        """Row numbers from 1 and cells of a sheet, the first where none is said."""
        names = [name for name, _ in self._sheets]
        place: int | None = 0 if sheet is None else names.index(str(sheet)) if str(sheet) in names else None
        if place is None and isinstance(sheet, int) and 1 <= sheet <= len(names):
            place = sheet - 1
        if place is None or not names:
            raise DataError(
                "no_sheet",
                f"the workbook has no sheet {sheet!r}",
                where=str(self._path),
                seen=", ".join(names)[:300],
                hint=nearest(str(sheet), names),
            )
        reader = _Rows(self._strings.found, self._styles.dated(), self._from_1904)
        with self._part(self._links[self._sheets[place][1]]) as part:
            parser = _parser(reader.begin, reader.end, reader.text)
            while block := part.read(_BLOCK):
                parser.Parse(block, False)
                yield from reader.taken()
            parser.Parse(b"", True)
            yield from reader.taken()

    def _part(self, name: str) -> IO[bytes]:
        info = self._zip.getinfo(name)
        small = name.endswith(("sharedStrings.xml", "styles.xml", "workbook.xml", ".rels"))
        limit = min(_MOST_TABLES if small else _MOST_PART, max(64 << 20, _MOST_RATIO * info.compress_size))
        return _Bounded(self._zip.open(info), limit)  # type: ignore[return-value]

    def _parse(self, name: str, begin: Any, end: Any = None, text: Any = None) -> None:
        parser = _parser(begin, end, text)
        with self._part(name) as part:
            while block := part.read(_BLOCK):
                parser.Parse(block, False)
        parser.Parse(b"", True)


class _Bounded:
    """A file of which no more than `limit` bytes are read; what it says of its own size is not believed."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises _Bomb over the limit."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _Bomb("a part unpacks to far more than its size: a zip bomb")
        return data

    def __enter__(self) -> _Bounded:
        return self

    def __exit__(self, *more: object) -> None:
        self._file.close()


def _parser(begin: Any, end: Any = None, text: Any = None) -> Any:
    """An expat parser that hands on local names, and refuses a document type: entities are declared there."""

    def refuse(*more: object) -> None:
        raise _Bomb("it declares a document type, which no workbook has: an entity bomb")

    def local(given: Callable[..., None]) -> Callable[..., None]:
        return lambda name, *more: given(name.rpartition(":")[2], *more)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = local(begin)
    if end is not None:
        parser.EndElementHandler = local(end)
    if text is not None:
        parser.CharacterDataHandler = text
    return parser


class _Strings:
    """The shared strings; phonetic hints are left out."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._text: list[str] = []
        self._in_text, self._hint = False, 0

    def begin(self, name: str, said: dict[str, str]) -> None:
        """An element opens."""
        if name == "si":
            self._text = []
        self._hint += name == "rPh"
        self._in_text = name == "t" and not self._hint

    def text(self, data: str) -> None:
        """Text inside of an element."""
        if self._in_text:
            self._text.append(data)

    def end(self, name: str) -> None:
        """An element closes."""
        self._in_text = False
        self._hint -= name == "rPh"
        if name == "si":
            self.found.append(unescaped("".join(self._text)))


def unescaped(text: str) -> str:
    """`_x000D_` and its kin as the characters that they stand for; a NUL is left out."""
    if "_x" not in text:
        return text
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text).replace("\x00", "")


class _Styles:
    """Which cell formats show a number as a date."""

    def __init__(self) -> None:
        self._own: dict[int, str] = {}
        self._formats: list[int] = []
        self._inside = False

    def begin(self, name: str, said: dict[str, str]) -> None:
        """An element opens."""
        if name == "numFmt":
            self._own[int(said["numFmtId"])] = said.get("formatCode", "")
        self._inside = self._inside or name == "cellXfs"
        if self._inside and name == "xf":
            self._formats.append(int(said.get("numFmtId", "0")))

    def end(self, name: str) -> None:
        """An element closes."""
        self._inside = self._inside and name != "cellXfs"

    def dated(self) -> list[bool]:
        """One answer for each cell format, in order."""
        return [self._shows_date(self._own[n]) if n in self._own else n in _DATES for n in self._formats]

    @staticmethod
    def _shows_date(code: str) -> bool:
        plain = re.sub(r'"[^"]*"|\\.|_.|\*.|\[(?!h|m|s)[^\]]*\]', "", code.partition(";")[0].lower())
        return any(mark in plain for mark in "dmyhs") and "general" not in plain


class _Rows:
    """Collects the rows of a sheet as its elements come."""

    def __init__(self, strings: list[str], dated: list[bool], from_1904: bool) -> None:
        self._strings, self._dated, self._from_1904 = strings, dated, from_1904
        self._done: list[tuple[int, Cells]] = []
        self._row: Cells = []
        self._line = self._place = 0
        self._kind, self._style, self._formula = "n", 0, False
        self._text: list[str] = []
        self._in_value, self._size, self._hint = False, 0, 0

    def taken(self) -> list[tuple[int, Cells]]:
        """The rows that are whole, once."""
        done, self._done = self._done, []
        return done

    def begin(self, name: str, said: dict[str, str]) -> None:
        """An element opens."""
        if name == "row":
            self._line = int(said["r"]) if "r" in said else self._line + 1
            self._row, self._place = [], 0
        elif name == "c":
            self._place = _column_of(said["r"]) if "r" in said else self._place + 1
            if not 1 <= self._place <= _MOST_COLUMNS:
                raise ValueError(f"a cell at {said.get('r', '')[:20]!r}")
            self._kind, self._style = said.get("t", "n"), int(said.get("s", "0"))
            self._text, self._size, self._formula = [], 0, False
        self._formula = self._formula or name == "f"
        self._hint += name == "rPh"
        self._in_value = name in ("v", "t") and not self._hint

    def text(self, data: str) -> None:
        """Text inside of an element."""
        if self._in_value:
            self._size += len(data)
            if self._size > _MOST_CELL:
                raise _Bomb(f"a cell in row {self._line} of more than a million characters")
            self._text.append(data)

    def end(self, name: str) -> None:
        """An element closes."""
        self._in_value = False
        self._hint -= name == "rPh"
        if name == "c":
            value = self._value("".join(self._text))
            if value is not None:
                self._row += [None] * (self._place - len(self._row))
                self._row[self._place - 1] = value
        elif name == "row":
            self._done.append((self._line, self._row))

    def _value(self, text: str) -> str | None:
        if not text:
            return "\x00" if self._formula and self._kind in ("n", "e", "b") else None
        if self._kind == "s":
            return self._strings[int(text)]
        if self._kind == "b":
            return "true" if text.strip() == "1" else "false"
        if self._kind == "n":
            number = float(text)
            dated = self._style < len(self._dated) and self._dated[self._style]
            return (date_text(number, self._from_1904) if dated else None) or to_text(number)
        return unescaped(text)


def _column_of(place: str) -> int:
    found = 0
    for mark in place:
        if not mark.isalpha():
            break
        found = found * 26 + ord(mark.upper()) - 64
        if found > _MOST_COLUMNS:
            break
    return found


def date_text(serial: float, from_1904: bool) -> str | None:
    """A serial day number as ISO 8601 text: a date, a date with time, or a time of day below 1; None outside of years 1900 to 9999.

    The day 29 February 1900, which never was, is number 60: earlier numbers are one day off.
    """
    if not 0 <= serial < 2_958_466 - 1_462 * from_1904:
        return None
    seconds = round((serial % 1) * 86_400)
    if serial < 1 and not from_1904:
        return str((dt.datetime(2000, 1, 1) + dt.timedelta(seconds=seconds)).time())
    origin = dt.date(1904, 1, 1) if from_1904 else dt.date(1899, 12, 31 if serial < 60 else 30)
    moment = dt.datetime(origin.year, origin.month, origin.day) + dt.timedelta(days=int(serial), seconds=seconds)
    return str(moment if seconds else moment.date())
