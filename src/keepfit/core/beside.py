"""Two threads for what is done column by column: NumPy lets go of the interpreter while it works on large arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_THREADS = 2
_LARGE = 200_000  # rows from which a thread is worth its start
T = TypeVar("T")
R = TypeVar("R")


def each(found: Callable[[T], R], items: Iterable[T], rows: int) -> list[R]:
    """What a function gives for each item, in their order; two at a time where they are about many `rows`.

    The function must not write to what another call reads. Raises what the first call that failed raised.
    """
    if rows < _LARGE:
        return [found(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(found, items))


def both(one: Callable[[], T], other: Callable[[], R]) -> tuple[T, R]:
    """What both functions give; the first, which lets go of the interpreter, works in a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one)
        second = other()
        return first.result(), second
