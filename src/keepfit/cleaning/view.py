"""The training rows as every cleaning method sees them, and the words in which cells are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coerce import ColumnRule, is_missing
from keepfit.runtime.preparation import Coerced, coerced
from keepfit.runtime.table import Column, Table


@dataclass(frozen=True)
class View:
    """Rows of the training split with their ids, the rules of their columns (the target has none), and the target.

    `missing` are the recipe's own spellings of a missing cell, folded.
    """

    table: Table
    rules: tuple[ColumnRule, ...]
    target: str
    missing: frozenset[str] = frozenset()

    @cached_property
    def data(self) -> Coerced:
        """The columns that the model reads, each in its own type."""
        return coerced(self.table, self.rules)

    def named(self, *kinds: str) -> list[ColumnRule]:
        """The rules of some kinds."""
        return [rule for rule in self.rules if rule.kind in kinds]

    def cells(self, rule: ColumnRule) -> Column:
        """Stripped text [n] of a column, None where missing."""
        column = self.table.columns[rule.name]
        seen = {text: None if is_missing(text, rule.missing) else str(text).strip() for text in set(column)}
        out = np.empty(len(column), object)
        out[:] = [seen[text] for text in column]
        return out

    def ids(self, rows: Iterable[int] | NDArray[np.int64]) -> tuple[str, ...]:
        """The sample ids of rows."""
        return tuple(str(self.table.ids[row]) for row in rows)


def some(values: Sequence[str], most: int = 3) -> str:
    """A few values in quotes, for messages."""
    shown = ", ".join(repr(value[:40]) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
