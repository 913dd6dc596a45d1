"""What the readers of tables share: how text files are read, what could not be read, pages of rows, names of columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.runtime.table import Table, text_column

CHUNK = 50_000
LONGEST_LINE = 16_000_000
_SECRET = re.compile(
    r"((?:[?&;]|\b)(?:password|passwd|pwd|token|sig|signature|secret|api_?key|x-amz-[a-z-]+)=)[^&\s\'\"]+",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^\s\"\']*@")


@dataclass(frozen=True)
class Read:
    """How text files are read; None is sniffed. `spare` is one of `names` that a file may leave out, such as the target.

    `sheet` is one of a workbook, by name or by number from 1.
    """

    delimiter: str | None = None
    header: bool = True
    names: tuple[str, ...] | None = None
    quote: str | None = None
    encoding: str | None = None
    spare: str | None = None
    sheet: str | int | None = None


@dataclass(frozen=True)
class Repair:
    """A cell or a line that was mended while reading. `row` counts the rows of the file that were read, from 0.

    A repair of a place that became no row of its own has row -1, and says its `line`.
    """

    file: str
    row: int
    line: int
    column: str
    rule: str
    before: str
    after: str


@dataclass
class Rejects:
    """Lines that could not be read: (file, line, reason, raw text); and what was mended."""

    lines: list[tuple[str, int, str, str]] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)


class Sift(Protocol):
    """Chooses rows of a file by their numbers before any cell of them becomes an object of Python."""

    def choose(self, count: int, letters: int, width: int) -> NDArray[np.int64] | None:
        """Of `count` rows of `width` cells, `letters` characters in all together: the numbers that stay [n], None for all."""
        ...


@contextmanager
def connected() -> Iterator[Any]:
    """A connection in memory that loads no extension and keeps the order of rows."""
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.execute("set autoinstall_known_extensions=false")
        connection.execute("set autoload_known_extensions=false")
        connection.execute("set threads=2")
        connection.execute("set enable_progress_bar=false")
        connection.execute("set preserve_insertion_order=true")
        yield connection
    finally:
        connection.close()


def pages(cursor: Any, names: Sequence[str], size: int, path: Path) -> Iterator[Table]:
    """The rows of a cursor in tables of at most `size` rows; one empty table where there are none."""
    check_names(names, path)
    some = False
    while rows := cursor.fetchmany(size):
        some = True
        yield Table(
            {name: cells_of(cells, name, path) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}
        )
    if not some:
        yield Table({name: np.empty(0, object) for name in names})


def cells_of(values: Sequence[Any], name: str, path: Path) -> Any:
    """Cells as text; an error names file and column."""
    try:
        return text_column(values)
    except DataError as error:
        raise DataError(
            error.code, error.what, where=f"{path}, column {name!r}", seen=error.seen, hint=error.hint
        ) from None


def unreadable(path: Path, error: Exception) -> DataError:
    """The refusal of a file that DuckDB cannot read."""
    return DataError(
        "unreadable",
        "the file cannot be read",
        where=str(path),
        seen=str(error).splitlines()[0][:300],
        hint="open it in an editor; say data.read.delimiter, quote or encoding where they are unusual",
    )


def check_names(names: Sequence[str], path: Path) -> None:
    """Raises DataError where two columns have the same name."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(
            "duplicate_columns",
            "two columns have the same name",
            where=str(path),
            seen=", ".join(twice[:5]),
            hint="rename one in the header, or give data.read.header: false with names",
        )


def names_of(first: Sequence[str], read: Read, path: Path) -> list[str]:
    """The names of the columns from the cells of the first record, as far as `read` does not say them."""
    if read.names:
        names = list(read.names)
        if read.spare in names and len(first) == len(names) - 1:
            names.remove(read.spare)
        return names
    if not read.header:
        return [f"column_{place}" for place in range(len(first))]
    names = [name.strip() or f"column_{place}" for place, name in enumerate(first)]
    check_names(names, path)
    return names


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return text if text in ("true", "false") else "'" + text.replace("'", "''") + "'"


def redacted(text: str) -> str:
    """A text without the passwords and the signatures of its URLs."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))
