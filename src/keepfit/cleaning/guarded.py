"""What the leak guard looks at: rows with their split, coerced columns and answers; the same for every check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coded import Coded
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import Coerced, coerced
from keepfit.runtime.table import Column, Table

LOOKED_AT = 4000
_FEW = 50


@dataclass(frozen=True)
class Guarded:
    """Rows that some split keeps. `part` [n] is train, validation or test; `truth` [n] class codes, or values where
    `classes` is 0; `given`: the user made the splits. `rules` are of every column but the target."""

    table: Table
    part: Column
    truth: NDArray[Any]
    classes: int
    names: Sequence[str]
    target: str
    rules: Sequence[ColumnRule]
    given: bool
    seed: int = 0

    @cached_property
    def data(self) -> Coerced:
        """Every column that the model reads, coerced [n]."""
        return coerced(self.table, self.rules)

    @cached_property
    def train(self) -> NDArray[np.int64]:
        """The training rows, ascending."""
        return np.flatnonzero(self.part == "train")

    @cached_property
    def test(self) -> NDArray[np.int64]:
        """The test rows, ascending."""
        return np.flatnonzero(self.part == "test")

    @cached_property
    def learned(self) -> NDArray[np.int64]:
        """Rows to look for giveaways in: train and validation, at most LOOKED_AT, drawn with the seed, ascending."""
        rows = np.flatnonzero(self.part != "test")
        if len(rows) <= LOOKED_AT:
            return rows
        return np.sort(np.random.default_rng(self.seed).choice(rows, LOOKED_AT, replace=False))

    def numeric(self) -> list[str]:
        """The columns of numbers and of dates."""
        return [*self.data.numbers, *self.data.dates]

    def seen(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64] | Coded | NDArray[np.object_]]:
        """What each column has in these rows: numbers, dates as days since 1970, NaN where missing, and categories."""
        numbers = {name: self.data.at(name, rows) for name in self.numeric()}
        return {**numbers, **{name: cells[rows] for name, cells in self.data.categories.items()}}


def codes_of(column: NDArray[Any] | Coded) -> tuple[NDArray[np.int64], int]:
    """A code per distinct cell [n] and how many there are; a missing cell has a code of its own."""
    if isinstance(column, Coded):
        order, _ = column.used()
        new = np.zeros(len(column.values), np.int64)
        new[order] = np.arange(len(order))
        return new[column.codes], len(order)
    if column.dtype == object:
        cells = column.tolist()
        seen = {cell: code for code, cell in enumerate(dict.fromkeys(cells))}
        return np.fromiter(map(seen.__getitem__, cells), np.int64, len(cells)), len(seen)
    distinct, found = np.unique(column, return_inverse=True, equal_nan=True)
    return found.astype(np.int64).ravel(), len(distinct)


def are_categories(column: NDArray[Any] | Coded) -> bool:
    """Whether a column is looked at value by value: categories, and numbers of few values."""
    return isinstance(column, Coded) or column.dtype == object or len(np.unique(column[~np.isnan(column)])) <= _FEW
