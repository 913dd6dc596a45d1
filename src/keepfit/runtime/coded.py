"""A column of text by codes: each distinct text is held once, and what is asked of a cell is asked once per distinct text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

_HEAD, _AT_ONCE = 1 << 16, 1 << 20
_THREADS, _LARGE = 2, 200_000  # rows from which a thread is worth its start
T = TypeVar("T")
R = TypeVar("R")
Rows = NDArray[Any] | slice | list[int]


class Coded:
    """A column of `str` or None that is used like an object array.

    `codes` [n], unsigned or int32, are places in `values` [k], an object array of distinct texts of which some may be in no
    row. Both are never written to; a `copy` may be.
    """

    __slots__ = ("_known", "_owned", "_places", "_times", "codes", "memo", "values")
    __array_priority__ = 1000.0  # an object array compared with it asks it
    __hash__ = None  # type: ignore[assignment]
    ndim = 1

    def __init__(self, codes: NDArray[Any], values: NDArray[np.object_], memo: dict[Any, Any] | None = None) -> None:
        self.codes, self.values = codes, values
        self.memo: dict[Any, Any] = {} if memo is None else memo  # what is known of the values, for all who share them
        self._known: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._times: NDArray[np.int64] | None = None
        self._places: dict[str | None, int] | None = None  # of a column that is written to
        self._owned = False  # whether nobody else has these codes

    @classmethod
    def of(cls, cells: Sequence[str | None]) -> Coded:
        """Cells with codes in the order in which texts first appear."""
        seen = {cell: code for code, cell in enumerate(dict.fromkeys(cells))}
        codes = np.fromiter(map(seen.__getitem__, cells), np.int32, len(cells))
        return cls(small(codes, len(seen)), objects(list(seen)))

    @property
    def dtype(self) -> np.dtype[np.object_]:
        """That of the array of texts."""
        return np.dtype(object)

    @property
    def shape(self) -> tuple[int]:
        """(n,)."""
        return (len(self.codes),)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Any: ...
    @overload
    def __getitem__(self, rows: Rows) -> Coded: ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> str | Coded | None:
        if isinstance(rows, int | np.integer):
            return cast("str | None", self.values[self.codes[rows]])
        self._owned = self._owned and not isinstance(rows, slice)  # a slice has the same codes
        return Coded(self.codes[rows], self.values, self.memo)

    def __setitem__(self, rows: Any, cells: Any) -> None:
        if cells is None or isinstance(cells, str):
            found: Any = self._code(cells)
        else:
            found = np.array([self._code(cell) for cell in cells], np.int32)
        if not self._owned:
            self.codes, self._owned = self.codes.astype(np.int32), True
        self.codes[rows] = found
        self._known = self._times = None

    def _code(self, cell: str | None) -> int:
        if self._places is None:
            self._places = {value: code for code, value in enumerate(self.values.tolist())}
        if cell not in self._places:
            self._places[cell], self.memo = len(self.values), {}
            self.values = np.append(self.values, objects([cell]))
        return self._places[cell]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def tolist(self) -> list[Any]:
        """The cells."""
        return cast("list[Any]", self.values[self.codes].tolist())

    def copy(self) -> Coded:
        """A column that may be written to; what is written to either is not in the other."""
        self._owned = False
        made = Coded(self.codes, self.values, self.memo)
        made._known, made._times = self._known, self._times
        return made

    def astype(self, dtype: Any, copy: bool = True) -> NDArray[Any]:
        """The cells as an array of another type."""
        return np.asarray(self.values.astype(dtype)[self.codes])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        cells: NDArray[Any] = self.values[self.codes]
        return cells if dtype is None else cells.astype(dtype)

    def __eq__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]
        if isinstance(other, Coded):
            if other.values is self.values:
                return np.asarray(self.codes == other.codes)
            place = {value: code for code, value in enumerate(self.values.tolist())}
            same = np.array([place.get(value, -1) for value in other.values.tolist()], np.int64)
            return np.asarray(self.codes == same[other.codes]) if len(same) else np.zeros(len(self), bool)
        if other is None or isinstance(other, str):
            place_of = np.flatnonzero(_equal(self.values, other))
            return np.asarray(self.codes == place_of[0]) if len(place_of) else np.zeros(len(self), bool)
        return np.asarray(self.values[self.codes] == other, bool)

    def __ne__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]
        return ~(self == other)

    def times(self) -> NDArray[np.int64]:
        """How many rows have each value [k]."""
        if self._times is None:
            self._times = times_of(self.codes, len(self.values))
        return self._times

    def used(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes that some row has, in the order in which they first do, and how many rows have each."""
        if self._known is None:
            times = self.times()
            there = np.flatnonzero(times)
            first: NDArray[Any] = np.full(len(self.values), -1, np.int32 if len(self.codes) < 2**31 else np.int64)
            for some in (self.codes[:_HEAD], self.codes):  # few values are all in the first rows
                places = np.arange(len(some) - 1, -1, -1, dtype=first.dtype)
                first[some[::-1]] = places  # of equal places the last write stays
                if (first[there] >= 0).all():
                    break
            order = there[np.argsort(first[there], kind="stable")]
            self._known = order, times[order]
        return self._known

    def known(self, order: NDArray[np.int64], times: NDArray[np.int64]) -> Coded:
        """The column itself, which is told what `used` would find."""
        self._known = order, times
        self._times = np.zeros(len(self.values), np.int64)
        self._times[order] = times
        return self

    def counts(self) -> dict[Any, int]:
        """How often each distinct cell stands in the column, in the order in which they first do."""
        codes, times = self.used()
        return dict(zip(self.values[codes].tolist(), times.tolist(), strict=True))

    def mapped(self, found: Callable[[Any], Any], dtype: Any) -> NDArray[Any]:
        """What a pure function gives for each cell [n] as numbers; it is asked once for equal cells."""
        there = self.times() > 0
        answers = np.zeros(len(self.values), dtype)
        if there.any():
            answers[there] = [found(value) for value in self.values[there].tolist()]
        return np.asarray(answers[self.codes])

    def renamed(self, found: Callable[[Any], str | None], key: Any = None) -> Coded:
        """The column of what a pure function makes of each distinct text, which is remembered under a `key`."""
        known = self.memo.get(key) if key is not None else None
        if known is None:
            made = [found(value) for value in self.values.tolist()]
            place = {cell: code for code, cell in enumerate(dict.fromkeys(made))}
            known = small(np.array([place[cell] for cell in made], np.int32), len(place)), objects(list(place)), {}
            if key is not None:
                self.memo[key] = known
        new, values, memo = known
        return Coded(new[self.codes] if len(new) else self.codes, values, memo)


def side_by_side(found: Callable[[T], R], items: Iterable[T], rows: int) -> list[R]:
    """What a function gives for each item, in their order; two at a time where they are about many `rows`, since NumPy lets go
    of the interpreter while it works on large arrays.

    The function must not write to what another call reads. Raises what the first call that failed raised.
    """
    if rows < _LARGE:
        return [found(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(found, items))


def meanwhile(one: Callable[[], T], other: Callable[[], R], rows: int) -> tuple[T, R]:
    """What both functions give; the first works in a thread where they are about many `rows`, since what works on large arrays
    lets go of the interpreter. What the second raises goes before what the first does."""
    if rows < _LARGE:
        second = other()
        return one(), second
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one)
        second = other()
        return first.result(), second


def times_of(codes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """How often each number below `count` stands among the codes [n]."""
    out = np.zeros(count, np.int64)
    for first in range(0, len(codes), _AT_ONCE):  # by and by: what counts them wants eight bytes for each
        out += np.bincount(codes[first : first + _AT_ONCE], minlength=count)
    return out


def objects(cells: Sequence[Any]) -> NDArray[np.object_]:
    """Cells as an object array [n], whatever they are."""
    out = np.empty(len(cells), object)
    out[:] = cells
    return out


def same(cell: str | None, rows: int) -> Coded:
    """One cell again and again."""
    return Coded(np.zeros(rows, np.uint8), objects([cell]))


def code_type(count: int) -> type[np.integer[Any]]:
    """The smallest type that holds codes below `count`."""
    return np.uint8 if count <= 256 else np.uint16 if count <= 65536 else np.int32


def small(codes: NDArray[Any], count: int) -> NDArray[Any]:
    """Codes below `count` in the smallest type that holds them."""
    return codes.astype(code_type(count), copy=False)


def _equal(values: NDArray[np.object_], cell: str | None) -> NDArray[np.bool_]:
    return np.array([value is None for value in values], bool) if cell is None else np.asarray(values == cell, bool)


def in_order(column: Coded) -> Coded:
    """The column with codes in the order in which texts first appear, and no text that no row has."""
    order, times = column.used()
    if len(order) == len(column.values) and bool((order[1:] > order[:-1]).all()):
        return Coded(small(column.codes, len(order)), column.values, column.memo).known(order, times)
    new = np.zeros(len(column.values), np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return Coded(small(new[column.codes], len(order)), column.values[order]).known(np.arange(len(order)), times)


def joined(columns: Sequence[Coded]) -> Coded:
    """Columns one below the other."""
    if len(columns) == 1:
        return columns[0]
    place: dict[str | None, int] = {}
    codes = []
    for column in columns:
        there, _ = column.used()
        new = np.zeros(len(column.values), np.int32)
        new[there] = [place.setdefault(value, len(place)) for value in column.values[there].tolist()]
        codes.append(new[column.codes] if len(new) else np.zeros(0, np.int32))
    return Coded(small(np.concatenate(codes), len(place)), objects(list(place)))
