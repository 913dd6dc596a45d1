"""Reads table sources as text: CSV, TSV, Parquet, JSON lines, JSON, XLSX, gz of these, globs, URLs, databases.

DuckDB reads CSV and Parquet; JSON values become text by the function that serves `/predict`.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from keepfit.core.errors import DataError, from_os_error, nearest
from keepfit.runtime.delimited import csv_chunks
from keepfit.runtime.reading import (
    CHUNK,
    Read,
    Rejects,
    Sift,
    cells_of,
    connected,
    literal,
    pages,
    redacted,
    unreadable,
)
from keepfit.runtime.records import records
from keepfit.runtime.spreadsheet import sheet_chunks
from keepfit.runtime.table import Table

__all__ = ["CHUNK", "Read", "Rejects", "Sift", "Source", "chunks", "expand", "files_of", "local_files", "path_in"]

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
}
NOT_YET = {  # what begins a source that is to come -> what to do until then
    "hf:": "download the set and name its .parquet, .csv or .jsonl files",
}
ANNOTATED = ("coco:", "voc:", "yolo:")  # pictures: the image room reads them
REMOTE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "http", "https", "ftp", "sftp", "memory")


class Source(str):
    """How the recipe names a source, with the query that a database is asked."""

    query: str | None = None

    def __new__(cls, text: str, query: str | None = None) -> Source:
        """The text as it stands in the recipe."""
        made = super().__new__(cls, text)
        made.query = query
        return made


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


def path_in(source: str) -> tuple[str, str]:
    """What stands before the path of a source, and the path: empty where a source is no file on this machine."""
    low = source.lower()
    if low.startswith("sqlite:///"):
        return source[:10], source[10:]
    kind = next((one for one in ANNOTATED if low.startswith(one)), "")
    if kind:
        return source[: len(kind)], source[len(kind) :]
    return ("", "") if "://" in source or low.startswith("sklearn:") else ("", source)


def files_of(source: str, folder: Path, *, fresh: bool = False) -> list[Path]:
    """The files that a source stands for, sorted: those of a path or glob, copies of what a URL or a query gives.

    A copy is made once in a process, so that the bytes that are read are those whose digest was taken; `fresh` makes it
    again. Raises DataError, with the nearest name in the folder.
    """
    said = expand(source)
    _refuse_not_yet(said, source)
    if said.partition("://")[0].lower() in REMOTE and "://" in said:
        from keepfit.runtime.remote import copies

        return copies(said, fresh=fresh)
    if "://" in said:
        from keepfit.runtime.databases import answered

        return [answered(said, getattr(source, "query", None), folder, fresh=fresh)]
    return local_files(source, folder)


def local_files(source: str, folder: Path) -> list[Path]:
    """The files that a path or glob names, sorted. Raises DataError with the nearest name in the folder."""
    if getattr(source, "query", None):
        raise DataError(
            "no_database",
            "a query goes with a database",
            where=str(source),
            hint="source: sqlite:///shop.db, or another database's URL",
        )
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
    return found


def _refuse_not_yet(text: str, source: str) -> None:
    """Raises DataError `not_available` for a source of a kind that is to come; `source` is how the user spelt it."""
    if text.lower().startswith(ANNOTATED):
        raise DataError(
            "not_a_table",
            "annotated pictures are no table",
            where=redacted(source),
            hint="say modality: image; it follows from the source where the recipe names no other",
        )
    kind = next((k for k in NOT_YET if text.lower().startswith(k)), "")
    if kind:
        raise DataError(
            "not_available",
            f"sources of the kind {kind} are not available yet",
            where=redacted(source),
            hint=NOT_YET[kind],
        )


def chunks(
    path: Path, read: Read, rejects: Rejects | None = None, size: int | None = CHUNK, sift: Sift | None = None
) -> Iterator[Table]:
    """The rows of one file in tables of at most `size` rows, without ids; those that `sift` leaves, where it is asked.

    Without a size the rows of CSV come in one table by codes.
    """
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
        yield from csv_chunks(path, read, rejects, size, sift)
        return
    size = size or CHUNK
    if FORMATS[ending] == "json":
        yield from _json(path, read, rejects, size)
    elif FORMATS[ending] == "sheet":
        yield from sheet_chunks(path, read, rejects, size)
    else:
        yield from _query(f"read_parquet({literal(str(path))}, hive_partitioning=false)", path, size)


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
        yield Table({name: cells_of([row.get(name) for row in rows], name, path) for name in names})


def _query(reader: str, path: Path, size: int) -> Iterator[Table]:
    import duckdb

    with connected() as connection:
        try:
            cursor = connection.execute(f"select * from {reader}")
            names = [str(column[0]) for column in cursor.description]
            yield from pages(cursor, names, size, path)
        except duckdb.Error as error:
            raise unreadable(path, error) from None
