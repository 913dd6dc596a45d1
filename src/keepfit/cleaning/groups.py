"""Rows that belong together, from pairs: union-find, and the shape in which near-duplicates are handed on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def joined(rows: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """The first row of each row's group [n] when the rows of every pair are one group; a lone row is its own first."""
    above = list(range(rows))

    def top(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    for left, right in pairs:
        a, b = sorted((top(int(left)), top(int(right))))
        above[b] = a
    found = np.array(above, np.int64)
    while not np.array_equal(higher := found[found], found):
        found = higher
    return found
