"""Watches errors one by one once labels come: a bank of Shiryaev-Roberts statistics that rings at a promised rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What the error's odds are multiplied by where the world has changed, and how much of the alarm each may use: an error of
# .10 that becomes .15, .20 or .30. The slower the change shows, the more of it.
_ODDS, _WEIGHTS = (1.59, 2.25, 3.86), (0.6, 0.25, 0.15)
_OVERSHOOT = 0.74  # threshold over mean labels between false alarms; simulated at error rates of .02 to .30
HIGHEST = 0.95  # no margin raises the rate that is watched beyond it: there must be room for errors to rise
_CAUTION = 0.85  # standard errors that the reference's error is raised by, since it is an estimate


@dataclass(frozen=True)
class Watch:
    """The state between labels: the reference's error rate, the statistics, labels and errors since the last alarm."""

    rate: float
    statistics: tuple[float, ...] = (0.0,) * len(_ODDS)
    labels: int = 0
    errors: int = 0

    def as_json(self) -> dict[str, Any]:
        """For a store."""
        return {"rate": self.rate, "statistics": list(self.statistics), "labels": self.labels, "errors": self.errors}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Watch:
        """Inverse of `as_json`."""
        return cls(float(raw["rate"]), tuple(raw["statistics"]), int(raw["labels"]), int(raw["errors"]))


def watch_of(errors: float, labels: float) -> Watch:
    """A watch for a model that made `errors` on `labels` held-out rows."""
    rate = (errors + 0.5) / (labels + 1)
    return Watch(max(rate, min(rate + _CAUTION * math.sqrt(rate * (1 - rate) / (labels + 1)), HIGHEST)))


def step(watch: Watch, errors: Iterable[bool], mean_labels: float) -> tuple[Watch, list[int]]:
    """The state after these labels, and the places of those at which it rang; it starts anew after an alarm.

    `mean_labels` is the mean number of labels between false alarms. The sum of weighted Shiryaev-Roberts statistics less the
    number of labels is a martingale while the error stays what it was, so a threshold gives the rate (Pollak 1985).
    """
    odds = watch.rate / (1 - watch.rate)
    worse = [factor * odds / (1 + factor * odds) for factor in _ODDS]
    ratios = tuple(tuple((p / watch.rate if wrong else (1 - p) / (1 - watch.rate)) for p in worse) for wrong in (0, 1))
    threshold = _OVERSHOOT * mean_labels
    one, two, three = watch.statistics
    first, second, third = _WEIGHTS
    labels, wrongs, rang = watch.labels, watch.errors, []
    for place, wrong in enumerate(errors):
        a, b, c = ratios[bool(wrong)]
        one, two, three = (1 + one) * a, (1 + two) * b, (1 + three) * c
        labels, wrongs = labels + 1, wrongs + bool(wrong)
        if first * one + second * two + third * three >= threshold:
            rang.append(place)
            one = two = three = 0.0
            labels = wrongs = 0
    return Watch(watch.rate, (one, two, three), labels, wrongs), rang
