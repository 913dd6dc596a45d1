"""How columns hang together: rows that break what held between them in the reference, though each column alone looks as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.features import Feature
from keepfit.runtime.arrays import pack, unpack

Floats = NDArray[np.float64]
_MOST, _RIDGE, _FAR, _DRAWN, _DRAWS, _LEAST = 40, 1e-3, 8.0, 200, 40, 3.0


@dataclass(frozen=True)
class Relations:
    """Principal axes of the ranks of numeric features, each rank as the normal deviate of its level.

    `names` [d]; `levels` [d, b] the deviate of each bin, rows padded with 0, which missing cells have too; `mean` [d];
    `axes` [d, m] whiten the reference. `limit` is the variance along an axis that windows of the reference do not reach
    (the residual along narrow axes is the statistic of Jackson and Mudholkar 1979).
    """

    names: tuple[str, ...]
    levels: Floats
    mean: Floats
    axes: Floats
    limit: float

    def torn(self, codes: Mapping[str, NDArray[np.int64]]) -> float:
        """The largest variance along an axis in a window of `codes` [n] per feature, over the limit."""
        if not self.names or any(name not in codes for name in self.names):
            return 0.0
        return float(_spread(self._whitened(codes)).max() / self.limit)

    def _whitened(self, codes: Mapping[str, NDArray[np.int64]]) -> Floats:
        ranks = np.column_stack([self.levels[n][codes[name]] for n, name in enumerate(self.names)])
        return np.asarray((ranks - self.mean) @ self.axes)

    def as_json(self) -> dict[str, Any]:
        """For profile.json."""
        arrays = {"levels": pack(self.levels), "mean": pack(self.mean), "axes": pack(self.axes)}
        return {"names": list(self.names), "limit": float(f"{self.limit:.4g}"), **arrays}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Relations:
        """Inverse of `as_json`."""
        arrays = {name: unpack(raw[name]).astype(np.float64) for name in ("levels", "mean", "axes")}
        return cls(tuple(raw["names"]), limit=float(raw["limit"]), **arrays)


def fit_relations(
    features: Sequence[Feature], codes: Mapping[str, NDArray[np.int64]], rng: np.random.Generator
) -> Relations | None:
    """From rows of the reference, `codes` [n] per feature; None where fewer than two numeric columns vary."""
    used = [one for one in features if one.is_numeric and one.column != "prediction"][:_MOST]
    deviates = [_deviates(one) for one in used]
    kept = [n for n, one in enumerate(used) if deviates[n][codes[one.name]].std() > 0.1]
    if len(kept) < 2:
        return None
    wide = max(len(deviates[n]) for n in kept)
    levels = np.array([np.pad(deviates[n], (0, wide - len(deviates[n]))) for n in kept])
    names = tuple(used[n].name for n in kept)
    ranks = np.column_stack([levels[n][codes[name]] for n, name in enumerate(names)])
    mean = ranks.mean(0)
    variances, axes = np.linalg.eigh(np.cov(ranks.T) + _RIDGE * np.eye(len(names)))
    largest = np.abs(axes).argmax(0)
    axes = axes * np.sign(axes[largest, np.arange(len(names))]) / np.sqrt(variances)
    white = (ranks - mean) @ axes
    seen = [_spread(white[rng.integers(0, len(white), _DRAWN)]).max() for _ in range(_DRAWS)]
    return Relations(names, levels, mean, axes.round(6), max(_LEAST, 1.3 * max(seen)))


def _spread(white: Floats) -> Floats:
    """Variances [m], far rows brought near: one alone does not count."""
    return np.asarray(np.clip(white - white.mean(0), -_FAR, _FAR).var(0))


def _deviates(feature: Feature) -> Floats:
    """The normal deviate of the level of each bin [k + 2]; the middle for what is missing or unreadable."""
    to_deviate = NormalDist().inv_cdf
    return np.array([*(to_deviate(min(max(float(rank), 1e-3), 1 - 1e-3)) for rank in feature.scores[1][0]), 0.0, 0.0])
