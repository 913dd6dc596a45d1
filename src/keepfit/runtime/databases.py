"""Answers of a database as a table of text: SQLite by the standard library, any other through SQLAlchemy.

Rows come in pages and lie in a Parquet copy; the rows of a query are in the order that the database gives.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from keepfit.core.errors import DataError, EnvironmentFault, missing_extra, nearest
from keepfit.runtime.reading import check_names, redacted
from keepfit.runtime.remote import copy_place
from keepfit.runtime.table import to_text
from keepfit.runtime.writers import write

_PAGE = 10_000


def answered(source: str, query: str | None, folder: Path, *, fresh: bool = False) -> Path:
    """A Parquet copy of the answer to a query, or of the only table of a SQLite file. Raises DataError, EnvironmentFault."""
    low = source.lower()
    light = low.startswith("sqlite:")
    name = Path(source.partition("?")[0]).name if light else source.rpartition("/")[2].partition("?")[0]
    goal = copy_place(f"{folder.resolve()}\n{source}\n{query}", f"{name or 'database'}.parquet")
    if fresh or not goal.exists():
        names, rows = _from_sqlite(source, query, folder) if light else _from_any(source, query)
        check_names(names, Path(name))
        write(goal, names, ["VARCHAR"] * len(names), _texts(rows, names, source))
    return goal


def _texts(rows: Iterator[Sequence[Any]], names: Sequence[str], source: str) -> Iterator[list[str | None]]:
    for place, row in enumerate(rows, 1):
        cells = []
        for name, value in zip(names, row, strict=True):
            try:
                cells.append(to_text(value))
            except DataError as error:
                raise DataError(
                    error.code,
                    error.what,
                    where=f"{redacted(source)}, row {place}, column {name!r}",
                    seen=error.seen,
                    hint="cast it to text or number in the query",
                ) from None
        yield cells


def _from_sqlite(source: str, query: str | None, folder: Path) -> tuple[list[str], Iterator[Sequence[Any]]]:
    path = folder / source.partition("?")[0][10:]
    if not source.lower().startswith("sqlite:///") or not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            "no_file", "there is no such database", where=source, hint=nearest(path.name, names) or "sqlite:///shop.db"
        )
    rows = _sqlite_rows(path, query, source)
    return next(rows), rows


def _sqlite_rows(path: Path, query: str | None, source: str) -> Iterator[Any]:
    """The names, then the rows. The file is opened for reading only."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(query or _only_table(connection, source))
            if cursor.description is None:
                raise _no_rows(source, query)
            yield [str(column[0]) for column in cursor.description]
            while rows := cursor.fetchmany(_PAGE):
                yield from rows
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refused(source, query, error) from None


def _only_table(connection: sqlite3.Connection, source: str) -> str:
    found = connection.execute(
        "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by name"
    ).fetchall()
    if len(found) != 1:
        raise DataError(
            "no_query",
            "the database does not have exactly one table, so it needs a query",
            where=source,
            seen=", ".join(str(name) for (name,) in found)[:300] or "no table",
            hint='source: {source: "'
            + source
            + '", query: "select * from '
            + str(found[0][0] if found else "t")
            + '"}',
        )
    return 'select * from "' + str(found[0][0]).replace('"', '""') + '"'


def _from_any(source: str, query: str | None) -> tuple[list[str], Iterator[Sequence[Any]]]:
    if query is None:
        raise DataError(
            "no_query",
            "a database needs a query",
            where=redacted(source),
            hint='source: {source: "postgresql+psycopg://...", query: "select ... order by id"}',
        )
    rows = _any_rows(source, query)
    return next(rows), rows


def _any_rows(source: str, query: str) -> Iterator[Any]:
    """The names, then the rows, read from the server a page at a time and rolled back."""
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    except ModuleNotFoundError:
        raise missing_extra("sql", "sqlalchemy") from None
    try:
        engine = sqlalchemy.create_engine(source, hide_parameters=True)
        with engine.connect() as connection:
            said = sqlalchemy.text(re.sub(r"(?<![:\\]):(?=\w)", r"\\:", query))  # a colon in the query binds nothing
            found = connection.execution_options(stream_results=True, max_row_buffer=_PAGE).execute(said)
            if not found.returns_rows:
                raise _no_rows(source, query)
            names = list(found.keys())
            yield [str(name) for name in names]
            for page in found.partitions(_PAGE):
                yield from page
        engine.dispose()
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise EnvironmentFault(
            "missing_driver",
            "the driver of this database is not installed",
            where=redacted(source),
            seen=redacted(str(error))[:200],
            hint="pip install 'keepfit[sql]' has the one of PostgreSQL: postgresql+psycopg://...",
        ) from None
    except (ArgumentError, SQLAlchemyError) as error:
        raise _refused(source, query, error) from None


def _refused(source: str, query: str | None, error: Exception) -> DataError:
    """What the database said; its message may repeat the address, so the password is taken out of it."""
    secret = source.partition("://")[2].rpartition("@")[0].partition(":")[2]
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    seen = redacted(said[0] if said else type(error).__name__)
    return DataError(
        "database",
        "the database does not answer the query",
        where=redacted(source) + (f", query {query[:120]!r}" if query else ""),
        seen=(seen.replace(secret, "***") if secret else seen)[:300],
        hint="try the same address and query in the database's own shell",
    )


def _no_rows(source: str, query: str | None) -> DataError:
    return DataError(
        "no_rows", "the query gives no rows", where=redacted(source), seen=str(query)[:120], hint="a query is a select"
    )
