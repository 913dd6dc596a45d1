"""Reads CSV and its kin as text with DuckDB; lines that cannot be read are kept with their number and reason."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.runtime.coded import Coded, code_type, meanwhile, objects, side_by_side
from keepfit.runtime.coerce import figures
from keepfit.runtime.decoding import HEAD, Notes, as_utf8
from keepfit.runtime.reading import (
    LONGEST_LINE,
    Read,
    Rejects,
    Repair,
    Sift,
    check_names,
    connected,
    literal,
    names_of,
    pages,
    unreadable,
)
from keepfit.runtime.samples import hashes
from keepfit.runtime.table import Table, text_column

_BLOCK = 1 << 20
_CUT = 10_000  # characters of a record that DuckDB shows
_TOGETHER = 16  # columns whose codes are looked up in one pass
_SAID = re.compile(r'"?sep=([,;|\t])"?(?=[\r\n]|$)')


def csv_chunks(
    path: Path, read: Read, rejects: Rejects | None, size: int | None, sift: Sift | None = None
) -> Iterator[Table]:
    """The rows of a text file in tables of at most `size` rows, or in one by codes; what cannot be read goes into `rejects`.

    A `sift` is asked which rows stay where every line can be read; where some cannot, all rows come.
    """
    import duckdb

    notes: Notes = []
    with as_utf8(path, read.encoding, notes) as (plain, head):
        delimiter = read.delimiter or ("\t" if ".tsv" in path.suffixes else _sniff(head, read))
        first, blank = _top(plain, delimiter, read, path)
        names = names_of(first, read, path)
        # Blank lines are skipped; but where one column has no header, they are its missing cells.
        skip = blank + 1 if read.header else blank if len(names) > 1 else 0
        options = {
            "delim": delimiter,
            "header": "false",
            "skip": str(skip),
            "all_varchar": "true",
            "store_rejects": "true",
            "rejects_limit": "100000",
            "null_padding": "false",
            "strict_mode": "true",
            "quote": "" if read.quote == "none" else (read.quote or '"'),
            "escape": "" if read.quote == "none" else (read.quote or '"'),
            "max_line_size": str(LONGEST_LINE),
            "compression": "none",
            "hive_partitioning": "false",  # a folder called year=2024 is no column
        }
        said = ", ".join(f"{key}={literal(value)}" for key, value in options.items())
        columns = "{" + ", ".join(f"{literal(f'c{n}')}: 'VARCHAR'" for n in range(len(names))) + "}"
        reader = f"read_csv({literal(str(plain))}, auto_detect=false, columns={columns}, {said})"
        stay = _sifted(reader, len(names), sift) if sift is not None else None
        with connected() as connection:
            try:
                done = 0
                for page in _pieces(connection, reader, names, size, path, stay):
                    done += len(page)
                    yield page
                bad = _numbered(plain, connection, options["quote"])
            except duckdb.Error as error:
                raise unreadable(path, error) from None
        if rejects is None:
            return
        rejects.repairs += [Repair(path.name, -1, line, "", *said) for line, *said in notes]
        mended = _mended(bad, names, delimiter, read)
        _take_rejects([one for one in bad if int(one[0]) not in mended], path, rejects, options["quote"])
        if mended:  # after the others: a page that is out cannot be opened again
            for row, (line, (text, cells)) in enumerate(sorted(mended.items()), done):
                after = delimiter.join(cell or "" for cell in cells)[:200]
                rule = "empty cells right of the last column left out"
                rejects.repairs.append(Repair(path.name, row, line, "", rule, text[:200], after))
            rows = [cells for _, (_, cells) in sorted(mended.items())]
            yield Table({name: text_column([row[place] for row in rows]) for place, name in enumerate(names)})


def _pieces(
    connection: Any, reader: str, names: list[str], size: int | None, path: Path, stay: NDArray[np.int64] | None
) -> Iterator[Table]:
    """Pages of at most `size` rows, or without a size one table by codes."""
    if size is not None:
        yield from pages(_asked(connection, reader, stay), names, size, path)
        return
    check_names(names, path)
    yield Table({**dict(zip(names, coded(connection, reader, len(names)), strict=True))})


def coded(connection: Any, reader: str, width: int) -> list[Coded]:
    """The columns c0, c1 ... of what DuckDB reads, by codes in the order in which texts first appear.

    The file is read once, into the memory of DuckDB; the codes of some columns at once are then looked up in tables of their
    distinct cells, so that no cell but those becomes an object of Python.
    """
    connection.execute(f"create temp table cells as select * from {reader}")
    ((rows,),) = connection.execute("select count(*) from cells").fetchall()
    out: list[Coded] = []
    for first in range(0, width, _TOGETHER):
        places = range(first, min(first + _TOGETHER, width))
        texts = [_texts(connection, place, place - first) for place in places]
        codes, _ = meanwhile(partial(_codes, connection, places), partial(_look, texts), rows)
        row = np.asarray(codes["row"])  # a join does not keep the order of the file
        found = [(row, codes.pop(f"c{place}"), *one) for place, one in zip(places, texts, strict=True)]
        out += side_by_side(_laid_out, found, rows)
    return out


def _texts(connection: Any, place: int, number: int) -> tuple[Coded, NDArray[np.int64]]:
    """A column of no row with the distinct cells of one in the order in which they first appear, and how many rows have
    each; the table `texts` of the same number has them too."""
    connection.execute(
        f"create or replace temp table texts{number} as "
        "select cell, times, (row_number() over (order by first) - 1)::integer as code from "
        f"(select c{place} as cell, min(rowid) as first, count(*) as times from cells group by c{place})"
    )
    found = connection.execute(f"select cell, times from texts{number} order by code").fetchnumpy()
    cells = objects(found["cell"].tolist())  # of a masked array, None where it has no cell
    return Coded(np.zeros(0, code_type(len(cells))), cells), np.asarray(found["times"])


def _codes(connection: Any, places: range) -> dict[str, NDArray[Any]]:
    """The `row` and the codes c0, c1 ... of these columns, in an order that hangs on DuckDB's threads."""
    said = ", ".join(f"texts{number}.code as c{place}" for number, place in enumerate(places))
    joins = " ".join(
        f"left join texts{number} on cells.c{place} is not distinct from texts{number}.cell"
        for number, place in enumerate(places)
    )
    found: dict[str, NDArray[Any]] = connection.execute(
        f"select cells.rowid as row, {said} from cells {joins}"
    ).fetchnumpy()
    return found


def _look(texts: list[tuple[Coded, NDArray[np.int64]]]) -> None:
    """Learn of the distinct cells what will be asked, while DuckDB looks up their codes."""
    for column, _ in texts:
        hashes(column)
        figures(column)


def _laid_out(found: tuple[NDArray[Any], NDArray[Any], Coded, NDArray[np.int64]]) -> Coded:
    """A column from the row of each code, the code, and its distinct cells with how many rows have each."""
    row, codes, texts, times = found
    made = np.empty(len(row), texts.codes.dtype)
    made[row] = codes
    return Coded(made, texts.values, texts.memo).known(np.arange(len(times)), times)


def _sifted(reader: str, width: int, sift: Sift) -> NDArray[np.int64] | None:
    """The numbers of the rows that stay; None for all, and where a line cannot be read (its own pass tells of it)."""
    import duckdb

    letters = " + ".join(f"coalesce(sum(length(c{place})), 0)" for place in range(width))
    with connected() as connection:
        try:
            # All of it is fetched, since the table of rejects is there when a query is done and not before.
            ((count, total),) = connection.execute(f"select count(*), {letters} from {reader}").fetchall()
            ((bad,),) = connection.execute("select count(*) from reject_errors").fetchall()
        except duckdb.Error:
            return None
    return None if bad else sift.choose(int(count), int(total), width)


def _asked(connection: Any, reader: str, stay: NDArray[np.int64] | None) -> Any:
    """A cursor of all rows, or of those with these numbers in their order."""
    if stay is None:
        return connection.execute(f"select * from {reader}")
    # Left to itself DuckDB guesses that the file is the smaller side, and holds all of it in memory to look it up.
    connection.execute("set disabled_optimizers='join_order,build_side_probe_side'")
    connection.execute("create temp table stay as select unnest(?::bigint[]) as place", [stay.tolist()])
    numbered = f"(select row_number() over () - 1 as place, * from {reader})"
    return connection.execute(f"select * exclude (place) from {numbered} semi join stay using (place) order by place")


def _mended(bad: list[Any], names: list[str], delimiter: str, read: Read) -> dict[int, tuple[str, list[str | None]]]:
    """Lines with nothing but empty cells too many, by number: the text and the cells that belong to columns."""
    import csv

    if read.quote not in (None, '"'):
        return {}
    found: dict[int, tuple[str, list[str | None]]] = {}
    for line, _, raw in bad:
        text = str(raw).rstrip("\n")
        if "\n" in text or text.count('"') % 2:
            continue
        cells = next(csv.reader([text], delimiter=delimiter), [])
        if len(cells) > len(names) and not any(cell.strip() for cell in cells[len(names) :]):
            found[int(line)] = (text, [cell or None for cell in cells[: len(names)]])
    return found


def _numbered(plain: Path, connection: Any, quote: str) -> list[tuple[int, str, str]]:
    """Line, reason and text of what could not be read: DuckDB counts records, and one may have several lines."""
    bad = connection.execute(
        "select line, error_message, csv_line, line_byte_position from reject_errors order by line_byte_position"
    ).fetchall()
    out: list[tuple[int, str, str]] = []
    done, lines = 0, 1
    with plain.open("rb") as file:
        for line, reason, raw, place in bad:
            while done < (place or 0) - 1:
                block = file.read(min(_BLOCK, place - 1 - done))
                done, lines = done + (len(block) or place), lines + block.count(b"\n")
            if place and quote and len(raw) >= _CUT:
                raw = _record(plain, place - 1, quote)
            text = str(raw).lstrip("\n")  # blank lines above it
            out.append(((lines if place else int(line)) + len(str(raw)) - len(text), str(reason), text))
    return out


def _record(plain: Path, start: int, quote: str) -> str:
    """The record that begins at this byte, to the end of the line in which its last quote is closed, of which DuckDB shows the
    beginning only; at most LONGEST_LINE bytes."""
    mark, found, is_open = quote.encode(), bytearray(), False
    with plain.open("rb") as file:
        file.seek(start)
        for line in file:
            found += line
            is_open ^= bool(line.count(mark) % 2)
            if (not is_open and line.strip()) or len(found) > LONGEST_LINE:
                break
    return found.decode("utf-8", "replace")


def _take_rejects(bad: list[tuple[int, str, str]], path: Path, rejects: Rejects, quote: str) -> None:
    seen: set[int] = set()
    for first, reason, raw in bad:
        whole = raw.rstrip("\n")
        # An open quote swallows lines, and a later one may close it; all else is one record.
        is_open = bool(quote) and (whole.count(quote) % 2 == 1 or "unterminated quote" in reason)
        for line, text in enumerate(whole.split("\n") if is_open or not quote else [whole], first):
            if line not in seen:
                rejects.lines.append((path.name, line, str(reason).splitlines()[0][:200], text[:200]))
            seen.add(line)


def _sniff(head: str, read: Read) -> str:
    """The delimiter that the file says, as Excel's files do, or that splits the first lines most evenly, outside quotes."""
    if said := _SAID.match(head):
        return said[1]
    lines = [re.sub(r'"[^"]*"', '""', line) for line in head.splitlines() if line.strip()][:50]
    lines = lines[:-1] if len(lines) > 2 or (len(lines) == 2 and len(head) >= HEAD) else lines  # the last may be cut

    def evenness(mark: str) -> tuple[float, float]:
        counts = [line.count(mark) for line in lines]
        common = max(set(counts), key=lambda c: (counts.count(c), c))
        return (counts.count(common) / len(counts) if common else 0.0, float(common))

    return max((",", "\t", ";", "|"), key=evenness)


def _top(plain: Path, delimiter: str, read: Read, path: Path) -> tuple[list[str], int]:
    """The cells of the first record (none where all names are said), and how many lines above it, blank ones and
    Excel's `sep=;`, are no record."""
    import csv

    quoting: Literal[0, 3] = csv.QUOTE_NONE if read.quote == "none" else csv.QUOTE_MINIMAL
    quote = read.quote if read.quote and read.quote != "none" else '"'
    with plain.open(encoding="utf-8", newline="\n") as file:
        lines = _bounded_lines(file, path)
        blank, line = 0, next(lines, "")
        while line and (not line.strip() or _SAID.fullmatch(line.rstrip("\r\n"))):
            blank, line = blank + 1, next(lines, "")
        if read.names and read.spare is None:
            return [], blank
        try:
            whole = itertools.chain([line], lines)
            return next(csv.reader(whole, delimiter=delimiter, quoting=quoting, quotechar=quote), []), blank
        except csv.Error as error:
            raise unreadable(path, error) from None


def _bounded_lines(file: IO[str], path: Path) -> Iterator[str]:
    left = LONGEST_LINE
    while line := file.readline(left):
        left -= len(line)
        if left <= 0:
            raise DataError(
                "line_too_long",
                "the first line with cells is not complete after 16 MB",
                where=str(path),
                seen=repr(line[:40]),
                hint="is a quote left open, or is this no table? say data.read.quote: none where quotes mean nothing",
            )
        yield line
