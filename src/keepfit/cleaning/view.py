"""The training rows as every cleaning method sees them, and the words in which cells are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coerce import ColumnRule, is_missing
from keepfit.runtime.preparation import Coerced, coerced
from keepfit.runtime.samples import Ids
from keepfit.runtime.table import Column, Table, counts_of, renamed_cells


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
        key = ("cells", rule.missing)
        return renamed_cells(column, lambda text: None if is_missing(text, rule.missing) else str(text).strip(), key)

    def ids(self, rows: Iterable[int] | NDArray[np.int64]) -> tuple[str, ...] | Ids:
        """The sample ids of rows."""
        chosen = rows if isinstance(rows, np.ndarray) else np.array(list(rows), np.int64)
        if not len(chosen):
            return ()
        found = self.table.ids[chosen]
        return found if isinstance(found, Ids) else tuple(map(str, found.tolist()))


def known_of(column: Column) -> Counter[str]:
    """How often each value stands in a column, None apart."""
    counts = Counter(counts_of(column))
    del counts[None]
    return counts


def some(values: Sequence[str], most: int = 3) -> str:
    """A few values in quotes, for messages."""
    shown = ", ".join(repr(value[:40]) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
