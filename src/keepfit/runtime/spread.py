"""The numbers of a column by level: what is asked of millions of cells is answered by their distinct numbers and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """`levels` [k] are the distinct numbers, ascending, without NaN; `place` [n] is that of each row's number in them, k
    where it is missing."""

    levels: Values
    place: NDArray[np.int32]
    _counted: list[tuple[object, NDArray[np.int64]]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, values: Values) -> Spread:
        """The spread of numbers [n]."""
        levels, place = np.unique(values, return_inverse=True)
        return cls(*_known(levels, place.ravel().astype(np.int32)))

    @classmethod
    def of_codes(cls, values: Values, codes: NDArray[Any], memo: dict[Any, Any], key: Any) -> Spread:
        """The same from the numbers of codes [c] and the code of each row [n]; numbers of no row stand among the levels.

        What is known of the codes is remembered in `memo`.
        """
        if key not in memo:
            levels, place = np.unique(values, return_inverse=True)
            memo[key] = _known(levels, place.ravel().astype(np.int32))
        levels, place = memo[key]
        return cls(levels, place[codes])

    def counts(self, rows: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """How many of these rows have each level [k]; remembered for a mask that is asked for again."""
        for known, counts in self._counted:
            if known is rows:
                return counts
        some = self.place if rows is None else self.place[rows]
        counts = np.bincount(some, minlength=len(self.levels) + 1)[:-1]
        self._counted.append((rows, counts))
        return counts


def _known(levels: Values, place: NDArray[np.int32]) -> tuple[Values, NDArray[np.int32]]:
    """NaN, which is the last of sorted numbers, out of the levels: its place is behind the last."""
    return (levels[:-1] if len(levels) and np.isnan(levels[-1]) else levels), place


def quantiles(levels: Values, counts: NDArray[np.int64], points: Sequence[float] | Values) -> Values:
    """What `np.quantile` gives of numbers, ascending, that stand there so many times each."""
    ends = np.cumsum(counts)
    at = (ends[-1] - 1) * np.asarray(points, float)
    low, high = (levels[np.searchsorted(ends, step(at), side="right")] for step in (np.floor, np.ceil))
    part = at - np.floor(at)  # from the nearer end, as NumPy does
    return np.asarray(np.where(part >= 0.5, high - (high - low) * (1 - part), low + (high - low) * part))


def moments(levels: Values, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of numbers that stand there so many times each."""
    mean = float(levels @ counts / counts.sum())
    return mean, float(np.sqrt(((levels - mean) ** 2) @ counts / counts.sum()))
