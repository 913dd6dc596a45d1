"""Reads table sources as text: CSV, TSV, Parquet, JSON lines, JSON, gz of these, globs.

DuckDB reads CSV and Parquet; JSON values become text by the function that serves `/predict`.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from keepfit.core.errors import DataError, from_os_error, nearest
from keepfit.runtime.decoding import HEAD, as_utf8
from keepfit.runtime.records import records
from keepfit.runtime.table import Table, text_column

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
NOT_YET = {  # what begins or ends a source that is to come -> what to do until then
    "sqlite:": "export the query as CSV or Parquet",
    "voc:": "tables are read: .csv .tsv .parquet .jsonl .json",
    "yolo:": "tables are read: .csv .tsv .parquet .jsonl .json",
    "coco:": "tables are read: .csv .tsv .parquet .jsonl .json",
    "hf:": "download the set and name its .parquet, .csv or .jsonl files",
    "s3://": "download the file first, for example aws s3 cp SOURCE .",
    "gs://": "download the file first, for example gcloud storage cp SOURCE .",
    "https://": "download the file first, for example curl -LO SOURCE",
    "http://": "download the file first, for example curl -LO SOURCE",
    "://": "export the query as CSV or Parquet",  # any SQLAlchemy URL
    ".xlsx": "save the sheet as CSV",
}
CHUNK = 50_000
LONGEST_LINE = 16_000_000


@dataclass(frozen=True)
class Read:
    """How text files are read; None is sniffed. `spare` is one of `names` that a file may leave out, such as the target."""

    delimiter: str | None = None
    header: bool = True
    names: tuple[str, ...] | None = None
    quote: str | None = None
    encoding: str | None = None
    spare: str | None = None


@dataclass
class Rejects:
    """Lines that could not be read: (file, line, reason, raw text)."""

    lines: list[tuple[str, int, str, str]] = field(default_factory=list)


def expand(text: str) -> str:
    """`${NAME}` from the environment. Raises DataError for a name that is not set."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise DataError(
                "no_variable",
                f"the environment variable {found[1]} is not set",
                where=text,
                hint=f"export {found[1]}=...",
            )
        return os.environ[found[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


def files_of(source: str, folder: Path) -> list[Path]:
    """The files that a path or glob names, sorted. Raises DataError with the nearest name in the folder."""
    refuse_not_yet(expand(source), source)
    pattern = str(folder / expand(source))
    found = [Path(pattern)] if Path(pattern).exists() else [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
    if not found:
        parent = Path(pattern).parent
        names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
        raise DataError("no_file", "there is no such file", where=source, hint=nearest(Path(pattern).name, names))
    for path in found:
        if path.is_dir():
            raise DataError(
                "is_a_folder",
                "the source is a folder",
                where=str(source),
                hint="name a file, or a glob such as folder/*.csv",
            )
        refuse_not_yet(path.name, source)
    return found


def refuse_not_yet(text: str, source: str) -> None:
    """Raises DataError `not_available` for a source of a kind that is to come; `source` is how the user spelt it."""
    low = text.lower()
    kind = next(
        (k for k in NOT_YET if low.startswith(k) or (k == "://" and re.match(r"[a-z][a-z0-9+.-]*://", low))), ""
    )
    if low.removesuffix(".gz").endswith(".xlsx"):
        kind = ".xlsx"
    if kind:
        raise DataError(
            "not_available",
            f"sources of the kind {text.partition('://')[0] + kind if kind == '://' else kind} are not available yet",
            where=re.sub(r"(?<=://)[^/]*@", "***@", source),
            hint=NOT_YET[kind],
        )


def chunks(path: Path, read: Read, rejects: Rejects | None = None, size: int = CHUNK) -> Iterator[Table]:
    """The rows of one file in tables of at most `size` rows, without ids."""
    suffixes = [s.lower() for s in path.suffixes]
    ending = next((s for s in reversed(suffixes) if s in FORMATS), None)
    if ending is None:
        raise DataError(
            "unknown_format",
            "this kind of file is not known",
            where=str(path),
            seen=path.suffix or "no ending",
            hint="known: " + " ".join(FORMATS),
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(
                "empty_file",
                "the file is empty",
                where=str(path),
                hint="copy or export it again; a table has a line of column names, then rows",
            )
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    if FORMATS[ending] == "csv":
        yield from _csv(path, read, rejects, size)
    elif FORMATS[ending] == "json":
        yield from _json(path, read, rejects, size)
    else:
        yield from _query(f"read_parquet({_literal(str(path))})", path, size)


def _json(path: Path, read: Read, rejects: Rejects | None, size: int) -> Iterator[Table]:
    """Two passes: the columns are the keys of all objects, so that every chunk has the same ones."""
    names: dict[str, None] = {}
    bad = []
    for record in records(path, read.encoding):
        if record.value is None:
            bad.append((path.name, record.line, record.reason, record.raw))
        else:
            names.update(dict.fromkeys(record.value))
    if not names:
        seen = f"line {bad[0][1]}: {bad[0][2]}" if bad else "no object"
        raise DataError(
            "unreadable",
            "the file holds no JSON objects with keys",
            where=str(path),
            seen=seen,
            hint='one object per line, for example {"age": 31, "city": "Paris"}',
        )
    if rejects is not None:
        rejects.lines += bad
    found = (record.value for record in records(path, read.encoding) if record.value is not None)
    while rows := list(itertools.islice(found, size)):
        yield Table({name: _cells([row.get(name) for row in rows], name, path) for name in names})


@contextmanager
def _duckdb() -> Iterator[Any]:
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.execute("set autoinstall_known_extensions=false")
        connection.execute("set autoload_known_extensions=false")
        connection.execute("set threads=2")
        connection.execute("set preserve_insertion_order=true")
        yield connection
    finally:
        connection.close()


def _query(reader: str, path: Path, size: int) -> Iterator[Table]:
    import duckdb

    with _duckdb() as connection:
        try:
            cursor = connection.execute(f"select * from {reader}")
            names = [str(column[0]) for column in cursor.description]
            yield from _pages(cursor, names, size, path)
        except duckdb.Error as error:
            raise _unreadable(path, error) from None


def _pages(cursor: Any, names: Sequence[str], size: int, path: Path) -> Iterator[Table]:
    _check_names(names, path)
    some = False
    while rows := cursor.fetchmany(size):
        some = True
        yield Table({name: _cells([row[place] for row in rows], name, path) for place, name in enumerate(names)})
    if not some:
        yield Table({name: np.empty(0, object) for name in names})


def _cells(values: list[Any], name: str, path: Path) -> Any:
    try:
        return text_column(values)
    except DataError as error:
        raise DataError(
            error.code, error.what, where=f"{path}, column {name!r}", seen=error.seen, hint=error.hint
        ) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        "unreadable",
        "the file cannot be read",
        where=str(path),
        seen=str(error).splitlines()[0][:300],
        hint="open it in an editor; say data.read.delimiter, quote or encoding where they are unusual",
    )


def _check_names(names: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(
            "duplicate_columns",
            "two columns have the same name",
            where=str(path),
            seen=", ".join(twice[:5]),
            hint="rename one in the header, or give data.read.header: false with names",
        )


def _csv(path: Path, read: Read, rejects: Rejects | None, size: int) -> Iterator[Table]:
    import duckdb

    with as_utf8(path, read.encoding) as (plain, head):
        delimiter = read.delimiter or ("\t" if ".tsv" in path.suffixes else _sniff(head, read))
        first, blank = _top(plain, delimiter, read, path)
        names = _names(first, read, path)
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
        }
        said = ", ".join(f"{key}={_literal(value)}" for key, value in options.items())
        columns = "{" + ", ".join(f"{_literal(f'c{n}')}: 'VARCHAR'" for n in range(len(names))) + "}"
        with _duckdb() as connection:
            try:
                cursor = connection.execute(
                    f"select * from read_csv({_literal(str(plain))}, auto_detect=false, columns={columns}, {said})"
                )
                yield from _pages(cursor, names, size, path)
                bad = connection.execute(
                    "select line, error_message, csv_line from reject_errors order by line"
                ).fetchall()
            except duckdb.Error as error:
                raise _unreadable(path, error) from None
        _take_rejects(bad, path, rejects)


def _take_rejects(bad: list[Any], path: Path, rejects: Rejects | None) -> None:
    seen: set[int] = set()
    for first, reason, raw in bad:
        for line, text in enumerate(str(raw).rstrip("\n").split("\n"), int(first)):  # an open quote swallows lines
            if line not in seen and rejects is not None:
                rejects.lines.append((path.name, line, str(reason).splitlines()[0][:200], text[:200]))
            seen.add(line)


def _literal(text: str) -> str:
    return text if text in ("true", "false") else "'" + text.replace("'", "''") + "'"


def _sniff(head: str, read: Read) -> str:
    """The delimiter that splits the first lines most evenly, outside quotes."""
    lines = [re.sub(r'"[^"]*"', '""', line) for line in head.splitlines() if line.strip()][:50]
    lines = lines[:-1] if len(lines) > 2 or (len(lines) == 2 and len(head) >= HEAD) else lines  # the last may be cut

    def evenness(mark: str) -> tuple[float, float]:
        counts = [line.count(mark) for line in lines]
        common = max(set(counts), key=lambda c: (counts.count(c), c))
        return (counts.count(common) / len(counts) if common else 0.0, float(common))

    return max((",", "\t", ";", "|"), key=evenness)


def _top(plain: Path, delimiter: str, read: Read, path: Path) -> tuple[list[str], int]:
    """The cells of the first record (none where all names are said), and how many blank lines stand above it."""
    import csv

    quoting: Literal[0, 3] = csv.QUOTE_NONE if read.quote == "none" else csv.QUOTE_MINIMAL
    quote = read.quote if read.quote and read.quote != "none" else '"'
    with plain.open(encoding="utf-8", newline="\n") as file:
        lines = _bounded_lines(file, path)
        blank, line = 0, next(lines, "")
        while line and not line.strip():
            blank, line = blank + 1, next(lines, "")
        if read.names and read.spare is None:
            return [], blank
        try:
            whole = itertools.chain([line], lines)
            return next(csv.reader(whole, delimiter=delimiter, quoting=quoting, quotechar=quote), []), blank
        except csv.Error as error:
            raise _unreadable(path, error) from None


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


def _names(first: Sequence[str], read: Read, path: Path) -> list[str]:
    if read.names:
        names = list(read.names)
        if read.spare in names and len(first) == len(names) - 1:
            names.remove(read.spare)
        return names
    if not read.header:
        return [f"column_{place}" for place in range(len(first))]
    names = [name.strip() or f"column_{place}" for place, name in enumerate(first)]
    _check_names(names, path)
    return names
