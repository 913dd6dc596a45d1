"""Everything that is known about a model's answers on rows it never saw, as one JSON object; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks import curves
from keepfit.tasks.groups import compare_groups, reference_class
from keepfit.tasks.metrics import bootstrap, score
from keepfit.tasks.task import Codes, Scores, Task

_CURVES = 10
_SAMPLE = 1_000
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def evaluation(
    task: Task,
    truth: Codes,
    scores: Scores,
    *,
    baseline: Scores,
    slices: dict[str, NDArray[np.object_]],
    metrics: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Metrics with intervals beside the baseline's, errors in detail, calibration and groups.

    `truth` is int codes [n] or float64 [n]; `scores` and `baseline` are probabilities [n, k] or values [n]; `slices`
    are columns of text or None [n]. Raises ValueError when the lengths differ or there are no rows.
    """
    truth, scores, baseline = np.asarray(truth), np.asarray(scores), np.asarray(baseline)
    lengths = {len(truth), len(scores), len(baseline), *(len(column) for column in slices.values())}
    if len(lengths) > 1 or not len(truth):
        raise ValueError(f"truth, scores, baseline and slices need the same number of rows, seen {sorted(lengths)}")
    intervals = bootstrap(task, truth, scores, metrics, seed=seed)
    facts: dict[str, Any] = {
        "kind": task.kind,
        "target": task.target,
        "n": len(truth),
        "metrics": score(task, truth, scores, metrics),
        "intervals": {name: list(pair) for name, pair in intervals.items()},
        "baseline": score(task, truth, baseline, metrics),
    }
    detail = _classification if task.kind == "classification" else _regression
    facts.update(detail(task, truth, scores, baseline, seed))
    facts["slices"] = compare_groups(task, truth, scores, slices, metrics)
    return facts


def _classification(task: Task, truth: Codes, scores: Scores, baseline: Scores, seed: int) -> dict[str, Any]:
    counts = curves.confusion(task, truth, scores)
    shown = [1] if task.binary else sorted(np.argsort(-counts.sum(axis=1), kind="stable")[:_CURVES].tolist())
    found = {code: curves.roc_and_pr(truth == code, scores[:, code]) for code in shown}
    drawn = [
        {"class": task.classes[code], "base_rate": float(np.mean(truth == code)), **curve}
        for code, curve in found.items()
        if curve is not None
    ]
    reference = reference_class(task, truth)
    return {
        "classes": list(task.classes),
        "reference_class": task.classes[reference],
        "accuracy": {
            "model": _accuracy(task, truth, scores),
            "baseline": _accuracy(task, truth, baseline),
            "interval": list(bootstrap(task, truth, scores, ["accuracy"], seed=seed)["accuracy"]),
        },
        "confusion": counts.tolist(),
        "per_class": curves.per_class(task, counts),
        "calibration": curves.calibration(task, truth, scores),
        "curves": drawn,
    }


def _accuracy(task: Task, truth: Codes, scores: Scores) -> float | None:
    return score(task, truth, scores, ["accuracy"])["accuracy"]


def _regression(task: Task, truth: Codes, scores: Scores, baseline: Scores, seed: int) -> dict[str, Any]:
    errors = scores.astype(np.float64) - truth
    rows = np.arange(len(truth))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    return {
        "residuals": curves.histogram(errors),
        "sample": {"truth": truth[rows].astype(float).tolist(), "predicted": scores[rows].astype(float).tolist()},
        "absolute_error": curves.quantiles(np.abs(errors), _LEVELS),
        "baseline_absolute_error": curves.quantiles(np.abs(baseline.astype(np.float64) - truth), _LEVELS),
        "bias": float(errors.mean()),
    }
