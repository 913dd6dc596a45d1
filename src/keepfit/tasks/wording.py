"""How metrics and numbers are said to people: titles, one-sentence meanings, sensible digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "F1 (macro)",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
    "mcc": "Matthews correlation",
    "rmse": "RMSE",
    "mae": "Mean absolute error",
    "r2": "R² (explained share)",
}
MEANINGS = {
    "accuracy": "share of right answers",
    "balanced_accuracy": "share of right answers, every class counting the same",
    "f1_macro": "balance of precision and recall, averaged over the classes",
    "roc_auc": "chance that a positive row is ranked above a negative one; 50 % is guessing",
    "log_loss": "how far the probabilities are from the truth; lower is better, 0 is perfect",
    "mcc": "agreement beyond chance, from -1 to 1; 0 is guessing",
    "rmse": "typical error, large errors weigh more; lower is better",
    "mae": "average size of the error; lower is better",
    "r2": "share of the target's variation that is explained; 0 is guessing the mean",
}
_SHARES = frozenset({"accuracy", "balanced_accuracy", "f1_macro", "roc_auc"})


def title(metric: str) -> str:
    """The metric's name for people."""
    return TITLES.get(metric, metric)


def percent(share: float | None, digits: int = 1) -> str:
    """`87.4 %`; a dash for None."""
    return "–" if share is None or not math.isfinite(share) else f"{_fixed(100 * share, digits)} %"


def points(share: float | None) -> str:
    """A difference of shares: `1.6 percentage points`."""
    return percent(share).replace(" %", " percentage points")


def _fixed(value: float, digits: int) -> str:
    """Fixed digits without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with about `digits` significant digits and thousands separators; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.{digits - 1}g}"
    places = 0 if size >= 10 ** (digits - 1) or value == 0 else digits - 1 - math.floor(math.log10(size))
    text = f"{value:,.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def metric_text(metric: str, value: float | None) -> str:
    """A metric's value: shares in percent, the others with sensible digits."""
    if metric in _SHARES:
        return percent(value)
    return "–" if value is None else (_fixed(value, 3) if metric in ("log_loss", "mcc", "r2") else number(value))


def interval_text(metric: str, interval: Sequence[float] | None) -> str:
    """`86.5 % to 88.2 %`; a dash for None."""
    return "–" if interval is None else f"{metric_text(metric, interval[0])} to {metric_text(metric, interval[1])}"


def count(rows: int) -> str:
    """`6,000`."""
    return f"{rows:,}"


def size(size_bytes: float) -> str:
    """`1.4 MB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{int(size_bytes)} bytes"


def duration(seconds: float) -> str:
    """`0.42 s`, `12 s` or `3 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def headline(evaluation: dict[str, Any]) -> list[str]:
    """What a manager should know first, in two or three sentences, from `stages.evaluation`."""
    rows = f"{count(evaluation['n'])} rows it never saw"
    if evaluation["kind"] == "regression":
        ours, plain = evaluation["absolute_error"], evaluation["baseline_absolute_error"]
        verdict = "" if ours["0.5"] < plain["0.5"] else " The model is not shown to be better than that."
        return [
            f"Half of its answers are off by less than {number(ours['0.5'])}, nine in ten by less than "
            f"{number(ours['0.9'])}, on {rows}.",
            f"Always answering the mean would be off by less than {number(plain['0.5'])} for half of them and "
            f"{number(plain['0.9'])} for nine in ten.{verdict}",
        ]
    right = evaluation["accuracy"]
    low, high = right["interval"]
    verdict = "" if low > (right["baseline"] or 0) else " The model is not shown to be better than that."
    return [
        f"Right for {percent(right['model'])} of {rows} (95 % interval {percent(low)} to {percent(high)}).",
        f"Always guessing the most frequent class would be right for {percent(right['baseline'])}.{verdict}",
    ]
