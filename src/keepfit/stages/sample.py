"""A table inside a budget of memory: every row is seen once, and where not all fit, a uniform random sample stays.

Each row is given a random key, and the rows with the smallest keys stay (bottom-k sampling, which is a reservoir that is
filled in one pass). How many fit follows from the mean size of all rows seen, never from their keys.
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
_LOOKED_AT = 256


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
        self._weigh(table)
        keys = self._rng.random(len(table))
        rows = np.arange(first, first + len(table))
        stay = np.flatnonzero(keys < self._below)
        parts = self._parts.setdefault(name, [])
        if len(stay) or not parts:
            parts.append((rows[stay], keys[stay], table.take(stay)))
            self._held += len(stay)
        if self._held > _SLACK * self._fit or len(parts) > _MOST_PARTS:
            self._prune()

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

    def _weigh(self, table: Table) -> None:
        looked = np.linspace(0, len(table) - 1, min(len(table), _LOOKED_AT), dtype=int)
        width = len(table.names) * _CELL + _ROW
        texts = sum(len(cell) for column in table.columns.values() for cell in column[looked] if cell is not None)
        self._sizes += (texts + width * len(looked), len(looked))
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
