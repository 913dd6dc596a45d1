"""Accuracy without labels: how sure the model was, corrected by where it was wrong when labels were known; with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.features import Feature
from keepfit.monitor.relations import Relations, fit_relations
from keepfit.runtime.arrays import pack, unpack

Floats = NDArray[np.float64]
Codes = Sequence[NDArray[np.int64]]
_PARTS, _FEATURES, _ROWS, _GROUPS = 4, 16, 4000, 24
_RIDGE, _Z, _UNSURE, ENOUGH = 12.0, 1.645, 0.05, 30
_LEFT = (
    0.35,
    0.6,
)  # of the noise: what a mixture of classes leaves over where only their shares changed, and where not
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
    relations: Relations | None = None

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
            "relations": self.relations.as_json() if self.relations else None,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Doubt:
        """Inverse of `as_json`."""
        names = ("weights", "covariance", "reference", "by_class", "recall", "priors", "plain")
        arrays = {name: unpack(raw[name]).astype(np.float64) for name in names}
        relations = Relations.from_json(raw["relations"]) if raw.get("relations") else None
        return cls(features=tuple(raw["features"]), reach=float(raw["reach"]), relations=relations, **arrays)


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
        fit_relations(features, {f.name: column[kept] for f, column in zip(features, codes, strict=True)}, rng),
    )


def estimate(
    doubt: Doubt, features: Mapping[str, Feature], codes: Mapping[str, Any], scores: Floats, novel: float = 0.0
) -> Estimate:
    """Of a window: `codes` [n] per feature name, and the model's probabilities `scores` [n, k]; `novel` is the share of rows
    that are known to be of a kind which the reference did not have.

    Two readings of what changed are weighed: rows of another kind, whose confidence still holds, or other shares of the classes.
    It is not trusted where the two disagree and neither can be ruled out, nor where rows have values, or relations between
    columns, that the reference did not have.
    """
    confidence = scores.max(1).astype(np.float64)
    used = [_parts(features[name], codes[name]) for name in doubt.features]
    design = _design(confidence, used)
    share = _sigmoid(design @ doubt.weights)
    slope = (share * (1 - share)) @ design / len(share)
    now = np.concatenate([_onehot(part).mean(0) for part in used]) if used else np.zeros(0)
    moved = float(np.abs(now - doubt.reference).reshape(-1, _PARTS + 1).sum(1).max() / 2) if used else 0.0
    # far from the reference, what its features told about errors need not hold: confidence alone carries farther
    trust = float(np.clip(1.25 - moved / 0.4, 0.0, 1.0))
    by_features, by_confidence = float(share.mean()), float(_sigmoid(design[:, :3] @ doubt.plain).mean())
    value = by_features * trust + by_confidence * (1 - trust)
    odd = max((_novel(features[name], codes[name]) for name in features), default=0.0)
    odd = max(odd, novel)
    explained, plausible, by_parts = _other_classes(doubt, now, len(share))
    by_scores = _by_scores(doubt, scores)
    by_classes = (by_parts + by_scores) / 2
    apart = abs(by_classes - value)
    unclear = plausible * (1 - explained) * max(abs(by_parts - value), abs(by_scores - value))
    value = value + explained * (by_classes - value)
    far = math.hypot(
        doubt.reach * min(moved / _ALONE, 1.5),
        apart * (min(explained, 1 - explained) + 0.4 * explained),
        0.7 * (by_features - by_confidence) * (1 - trust),
    )
    half = _Z * math.sqrt(
        float((share * (1 - share)).mean()) / len(share) + float(slope @ doubt.covariance @ slope) + far**2
    )
    half += 0.3 * odd + 0.5 * unclear
    torn = doubt.relations.torn(codes) if doubt.relations is not None else 0.0
    half += 0.08 * min(max(torn - 1.0, 0.0), 1.5)
    why = _why(odd, torn, half, unclear, far)
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), not why, why)


def contradicted(said: Mapping[str, Any], labels: int, errors: int) -> bool:
    """Whether labels show that an estimate, as `Estimate.as_json` gives it, is off by more than five points (three standard
    errors beyond that, at least 30 labels)."""
    if labels < ENOUGH:
        return False
    seen = 1 - (errors + 1) / (labels + 2)
    noise = math.sqrt(seen * (1 - seen) / labels)
    return bool(abs(said["value"] - seen) > _UNSURE + 3 * noise)


def _why(odd: float, torn: float, half: float, unclear: float, far: float) -> str:
    """Why an estimate is not to be trusted; empty where it is."""
    if odd > 0.1:
        return f"{odd:.0%} of the rows have values of a kind that the reference did not have"
    if torn > 1.0:
        return f"columns are not related as in the reference: their spread is {torn:.1f} times what its own rows reach"
    if half > _UNSURE:
        because = ", since the rows are far from the reference" if far > 0.02 else ""
        return f"the interval is {2 * half:.1%} wide{because}"
    if half + 0.5 * unclear > _UNSURE:
        return f"other shares of the classes would explain the change as well, and move the estimate by {unclear:.1%}"
    return ""


def _by_scores(doubt: Doubt, scores: Floats) -> float:
    """The accuracy if only the shares of the classes had changed, by the model's probabilities (Saerens 2002)."""
    priors = doubt.priors
    if scores.shape[1] != len(priors):
        return float(scores.max(1).mean())
    given = np.clip(scores, 1e-4, 1.0)
    given = given / given.sum(1, keepdims=True)
    shares = priors.copy()
    weighed = given
    for _ in range(100):
        weighed = given * (shares / priors)
        weighed /= weighed.sum(1, keepdims=True)
        before, shares = shares, weighed.mean(0)
        if np.abs(shares - before).max() < 1e-5:
            break
    return float(weighed[np.arange(len(scores)), scores.argmax(1)].mean())


def _other_classes(doubt: Doubt, now: Floats, rows: int) -> tuple[float, float, float]:
    """How much of the change other shares of the classes explain (0 to 1), whether that they alone changed is plausible (0 to 1),
    and the accuracy that they would give.

    Where only the shares of classes have changed, the features of a class are what they were, and so is its recall
    (Saerens 2002, here on the shares of parts instead of posteriors); what such a mixture leaves over is then noise.
    """
    shares = doubt.priors.copy()
    if not len(now) or len(shares) < 2:
        return 0.0, 0.0, float(shares @ doubt.recall)
    used = len(now) / (_PARTS + 1)
    for _ in range(200):
        mixed = np.maximum(shares @ doubt.by_class, 1e-9)
        shares = shares * (doubt.by_class @ (now / mixed)) / used
        shares /= shares.sum()

    def distance(expected: Floats) -> float:
        return float((now * np.log(np.maximum(now, 1e-9) / np.maximum(expected, 1e-9))).sum())

    noise = 2.0 * len(now) / rows
    before, after = distance(doubt.priors @ doubt.by_class), distance(shares @ doubt.by_class)
    plausible = float(np.clip((_LEFT[1] - after / noise) / (_LEFT[1] - _LEFT[0]), 0.0, 1.0))
    share = (before - after) / (before + noise / 4)
    return plausible * min(max(2 * share - 0.5, 0.0), 1.0), plausible, float(shares @ doubt.recall)


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
