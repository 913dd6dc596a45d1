"""What a row could not know when it was written: time going backwards, and statistics that the test rows took part in."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Finding
from keepfit.cleaning.giveaways import ignored
from keepfit.cleaning.guarded import Guarded
from keepfit.runtime.coded import times_of
from keepfit.runtime.spread import Spread, moments
from keepfit.runtime.table import coded_column

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
    before = np.flatnonzero(case.part != "test")
    for name in case.numeric():
        if name not in case.data.dates and not _WHEN.search(name):
            continue
        early, late = (
            values[~np.isnan(values)] for values in (case.data.at(name, rows) for rows in (before, case.test))
        )
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


@dataclass(frozen=True)
class _Answers:
    """The answers whose means a target encoding holds: the target, each class as 0 and 1, classes as numbers. Each is
    `truth` [n] itself, or of its class codes one row of `of_class` [a, k]; `ends` are the least and greatest of each."""

    truth: NDArray[Any]
    of_class: NDArray[np.float64] | None
    ends: list[tuple[float, float]]

    @classmethod
    def of(cls, case: Guarded) -> _Answers | None:
        """None where there is no answer that varies, or there are very many classes."""
        if not case.classes:
            truth = np.asarray(case.truth, float)
            return cls(truth, None, [(truth.min(), truth.max())]) if len(truth) and np.ptp(truth) else None
        there = times_of(case.truth, case.classes) > 0
        if case.classes > 20 or there.sum() < 2:
            return None
        numbers = [np.arange(case.classes, dtype=float)] if case.classes > 2 else []  # of two they are the second's
        of_class = np.stack([*np.eye(case.classes)[there], *numbers])
        return cls(case.truth, of_class, [(row.min(), row.max()) for row in of_class[:, there]])

    def at(self, place: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """One of the answers of these rows, or of all."""
        truth = self.truth if rows is None else self.truth[rows]
        return truth if self.of_class is None else self.of_class[place][truth]

    def sums(self, codes: NDArray[Any], count: int) -> NDArray[np.float64]:
        """The sum of each answer over the rows of each of a few codes [a, count]."""
        if self.of_class is None:
            return np.bincount(codes, self.truth, minlength=count)[None].astype(float)
        classes = self.of_class.shape[1]
        times = times_of(codes * np.int64(classes) + self.truth, count * classes).reshape(count, classes)
        return np.asarray(self.of_class @ times.T)


@dataclass(frozen=True)
class _Group:
    """Rows by category: `codes` [n], how many rows have each and their `sums` of answers [a, k]."""

    codes: NDArray[Any]
    times: NDArray[np.int64]
    sums: NDArray[np.float64]


def _groups(case: Guarded, answers: _Answers) -> dict[str, _Group]:
    found = {}
    for name, cells in case.data.categories.items():
        column = coded_column(cells)
        times = column.times()
        if (times > 0).sum() <= min(_MOST_CODES, len(column) // 2):
            found[name] = _Group(column.codes, times, answers.sums(column.codes, len(times)))
    return found


def _target_statistics(case: Guarded) -> list[Finding]:
    answers = _Answers.of(case)
    if answers is None:
        return []
    found, groups = [], _groups(case, answers)
    for name in case.data.numbers:
        means = _holds_means(case.data.spread(name), answers, case.train)
        source = "" if means else _leaves_one_out(case, name, answers, groups)
        if means or source:
            by = f" by {source!r}, the row's own left out" if source else ""
            message = f"column {name!r} holds means of {case.target}{by} that were computed with the test rows"
            proposal = "the run stops: such a column knows answers of the test rows; keepfit makes target means itself"
            found.append(Finding("target_statistics", (name,), (), message, proposal, ignored(name), "stop"))
    return found


def _holds_means(values: Spread, answers: _Answers, train: NDArray[np.int64]) -> bool:
    """Whether rows of equal cells have the cell as their mean answer: over all rows, and not over the training rows.

    A column most of whose repeated numbers are beyond the answers holds no means of them.
    """
    times, seen = values.counts(), values.counts(train)
    again = times > 1
    if int(again.sum()) < _GROUPS or times[again].sum() < 0.5 * times.sum():
        return False
    for place, (low, high) in enumerate(answers.ends):
        inside = (values.levels >= low - 1e-3) & (values.levels <= high + 1e-3)
        if inside[again].mean() < _WITHIN:  # a mean is among what it is the mean of
            continue
        count, scale = len(values.level_of), high - low
        whole = values.by_level(np.bincount(values.codes, answers.at(place), count)) / np.maximum(times, 1)
        close = np.abs(whole - values.levels) <= 1e-3 * scale
        if close[again].sum() < _GROUPS:
            continue
        sums = np.bincount(values.codes[train], answers.at(place, train), count)
        own = values.by_level(sums) / np.maximum(seen, 1)
        telling = again & (np.abs(own - whole) > 2e-3 * scale)
        if telling.sum() >= _GROUPS and close[telling].mean() >= _MATCHED:
            return True
    return False


def _leaves_one_out(case: Guarded, name: str, answers: _Answers, groups: dict[str, _Group]) -> str:
    """The category whose other rows' mean answer the column holds, in every row; empty where there is none.

    Where a drawn few rows hold nothing of the kind, all are not looked at.
    """
    rows = len(case.truth)
    if not groups or case.data.spread(name).counts().sum() < 0.5 * rows:
        return ""
    few = np.arange(rows) if rows <= _DRAWN else np.random.default_rng(case.seed).integers(0, rows, 2 * _DRAWN)
    for group, of_group in groups.items():
        for place in range(len(answers.ends)):
            one = (case, name, answers, place, of_group)
            if rows > _DRAWN and not _are_others(*one, few, _MATCHED - 0.1):
                continue
            if _are_others(*one, np.arange(rows), _MATCHED):
                return group
    return ""


def _are_others(
    case: Guarded, name: str, answers: _Answers, place: int, group: _Group, rows: NDArray[np.int64], share: float
) -> bool:
    """Whether in this share of the rows the value is the mean answer of the other rows of their group."""
    some = rows[group.times[group.codes[rows]] > 1]
    values = case.data.at(name, some)
    some, values = some[~np.isnan(values)], values[~np.isnan(values)]
    if len(some) < 20:
        return False
    codes = group.codes[some]
    others = (group.sums[place][codes] - answers.at(place, some)) / (group.times[codes] - 1)
    low, high = answers.ends[place]
    return bool(np.ptp(others)) and bool((np.abs(others - values) <= 1e-3 * (high - low)).mean() >= share)


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


def _is_scaled(values: Spread, train: NDArray[np.int64]) -> bool:
    counts, own_counts = values.counts(), values.counts(train)
    known, some = int(counts.sum()), int(own_counts.sum())
    if known < 50 or (counts > 0).sum() < 10 or some < 20:
        return False
    mean, deviation = moments(values.levels, counts)
    apart = max(abs(mean), abs(deviation - 1))
    mean, deviation = moments(values.levels, own_counts)
    own = max(abs(mean), abs(deviation - 1))
    return bool(apart < max(_EXACT / np.sqrt(known), 1.5 / known) and own > 3 * apart + 0.05 / np.sqrt(some))
