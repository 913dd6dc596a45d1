"""How groups of rows compare: rates, errors and calibration, and which gaps are larger than chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.metrics import score, wilson
from keepfit.tasks.task import Codes, Scores, Task, decide
from keepfit.tasks.wording import number, percent, points

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

GROUPS = 20
_PARTS = 4
_FEWEST_COUNTED = 10
_FEWEST_MEASURED = 30


@dataclass(frozen=True)
class Group:
    """Some rows of a column: one value, the missing ones, or all others."""

    value: str
    kind: str
    rows: Mask


@dataclass(frozen=True)
class Quantity:
    """One number per row to compare between groups, over the rows of `mask`; a share where `counted`."""

    name: str
    values: Floats
    mask: Mask
    counted: bool
    sentence: str


def compare_groups(
    task: Task, truth: Codes, scores: Scores, slices: dict[str, NDArray[np.object_]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Per column: its groups with their rates and metrics, and findings in words.

    A finding is a gap between a group and all other rows whose interval leaves out zero: Newcombe's hybrid score
    interval for shares, Welch's for means, at 95 % over all comparisons together (Bonferroni).
    """
    columns = {name: split_groups(values) for name, values in slices.items()}
    quantities = _quantities(task, np.asarray(truth), scores)
    pairs = [
        (group, quantity)
        for groups in columns.values()
        if len(groups) > 1
        for group in groups
        for quantity in quantities
    ]
    z = NormalDist().inv_cdf(1 - 0.025 / max(len(pairs), 1))
    return [
        {
            "column": name,
            "groups": [_describe(task, group, np.asarray(truth), scores, metrics) for group in groups],
            "findings": _findings(name, groups, quantities, z) if len(groups) > 1 else [],
        }
        for name, groups in columns.items()
    ]


def split_groups(values: NDArray[np.object_]) -> list[Group]:
    """The 20 most frequent values, all others as one group, the missing ones as another.

    A column of more than 20 distinct numbers is cut at its quartiles.
    """
    missing = np.array([value is None for value in values], bool)
    groups = _number_groups(values, missing) or _value_groups(values, missing)
    if missing.any():
        groups.append(Group("missing", "missing", missing))
    return groups


def _value_groups(values: NDArray[np.object_], missing: Mask) -> list[Group]:
    texts = np.array(["" if value is None else str(value) for value in values], dtype=object)
    distinct, codes, counts = np.unique(texts[~missing].astype(str), return_inverse=True, return_counts=True)
    place = np.full(len(values), -1)
    place[~missing] = codes
    order = np.lexsort((distinct, -counts))
    groups = [Group(str(distinct[code]), "value", place == code) for code in order[:GROUPS]]
    if len(order) > GROUPS:
        groups.append(Group(f"other ({len(order) - GROUPS} values)", "other", np.isin(place, order[GROUPS:])))
    return groups


def _number_groups(values: NDArray[np.object_], missing: Mask) -> list[Group]:
    try:
        numbers = np.array([math.nan if value is None else float(value) for value in values])
    except ValueError:
        return []
    present = numbers[~missing]
    if not np.isfinite(present).all() or len(np.unique(present)) <= GROUPS:
        return []
    edges = np.unique(np.quantile(present, np.linspace(0, 1, _PARTS + 1)[1:-1], method="lower"))
    place = np.digitize(numbers, edges, right=True)
    between = [f"above {low:g} up to {high:g}" for low, high in itertools.pairwise(edges)]
    words = [f"up to {edges[0]:g}", *between, f"above {edges[-1]:g}"]
    groups = [Group(word, "range", (place == part) & ~missing) for part, word in enumerate(words)]
    return [group for group in groups if group.rows.any()]


def reference_class(task: Task, truth: Codes) -> int:
    """The class whose rates are compared: the positive one of two, else the most frequent in `truth`."""
    return 1 if task.binary else int(np.bincount(truth, minlength=len(task.classes)).argmax())


def _describe(task: Task, group: Group, truth: Codes, scores: Scores, metrics: Sequence[str]) -> dict[str, Any]:
    ours, values = truth[group.rows], scores[group.rows]
    row: dict[str, Any] = {
        "value": group.value,
        "kind": group.kind,
        "n": int(group.rows.sum()),
        "metrics": score(task, ours, values, metrics),
        "false_positive_rate": None,
        "false_negative_rate": None,
    }
    if task.kind == "regression":
        row.update(
            base_rate=float(ours.mean()),
            predicted_rate=float(values.mean()),
            calibration_gap=float((values - ours).mean()),
        )
        return row
    reference, answers = reference_class(task, truth), decide(values)
    right = answers == ours
    row.update(
        base_rate=float(np.mean(ours == reference)),
        predicted_rate=float(np.mean(answers == reference)),
        calibration_gap=float(np.mean(values.max(axis=1) - right)),
    )
    if task.binary:
        row.update(
            calibration_gap=float(np.mean(values[:, 1] - (ours == 1))),
            false_positive_rate=_mean(answers[ours == 0] == 1),
            false_negative_rate=_mean(answers[ours == 1] == 0),
        )
    return row


def _mean(claims: Mask) -> float | None:
    return float(claims.mean()) if len(claims) else None


def _quantities(task: Task, truth: Codes, scores: Scores) -> list[Quantity]:
    everywhere = np.ones(len(truth), bool)
    if task.kind == "regression":
        return _of_numbers(truth, np.asarray(scores, np.float64) - truth, everywhere)
    reference, answers = reference_class(task, truth), decide(scores)
    negative, positive = (_literal(task.names[code]) for code in (0, -1))
    name = _literal(f"{task.target} is {task.names[reference]}")
    found = [
        Quantity(
            "base rate",
            _as_floats(truth == reference),
            everywhere,
            True,
            f"In the data, {name} for {{ours}} of {{group}} and {{others}} of all others",
        ),
        Quantity(
            "predicted rate",
            _as_floats(answers == reference),
            everywhere,
            True,
            f"The model says {name} for {{ours}} of {{group}} and {{others}} of all others",
        ),
        Quantity(
            "error rate",
            _as_floats(answers != truth),
            everywhere,
            True,
            "The model is wrong for {ours} of {group} and {others} of all others",
        ),
    ]
    if task.binary:
        found += _of_two_classes(truth, scores, answers, (negative, positive, name))
    return found


def _of_numbers(truth: Codes, errors: Scores, everywhere: NDArray[np.bool_]) -> list[Quantity]:
    return [
        Quantity(
            "mean of the target",
            truth.astype(np.float64),
            everywhere,
            False,
            "In the data, the target averages {ours} for {group} and {others} for all others",
        ),
        Quantity(
            "bias",
            errors,
            everywhere,
            False,
            "On average the answer minus the truth is {ours} for {group} and {others} for all others",
        ),
        Quantity(
            "absolute error",
            np.abs(errors),
            everywhere,
            False,
            "The mean absolute error is {ours} for {group} and {others} for all others",
        ),
    ]


def _of_two_classes(truth: Codes, scores: Scores, answers: Codes, names: tuple[str, str, str]) -> list[Quantity]:
    negative, positive, name = names
    everywhere = np.ones(len(truth), bool)
    return [
        Quantity(
            "false positive rate",
            _as_floats(answers == 1),
            truth == 0,
            True,
            f"Where the truth is {negative}, the model wrongly says {positive} for {{ours}} of "
            "{group} and {others} of all others",
        ),
        Quantity(
            "false negative rate",
            _as_floats(answers == 0),
            truth == 1,
            True,
            f"Where the truth is {positive}, the model misses it for {{ours}} of {{group}} and "
            "{others} of all others",
        ),
        Quantity(
            "calibration gap",
            scores[:, 1].astype(np.float64) - (truth == 1),
            everywhere,
            False,
            f"The probability that {name} is off by {{ours}} for {{group}} and {{others}} for all others",
        ),
    ]


def _literal(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def _as_floats(claims: Mask) -> Floats:
    return claims.astype(np.float64)


def _findings(column: str, groups: list[Group], quantities: list[Quantity], z: float) -> list[dict[str, Any]]:
    found = []
    for quantity in quantities:
        gaps = [gap for group in groups if (gap := _gap(quantity, group, z)) is not None]
        if gaps:
            found.append(_in_words(column, quantity, max(gaps, key=lambda gap: float(gap["sure"]))))
    return found


def _gap(quantity: Quantity, group: Group, z: float) -> dict[str, Any] | None:
    ours = quantity.values[quantity.mask & group.rows]
    others = quantity.values[quantity.mask & ~group.rows]
    fewest = _FEWEST_COUNTED if quantity.counted else _FEWEST_MEASURED
    if min(len(ours), len(others)) < fewest:
        return None
    low, high = (share_gap if quantity.counted else mean_gap)(ours, others, z)
    sure = max(low, -high)
    if sure <= 0:
        return None
    return {
        "group": group.value,
        "kind": group.kind,
        "ours": float(ours.mean()),
        "others": float(others.mean()),
        "low": low,
        "high": high,
        "sure": sure,
    }


def share_gap(ours: Floats, others: Floats, z: float) -> tuple[float, float]:
    """Interval of the difference of two shares: Newcombe 1998, method 10 (from two Wilson intervals)."""
    first, second = float(ours.mean()), float(others.mean())
    (low_1, high_1), (low_2, high_2) = wilson(first, len(ours), z), wilson(second, len(others), z)
    gap = first - second
    return gap - math.hypot(first - low_1, high_2 - second), gap + math.hypot(high_1 - first, second - low_2)


def mean_gap(ours: Floats, others: Floats, z: float) -> tuple[float, float]:
    """Interval of the difference of two means, unequal variances, normal quantile."""
    gap = float(ours.mean() - others.mean())
    half = z * math.sqrt(ours.var(ddof=1) / len(ours) + others.var(ddof=1) / len(others))
    return gap - half, gap + half


def _in_words(column: str, quantity: Quantity, gap: dict[str, Any]) -> dict[str, Any]:
    of_numbers = not quantity.counted and quantity.name != "calibration gap"
    say = number if of_numbers else percent
    group = f"{column} = {gap['group']}" if gap["kind"] == "value" else f"{column} {gap['group']}"
    words = quantity.sentence.format(ours=say(gap["ours"]), others=say(gap["others"]), group=group)
    unit = number(gap["sure"]) if of_numbers else points(gap["sure"])
    sentence = f"{words}; a gap of at least {unit} is not chance."
    return {
        "quantity": quantity.name,
        "value": gap["group"],
        "group": gap["ours"],
        "others": gap["others"],
        "low": gap["low"],
        "high": gap["high"],
        "sentence": sentence,
    }
