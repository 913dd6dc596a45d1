"""Drift of a window against a reference: one exact p-value per feature, and the level that keeps the promised rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.features import MISSING, UNREADABLE, Feature
from keepfit.monitor.tails import log_count_tail, log_gamma_tail, log_mean_tail

Floats = NDArray[np.float64]
SIZES = (50, 200, 1000, 5000)
_DRAWS, _ROWS, _LEVELS = 1200, 800, (0.02, 0.04, 0.08)
_WHOLE = 0.2  # of the budget for the test of all features together, which mostly rings where one of them does


@dataclass(frozen=True)
class Change:
    """How far a feature is from its reference: log p-value of its clearest contrast, and that contrast in figures."""

    name: str
    column: str
    log_p: float
    what: str
    expected: float
    seen: float

    def as_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "feature": self.name,
            "column": self.column,
            "p": math.exp(max(self.log_p, -700.0)),
            "log10_p": round(self.log_p / math.log(10), 2),
            "what": self.what,
            "expected": round(self.expected, 6),
            "seen": round(self.seen, 6),
        }


@dataclass(frozen=True)
class Levels:
    """What simulated quiet windows teach, per window size of SIZES: how many independent contrasts the features are worth,
    and mean and variance of the sum of their surprises."""

    tests: tuple[float, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]

    def at(self, size: float) -> tuple[float, float, float]:
        """Tests, mean and variance for windows of `size` rows."""
        place = math.log(min(max(size, SIZES[0]), SIZES[-1]))
        return tuple(  # type: ignore[return-value]
            float(np.interp(place, np.log(SIZES), values)) for values in (self.tests, self.mean, self.variance)
        )

    def as_json(self) -> dict[str, list[float]]:
        """For profile.json."""
        return {"tests": list(self.tests), "mean": list(self.mean), "variance": list(self.variance)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Levels:
        """Inverse of `as_json`."""
        return cls(tuple(raw["tests"]), tuple(raw["mean"]), tuple(raw["variance"]))


@dataclass(frozen=True)
class _Clearest:
    """The clearest contrasts of one feature in b windows, before their p-values: the arguments of `log_count_tail` [b], the place
    of that share, and those of `log_mean_tail` with the place of that mean, `means` None where there are no scores."""

    count: tuple[Floats, Floats, Floats, Floats]
    share_at: NDArray[np.int64]
    means: tuple[Floats, Floats, Floats, Floats] | None
    mean_at: NDArray[np.int64]
    is_known: NDArray[np.bool_]


def surprises(feature: Feature, tallies: Floats, reference: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """log p [b] of the clearest contrast and its place, for tallies [b, k + 2] against reference counts [b or 1, k + 2].

    Places: shares first, then missing, unreadable, then means of scores. Only the clearest share and the clearest mean of
    each window get an exact p-value; which they are, the likelihood ratio says.
    """
    return _exact([_clearest(feature, tallies, reference)])[0]


def _clearest(feature: Feature, tallies: Floats, reference: Floats) -> _Clearest:
    k, n, a, b = _shares(feature, tallies, reference)
    best = _deviance(k, n, a, b).argmax(1)
    rows = np.arange(len(k))
    count = (k[rows, best], n[rows, best], a[rows, best], b[rows, best])
    _, scores = feature.scores
    known = tallies[:, :-2].sum(1)
    if not len(scores) or not known.any():
        return _Clearest(count, best, None, best, np.zeros(len(k), bool))
    weight = np.maximum(reference[:, :-2] + feature.prior, 0.25)
    total = weight.sum(1)
    shares = np.broadcast_to(weight / total[:, None], tallies[:, :-2].shape)
    means = tallies[:, :-2] @ scores.T / np.maximum(known, 1)[:, None]
    expected = shares @ scores.T
    sd = np.sqrt(np.maximum(shares @ scores.T**2 - expected**2, 1e-12))
    clear = (np.abs(means - expected) / sd).argmax(1)
    size = np.maximum(known * total / (known + total), 1e-9)
    is_known = (known > 0) & (sd[rows, clear] > 1e-5)
    return _Clearest(count, best, (means[rows, clear], size, shares, scores[clear]), k.shape[1] + clear, is_known)


def _exact(parts: Sequence[_Clearest]) -> list[tuple[Floats, NDArray[np.int64]]]:
    """log p [b] and place [b] of each part; all tails at once, since a call costs as much as hundreds of numbers."""
    ends = np.cumsum([len(part.share_at) for part in parts])[:-1]
    k, n, a, b = (np.concatenate([part.count[place] for part in parts]) for place in range(4))
    counted = np.split(log_count_tail(k, n, a, b), ends)
    scored = [part.means for part in parts if part.means is not None]
    log_means: list[Floats] = []
    if scored:
        wide = max(shares.shape[1] for _, _, shares, _ in scored)
        padded = [np.pad(one[place], ((0, 0), (0, wide - one[place].shape[1]))) for place in (2, 3) for one in scored]
        shares, scores = np.concatenate(padded[: len(scored)]), np.concatenate(padded[len(scored) :])
        means, sizes = (np.concatenate([one[place] for one in scored]) for place in (0, 1))
        log_means = np.split(
            log_mean_tail(means, sizes, shares, scores), np.cumsum([len(one[0]) for one in scored])[:-1]
        )
    found, rest = [], iter(log_means)
    for part, log_p in zip(parts, counted, strict=True):
        if part.means is None:
            found.append((log_p, part.share_at))
            continue
        log_mean = np.where(part.is_known, next(rest), 0.0)
        better = log_mean < log_p
        found.append((np.where(better, log_mean, log_p), np.where(better, part.mean_at, part.share_at)))
    return found


def _shares(feature: Feature, tallies: Floats, reference: Floats) -> tuple[Floats, ...]:
    """k, n, a, b [b, m]: the shares of values among known ones, of missing among all, of unreadable among all."""
    masks = feature.masks[1]
    weight = np.maximum(reference[:, :-2] + feature.prior, 0.25)
    known, rows, times = tallies[:, :-2].sum(1), tallies.sum(1), reference.sum(1)
    inside = weight @ masks.T
    k = np.column_stack([tallies[:, :-2] @ masks.T, tallies[:, -2], tallies[:, -1]])
    n = np.column_stack([np.repeat(known[:, None], len(masks), 1), rows, rows])
    half = np.maximum(reference[:, -2:], 0) + 0.5
    a = np.column_stack([inside, half])
    b = np.column_stack([weight.sum(1)[:, None] - inside, np.maximum(times[:, None] + 1 - half, 0.5)])
    shape = k.shape
    return k, n, np.broadcast_to(a, shape), np.broadcast_to(np.maximum(b, 0.25), shape)


def _deviance(k: Floats, n: Floats, a: Floats, b: Floats) -> Floats:
    p, seen = a / (a + b), k / np.maximum(n, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(seen > 0, seen * np.log(seen / p), 0.0)
        two = np.where(seen < 1, (1 - seen) * np.log((1 - seen) / (1 - p)), 0.0)
    return np.where(n > 0, (one + two) * n * (a + b) / (n + a + b), -1.0)


def changes(features: Sequence[Feature], tallies: Sequence[Floats]) -> list[Change]:
    """One per feature, in order."""
    parts = [_clearest(one, tally[None], one.counts[None]) for one, tally in zip(features, tallies, strict=True)]
    found = zip(features, tallies, _exact(parts) if parts else [], strict=True)
    return [
        Change(one.name, one.column, float(log_p[0]), *_said(one, tally, int(place[0])))
        for one, tally, (log_p, place) in found
    ]


def _said(feature: Feature, tally: Floats, place: int) -> tuple[str, float, float]:
    names = feature.masks[0]
    known = max(float(tally[:-2].sum()), 1.0)
    if place < len(names):
        mask = feature.masks[1][place]
        before = float(feature.counts[:-2] @ mask / max(feature.counts[:-2].sum(), 1))
        return names[place], before, float(tally[:-2] @ mask / known)
    if place < len(names) + 2:
        which = place - len(names)
        at = -2 + which
        before, now = feature.counts[at] / max(feature.counts.sum(), 1), tally[at] / max(tally.sum(), 1)
        return (MISSING, UNREADABLE)[which], float(before), float(now)
    score = feature.scores[1][place - len(names) - 2]
    before = float(feature.counts[:-2] @ score / max(feature.counts[:-2].sum(), 1))
    return feature.scores[0][place - len(names) - 2], before, float(tally[:-2] @ score / known)


@dataclass(frozen=True)
class Verdict:
    """The features of a window, clearest change first; `named` are those that ring, `whole` is the log p of all together."""

    changes: tuple[Change, ...]
    named: tuple[str, ...]
    whole: float
    log_level: float

    @property
    def rings(self) -> bool:
        """Whether a feature or the whole rings."""
        return bool(self.named)


def judge(features: Sequence[Feature], levels: Levels, tallies: Sequence[Floats], rate: float) -> Verdict:
    """Whether a window rings at a false-alarm rate per window; pure.

    A feature rings where p times the number of independent contrasts is under the rate; the whole where the sum
    of surprises is too large for the gamma law fitted to quiet windows (Brown 1975). A whole that rings alone names the
    clearest feature.
    """
    found = sorted(changes(features, tallies), key=lambda change: change.log_p)
    if not found:
        return Verdict((), (), 0.0, 0.0)
    size = float(np.median([tally.sum() for tally in tallies]))
    tests, mean, variance = levels.at(size)
    level = math.log(rate / max(tests, 1.0))
    whole = log_gamma_tail(-sum(change.log_p for change in found), mean**2 / variance, variance / mean)
    named = [change.name for change in found if change.log_p <= level]
    if not named and whole <= math.log(rate * _WHOLE):
        named = [found[0].name]
    return Verdict(tuple(found), tuple(named), whole, level)


def learn_levels(features: Sequence[Feature], codes: Sequence[NDArray[np.int64]], seed: int = 0) -> Levels:
    """Levels from rows of the reference, `codes` [n] per feature: quiet windows and references are drawn from them together,
    so that features which tell the same count once, and the reference's finite size counts."""
    rng = np.random.default_rng(seed)
    rows = len(codes[0]) if codes else 0
    if not rows:
        return Levels((1.0,) * len(SIZES), (1.0,) * len(SIZES), (1.0,) * len(SIZES))
    kept = rng.choice(rows, _ROWS, replace=False) if rows > _ROWS else np.arange(rows)
    one = [np.eye(f.bins + 2, dtype=np.float32)[c[kept]] for f, c in zip(features, codes, strict=True)]
    noise = rng.standard_normal((_DRAWS, len(kept)), np.float32) / math.sqrt(len(kept))
    found: list[tuple[float, float, float]] = []
    for size in SIZES:
        drawn = rng.multinomial(size, np.full(len(kept), 1 / len(kept)), _DRAWS).astype(np.float32)
        lowest, total = np.zeros(_DRAWS), np.zeros(_DRAWS)
        for feature, block in zip(features, one, strict=True):
            # drawn windows have the very shares of the reference's rows, so luck in naming has no part in them
            log_p = _quiet(replace(feature, lucky=0), block, drawn, noise)
            lowest, total = np.minimum(lowest, log_p), total - log_p
        # a level of the lowest p, divided by that p, is what one independent test would have to be multiplied by
        tests = np.median([level / math.exp(np.quantile(lowest, level)) for level in _LEVELS])
        found.append((float(f"{tests:.3g}"), float(f"{total.mean():.4g}"), float(f"{max(total.var(), 1e-6):.4g}")))
    tests_at, mean, variance = zip(*found, strict=True)
    return Levels(tests_at, mean, variance)


def _quiet(
    feature: Feature, block: NDArray[np.float32], drawn: NDArray[np.float32], noise: NDArray[np.float32]
) -> Floats:
    share = block.mean(0, dtype=np.float64)
    times = float(feature.counts.sum())
    tallies = (drawn @ block).astype(np.float64)
    reference = times * share + math.sqrt(times) * (noise @ (block - block.mean(0))).astype(np.float64)
    return surprises(feature, np.round(tallies), np.maximum(reference, 0.0))[0]
