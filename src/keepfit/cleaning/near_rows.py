"""Near-duplicate rows of a table: equal in every folded category and text, numbers within a tolerance of their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.groups import joined
from keepfit.cleaning.near_texts import folded
from keepfit.runtime.coded import Coded
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import Coerced, coerced
from keepfit.runtime.spread import Spread, quantiles
from keepfit.runtime.table import Column, Table, coded_column, renamed_cells

_CHANCE = 0.05
BY_CHANCE = "near-copies of rows are not looked for: columns are so few or so coarse that unrelated rows would be near by chance"
MOST_PAIRS = 2_000_000  # of which the groups are joined in seconds, and in half a GB
_NEAREST, _SAMPLE, _AT_ONCE = 64, 2_000, 50_000
_GAP = -1e3  # where a missing number stands on the scale of spreads: far from all others, equal to itself


def near_rows(
    table: Table,
    rules: Sequence[ColumnRule],
    tolerance: float = 0.001,
    told: list[str] | None = None,
    data: Coerced | None = None,
) -> NDArray[np.int64]:
    """The first row of each row's group [n]. Columns that the model does not read, such as identifiers, are not compared.

    `tolerance` is the largest difference of two numbers, as a share of the column's spread (5 % to 95 % quantile, the
    range where that is none). Missing is near to missing only. Where columns are so few or so coarse that unrelated rows
    would agree by chance, no row is near to another. Where more than MOST_PAIRS pairs are within the tolerance, each row is
    compared with its nearest ones only. `told` hears of both; as many pairs as rows are always compared. `data` is the
    table coerced by the rules, where the caller has it.
    """
    data = coerced(table, rules) if data is None else data
    keys = _keys(data.categories, data.texts)
    numbers = [(_scaled(found), found) for found in map(data.spread, (*data.numbers, *data.dates))]
    if _by_chance(keys, numbers, len(table), tolerance) > _CHANCE:
        if told is not None:
            told.append(BY_CHANCE)
        return np.arange(len(table))
    matrix = (
        np.stack([scale[found.codes] for scale, found in numbers], axis=1) if numbers else np.zeros((len(table), 0))
    )
    pairs: list[tuple[int, int]] = []
    dense = 0
    for bucket in _buckets([key.codes.astype(np.int64) for key in keys], len(table)):
        found, whole = _close(bucket, matrix, tolerance, max(MOST_PAIRS - len(pairs), len(bucket)))
        pairs += found
        dense += 0 if whole else len(bucket)
    if dense and told is not None:
        told.append(
            f"of {dense} rows so many lie close together in every number (a drift, a slow sensor?) that each was compared "
            "with its nearest ones only: more may be near, also across the splits"
        )
    return joined(len(table), pairs)


def _keys(categories: dict[str, Column], texts: dict[str, Column]) -> list[Coded]:
    """The folded values of each column."""
    return [
        coded_column(renamed_cells(column, lambda text: None if text is None else folded(text), "folded"))
        for column in (*categories.values(), *texts.values())
    ]


def _buckets(keys: list[NDArray[np.int64]], rows: int) -> list[NDArray[np.int64]]:
    """The rows of each combination of codes that two rows or more have, ascending."""
    whole = np.zeros(rows, np.int64)
    for codes in keys:  # one number per combination, made dense again so that it cannot overflow
        whole = np.unique(whole * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[1].ravel()
    order = np.argsort(whole, kind="stable")
    starts = np.flatnonzero(np.diff(whole[order])) + 1
    return [bucket for bucket in np.split(order, starts) if len(bucket) > 1]


def _by_chance(
    keys: list[Coded], numbers: list[tuple[NDArray[np.float64], Spread]], rows: int, tolerance: float
) -> float:
    """Pairs of rows that would be near if the columns had nothing to do with each other."""
    if rows < 2:
        return 0.0
    left, right = np.random.default_rng(0).integers(0, rows, (2, 20_000))
    left, right = left[left != right], right[left != right]
    pairs = rows * (rows - 1) / 2
    for key in keys:
        pairs *= float(((key.times() / rows) ** 2).sum())
    for scale, found in numbers:
        apart = np.abs(scale[found.codes[left]] - scale[found.codes[right]])
        pairs *= max(float((apart <= tolerance).mean()), 1e-4)
    return pairs


def _scaled(found: Spread) -> NDArray[np.float64]:
    """The number of each code [c] in spreads of its column above the least, _GAP where missing."""
    counts = found.counts()
    levels = found.levels[counts > 0]
    if not len(levels):
        return np.full(len(found.level_of), _GAP)
    low, high = quantiles(levels, counts[counts > 0], [0.05, 0.95])
    spread = float(high - low) or float(np.ptp(levels)) or 1.0
    return np.asarray(np.append((found.levels - levels[0]) / spread, _GAP)[found.level_of])


def _close(
    rows: NDArray[np.int64], matrix: NDArray[np.float64], tolerance: float, most: int
) -> tuple[list[tuple[int, int]], bool]:
    """Pairs that make groups of the rows of a bucket within the tolerance in every number, and whether these are all.

    Beyond `most` pairs each row comes with its nearest ones.
    """
    if not matrix.shape[1]:
        return [(int(rows[0]), int(row)) for row in rows[1:]], True
    distinct, where, inverse = np.unique(matrix[rows], axis=0, return_index=True, return_inverse=True)
    heads = rows[where]
    first = heads[inverse.ravel()]
    again = first != rows
    pairs = list(zip(first[again].tolist(), rows[again].tolist(), strict=True))
    whole = True
    if tolerance > 0 and len(distinct) > 1:
        from scipy.spatial import cKDTree

        tree = cKDTree(distinct)
        whole = _number(tree, tolerance, most) <= most
        close = (
            tree.query_pairs(tolerance, p=np.inf, output_type="ndarray") if whole else _nearest(tree, tolerance, most)
        )
        pairs += zip(heads[close[:, 0]].tolist(), heads[close[:, 1]].tolist(), strict=True)
    return pairs, whole


def _number(tree: Any, tolerance: float, most: int) -> int:
    """How many pairs are within the tolerance: as a sample of points tells, counted where that is near to `most`."""
    points = tree.data
    if len(points) * (len(points) - 1) // 2 <= most:
        return 0  # no number of them is too many
    some = points[np.random.default_rng(0).choice(len(points), min(_SAMPLE, len(points)), replace=False)]
    around = tree.query_ball_point(some, tolerance, p=np.inf, return_length=True)
    guess = int((np.mean(around) - 1) * len(points) / 2)
    return (
        guess
        if guess > 4 * most or 4 * guess < most
        else int(tree.count_neighbors(tree, tolerance, p=np.inf) - len(points)) // 2
    )


def _nearest(tree: Any, tolerance: float, most: int) -> NDArray[np.int64]:
    """Pairs [m, 2] of each point and its nearest ones within the tolerance; `most` in all, and one for each at least."""
    points = tree.data
    each = min(_NEAREST, max(1, most // len(points)))
    found = []
    for first in range(0, len(points), _AT_ONCE):
        some = np.arange(first, min(first + _AT_ONCE, len(points)))
        limit = np.nextafter(tolerance, np.inf)  # query leaves out what is as far as its bound
        _, other = tree.query(points[some], k=list(range(1, each + 2)), p=np.inf, distance_upper_bound=limit)
        pairs = np.stack([np.repeat(some, each + 1), other.ravel()], axis=1)
        found.append(pairs[(pairs[:, 1] < len(points)) & (pairs[:, 0] != pairs[:, 1])])
    return np.concatenate(found)
