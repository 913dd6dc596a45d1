"""Watches the champion's errors as labels come, and dates the change when they rise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keepfit.loop.changes import change_point
from keepfit.loop.rows import Labelled
from keepfit.monitor.streams import HIGHEST, Watch, step, watch_of
from keepfit.runtime.bundle import Bundle

_REMEMBERED = 5000
_UNKNOWN_ROWS = 100  # how far figures are trusted of a bundle that does not say how many rows they are of
_ENOUGH = 20


@dataclass
class Errors:
    """The errors of one version. For numbers an error is a gap beyond `limit`, which one held-out row in ten passed.

    Only what lies above the rate that was shown by more than `rise` rings: few labels show a rate roughly, those of a proof
    that ended early rather too well, and a smaller rise is not worth a run. `before` is the rate that is expected.
    """

    watch: Watch
    mean_labels: float
    limit: float | None = None
    rise: float = 0.0
    rows: list[tuple[float, bool]] = field(default_factory=list)
    before: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.expect(self.watch)

    def expect(self, watch: Watch) -> None:
        """From here on the rate of `watch` is what is expected."""
        self.before = watch.rate
        self.watch = replace(watch, rate=max(watch.rate, min(watch.rate + self.rise, HIGHEST)))

    def take(self, rows: Sequence[Labelled]) -> dict[str, Any] | None:
        """Takes labels in; where errors have risen, when that began and what was seen, as JSON."""
        return self.see([(row.at, self.wrong(row)) for row in rows])

    def see(self, answered: Sequence[tuple[float, bool]]) -> dict[str, Any] | None:
        """`take` for rows whose answers are known to be wrong or not: when they were given, and whether they were."""
        self.rows = [*self.rows, *answered][-_REMEMBERED:]
        self.watch, rang = step(self.watch, [wrong for _, wrong in answered], self.mean_labels)
        if not rang:
            return None
        errors = [one for _, one in self.rows]
        place = change_point(errors, self.watch.rate)
        return {
            "changed_at": self.rows[place][0],
            "error_before": round(self.before, 4),
            "error_after": round(float(np.mean(errors[place:])), 4),
            "labels": len(errors) - place,
        }

    def harm(self, rows: Sequence[Labelled]) -> dict[str, Any] | None:
        """The error rate on rows of a shifted world beside the one before; None where too few are labelled to say."""
        if len(rows) < _ENOUGH:
            return None
        share = float(np.mean([self.wrong(row) for row in rows]))
        return {"error_before": round(self.before, 4), "error_after": round(share, 4), "labels": len(rows)}

    def wrong(self, row: Labelled) -> bool:
        """Whether the answer counts as an error."""
        if self.limit is None:
            return not row.right
        return row.prediction is None or abs(float(row.prediction) - float(row.label)) > self.limit


def errors_of(bundle: Bundle, mean_labels: float, shown: tuple[float, int] = (0.0, 0), rise: float = 0.0) -> Errors:
    """A watch for a bundle: from its errors on labels that it has been `shown` to make (errors, labels); else from the
    worse of the figures of its test and validation rows, trusted as far as there were held-out rows in its reference."""
    rows, wrong, large = _held_out(bundle)
    metrics = bundle.manifest.get("metrics", {})
    found = metrics.get("test") or metrics.get("validation") or {}
    worst = [
        part["accuracy"]
        for name in ("test", "validation")
        if (part := metrics.get(name) or {}).get("accuracy") is not None
    ]
    if bundle.task == "classification":
        errors = (1 - float(min(worst, default=0.5))) * rows  # the smaller of two small samples' figures
        seen, labels = shown if shown[1] >= _ENOUGH else (errors, rows)
        return Errors(watch_of(seen, labels), mean_labels, rise=rise)
    if large > 0:
        return Errors(watch_of(wrong, rows), mean_labels, large, rise)
    rmse = found.get("rmse")
    limit = 1.645 * float(rmse) if rmse is not None else float("inf")
    return Errors(watch_of(0.1 * _UNKNOWN_ROWS, _UNKNOWN_ROWS), mean_labels, limit, rise)


def _held_out(bundle: Bundle) -> tuple[int, float, float]:
    """Held-out rows of the bundle's reference, how many of their answers were wrong, and beyond which gap a number is wrong."""
    said = json.loads(bundle.files["profile.json"]).get("monitor") or {}
    rows = int(said.get("labels", 0))
    if rows < _ENOUGH:
        return _UNKNOWN_ROWS, 0.1 * _UNKNOWN_ROWS, 0.0
    return rows, float(said.get("errors", 0)), float(said.get("large", 0.0))
