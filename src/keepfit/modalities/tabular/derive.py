"""Pairs of numeric columns that help: ratios and rotated axes, chosen by the gain of a small boosted model."""

from __future__ import annotations

import itertools
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOP, _KEEP, _ROTATED_PAIRS = 8, 24, 2
_ANGLES = (22.5, 45.0, 67.5, 112.5, 135.0, 157.5)


def pairs(
    numbers: MutableMapping[str, NDArray[np.float64]], truth: NDArray[np.float64], classes: int, seed: int
) -> list[dict[str, Any]]:
    """Features of the op `pair`, at most about 36; none where fewer than two numeric columns have 8 values or more."""
    names = [name for name, values in numbers.items() if len(np.unique(values[~np.isnan(values)])) >= 8]
    if len(names) < 2 or len(truth) < 100:
        return []
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(truth))[:50_000])
    base = np.stack([numbers[name] for name in names], 1)
    gain = _gain(base[rows], truth[rows], classes, seed)
    names = [names[place] for place in sorted(np.argsort(-gain, kind="stable")[:_TOP])]
    found: list[dict[str, Any]] = []
    for a, b in itertools.combinations(names, 2):
        found += [_rotation(numbers, a, b, angle) for angle in (45.0, 135.0)]
        ratio = _ratio(numbers, a, b)
        found += [ratio] if ratio else []
    made = np.stack([pair_values(feature, numbers) for feature in found], 1)
    gain = _gain(np.hstack([base, made])[rows], truth[rows], classes, seed)[base.shape[1] :]
    order = np.argsort(-gain, kind="stable")[:_KEEP]
    kept = [found[place] for place in sorted(order) if gain[place] > 0]
    return kept + _more_angles(numbers, found, gain, kept)


def pair_values(feature: dict[str, Any], numbers: MutableMapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What runtime will compute for the feature, through runtime's own code."""
    from keepfit.runtime.preparation import Coerced, pair

    values = pair(feature, Coerced(numbers=numbers), {})
    return np.where(np.isfinite(values), values, np.nan)


def _more_angles(
    numbers: MutableMapping[str, NDArray[np.float64]],
    found: list[dict[str, Any]],
    gain: NDArray[np.float64],
    kept: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    total: dict[tuple[str, str], float] = {}
    for feature, value in zip(found, gain, strict=True):
        if feature["how"] == "rotate":
            key = (feature["a"], feature["b"])
            total[key] = total.get(key, 0.0) + float(value)
    best = sorted(total, key=lambda key: (-total[key], key))[:_ROTATED_PAIRS]
    have = {feature["names"][0] for feature in kept}
    more = [_rotation(numbers, a, b, angle) for a, b in best for angle in _ANGLES]
    return [feature for feature in more if feature["names"][0] not in have]


def _rotation(numbers: MutableMapping[str, NDArray[np.float64]], a: str, b: str, angle: float) -> dict[str, Any]:
    turn = np.deg2rad(angle)
    return {
        "block": "pairs",
        "op": "pair",
        "how": "rotate",
        "a": a,
        "b": b,
        "names": [f"{a} and {b} at {angle:g} degrees"],
        "mean_a": float(np.nanmean(numbers[a])),
        "scale_a": float(np.nanstd(numbers[a]) or 1.0),
        "mean_b": float(np.nanmean(numbers[b])),
        "scale_b": float(np.nanstd(numbers[b]) or 1.0),
        "weight_a": float(np.cos(turn)),
        "weight_b": float(np.sin(turn)),
    }


def _ratio(numbers: MutableMapping[str, NDArray[np.float64]], a: str, b: str) -> dict[str, Any] | None:
    low_a, low_b = float(np.nanmin(numbers[a])), float(np.nanmin(numbers[b]))
    if low_b < 0 and low_a < 0:
        return None
    over, under, low = (a, b, low_b) if low_b >= 0 else (b, a, low_a)
    return {
        "block": "pairs",
        "op": "pair",
        "how": "ratio",
        "a": over,
        "b": under,
        "names": [f"{over} / {under}"],
        "add": 0.0 if low > 0 else 1.0,
    }


def _gain(matrix: NDArray[np.float64], truth: NDArray[np.float64], classes: int, seed: int) -> NDArray[np.float64]:
    import lightgbm

    answer = truth.argmax(1) if truth.shape[1] > 1 else truth[:, 0]
    params = {
        "objective": "multiclass" if classes > 2 else "binary" if classes == 2 else "l2",
        "learning_rate": 0.1,
        "num_leaves": 31,
        "feature_fraction": 0.5,
        "min_data_in_leaf": 20,
        "verbose": -1,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
    }
    if classes > 2:
        params["num_class"] = classes
    rounds = max(10, 80 // max(1, classes - 1))
    data = lightgbm.Dataset(matrix.astype(np.float32), answer, free_raw_data=True)
    return np.asarray(lightgbm.train(params, data, rounds).feature_importance("gain"), np.float64)
