"""What a row could not know when it was written: time going backwards, and statistics that the test rows took part in."""

from __future__ import annotations

import re
import shlex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Finding
from keepfit.cleaning.giveaways import ignored
from keepfit.cleaning.guarded import Guarded, codes_of

_WHEN = re.compile(r"(^|[_\W])(date|time|year|timestamp|epoch|day|when)s?([_\W]|$)", re.IGNORECASE)
_BACKWARDS = 0.5
_MOMENTS = 5
_EXACT = 0.01
_GROUPS = 5
_MATCHED = 0.95
_MOST_CODES = 400


def foreknowledge(case: Guarded) -> list[Finding]:
    """Findings about time and statistics; level stop where the test split is behind the training rows in time, or where
    a column holds target means, or in given splits a scaling, that were computed with the test rows."""
    return [*_time(case), *_target_statistics(case), *_scaled(case)]


def _time(case: Guarded) -> list[Finding]:
    found = []
    test = case.part == "test"
    for name, values in case.numeric().items():
        if name not in case.data.dates and not _WHEN.search(name):
            continue
        early, late = values[~test & ~np.isnan(values)], values[test & ~np.isnan(values)]
        if min(len(np.unique(early)), len(np.unique(late))) < _MOMENTS:
            continue
        after = float((early > late.max()).mean())
        if case.given and after >= _BACKWARDS:
            message = f"by {name!r}, {after:.0%} of the rows to learn from are later than the last test row"
            proposal = "the run stops: the future would teach the past; swap the files, or split by time"
            found.append(Finding("time_backwards", (name,), (), message, proposal, "clean.leaks=report", "stop"))
        elif name in case.data.dates and not (early.max() <= late.min()):
            message = f"the rows have dates in {name!r}, and test rows are not the last ones"
            proposal = "kept; to be judged as in use, on rows later than those learned from, split by time"
            override = "" if case.given else shlex.quote(f"data.split={{by: time, column: {name}}}")
            found.append(Finding("time_mixed", (name,), (), message, proposal, override))
    return found


def _answers(case: Guarded) -> NDArray[np.float64]:
    """[n, k] whose means a target encoding holds: the target, each class as 0 and 1, classes as numbers."""
    if not case.classes:
        return np.asarray(case.truth, float)[:, None]
    if case.classes > 20:
        return np.zeros((len(case.truth), 0))
    return np.concatenate([np.eye(case.classes)[case.truth.astype(int)], case.truth.astype(float)[:, None]], 1)


def _target_statistics(case: Guarded) -> list[Finding]:
    answers, found = _answers(case), []
    held = case.part != "train"
    groups = {
        name: coded
        for name, cells in case.data.categories.items()
        if (coded := codes_of(cells))[1] <= min(_MOST_CODES, len(cells) // 2)
    }
    for name, values in case.data.numbers.items():
        means = _holds_means(values, answers, held)
        source = "" if means else _leaves_one_out(values, answers, groups)
        if means or source:
            by = f" by {source!r}, the row's own left out" if source else ""
            message = f"column {name!r} holds means of {case.target}{by} that were computed with the test rows"
            proposal = "the run stops: such a column knows answers of the test rows; keepfit makes target means itself"
            found.append(Finding("target_statistics", (name,), (), message, proposal, ignored(name), "stop"))
    return found


def _holds_means(values: NDArray[np.float64], answers: NDArray[np.float64], held: NDArray[np.bool_]) -> bool:
    """Whether rows of equal cells have the cell as their mean answer: over all rows, and not over the training rows."""
    known = ~np.isnan(values)
    codes, count = codes_of(values[known])
    times = np.bincount(codes, minlength=count)
    if int((times > 1).sum()) < _GROUPS or times[times > 1].sum() < 0.5 * len(codes):
        return False
    level = np.zeros(count)
    level[codes] = values[known]
    for answer in answers.T:
        if not np.ptp(answer):
            continue
        whole = np.bincount(codes, answer[known], minlength=count) / times
        scale = float(np.ptp(answer))
        seen = np.bincount(codes[~held[known]], minlength=count)
        own = np.bincount(codes[~held[known]], answer[known][~held[known]], minlength=count) / np.maximum(seen, 1)
        telling = (times > 1) & (np.abs(own - whole) > 2e-3 * scale)
        if telling.sum() >= _GROUPS and (np.abs(whole - level)[telling] <= 1e-3 * scale).mean() >= _MATCHED:
            return True
    return False


def _leaves_one_out(
    values: NDArray[np.float64], answers: NDArray[np.float64], groups: dict[str, tuple[NDArray[np.int64], int]]
) -> str:
    """The category whose other rows' mean answer the column holds, in every row; empty where there is none."""
    known = ~np.isnan(values)
    if known.mean() < 0.5:
        return ""
    for name, (codes, count) in groups.items():
        times = np.bincount(codes, minlength=count)
        many = known & (times[codes] > 1)
        for answer in answers.T:
            if many.sum() < 20 or not np.ptp(answer):
                continue
            others = (np.bincount(codes, answer, minlength=count)[codes] - answer)[many] / (times[codes][many] - 1)
            if np.ptp(others) and (np.abs(others - values[many]) <= 1e-3 * np.ptp(answer)).mean() >= _MATCHED:
                return name
    return ""


def _scaled(case: Guarded) -> list[Finding]:
    """Columns whose mean is 0 and deviation 1 over all rows together, and not over the training rows."""
    train = case.part == "train"
    columns = tuple(name for name, values in case.data.numbers.items() if _is_scaled(values, train))
    if not columns:
        return []
    shown = ", ".join(repr(name) for name in columns[:5]) + (" ..." if len(columns) > 5 else "")
    message = f"{len(columns)} columns were scaled with the test rows (mean 0, deviation 1 over all rows): {shown}"
    if case.given:
        proposal = "the run stops: fit the scaling on the training rows, or leave it to keepfit"
        return [Finding("scaled_together", columns, (), message, proposal, "clean.leaks=report", "stop")]
    proposal = "used as they are: means and deviations of the test rows are in them, which makes little of a difference"
    return [Finding("scaled_together", columns, (), message, proposal)]


def _is_scaled(values: NDArray[Any], train: NDArray[np.bool_]) -> bool:
    known = ~np.isnan(values)
    some = values[known & train]
    if known.sum() < 50 or len(np.unique(values[known])) < 10 or len(some) < 20:
        return False
    size = np.sqrt(known.sum())
    apart = max(abs(float(values[known].mean())), abs(float(values[known].std()) - 1))
    own = max(abs(float(some.mean())), abs(float(some.std()) - 1))
    return bool(apart < max(_EXACT / size, 1.5 / known.sum()) and own > 3 * apart + 0.05 / np.sqrt(len(some)))
