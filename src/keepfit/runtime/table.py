"""A table of text: the one shape in which rows travel from any source to coercion."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.runtime import coded, samples
from keepfit.runtime.coded import Coded, objects, side_by_side
from keepfit.runtime.samples import Ids, Samples

Column = NDArray[np.object_] | Coded


def to_text(value: Any) -> str | None:
    """The text of a cell, the same whether it came from CSV, JSON, Parquet or a frame; None is missing.

    Whole floats lose their `.0` (below 2**53), booleans are `true` and `false`, dates are ISO 8601.
    Raises DataError for lists, objects and bytes.
    """
    if value is None or type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a plain one of a NumPy string or of a member of an enumeration
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating | Decimal):
        number = float(value)
        if math.isnan(number):
            return None
        whole = math.isfinite(number) and number.is_integer() and abs(number) < 2**53
        return str(int(number)) if whole else repr(number)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return None if str(value) == "NaT" else value.isoformat(*((" ",) if isinstance(value, dt.datetime) else ()))
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value).replace("T", " ")
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise DataError(
        "cell_type",
        "a cell must be text, a number, a boolean, a date or null",
        where="a cell of the data",
        seen=type(value).__name__,
        hint="spread a list or an object over columns of its own, or leave the column out",
    )


@dataclass(frozen=True)
class Table:
    """Columns of equal length; each is an object array of `str` or None, or codes that stand for one. `ids` name the
    samples."""

    columns: dict[str, Column]
    ids: Samples = field(default_factory=lambda: np.empty(0, object))

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else len(self.ids)

    def take(self, rows: NDArray[Any] | slice) -> Table:
        """The rows at integer positions, of a slice or under a boolean mask."""
        if isinstance(rows, np.ndarray) and rows.dtype == bool:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)
        parts: list[Any] = [self.ids, *self.columns.values()]
        ids, *columns = side_by_side(lambda part: part[rows] if len(part) else part, parts, len(self))
        return Table(dict(zip(self.columns, columns, strict=True)), ids)

    def without(self, names: Iterable[str]) -> Table:
        """The table less some columns."""
        gone = set(names)
        return Table({name: column for name, column in self.columns.items() if name not in gone}, self.ids)


def text_column(values: Sequence[Any] | NDArray[Any]) -> Column:
    """Any sequence of cells as an object array of text."""
    cells = values.tolist() if isinstance(values, np.ndarray) and values.dtype == object else values
    column = np.empty(len(values), object)
    column[:] = cells if set(map(type, cells)) <= {str, type(None)} else [to_text(value) for value in values]
    return column


def each(column: Column, found: Callable[[Any], Any]) -> list[Any]:
    """What a pure function gives for each cell [n]; it is asked once for equal cells."""
    if isinstance(column, Coded):
        codes, _ = column.used()
        answers = np.empty(len(column.values), object)
        answers[codes] = objects([found(cell) for cell in column.values[codes].tolist()])
        return list(answers[column.codes].tolist())
    cells = column.tolist()
    seen = {cell: found(cell) for cell in set(cells)}
    return list(map(seen.__getitem__, cells))


def mapped(column: Column, found: Callable[[Any], Any], dtype: Any) -> NDArray[Any]:
    """What a pure function gives for each cell, as an array [n] of numbers or truths; it is asked once for equal cells."""
    return column.mapped(found, dtype) if isinstance(column, Coded) else np.array(each(column, found), dtype)


def renamed_cells(column: Column, found: Callable[[Any], str | None], key: Any = None) -> Column:
    """The column of what a pure function makes of each cell, by codes where it was; what is made of codes is remembered
    under a `key`."""
    return column.renamed(found, key) if isinstance(column, Coded) else objects(each(column, found))


def counts_of(column: Column) -> dict[Any, int]:
    """How often each distinct cell stands in a column, in the order in which they first do."""
    return column.counts() if isinstance(column, Coded) else Counter(column.tolist())


def coded_column(column: Column) -> Coded:
    """A column of text by codes."""
    return column if isinstance(column, Coded) else Coded.of(column.tolist())


def from_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """JSON objects to a table with exactly `names`; absent keys are missing."""
    return Table({name: text_column([row.get(name) for row in rows]) for name in names})


def from_frame(frame: Any) -> Table:
    """A pandas or polars frame, a mapping of columns, or a list of row mappings, as a table of text."""
    if isinstance(frame, Table):
        return frame
    if isinstance(frame, list):
        names = list(dict.fromkeys(key for row in frame for key in row))
        return from_rows(frame, names)
    if not isinstance(frame, Mapping) and not hasattr(frame, "columns"):
        raise DataError(
            "frame_type",
            "this is not a table",
            where="the frame",
            seen=type(frame).__name__,
            hint="give a path, a pandas or polars frame, a mapping of columns, or a list of mappings",
        )
    names = [str(name) for name in (frame if isinstance(frame, Mapping) else frame.columns)]
    if len(set(names)) != len(names):
        raise DataError(
            "duplicate_columns",
            "two columns have the same name",
            where="the columns of the frame",
            seen=", ".join(sorted({name for name in names if names.count(name) > 1})[:5]),
            hint="rename one, for example frame.columns = [...]; names count as text, so 1 and '1' are the same",
        )
    raw = list(frame if isinstance(frame, Mapping) else frame.columns)
    columns = {}
    for name, key in zip(names, raw, strict=True):
        values = frame[key]
        columns[name] = text_column(values.to_list() if hasattr(values, "to_list") else list(values))
    if len({len(column) for column in columns.values()}) > 1:
        raise DataError(
            "ragged_frame",
            "the columns have different lengths",
            where="the columns of the frame",
            seen=", ".join(f"{name}: {len(column)}" for name, column in columns.items())[:300],
            hint="give every column one value per row, None where it is missing",
        )
    return Table(columns)


def concat(tables: Sequence[Table]) -> Table:
    """Tables with the same columns, one below the other."""
    names = tables[0].names
    for table in tables[1:]:
        if set(table.names) != set(names):
            odd = sorted(set(table.names) ^ set(names))
            raise DataError(
                "columns_differ",
                "the parts of the source have different columns",
                where="the header of one of the files",
                seen=", ".join(odd[:8]),
                hint="give every file the same columns, or a glob that names files of one kind only",
            )
    tables = [table for table in tables if len(table)] or tables[:1]
    if len(tables) == 1:
        return tables[0]
    return Table({name: _below([table.columns[name] for table in tables]) for name in names}, _ids_below(tables))


def _below(columns: Sequence[Column]) -> Column:
    by_codes = [column for column in columns if isinstance(column, Coded)]
    return coded.joined(by_codes) if len(by_codes) == len(columns) else np.concatenate([*map(np.asarray, columns)])


def _ids_below(tables: Sequence[Table]) -> Samples:
    if any(len(table.ids) != len(table) for table in tables):
        return np.empty(0, object)
    found = [table.ids for table in tables]
    by_parts = [ids for ids in found if isinstance(ids, Ids)]
    return samples.joined(by_parts) if len(by_parts) == len(found) else np.concatenate([*map(np.asarray, found)])
