"""Smoothed target means per category (Micci-Barreca 2001), out of fold; a category seen once tells nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 20.0


@dataclass(frozen=True)
class Encoded:
    """The columns of the matrix that hold target means of one key, and the key's code of each row [n].

    A code is -1 where the key is missing and `count` where it is none of the known ones.
    """

    columns: list[int]
    codes: NDArray[np.int64]
    count: int

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Encoded:
        """Some of the rows."""
        return replace(self, codes=self.codes[rows])

    def with_rows(self, other: Encoded) -> Encoded:
        """These rows and then the other's."""
        return replace(self, codes=np.concatenate([self.codes, other.codes]))


def means(codes: NDArray[np.int64], truth: NDArray[np.float64], count: int, least: int = 1) -> NDArray[np.float64]:
    """[count + 1, k]: a mean per code, the last one for unknown keys; codes seen less than `least` times get the prior.

    With `least` 2 no mean stands for a single row, whose answer could be read from it.
    """
    prior = truth.mean(0)
    known = (codes >= 0) & (codes < count)
    times = np.bincount(codes[known], minlength=count)
    sums = np.stack([np.bincount(codes[known], column[known], minlength=count) for column in truth.T], 1)
    found = (sums + SMOOTHING * prior) / (times + SMOOTHING)[:, None]
    found[times < least] = prior
    return np.vstack([found, prior])


def encode(codes: NDArray[np.int64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, k] of the table's rows; NaN where the key is missing."""
    return np.where(codes[:, None] >= 0, table[codes], np.nan)


def out_of_fold(
    codes: NDArray[np.int64], truth: NDArray[np.float64], count: int, folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[n, k]: each row gets the mean of the other folds, so that its own answer is not in it."""
    out = np.full((len(codes), truth.shape[1]), np.nan)
    for fold in np.unique(folds):
        inside = folds == fold
        around = ~inside if not inside.all() else inside
        out[inside] = encode(codes[inside], means(codes[around], truth[around], count))
    return out


def answers(truth: NDArray[np.int64] | NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """[n, k]: one-hot for many classes, one column for two classes or numbers."""
    return np.eye(classes)[truth.astype(int)] if classes > 2 else np.asarray(truth, np.float64)[:, None]
