"""The numbers of a column by level: what is asked of millions of cells is answered by their distinct numbers and counts."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coded import Coded, times_of

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """`levels` [k] are the distinct numbers, ascending, without NaN, of which some may be of no row. `level_of` [c] is the
    place in them of each code's number, k where it is missing; `codes` [n] are those of the rows."""

    levels: Values
    level_of: NDArray[np.int32]
    codes: NDArray[Any]
    _times: NDArray[np.int64] | None = field(default=None, repr=False)
    _counted: list[tuple[object, NDArray[np.int64]]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, values: Values) -> Spread:
        """The spread of numbers [n]."""
        levels, place = np.unique(values, return_inverse=True)
        return cls(_known(levels), np.arange(len(levels), dtype=np.int32), place.ravel())

    @classmethod
    def of_codes(cls, values: Values, column: Coded, key: Any) -> Spread:
        """The same from the numbers of a column's codes [c]; what is known of them is remembered in its memo."""
        if key not in column.memo:
            levels, place = np.unique(values, return_inverse=True)
            column.memo[key] = _known(levels), place.ravel().astype(np.int32)
        levels, level_of = column.memo[key]
        return cls(levels, level_of, column.copy().codes, column.times())

    def counts(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """How many of these rows have each level [k]; remembered for rows that are asked for again."""
        for known, counts in self._counted:
            if known is rows:
                return counts
        if rows is None and self._times is not None:
            times = self._times
        else:
            times = times_of(self.codes if rows is None else self.codes[rows], len(self.level_of))
        counts = self.by_level(times).astype(np.int64)
        self._counted.append((rows, counts))
        return counts

    def by_level(self, of_codes: NDArray[Any]) -> Values:
        """Sums by level [k] of sums by code [c]; exact for whole numbers below 2**53."""
        sums = np.bincount(self.level_of, of_codes, minlength=len(self.levels) + 1)[: len(self.levels)]
        return sums.astype(np.float64, copy=False)


def _known(levels: Values) -> Values:
    """NaN, which is the last of sorted numbers, out of the levels: its place is behind the last."""
    return levels[:-1] if len(levels) and np.isnan(levels[-1]) else levels


class Numbers(MutableMapping[str, NDArray[np.float64]]):
    """The numbers [n] of columns; those of a column by codes are written out when somebody asks for them."""

    def __init__(self) -> None:
        self._made: dict[str, NDArray[np.float64] | None] = {}
        self._by_code: dict[str, tuple[NDArray[np.float64], NDArray[Any]]] = {}

    def by_code(self, name: str, numbers: NDArray[np.float64], column: Coded) -> None:
        """A column whose codes have these numbers [c]."""
        self._made[name], self._by_code[name] = None, (numbers, column.copy().codes)

    def at(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers of these rows."""
        made = self._made[name]
        if made is not None:
            return made[rows]
        numbers, codes = self._by_code[name]
        return np.asarray(numbers[codes[rows]])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        made = self._made[name]
        if made is None:
            numbers, codes = self._by_code[name]
            made = self._made[name] = numbers[codes]
        return made

    def __setitem__(self, name: str, numbers: NDArray[np.float64]) -> None:
        self._made[name] = numbers

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


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
