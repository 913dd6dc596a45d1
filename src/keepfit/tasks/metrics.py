"""Metrics and their bootstrap intervals; each metric is a function of row weights, so that resampling is cheap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.task import Codes, Scores, Task, decide

Weights = NDArray[np.float64]
Statistic = Callable[[Weights], float | None]

CLASSIFICATION = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc")
REGRESSION = ("rmse", "mae", "r2")
METRICS: dict[str, tuple[str, ...]] = {"classification": CLASSIFICATION, "regression": REGRESSION}
_LOWER_IS_BETTER = frozenset({"log_loss", "rmse", "mae"})
_RESAMPLED_AT_MOST = 200_000


def default_primary(task: Task) -> str:
    """The metric that leads the report when the recipe names none."""
    return "accuracy" if task.kind == "classification" else "rmse"


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is a better model."""
    return metric not in _LOWER_IS_BETTER


def score(task: Task, truth: Codes, scores: Scores, metrics: Sequence[str]) -> dict[str, float | None]:
    """Metrics of scores; None where a metric is undefined (no rows, one class in `truth` for `roc_auc`).

    `truth` is int codes [n] or float64 [n]; `scores` is probabilities [n, k] or values [n]. Equal to scikit-learn
    where that is defined; `roc_auc` of many classes is one-vs-rest, the plain mean over the classes that occur.
    Raises ValueError for a metric that the task does not have.
    """
    ones = np.ones(len(truth))
    return {metric: _finite(_statistic(task, truth, scores, metric), ones) for metric in metrics}


def bootstrap(
    task: Task, truth: Codes, scores: Scores, metrics: Sequence[str], *, seed: int, rounds: int = 200
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals by metric, Wilson's for accuracy; a metric that is undefined is absent.

    Wilson's has a width even where every answer is right.

    Rows are resampled with replacement. Above 200,000 rows x classes a seeded subsample of m rows is resampled and
    the interval shrunk by sqrt(m / n) around the value of all rows (m out of n bootstrap).
    """
    rng, total = np.random.default_rng(seed), len(truth)
    width = scores.shape[1] if scores.ndim == 2 else 1
    rows = min(total, max(2_000, _RESAMPLED_AT_MOST // max(width, 1)))
    whole = score(task, truth, scores, metrics)
    if rows < total:
        chosen = np.sort(rng.choice(total, rows, replace=False))
        truth, scores = truth[chosen], scores[chosen]
    statistics = {name: _statistic(task, truth, scores, name) for name in metrics if whole[name] is not None}
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    for _ in range(rounds):
        weights = np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
        for name, statistic in statistics.items():
            value = _finite(statistic, weights)
            if value is not None:
                drawn[name].append(value)
    intervals = {}
    for name, values in drawn.items():
        centre = _finite(statistics[name], np.ones(rows))
        middle = whole[name]
        if values and centre is not None and middle is not None:
            shrink = math.sqrt(rows / total)
            low, high = (middle + (float(end) - centre) * shrink for end in np.quantile(values, [0.025, 0.975]))
            intervals[name] = wilson(middle, total) if name == "accuracy" else (low, high)
    return intervals


def wilson(share: float, rows: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share of `rows`."""
    scale = 1 + z * z / rows
    middle = (share + z * z / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return middle - half, middle + half


def _finite(statistic: Statistic, weights: Weights) -> float | None:
    if not weights.sum():
        return None
    value = statistic(weights)
    return float(value) if value is not None and math.isfinite(value) else None


def _statistic(task: Task, truth: Codes, scores: Scores, metric: str) -> Statistic:
    if metric not in METRICS[task.kind]:
        raise ValueError(f"{metric!r} is no metric of {task.kind}; known: {', '.join(METRICS[task.kind])}")
    if task.kind == "regression":
        return _regression(np.asarray(truth, np.float64), np.asarray(scores, np.float64), metric)
    if metric == "roc_auc":
        return _roc_auc(np.asarray(truth), scores)
    if metric == "log_loss":
        return _log_loss(np.asarray(truth), scores)
    return _of_confusion(
        np.asarray(truth),
        scores,
        {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy, "f1_macro": _f1_macro, "mcc": _mcc}[metric],
    )


def _of_confusion(truth: Codes, scores: Scores, metric: Callable[[NDArray[Any]], float]) -> Statistic:
    width = scores.shape[1]
    cells = truth * width + decide(scores)
    return lambda weights: metric(np.bincount(cells, weights, width * width).reshape(width, width))


def _accuracy(confusion: NDArray[Any]) -> float:
    return float(np.trace(confusion) / confusion.sum())


def _balanced_accuracy(confusion: NDArray[Any]) -> float:
    support = confusion.sum(axis=1)
    present = support > 0
    return float(np.mean(np.diag(confusion)[present] / support[present]))


def _f1_macro(confusion: NDArray[Any]) -> float:
    both = confusion.sum(axis=1) + confusion.sum(axis=0)
    present = both > 0
    return float(np.mean(2 * np.diag(confusion)[present] / both[present]))


def _mcc(confusion: NDArray[Any]) -> float:
    """Matthews correlation for k classes (Gorodkin 2004); 0 where it is undefined, as in scikit-learn."""
    truth, answers, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    together = np.trace(confusion) * total - truth @ answers
    apart = (total**2 - answers @ answers) * (total**2 - truth @ truth)
    return float(together / math.sqrt(apart)) if apart > 0 else 0.0


def _log_loss(truth: Codes, scores: Scores) -> Statistic:
    kept = scores if np.issubdtype(scores.dtype, np.floating) else scores.astype(np.float64)
    tiny = np.finfo(kept.dtype).eps
    chosen = np.clip(kept, tiny, 1 - tiny)[np.arange(len(truth)), truth].astype(np.float64)
    losses = -np.log(chosen)
    return lambda weights: float(weights @ losses / weights.sum())


def _roc_auc(truth: Codes, scores: Scores) -> Statistic:
    columns = [1] if scores.shape[1] == 2 else range(scores.shape[1] if scores.shape[1] > 2 else 0)
    each = [_area(truth == column, scores[:, column]) for column in columns]

    def mean(weights: Weights) -> float | None:
        areas = [area for area in (statistic(weights) for statistic in each) if area is not None]
        return float(np.mean(areas)) if areas else None

    return mean


def _area(positive: NDArray[np.bool_], values: Scores) -> Statistic:
    """Area under the ROC curve from ranks: the chance that a positive scores above a negative, ties half."""
    order = np.argsort(values, kind="stable")
    ordered, is_positive = values[order], positive[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def area(weights: Weights) -> float | None:
        sorted_weights = weights[order]
        ups = np.add.reduceat(sorted_weights * is_positive, starts)
        downs = np.add.reduceat(sorted_weights * (1 - is_positive), starts)
        pairs = ups.sum() * downs.sum()
        return float(ups @ (np.cumsum(downs) - downs / 2) / pairs) if pairs else None

    return area


def _regression(truth: NDArray[np.float64], values: NDArray[np.float64], metric: str) -> Statistic:
    errors = values - truth
    squares, absolute = errors**2, np.abs(errors)
    if metric == "rmse":
        return lambda weights: math.sqrt(weights @ squares / weights.sum())
    if metric == "mae":
        return lambda weights: float(weights @ absolute / weights.sum())

    def r2(weights: Weights) -> float | None:
        if weights.sum() < 2:
            return None
        spread = weights @ (truth - weights @ truth / weights.sum()) ** 2
        left = weights @ squares
        if spread == 0:
            return 1.0 if left == 0 else 0.0
        return float(1 - left / spread)

    return r2
