"""How well one column alone tells the target: out-of-fold votes of equal cells, or of the nearest numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.guarded import are_categories, codes_of
from keepfit.runtime.coded import Coded

_FOLDS = 5
_NEAR = 2
_LEAST = 5


def told(column: NDArray[Any] | Coded, truth: NDArray[Any], classes: int, seed: int) -> NDArray[np.float64]:
    """Answers [n] by the column alone, each from rows of other folds: class codes, or means where `classes` is 0.

    Categories and numbers of few values answer with the commonest class (the mean) of equal cells; other numbers with
    that of the four nearest. Missing is a category of its own.
    """
    shares = np.eye(classes)[truth.astype(int)] if classes else truth.astype(float)[:, None]
    folds = np.random.default_rng(seed).permutation(len(truth)) % _FOLDS
    out = np.zeros(shares.shape)
    plain = are_categories(column)
    numbers = np.zeros(0) if plain else np.asarray(column)
    codes, count = codes_of(column) if plain else codes_of(np.isnan(numbers).astype(float))
    for fold in range(_FOLDS):
        inside = folds == fold
        out[inside] = _by_code(codes[~inside], shares[~inside], count)[codes[inside]]
        if not plain:
            known = ~np.isnan(numbers)
            near = _by_nearest(numbers[~inside & known], shares[~inside & known], numbers[inside & known])
            out[inside & known] = near
    return np.asarray(out.argmax(1) if classes else out[:, 0], np.float64)


def _by_code(codes: NDArray[np.int64], shares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Mean shares per code [count, k]; of all rows where a code was not seen."""
    times = np.bincount(codes, minlength=count)
    sums = np.stack([np.bincount(codes, column, minlength=count) for column in shares.T], 1)
    return np.where(times[:, None] > 0, sums / np.maximum(times, 1)[:, None], shares.mean(0))


def _by_nearest(x: NDArray[np.float64], shares: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[Any]:
    """Shares of the two rows below and the two above, the nearer ones counting more."""
    order = np.argsort(x, kind="stable")
    x, shares = x[order], shares[order]
    around = np.searchsorted(x, wanted)[:, None] + np.arange(-_NEAR, _NEAR)
    around = np.clip(around, 0, len(x) - 1)
    apart = np.abs(x[around] - wanted[:, None])
    weights = 1 / (apart + 1e-9 * (np.ptp(x) or 1.0))
    return np.asarray((shares[around] * weights[:, :, None]).sum(1) / weights.sum(1)[:, None])


def skill(answers: NDArray[np.float64], truth: NDArray[Any], classes: int) -> float:
    """1 is always right, 0 no better than a guess: balanced accuracy over chance, or R squared.

    Classes of fewer than five rows do not count.
    """
    if not classes:
        spread = float(((truth - truth.mean()) ** 2).sum())
        return 1 - float(((truth - answers) ** 2).sum()) / spread if spread else 0.0
    counts = np.bincount(truth.astype(int), minlength=classes)
    hits = np.bincount(truth.astype(int)[answers == truth], minlength=classes)
    big = counts >= _LEAST
    if big.sum() < 2:
        return 0.0
    balanced = float((hits[big] / counts[big]).mean())
    chance = 1 / int(big.sum())
    return (balanced - chance) / (1 - chance)
