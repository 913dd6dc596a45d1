"""Evens out the classes of the rows that a learner is given: repeats, leaves out, makes rows between or beside others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.modalities.tabular.learners.data import Fold

_NEIGHBOURS = 5
_CATEGORY = 10
_NOISE = 0.1  # of a column's standard deviation within the class


def balanced(fold: Fold, way: str, seed: int) -> Fold:
    """The fold with classes of one size; `way` is oversample, undersample, smote, noise, or anything else for no change.

    Called with the rows that are learned from only, so that no held-out row has a copy or a child among them.
    """
    if way not in ("oversample", "undersample", "smote", "noise"):
        return fold
    rng = np.random.default_rng(seed)
    truth = fold.truth.astype(int)
    counts = np.bincount(truth)
    size = counts[counts > 0].min() if way == "undersample" else counts.max()
    kept, added = [], []
    for label in np.flatnonzero(counts):
        rows = np.flatnonzero(truth == label)
        if way == "undersample":
            kept.append(np.sort(rng.choice(rows, size, replace=False)))
        else:
            kept.append(rows)
            added.append(rng.choice(rows, size - len(rows)))
    if way == "undersample":
        return fold.take(np.sort(np.concatenate(kept)))
    more = np.concatenate(added)
    if not len(more):
        return fold
    made = fold.take(more)
    if way == "smote":
        made = replace(made, features=_between(fold.features, truth, more, rng))
    if way == "noise":
        made = replace(made, features=_beside(fold.features, truth, more, rng))
    return fold.with_rows(made)


def _coarse(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which columns have so few values [d] that they are categories, or as good as."""
    return np.array([len(np.unique(column[~np.isnan(column)])) <= _CATEGORY for column in features.T])


def _beside(
    features: NDArray[np.float32], truth: NDArray[Any], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Copies of `rows` whose numbers are shifted by Gaussian noise (a smoothed bootstrap; Lee, 2000), inside of what their
    class has. Columns of few values and missing cells stay as they are."""
    out = features[rows].copy()
    fine = np.flatnonzero(~_coarse(features))
    for label in np.unique(truth[rows]):
        mine, inside = np.flatnonzero(truth[rows] == label), features[truth == label][:, fine]
        known = ~np.isnan(inside).all(0)
        columns, inside = fine[known], inside[:, known]
        shift = rng.normal(size=(len(mine), len(columns))) * _NOISE * np.nanstd(inside, axis=0)
        moved = np.clip(out[np.ix_(mine, columns)] + shift, np.nanmin(inside, axis=0), np.nanmax(inside, axis=0))
        out[np.ix_(mine, columns)] = moved
    return out.astype(np.float32)


def _between(
    features: NDArray[np.float32], truth: NDArray[Any], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """A row on the way from each of `rows` to one of its five nearest of the same class (Chawla et al., SMOTE, 2002).

    Columns of few values, such as categories, are not mixed: they take either's value, as in SMOTE-NC; neither is one
    where a value is missing.
    """
    from scipy.spatial import cKDTree

    known = features[:, ~np.isnan(features).all(0)]
    spread = np.nanstd(known, axis=0)
    scaled = np.nan_to_num((known - np.nanmean(known, axis=0)) / np.where(spread > 0, spread, 1.0))
    coarse = _coarse(features)
    other = rows.copy()
    for label in np.unique(truth[rows]):
        inside, wanted = np.flatnonzero(truth == label), np.flatnonzero(truth[rows] == label)
        near = min(_NEIGHBOURS + 1, len(inside))
        found = cKDTree(scaled[inside]).query(scaled[rows[wanted]], near)[1].reshape(len(wanted), near)
        pick = rng.integers(min(1, near - 1), near, len(wanted))
        other[wanted] = inside[found[np.arange(len(wanted)), pick]]
    step = rng.random((len(rows), 1), np.float32)
    one, two = features[rows], features[other]
    mixed = one + step * (two - one)
    whole = coarse[None, :] | np.isnan(mixed)
    return np.where(whole, np.where(rng.random((len(rows), 1)) < 0.5, one, two), mixed).astype(np.float32)
