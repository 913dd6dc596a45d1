"""Numbers that never were text: rows of JSON numbers as one matrix, and the features that are made of it column by column at once.

The way over text (`table`, `coerce`) says what an answer is; this one gives the same bits, or stands aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.core.quick_json import is_flat, number_rows, rows_of
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.figures import in_form
from keepfit.runtime.table import Column, Table, concat, from_rows, text_column

Block = NDArray[np.float64]
MOST = 2.0**53  # beyond it the text of a whole number has more digits than a float64 keeps
_MOST_BITS = np.float64(MOST).view(np.uint64)
_NUMBERS, _CELLS = frozenset({float, int, type(None)}), frozenset({str, bool, int, float, type(None)})


@dataclass(frozen=True)
class Layout:
    """Where the columns of one preparation's `rules` stand: those of `at` (name to place) in a block, those of `rest` as text.

    `low`, `high` [d] are the rules' clips, None where none has one.
    """

    rules: tuple[ColumnRule, ...]
    names: tuple[str, ...]
    at: dict[str, int]
    rest: tuple[ColumnRule, ...]
    low: Block | None
    high: Block | None

    @classmethod
    def of(cls, rules: tuple[ColumnRule, ...]) -> Layout:
        """The layout of a preparation's rules."""
        used = [rule for rule in rules if rule.kind != "ignore"]
        plain = [rule for rule in used if _is_plain(rule)]
        at = {rule.name: place for place, rule in enumerate(plain)}
        low = high = None
        if any(rule.clip is not None for rule in plain):
            ends = np.array([rule.clip or (-np.inf, np.inf) for rule in plain], np.float64)
            low, high = ends[:, 0], ends[:, 1]
        names = tuple(rule.name for rule in used)
        return cls(rules, names, at, tuple(rule for rule in used if rule.name not in at), low, high)

    def clipped(self, block: Block) -> Block:
        """The block after the rules' clips."""
        return block if self.low is None or self.high is None else np.clip(block, self.low, self.high)


class BlockTable(Table):
    """A table with a `block` float64 [n, d], NaN where missing, for the columns `layout.at`, and the `rest` as text.

    `columns` has all of them as text, made when somebody asks; the numbers are below 2**53, so that no digit is lost.
    """

    layout: Layout
    block: Block
    rest: dict[str, Column]

    def __init__(self, layout: Layout, block: Block, rest: dict[str, Column]) -> None:
        for name, value in (("ids", np.empty(0, object)), ("layout", layout), ("block", block), ("rest", rest)):
            object.__setattr__(self, name, value)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Every column as text."""
        at = self.layout.at
        return {
            name: self.rest[name] if name in self.rest else text_column(self.block[:, at[name]].tolist())
            for name in self.layout.names
        }

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return list(self.layout.names)

    def __len__(self) -> int:
        return len(self.block)

    def take(self, rows: NDArray[Any] | slice) -> BlockTable:
        """The rows at integer positions, of a slice or under a boolean mask."""
        return BlockTable(self.layout, self.block[rows], {name: column[rows] for name, column in self.rest.items()})


def stacked(tables: Sequence[Table]) -> Table:
    """Tables with the same columns, one below the other; a block where all of them have one of the same layout."""
    found = [table for table in tables if isinstance(table, BlockTable)]
    if len(found) < len(tables) or any(table.layout is not found[0].layout for table in found):
        return concat(tables)
    rest: dict[str, Column] = {name: np.concatenate([table.rest[name] for table in found]) for name in found[0].rest}
    return BlockTable(found[0].layout, np.concatenate([table.block for table in found]), rest)


def _is_plain(rule: ColumnRule) -> bool:
    """Whether a JSON number of this column is the number itself: written the plain way, and none that means missing."""
    return rule.kind == "numeric" and rule.form is None and not any(map(_is_number, rule.missing))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_UNMARKED = bytes(set(range(256)) - set(b':{["tfn'))


def _marks(text: bytes) -> int:
    """How many characters of it could be the sign of anything but a number."""
    return len(text.translate(None, _UNMARKED))


class BlockReader:
    """Reads JSON rows for the rules of one preparation. `check` raises DataError for a cell that its rule does not take."""

    def __init__(
        self,
        rules: tuple[ColumnRule, ...],
        ignored: frozenset[str],
        check: Callable[[ColumnRule, Any, str], None],
    ) -> None:
        self.layout = Layout.of(rules)
        self._ignored, self._check = ignored, check
        self._known = frozenset(self.layout.names)
        self._forms = {rule.name: rule.form for rule in self.layout.rest if rule.form is not None}
        self._pick = itemgetter(*self.layout.at) if self.layout.at else None
        self._number_rows = None if self.layout.rest else number_rows(self.layout.names)
        self._marks = 1 + sum(3 + _marks(name.encode("utf-8", "replace")) for name in self.layout.names)

    def read(self, body: bytes, most: int) -> tuple[BlockTable, bool] | None:
        """The table of a JSON body of at most `most` rows, and whether they came as a list; None for whatever the way over
        text has to judge."""
        if self._pick is None:
            return None
        if self._number_rows is not None and (numbers := self._number_rows(body)) is not None:
            cells, many = numbers
            if 0 < len(cells) <= most and self._has_keys_once(body, len(cells), many):
                table = self._filled(cells)
                return None if table is None else (table, many)
        if (found := rows_of(body)) is None or not 0 < len(found[0]) <= most:
            return None
        rows, many = found
        made = self.table(rows) if is_flat(body, rows, many) else None
        return None if made is None else (made, many)

    def _has_keys_once(self, body: bytes, rows: int, many: bool) -> bool:
        """Whether each key of rows of numbers is there once: another would have marks of its own, and without a backslash no key
        can hide one."""
        outer = len(b'{"inputs":[') - len(b"ipus") if many else len(b'{"input":') - len(b"ipu")
        return b"\\" not in body and _marks(body) == outer + rows * self._marks

    def _filled(self, rows: list[tuple[float, ...]]) -> BlockTable | None:
        block = np.empty((len(rows), len(self.layout.names)), np.float64)
        for place, row in enumerate(rows):
            block[place] = np.fromiter(row, np.float64, len(row))
        return BlockTable(self.layout, block, {}) if _is_exact(block.reshape(-1)) else None

    def table(self, rows: Sequence[Any]) -> BlockTable | None:
        """The table of flat rows, or None for whatever the way over text has to judge."""
        if self._pick is None or not all(self._has_keys(row) for row in rows):
            return None
        try:
            picked = [self._pick(row) for row in rows]
            cells = picked if len(self.layout.at) > 1 else [(cell,) for cell in picked]
            if not all(_NUMBERS.issuperset(map(type, row)) for row in cells):
                return None
            block = np.array(cells, np.float64)
            rest = self._texts(rows) if self.layout.rest else {}
        except (KeyError, DataError, OverflowError):
            return None
        return None if rest is None or not _is_exact(block.reshape(-1)) else BlockTable(self.layout, block, rest)

    def _has_keys(self, row: dict[str, Any]) -> bool:
        return len(row) == len(self._known) or self._ignored.issuperset(row.keys() - self._known)

    def _texts(self, rows: Sequence[dict[str, Any]]) -> dict[str, Column] | None:
        for place, row in enumerate(rows):
            for rule in self.layout.rest:
                cell = row[rule.name]
                if type(cell) not in _CELLS or (type(cell) in (int, float) and not abs(cell) < MOST):
                    return None
                self._check(rule, row, f"row {place}")
        if self._forms:
            rows = [in_form(row, self._forms) for row in rows]
        return from_rows(rows, [rule.name for rule in self.layout.rest]).columns


def _is_exact(flat: Block) -> bool:
    """Whether all are below 2**53 or NaN; -0 becomes 0, as which it is written.

    Above 500 numbers numpy lets go of Python's lock, and a thread that wants it back waits for the event loop: small parts keep it.
    """
    step = 500 if len(flat) <= 8000 else len(flat)
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        # The bits of floats that are not negative are in their order; those of -0, of all below it and of NaN are larger.
        if np.maximum.reduce(part.view(np.uint64)) < _MOST_BITS:
            continue
        part += 0.0
        if np.fmax.reduce(np.abs(part)) >= MOST:
            return False
    return True


class BlockNumbers(dict[str, Block]):
    """The numbers of a block by column, after its clips; a column is cut out when somebody asks for it."""

    def __init__(self, table: BlockTable) -> None:
        super().__init__()
        self.layout, self.block = table.layout, table.layout.clipped(table.block)

    def __missing__(self, name: str) -> Block:
        return self.block[:, self.layout.at[name]]


class NumberFeatures:
    """The features `number` and `indicator` of a preparation, all columns at once; `others` are those of any other kind, each
    with the column of the matrix where it begins."""

    def __init__(self, features: Sequence[Mapping[str, Any]], layout: Layout) -> None:
        self.layout, at = layout, layout.at
        starts = np.cumsum([0, *(len(feature["names"]) for feature in features)])
        self.width = int(starts[-1])
        here = [place for place, feature in enumerate(features) if feature.get("column") in at]
        numbers = [place for place in here if features[place]["op"] == "number"]
        marks = [place for place in here if features[place]["op"] == "indicator"]
        self.others = [
            (int(starts[place]), features[place]) for place in range(len(features)) if place not in {*numbers, *marks}
        ]

        def said(name: str, none: float) -> Block:
            values = (features[place].get(name) for place in numbers)
            return np.array([none if value is None else value for value in values], np.float64)

        def columns(places: list[int]) -> NDArray[np.int64]:
            return np.array([at[features[place]["column"]] for place in places], np.int64)

        self._to, self._from = starts[numbers], columns(numbers)
        self._marks_to, self._marks_from = starts[marks], columns(marks)
        self._fill = said("fill", np.nan)
        scaled = np.array(["mean" in features[place] for place in numbers], bool)
        self._mean = np.where(scaled, said("mean", 0.0), 0.0)
        self._scale = np.where(scaled, said("scale", 1.0), 1.0)
        self._clip = np.where(scaled, said("clip", 1e6), np.inf)
        self._logs = np.flatnonzero(
            [bool(features[place].get("log")) and "mean" in features[place] for place in numbers]
        )
        self._is_whole = np.array_equal(self._from, np.arange(len(at)))

    def fill(self, matrix: NDArray[np.float32], block: Block) -> None:
        """Write these features of a block [n, d] into the columns of a matrix [n, width] that are theirs."""
        if len(self._to):
            values = block if self._is_whole else block[:, self._from]
            gone = np.isnan(values)
            if gone.any():
                values = np.where(gone, self._fill, values)
            if len(self._logs):
                values = values.copy() if values is block else values
                values[:, self._logs] = np.log1p(np.maximum(values[:, self._logs], 0.0))
            matrix[:, self._to] = np.clip((values - self._mean) / self._scale, -self._clip, self._clip)
        if len(self._marks_to):
            matrix[:, self._marks_to] = np.isnan(block[:, self._marks_from])
