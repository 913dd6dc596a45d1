"""Batches whose order and content are pure functions of (seed, epoch, index), with any number of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

Batch = tuple[Tensor, Tensor]


class Examples(Protocol):
    """Rows to learn from. `batch` is a pure function: with `epoch` None there is no augmentation."""

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64], epoch: int | None) -> Batch:
        """Inputs float32 [b, ...] and answers: codes int64 [b], shares float32 [b, k], or numbers float32 [b, 1]."""
        ...


def order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """The permutation of an epoch."""
    return np.random.default_rng([seed, epoch, 0x6F726465]).permutation(rows)


def batches(seed: int, epoch: int, rows: int, size: int) -> list[NDArray[np.int64]]:
    """The row numbers of each batch of an epoch; a last batch of one row joins the one before (batch norm needs two)."""
    found = order(seed, epoch, rows)
    cuts = list(range(size, rows, size))
    if cuts and rows - cuts[-1] == 1:
        cuts.pop()
    return list(np.split(found, cuts))


class _Batches:
    def __init__(self, examples: Examples, rows: list[NDArray[np.int64]], epoch: int) -> None:
        self.examples, self.rows, self.epoch = examples, rows, epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Batch:
        return self.examples.batch(self.rows[place], self.epoch)


def stream(
    examples: Examples,
    rows: list[NDArray[np.int64]],
    epoch: int,
    *,
    start: int = 0,
    workers: int = 0,
    threads: bool = False,
) -> Iterator[Batch]:
    """The batches of an epoch from number `start` on. Workers prefetch; torch's own random state is not touched.

    `threads`: workers are threads. A process that talks to others has threads of its own, and a fork of it may find a lock
    held by one of them for ever.
    """
    if workers and threads:
        yield from _by_threads(examples, rows[start:], epoch, workers)
        return
    if not workers:
        for place in range(start, len(rows)):
            yield examples.batch(rows[place], epoch)
        return
    loader = DataLoader(
        _Batches(examples, rows, epoch),
        batch_size=None,
        sampler=range(start, len(rows)),
        num_workers=workers,
        prefetch_factor=2,
        generator=torch.Generator(),
        multiprocessing_context="fork",
    )
    yield from loader


def _by_threads(examples: Examples, rows: list[NDArray[np.int64]], epoch: int, workers: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for some in rows:
                waiting.append(pool.submit(examples.batch, some, epoch))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def blocks(rows: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in order, `size` at a time."""
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows), dtype=np.int64)


def plain(examples: Examples, size: int) -> Iterator[Batch]:
    """All rows in order, without augmentation."""
    for some in blocks(len(examples), size):
        yield examples.batch(some, None)
