"""What a row could not know when it was written: time going backwards, and statistics that the test rows took part in."""

from __future__ import annotations

import re
import shlex

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Finding
from keepfit.cleaning.giveaways import ignored
from keepfit.cleaning.guarded import Guarded, codes_of
from keepfit.runtime.spread import Spread, moments

_WHEN = re.compile(r"(^|[_\W])(date|time|year|timestamp|epoch|day|when)s?([_\W]|$)", re.IGNORECASE)
_BACKWARDS = 0.5
_MOMENTS = 5
_EXACT = 0.01
_GROUPS = 5
_MATCHED = 0.95
_MOST_CODES = 400
_DRAWN = 5000
_WITHIN = 0.5


def foreknowledge(case: Guarded) -> list[Finding]:
    """Findings about time and statistics; level stop where the test split is behind the training rows in time, or where
    a column holds target means, or in given splits a scaling, that were computed with the test rows."""
    return [*_time(case), *_target_statistics(case), *_scaled(case)]


def _time(case: Guarded) -> list[Finding]:
    found = []
    test = case.test
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


def _answers(case: Guarded) -> list[NDArray[np.float64]]:
    """The answers [n] whose means a target encoding holds: the target, each class as 0 and 1, classes as numbers."""
    if not case.classes:
        return [np.asarray(case.truth, float)]
    if case.classes > 20:
        return []
    numbers = [case.truth.astype(float)] if case.classes > 2 else []  # of two classes they are the second one's
    return [*((case.truth == code).astype(float) for code in range(case.classes)), *numbers]


def _target_statistics(case: Guarded) -> list[Finding]:
    answers, found = [answer for answer in _answers(case) if np.ptp(answer)], []
    train = case.train
    groups = {
        name: coded
        for name, cells in case.data.categories.items()
        if (coded := codes_of(cells))[1] <= min(_MOST_CODES, len(cells) // 2)
    }
    sums = {
        name: [np.bincount(codes, answer, minlength=count).astype(float) for answer in answers]
        for name, (codes, count) in groups.items()
    }
    for name, values in case.data.numbers.items():
        means = _holds_means(case.data.spread(name), answers, train)
        source = "" if means else _leaves_one_out(values, answers, groups, sums, case.seed)
        if means or source:
            by = f" by {source!r}, the row's own left out" if source else ""
            message = f"column {name!r} holds means of {case.target}{by} that were computed with the test rows"
            proposal = "the run stops: such a column knows answers of the test rows; keepfit makes target means itself"
            found.append(Finding("target_statistics", (name,), (), message, proposal, ignored(name), "stop"))
    return found


def _holds_means(values: Spread, answers: list[NDArray[np.float64]], train: NDArray[np.bool_]) -> bool:
    """Whether rows of equal cells have the cell as their mean answer: over all rows, and not over the training rows.

    A column most of whose repeated numbers are beyond the answers holds no means of them.
    """
    times, seen = values.counts(), values.counts(train)
    if int((times > 1).sum()) < _GROUPS or times[times > 1].sum() < 0.5 * times.sum():
        return False
    count = len(values.levels) + 1
    learned = np.flatnonzero(train)
    for answer in answers:
        inside = (values.levels >= answer.min() - 1e-3) & (values.levels <= answer.max() + 1e-3)
        if inside[times > 1].mean() < _WITHIN:  # a mean is among what it is the mean of
            continue
        whole = np.bincount(values.place, answer, minlength=count)[:-1] / np.maximum(times, 1)
        scale = float(np.ptp(answer))
        close = np.abs(whole - values.levels) <= 1e-3 * scale
        if close[times > 1].sum() < _GROUPS:
            continue
        own = np.bincount(values.place[learned], answer[learned], minlength=count)[:-1] / np.maximum(seen, 1)
        telling = (times > 1) & (np.abs(own - whole) > 2e-3 * scale)
        if telling.sum() >= _GROUPS and close[telling].mean() >= _MATCHED:
            return True
    return False


def _leaves_one_out(
    values: NDArray[np.float64],
    answers: list[NDArray[np.float64]],
    groups: dict[str, tuple[NDArray[np.int64], int]],
    sums: dict[str, list[NDArray[np.float64]]],
    seed: int,
) -> str:
    """The category whose other rows' mean answer the column holds, in every row; empty where there is none.

    `sums` are of each group's answers. Where a drawn few rows hold nothing of the kind, all are not looked at.
    """
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 0.5 * len(values):
        return ""
    few = known
    if len(known) > _DRAWN:
        few = known[np.random.default_rng(seed).integers(0, len(known), _DRAWN)]
    for name, (codes, count) in groups.items():
        times = np.bincount(codes, minlength=count)
        for answer, whole in zip(answers, sums[name], strict=True):
            if len(few) < len(known) and not _are_others(values, codes, answer, times, whole, few, _MATCHED - 0.1):
                continue
            if _are_others(values, codes, answer, times, whole, known, _MATCHED):
                return name
    return ""


def _are_others(
    values: NDArray[np.float64],
    codes: NDArray[np.int64],
    answer: NDArray[np.float64],
    times: NDArray[np.int64],
    whole: NDArray[np.float64],
    rows: NDArray[np.int64],
    share: float,
) -> bool:
    """Whether in this share of the rows the value is the mean answer of the other rows of their group."""
    some = rows[times[codes[rows]] > 1]
    if len(some) < 20:
        return False
    others = (whole[codes[some]] - answer[some]) / (times[codes[some]] - 1)
    return bool(np.ptp(others)) and bool((np.abs(others - values[some]) <= 1e-3 * np.ptp(answer)).mean() >= share)


def _scaled(case: Guarded) -> list[Finding]:
    """Columns whose mean is 0 and deviation 1 over all rows together, and not over the training rows."""
    train = case.train
    columns = tuple(name for name in case.data.numbers if _is_scaled(case.data.spread(name), train))
    if not columns:
        return []
    shown = ", ".join(repr(name) for name in columns[:5]) + (" ..." if len(columns) > 5 else "")
    message = f"{len(columns)} columns were scaled with the test rows (mean 0, deviation 1 over all rows): {shown}"
    if case.given:
        proposal = "the run stops: fit the scaling on the training rows, or leave it to keepfit"
        return [Finding("scaled_together", columns, (), message, proposal, "clean.leaks=report", "stop")]
    proposal = "used as they are: means and deviations of the test rows are in them, which makes little of a difference"
    return [Finding("scaled_together", columns, (), message, proposal)]


def _is_scaled(values: Spread, train: NDArray[np.bool_]) -> bool:
    counts, own_counts = values.counts(), values.counts(train)
    known, some = int(counts.sum()), int(own_counts.sum())
    if known < 50 or (counts > 0).sum() < 10 or some < 20:
        return False
    mean, deviation = moments(values.levels, counts)
    apart = max(abs(mean), abs(deviation - 1))
    mean, deviation = moments(values.levels, own_counts)
    own = max(abs(mean), abs(deviation - 1))
    return bool(apart < max(_EXACT / np.sqrt(known), 1.5 / known) and own > 3 * apart + 0.05 / np.sqrt(some))
