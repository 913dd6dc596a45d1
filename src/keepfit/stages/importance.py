"""What the model looks at: how much a metric drops when one raw input column is shuffled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keepfit.runtime.table import Table
from keepfit.tasks.metrics import higher_is_better, score
from keepfit.tasks.task import Codes, Scores, Task


def permutation_importance(
    predict: Callable[[Table], Scores],
    table: Table,
    task: Task,
    truth: Codes,
    metric: str,
    *,
    seed: int,
    rows: int,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Per raw column its mean drop of the metric (positive: the model needs it), the spread over `repeats`; sorted.

    At most `rows` seeded rows of `table` are used; `truth` is parallel to it. Breiman 2001 on raw input columns, so
    preparation is included. Empty when the metric is undefined. Columns that carry the same knowledge hide each other.
    """
    chosen = np.arange(len(truth))
    if len(chosen) > rows:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, rows, replace=False))
    part, target = table.take(chosen), np.asarray(truth)[chosen]
    whole = score(task, target, predict(part), [metric])[metric]
    if whole is None:
        return []
    sign = 1.0 if higher_is_better(metric) else -1.0
    found = []
    for number, name in enumerate(part.names):
        drops = []
        for repeat in range(repeats):
            order = np.random.default_rng([seed, number, repeat]).permutation(len(target))
            shuffled = Table({**part.columns, name: part.columns[name][order]}, part.ids)
            value = score(task, target, predict(shuffled), [metric])[metric]
            drops.append(0.0 if value is None else sign * (whole - value))
        found.append({"name": name, "metric": metric, "drop": float(np.mean(drops)), "spread": float(np.std(drops))})
    return sorted(found, key=lambda row: (-row["drop"], row["name"]))
