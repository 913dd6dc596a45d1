"""Accuracy without labels: how sure the model was, corrected by where it was wrong when labels were known; with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.features import Feature
from keepfit.runtime.arrays import pack, unpack

Floats = NDArray[np.float64]
Codes = Sequence[NDArray[np.int64]]
_PARTS, _FEATURES, _ROWS, _GROUPS = 4, 16, 4000, 24
_RIDGE, _Z, _UNSURE = 12.0, 1.645, 0.05
_ALONE = 0.75  # distance of a group of a quarter of the rows from all rows


@dataclass(frozen=True)
class Estimate:
    """Accuracy 0..1 with a 90 % interval; `trusted` is False where it may well be off by more than five points, and `why`."""

    value: float
    low: float
    high: float
    trusted: bool
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """As `monitor --json` gives it."""
        return {
            "value": round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "trusted": self.trusted,
            **({"why": self.why} if self.why else {}),
        }


@dataclass(frozen=True)
class Doubt:
    """A logistic model of being right: `weights` [d] and their covariance [d, d] for intercept, two terms of confidence
    (see `_design`), and parts of the features named in `features`. `reach` is the error, in accuracy, on groups of rows that
    it was not fitted on; `reference` [p] are the shares of the parts, `by_class` [k, p] those among the rows of a class, of which
    `recall` [k] are right and which are `priors` [k] of all; `plain` [3] are weights of confidence alone.
    """

    features: tuple[str, ...]
    weights: Floats
    covariance: Floats
    reference: Floats
    reach: float
    by_class: Floats
    recall: Floats
    priors: Floats
    plain: Floats

    def as_json(self) -> dict[str, Any]:
        """For profile.json."""
        return {
            "features": list(self.features),
            "weights": pack(self.weights),
            "covariance": pack(self.covariance),
            "reference": pack(self.reference),
            "by_class": pack(self.by_class),
            "recall": pack(self.recall),
            "priors": pack(self.priors),
            "plain": pack(self.plain),
            "reach": float(f"{self.reach:.4g}"),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Doubt:
        """Inverse of `as_json`."""
        names = ("weights", "covariance", "reference", "by_class", "recall", "priors", "plain")
        arrays = {name: unpack(raw[name]).astype(np.float64) for name in names}
        return cls(features=tuple(raw["features"]), reach=float(raw["reach"]), **arrays)


def fit_doubt(
    features: Sequence[Feature],
    codes: Codes,
    confidence: Floats,
    right: NDArray[np.bool_],
    truth: NDArray[np.int64],
    seed: int = 0,
) -> Doubt:
    """From held-out rows: `codes` [n] per feature, `confidence` [n] of the model's answer, whether it was `right` [n], and the
    true class `truth` [n].

    The features are those whose parts explain most of what confidence alone gets wrong. `reach` comes from leaving out one
    part of one feature at a time: groups as far from the rest as a shift would be.
    """
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.choice(len(right), _ROWS, replace=False)) if len(right) > _ROWS else np.arange(len(right))
    parts = [_parts(feature, column[kept]) for feature, column in zip(features, codes, strict=True)]
    sure, good = confidence[kept], right[kept].astype(np.float64)
    plain = _design(sure, [])
    alone, _ = _logistic(plain, good)
    rest = good - _sigmoid(plain @ alone)
    worth = [_explained(part, rest) for part in parts]
    chosen = sorted(np.argsort(-np.array(worth), kind="stable")[:_FEATURES].tolist()) if parts else []
    used = [parts[place] for place in chosen]
    design = _design(sure, used)
    weights, covariance = _logistic(design, good)
    block = np.concatenate([_onehot(part) for part in used], axis=1) if used else np.zeros((len(kept), 0))
    member = np.eye(int(truth.max()) + 1)[truth[kept]]
    size = member.sum(0)[:, None]
    shares = (member.T @ block + 2 * block.mean(0)) / (size + 2)
    recall = (member.T @ good + 2 * good.mean()) / (size[:, 0] + 2)
    return Doubt(
        tuple(features[place].name for place in chosen),
        weights,
        covariance,
        block.mean(0),
        _reach(design, used, good),
        shares,
        recall,
        (size[:, 0] + 1) / (len(kept) + len(size)),
        alone,
    )


def estimate(doubt: Doubt, features: Mapping[str, Feature], codes: Mapping[str, Any], confidence: Floats) -> Estimate:
    """Of a window: `codes` [n] per feature name, `confidence` [n] of its answers."""
    used = [_parts(features[name], codes[name]) for name in doubt.features]
    design = _design(confidence, used)
    share = _sigmoid(design @ doubt.weights)
    slope = (share * (1 - share)) @ design / len(share)
    now = np.concatenate([_onehot(part).mean(0) for part in used]) if used else np.zeros(0)
    moved = float(np.abs(now - doubt.reference).reshape(-1, _PARTS + 1).sum(1).max() / 2) if used else 0.0
    # far from the reference, what its features told about errors need not hold: confidence alone carries farther
    trust = float(np.clip(1.25 - moved / 0.4, 0.0, 1.0))
    value = float(share.mean()) * trust + float(_sigmoid(design[:, :3] @ doubt.plain).mean()) * (1 - trust)
    odd = max((_novel(features[name], codes[name]) for name in features), default=0.0)
    far = doubt.reach * min(moved / _ALONE, 1.5)
    explained, by_classes = _other_classes(doubt, now, len(share))
    apart = abs(by_classes - value)
    value = value + explained * (by_classes - value)
    far = math.hypot(far, apart * (min(explained, 1 - explained) + 0.4 * explained))
    half = _Z * math.sqrt(
        float((share * (1 - share)).mean()) / len(share) + float(slope @ doubt.covariance @ slope) + far**2
    )
    half += 0.3 * odd
    why = ""
    if odd > 0.1:
        why = f"{odd:.0%} of the rows have values of a kind that the reference did not have"
    elif half > _UNSURE:
        why = f"the interval is {2 * half:.1%} wide" + (
            ", since the rows are far from the reference" if far > 0.02 else ""
        )
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), not why, why)


def _other_classes(doubt: Doubt, now: Floats, rows: int) -> tuple[float, float]:
    """How much of the change other shares of the classes explain (0 to 1), and the accuracy that they would give.

    Where only the shares of classes have changed, the features of a class are what they were, and so is its recall
    (Saerens 2002, here on the shares of parts instead of posteriors).
    """
    shares = doubt.priors.copy()
    if not len(now) or len(shares) < 2:
        return 0.0, float(shares @ doubt.recall)
    used = len(now) / (_PARTS + 1)
    for _ in range(200):
        mixed = np.maximum(shares @ doubt.by_class, 1e-9)
        shares = shares * (doubt.by_class @ (now / mixed)) / used
        shares /= shares.sum()

    def distance(expected: Floats) -> float:
        return float((now * np.log(np.maximum(now, 1e-9) / np.maximum(expected, 1e-9))).sum())

    noise = 2.0 * len(now) / rows
    before, after = distance(doubt.priors @ doubt.by_class), distance(shares @ doubt.by_class)
    share = (before - after) / (before + noise / 4) if before > noise else 0.0
    return min(max(2 * share - 0.8, 0.0), 1.0), float(shares @ doubt.recall)


def _novel(feature: Feature, codes: NDArray[np.int64]) -> float:
    """Share of rows in bins that held next to none of the reference, above what they held."""
    before = feature.counts / max(feature.counts.sum(), 1.0)
    now = np.bincount(codes, minlength=len(before)) / max(len(codes), 1)
    rare = before < 0.01
    return float(max(now[rare].sum() - 2 * before[rare].sum() - 3 / max(len(codes), 1), 0.0))


def _parts(feature: Feature, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A coarser code [n]: quarters of the bins by their share of the reference, and one part for missing or unreadable."""
    known = feature.counts[:-2]
    upto = np.cumsum(known) - known / 2
    part = np.minimum((upto / max(known.sum(), 1.0) * _PARTS).astype(np.int64), _PARTS - 1)
    out: NDArray[np.int64] = np.concatenate([part, [_PARTS, _PARTS]])[codes]
    return out


def _onehot(part: NDArray[np.int64]) -> Floats:
    return np.eye(_PARTS + 1)[part]


def _design(confidence: Floats, parts: Sequence[NDArray[np.int64]]) -> Floats:
    sure = np.clip(confidence, 1e-4, 1 - 1e-4)
    logit = np.clip(np.log(sure / (1 - sure)), -6, 6)
    return np.column_stack([np.ones(len(sure)), logit, np.abs(logit) ** 1.5 / 3, *(_onehot(part) for part in parts)])


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _explained(part: NDArray[np.int64], rest: Floats) -> float:
    size = np.bincount(part, minlength=_PARTS + 1)
    total = np.bincount(part, rest, minlength=_PARTS + 1)
    return float((total**2 / (size + _RIDGE)).sum())


def _logistic(design: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Weights and covariance of a ridge logistic regression by Newton's steps; intercept and confidence hardly shrink."""
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[:3] = 0.1
    weights = np.zeros(design.shape[1])
    weights[1] = 1.0
    for _ in range(12):
        share = _sigmoid(design @ weights)
        curve = (design.T * np.maximum(share * (1 - share), 1e-4)) @ design + np.diag(ridge)
        pull = design.T @ (truth - share) - ridge * (weights - np.eye(len(weights))[1])
        move = np.linalg.solve(curve, pull)
        weights = weights + np.clip(move, -2, 2)
        if np.abs(move).max() < 1e-6:
            break
    return weights, np.asarray(np.linalg.inv(curve), np.float64)


def _reach(design: Floats, parts: Sequence[NDArray[np.int64]], truth: Floats) -> float:
    """Root mean square error on groups left out, less what their size explains."""
    squares = []
    groups = [(part == code) for part in parts for code in range(_PARTS)]
    groups = [group for group in groups if 30 <= group.sum() <= 0.6 * len(truth)]
    for group in groups[:: max(1, len(groups) // _GROUPS)]:
        weights, covariance = _logistic(design[~group], truth[~group])
        share = _sigmoid(design[group] @ weights)
        slope = (share * (1 - share)) @ design[group] / len(share)
        noise = float((share * (1 - share)).mean() / len(share) + slope @ covariance @ slope)
        squares.append(float(share.mean() - truth[group].mean()) ** 2 - noise)
    return math.sqrt(max(float(np.mean(squares)), 0.0)) if squares else 0.05
