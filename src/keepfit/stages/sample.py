"""A table inside a budget of memory: every row is seen once, and where not all fit, a uniform random sample stays.

Each row is given a random key, and the rows with the smallest keys stay (bottom-k sampling, which is a reservoir that is
filled in one pass). How many fit follows from the mean size of all rows seen, never from their keys. Rows of a CSV file are
chosen inside DuckDB, before a cell of theirs is an object of Python, by the same keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.table import Table, concat

CHUNK = 2048  # rows at once: wide tables must not fill the memory before they are looked at
SHARE = (
    0.125  # of the budget for the rows as they were read; the rest is for the copies that cleaning and training make
)
_CELL, _ROW = 57, 160  # bytes of an empty text with its pointer; of a sample's id and its places in lists
_SLACK = 1.25
_MOST_PARTS = 2000
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Memory:
    """How much the data part may take, in bytes, and the seed by which rows are chosen."""

    budget: int
    seed: int

    def sampler(self, number: int, share: float) -> Sampler:
        """The sampler of one source of several, which gets this share of the budget."""
        return Sampler(self.budget * SHARE * share, np.random.default_rng([self.seed, number, 5]))


class Sampler:
    """Rows that stay, of those that are added file by file."""

    def __init__(self, limit: float, rng: np.random.Generator) -> None:
        self._seen: Counter[str] = Counter()
        self._limit, self._rng = limit, rng
        self._parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64], Table]]] = {}
        self._held = 0
        self._below = np.inf
        self._sizes = np.zeros(2)  # bytes and rows looked at
        self._fit = np.inf

    def add(self, name: str, first: int, table: Table) -> None:
        """Rows of the file `name`, the first of which has the number `first`."""
        if not len(table):
            self._parts.setdefault(name, []).append((np.empty(0, np.int64), np.empty(0), table))
            return
        self._seen[name] += len(table)
        letters = sum(sum(map(len, filter(None, column))) for column in table.columns.values())
        self.weigh(len(table), letters, len(table.names))
        keys = self._rng.random(len(table))
        self._add(name, np.arange(first, first + len(table)), keys, table)

    def _add(self, name: str, rows: NDArray[np.int64], keys: NDArray[np.float64], table: Table) -> None:
        stay = np.flatnonzero(keys < self._below)
        parts = self._parts.setdefault(name, [])
        if len(stay) or not parts:
            parts.append((rows[stay], keys[stay], table.take(stay)))
            self._held += len(stay)
        if self._held > _SLACK * self._fit or len(parts) > _MOST_PARTS:
            self._prune()

    def sift(self, name: str) -> Sifting:
        """What chooses rows of the file `name` by their numbers."""
        return Sifting(self, name)

    def take(self, name: str, rows: NDArray[np.int64], keys: NDArray[np.float64], table: Table) -> None:
        """Rows of the file `name` that its sift has chosen, by number and key [n]."""
        self._add(name, rows, keys, table)

    def drawn(
        self, name: str, count: int, letters: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Numbers and keys of those of `count` rows that stay as far as is known; None where all fit. Rows count as seen."""
        if not count:
            return None
        before = self._sizes.copy(), self._fit
        self.weigh(count, letters, width)
        if self._held + count <= self._fit and self._below == np.inf:
            self._sizes, self._fit = before
            return None
        self._seen[name] += count
        rows, keys = np.empty(0, np.int64), np.empty(0)
        for first in range(0, count, _AT_ONCE):  # keys of a hundred million rows must not be held at once
            fresh = self._rng.random(min(_AT_ONCE, count - first))
            stay = np.flatnonzero(fresh < self._below)
            rows, keys = np.concatenate([rows, stay + first]), np.concatenate([keys, fresh[stay]])
            fit = int(self._fit)
            if len(keys) > fit:
                self._below = min(self._below, float(np.partition(keys, fit)[fit]))
                rows, keys = rows[keys < self._below], keys[keys < self._below]
        return rows, keys

    @property
    def seen(self) -> int:
        """How many rows came."""
        return sum(self._seen.values())

    @property
    def left(self) -> int:
        """How many of them did not stay."""
        return self.seen - self._held

    def forget(self, name: str) -> None:
        """Take a file out that turned out to be unreadable half-way."""
        self._held -= sum(len(rows) for rows, _, _ in self._parts.pop(name, []))
        del self._seen[name]

    def tables(self) -> Iterator[tuple[str, NDArray[np.int64], Table]]:
        """Per file its name, the numbers of the rows that stay, ascending, and those rows."""
        self._prune()
        for name, parts in self._parts.items():
            for rows, _, table in parts:
                yield name, rows, table

    def weigh(self, rows: int, letters: int, width: int) -> None:
        """Rows that were looked at: `letters` in all their cells together, and the number of their columns."""
        self._sizes += (letters + (width * _CELL + _ROW) * rows, rows)
        self._fit = max(1.0, self._limit / (self._sizes[0] / self._sizes[1]))

    def _prune(self) -> None:
        """Let go of what does not fit, and join the parts of each file."""
        fit = int(min(self._fit, self._held))
        if fit < self._held:
            keys = np.concatenate([part[1] for parts in self._parts.values() for part in parts])
            self._below = float(np.partition(keys, fit)[fit])
        for name, parts in self._parts.items():
            less = [(rows, keys, table, np.flatnonzero(keys < self._below)) for rows, keys, table in parts]
            self._held -= sum(len(rows) - len(stay) for rows, _, _, stay in less)
            if less:
                self._parts[name] = [
                    (
                        np.concatenate([rows[stay] for rows, _, _, stay in less]),
                        np.concatenate([keys[stay] for _, keys, _, stay in less]),
                        concat([table.take(stay) for _, _, table, stay in less]),
                    )
                ]


class Sifting:
    """Chooses the rows of one file for its reader. `rows` and `keys` are those that stay, in order; None until it chose."""

    def __init__(self, sampler: Sampler, name: str) -> None:
        self._sampler, self._name = sampler, name
        self.rows: NDArray[np.int64] | None = None
        self.keys: NDArray[np.float64] = np.empty(0)

    def choose(self, count: int, letters: int, width: int) -> NDArray[np.int64] | None:
        """The numbers of the rows that stay; None for all, which are then weighed and added one table after another."""
        drawn = self._sampler.drawn(self._name, count, letters, width)
        if drawn is not None:
            self.rows, self.keys = drawn
        return self.rows
