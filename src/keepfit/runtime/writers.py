"""Writes answers and ledgers as CSV, Parquet or JSON lines, a chunk at a time, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import DataError, EnvironmentFault

Row = Sequence[Any]


def safe_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a leading quote mark."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def csv_lines(names: Sequence[str], rows: Iterable[Row], *, for_people: bool = False) -> Iterator[str]:
    """The table as CSV lines, header first; None is empty. `for_people`: cells are made safe for spreadsheets.

    Answers are for programs: a class `-` must come out as `-`.
    """
    for row in _chain(names, rows):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(
            ["" if cell is None else safe_cell(cell) if for_people else cell for cell in row]
        )
        yield out.getvalue()


def _chain(names: Sequence[str], rows: Iterable[Row]) -> Iterator[Row]:
    found = iter(rows)
    first = next(found, None)  # what is wrong with the whole source shows here, before a line is out
    yield names
    if first is not None:
        yield first
    yield from found


def write(
    path: Path, names: Sequence[str], kinds: Sequence[str], rows: Iterable[Row], *, for_people: bool = False
) -> None:
    """Rows to `path`, by its ending. `kinds` are DuckDB types for Parquet. Raises DataError for an unknown ending.

    `for_people` is that of `csv_lines`. Parquet columns are named by `apart(names)`.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet", ".jsonl"):
        raise DataError(
            "unknown_format",
            "tables are written as csv, parquet or jsonl",
            where=str(path),
            seen=ending or "no ending",
            hint=f"for example -o {path.stem.strip('.') or 'table'}.csv",
        )
    with tempfile.TemporaryDirectory(prefix="keepfit-") as scratch:
        lines = Path(scratch, "rows")
        with lines.open("w", encoding="utf-8", newline="") as file:
            if ending == ".csv":
                file.writelines(csv_lines(names, rows, for_people=for_people))
            else:
                file.writelines(_json_lines(names if ending == ".jsonl" else apart(names), rows))
        if ending == ".parquet":
            atomic.write_bytes(path, _parquet(lines, apart(names), kinds))
        else:
            atomic.write_bytes(path, lines.read_bytes())


def parquet_bytes(names: Sequence[str], kinds: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Rows as Parquet; the same rows give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="keepfit-") as scratch:
        lines = Path(scratch, "rows")
        with lines.open("w", encoding="utf-8") as file:
            file.writelines(_json_lines(apart(names), rows))
        return _parquet(lines, apart(names), kinds)


def apart(names: Sequence[str]) -> list[str]:
    """The names as Parquet can tell them apart: one that differs from an earlier one in case only gets `_2`, `_3` ..."""
    found: list[str] = []
    taken: set[str] = {name.lower() for name in names}
    seen: set[str] = set()
    for name in names:
        unique, number = name, 2
        while unique.lower() in (seen if unique == name else taken):
            unique, number = f"{name}_{number}", number + 1
        seen.add(unique.lower())
        taken.add(unique.lower())
        found.append(unique)
    return found


def _json_lines(names: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    return (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)


def _parquet(lines: Path, names: Sequence[str], kinds: Sequence[str]) -> bytes:
    import duckdb

    goal = lines.with_name("out.parquet")
    columns = ", ".join(f"{_quoted(name)}: '{kind}'" for name, kind in zip(names, kinds, strict=True))
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute("set threads=1")
            connection.execute(
                f"copy (select * from read_json('{lines}', format='newline_delimited', columns={{{columns}}},"
                f" maximum_object_size=67108864)) to '{goal}' (format parquet)"
            )
    except duckdb.IOException as error:
        raise EnvironmentFault(
            "disk_full",
            "a Parquet file cannot be written",
            where=str(goal.parent),
            seen=str(error)[:200],
            hint="free some space in the temporary folder, or set TMPDIR to another one",
        ) from None
    except duckdb.Error as error:
        raise DataError(
            "not_parquet",
            "these rows cannot be written as Parquet",
            where="the answers",
            seen=str(error).splitlines()[0][:200],
            hint="write csv or jsonl instead, or rename classes and columns with unusual characters",
        ) from None
    return goal.read_bytes()


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
