"""Curves and tables of scores: confusion, per-class rates, ROC, precision-recall and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.task import Codes, Scores, Task, decide

POINTS = 200


def confusion(task: Task, truth: Codes, scores: Scores) -> NDArray[np.int64]:
    """Counts int64 [k, k]: rows are the truth, columns the answers."""
    width = len(task.classes)
    return np.bincount(np.asarray(truth) * width + decide(scores), minlength=width * width).reshape(width, width)


def per_class(task: Task, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class; None where there is nothing to divide by."""
    rows = []
    for code, item in enumerate(task.classes):
        hits, support, answered = int(counts[code, code]), int(counts[code].sum()), int(counts[:, code].sum())
        rows.append(
            {
                "class": item,
                "support": support,
                "answered": answered,
                "precision": hits / answered if answered else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (support + answered) if support + answered else None,
            }
        )
    return rows


def roc_and_pr(positive: NDArray[np.bool_], values: Scores) -> dict[str, Any] | None:
    """ROC and precision-recall points (at most 200 each) and the average precision; None with one class only."""
    total = int(positive.sum())
    if not 0 < total < len(positive):
        return None
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    answered = (last + 1).astype(np.float64)
    recall, precision = hits / total, hits / answered
    false = (answered - hits) / (len(positive) - total)
    shown = _thin(recall + false)
    by_recall = _thin(recall)
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    return {
        "roc": {
            "false_positive_rate": [0.0, *false[shown].tolist()],
            "true_positive_rate": [0.0, *recall[shown].tolist()],
        },
        "pr": {"recall": recall[by_recall].tolist(), "precision": precision[by_recall].tolist()},
        "average_precision": average,
    }


def calibration(task: Task, truth: Codes, scores: Scores, bins: int = 10) -> dict[str, Any]:
    """Predicted against observed rate in equal-width bins, ECE and Brier score.

    Two classes: the probability of the positive one. More: the confidence of the answer against being right (Guo et
    al. 2017); the Brier score is then the sum over classes.
    """
    truth = np.asarray(truth)
    if task.binary:
        predicted, observed = scores[:, 1].astype(np.float64), (truth == 1).astype(np.float64)
        brier = float(np.mean((predicted - observed) ** 2))
    else:
        predicted, observed = scores.max(axis=1).astype(np.float64), (decide(scores) == truth).astype(np.float64)
        brier = float(np.mean(np.sum((scores - np.eye(scores.shape[1])[truth]) ** 2, axis=1)))
    place = np.clip((predicted * bins).astype(np.int64), 0, bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            rows.append(
                {
                    "low": number / bins,
                    "high": (number + 1) / bins,
                    "count": int(inside.sum()),
                    "predicted": float(predicted[inside].mean()),
                    "observed": float(observed[inside].mean()),
                }
            )
    ece = sum(row["count"] * abs(row["predicted"] - row["observed"]) for row in rows) / len(truth)
    return {"bins": rows, "ece": float(ece), "brier": brier, "of": "positive class" if task.binary else "answer"}


def histogram(values: NDArray[np.float64], bins: int = 40) -> dict[str, list[float]]:
    """Counts and edges between the 0.5 % and 99.5 % quantiles; what lies outside is counted in the outer bins."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"edges": [0.0, 1.0], "counts": [0]}
    low, high = np.quantile(finite, [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(finite, low, high), bins, (low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def quantiles(values: NDArray[np.float64], at: Sequence[float]) -> dict[str, float]:
    """Quantiles keyed by their text, such as `0.5`."""
    return {str(level): float(number) for level, number in zip(at, np.quantile(values, at), strict=True)}


def _thin(along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of at most `POINTS` - 1 points evenly spread along a rising coordinate, both ends kept."""
    if len(along) < POINTS:
        return np.arange(len(along))
    wanted = np.searchsorted(along, np.linspace(along[0], along[-1], POINTS - 1))
    return np.unique(np.r_[0, np.minimum(wanted, len(along) - 1)[1:-1], len(along) - 1])
