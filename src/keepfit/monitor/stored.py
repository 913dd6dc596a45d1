"""Rows that a service recorded, as a window: inputs, answers, labels and times."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keepfit.monitor.profile import Profile
from keepfit.monitor.records import Records
from keepfit.runtime.table import Table, text_column, to_text
from keepfit.store.records import Row


def window_of(profile: Profile, rows: Sequence[Row], start: int = 0) -> Records:
    """The window of rows of one model, with those labels that have come; `start` is the place of the first in the stream.

    Rows of which no inputs are kept give no columns: compare them with `answers_only(profile)`.
    """
    kept = all(row.inputs is not None for row in rows)
    columns: dict[str, Any] = {}
    for rule in profile.rules if kept else ():
        column = np.empty(len(rows), object)
        column[:] = [_cell((row.inputs or {}).get(rule.name), rule.kind) for row in rows]
        columns[rule.name] = column
    table = Table(columns, np.arange(start, start + len(rows)).astype(str).astype(object))
    labels = text_column([row.label for row in rows])
    times = text_column([np.datetime64(int(row.at), "s") for row in rows])
    return Records(table, _scores(profile, rows), labels, times, None, start)


def answers_only(profile: Profile) -> Profile:
    """The reference of what the model says, where only that is recorded."""
    given = {key: value for key, value in profile.__dict__.items() if key != "by_name"}
    return replace(Profile(**given), rules=(), inputs=(), doubt=None)


def _cell(value: Any, kind: str) -> Any:
    if kind == "image" and isinstance(value, str):
        return base64.b64decode(value)
    return to_text(value)


def _scores(profile: Profile, rows: Sequence[Row]) -> Any:
    """[n, k] probabilities, or [n, 1] values; None where the rows are of a model with other classes."""
    if not profile.classes:
        values = [row.prediction for row in rows]
        numbers = all(isinstance(value, int | float) for value in values)
        return np.array(values, np.float64)[:, None] if numbers else None
    shares = [row.probabilities for row in rows]
    if any(share is None or len(share) != len(profile.classes) for share in shares):
        return None
    return np.array(shares, np.float64)
