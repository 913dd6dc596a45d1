"""Measures one window against the reference and says what rings: nothing, a bug, a shift, or the accuracy. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor import streams
from keepfit.monitor.accuracy import Estimate, estimate
from keepfit.monitor.describe import describe, grown_words, novel_texts
from keepfit.monitor.drift import Change, Verdict, judge
from keepfit.monitor.faults import Fault, find_faults
from keepfit.monitor.options import MonitorOptions
from keepfit.monitor.profile import Profile, outputs_of
from keepfit.monitor.records import Records
from keepfit.runtime.coerce import is_missing, parse_number
from keepfit.tasks.task import class_name

_OUTPUTS, _LABELS = 0.2, 0.3  # parts of the budget: what the model says; errors, once labels come
_REPEATED = 0.5


@dataclass(frozen=True)
class Report:
    """What one window showed. `watch` is the state of the detector of errors, for the next window. A feature rings where its log p
    is at most `log_level`; `whole` is the log p of all inputs together."""

    start: int
    end: int
    kind: str
    features: tuple[str, ...]
    why: tuple[str, ...]
    changes: tuple[Change, ...]
    faults: tuple[Fault, ...]
    estimate: Estimate | None
    labels: int
    errors: int
    tallies: Mapping[str, NDArray[np.float64]]
    watch: streams.Watch | None
    quality: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[Mapping[str, Any], ...] = ()
    rang_at: tuple[int, ...] = ()
    log_level: float = 0.0
    whole: float = 0.0

    @property
    def alarm(self) -> bool:
        """Whether anything rings."""
        return self.kind != "none"

    @property
    def quarantined(self) -> list[int]:
        """Places in the stream of the rows that show a fault: to be looked at, not to be learned from."""
        if self.kind != "bug":
            return []
        size = self.end - self.start
        shown = [fault.rows for fault in self.faults]
        rows = np.any(shown, axis=0) if shown else np.ones(size, bool)
        return (np.flatnonzero(rows) + self.start).tolist()

    def as_json(self) -> dict[str, Any]:
        """One entry of `windows` of `monitor --json`."""
        return {
            "from": self.start,
            "to": self.end,
            "alarm": self.alarm,
            "kind": self.kind,
            "features": list(self.features),
            "estimated_accuracy": self.estimate.as_json() if self.estimate else None,
            "labelled_accuracy": round(1 - self.errors / self.labels, 4) if self.labels else None,
            "labels": self.labels,
            "errors": self.errors,
            "level": math.exp(self.log_level),
            "why": list(self.why),
            "changes": [change.as_json() for change in self.changes[:8]],
            "faults": [fault.as_json() for fault in self.faults],
            "quality": dict(self.quality),
            "slices": list(self.slices),
            "quarantined": len(self.quarantined),
        }


def check(
    reference: Profile,
    window: Records,
    section: MonitorOptions,
    watch: streams.Watch | None = None,
    *,
    labels_apart: bool = False,
) -> Report:
    """What a window shows. `watch` is the state that the report of the window before gave; None at the start.

    The budget of false alarms is shared: features, answers and, while labels come, errors. With `labels_apart` the errors are
    watched elsewhere, label by label, and their part of the budget is left to them. Nothing is read but the arguments.
    """
    values = describe(window.table, reference.rules, reference.lens)
    outputs = {}
    if window.scores is not None and reference.outputs:
        outputs = outputs_of(window.scores, reference.classes, _answered(window))
    every = values | outputs
    codes = {name: feature.code(every[name]) for name, feature in reference.by_name.items() if name in every}
    tallies = {
        name: np.bincount(code, minlength=reference.by_name[name].bins + 2).astype(np.float64)
        for name, code in codes.items()
    }
    wrong, at = errors_in(reference, window)
    labelled = (len(wrong) > 0 or labels_apart) and reference.labels > 0
    drifted = section.rate * (1 - _LABELS if labelled else 1.0)
    inputs, answers = _verdicts(reference, tallies, drifted)
    watch, rang = (watch, []) if labels_apart else _watched(reference, watch, wrong, section)
    quality = _quality(reference, window)
    faults = find_faults(reference.by_name, values, inputs.changes, inputs.named) if inputs.named else []
    kind, named, why = _ring(reference, inputs, answers, faults, quality, rang)
    why = (*_grown(reference, window, inputs), *why)
    estimated = _estimate(reference, window, codes, kind)
    return Report(
        window.start,
        window.start + len(window),
        kind,
        named,
        why,
        (*inputs.changes, *answers.changes),
        tuple(faults),
        estimated,
        len(wrong),
        int(sum(wrong)),
        tallies,
        watch,
        quality,
        _slices(reference, window, section, wrong, at),
        tuple(int(at[place]) + window.start for place in rang),
        inputs.log_level,
        inputs.whole,
    )


def _verdicts(reference: Profile, tallies: Mapping[str, NDArray[np.float64]], rate: float) -> tuple[Verdict, Verdict]:
    outputs = [feature for feature in reference.outputs if feature.name in tallies]
    share = _OUTPUTS if outputs and reference.output_levels else 0.0
    inputs = judge(reference.inputs, reference.levels, [tallies[f.name] for f in reference.inputs], rate * (1 - share))
    if not share or reference.output_levels is None:
        return inputs, Verdict((), (), 0.0, 0.0)
    return inputs, judge(outputs, reference.output_levels, [tallies[f.name] for f in outputs], rate * share)


def _watched(
    reference: Profile, watch: streams.Watch | None, wrong: list[bool], section: MonitorOptions
) -> tuple[streams.Watch | None, list[int]]:
    if not reference.labels:
        return None, []
    watch = watch or streams.watch_of(reference.errors, reference.labels)
    return streams.step(watch, wrong, labels_between(section))


def labels_between(section: MonitorOptions) -> float:
    """Mean labels between two false alarms of the detector of errors, by its part of the budget."""
    return section.window / (section.rate * _LABELS)


def _ring(
    reference: Profile,
    inputs: Verdict,
    answers: Verdict,
    faults: list[Fault],
    quality: Mapping[str, Any],
    rang: list[int],
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Kind, features and reasons: a broken feed first, since what it causes is no finding of its own."""
    by_name = {change.name: change for change in (*inputs.changes, *answers.changes)}

    def said(name: str) -> str:
        change = by_name[name]
        return f"{name}: {change.what} {change.seen:.4g}, {change.expected:.4g} in the reference (p {_power(change.log_p)})"

    broken = [f"{column}: the column is not there" for column in quality["absent"]]
    if quality["repeated"] > _REPEATED and reference.distinct > 0.9:
        broken.append(f"{quality['repeated']:.0%} of the rows repeat another row of the window")
    why = (*broken, *(f"{fault.name}: {fault.said}" for fault in faults), *map(said, (*inputs.named, *answers.named)))
    names = tuple(dict.fromkeys((*quality["absent"], *inputs.named, *answers.named)))
    if broken or (faults and inputs.named and faults[0].name in inputs.named[:3]):
        return "bug", names, why
    if rang:
        why = (*why, f"errors: more than on held-out rows, rang at label {rang[0]} of the window")
    if inputs.named or answers.named:
        return "shift", names, why
    return ("accuracy" if rang else "none"), (), why


def _grown(reference: Profile, window: Records, inputs: Verdict) -> list[str]:
    """What texts that ring are about."""
    columns = dict.fromkeys(reference.by_name[name].column for name in inputs.named)
    found = {
        name: grown_words(window.table.columns[name], name, reference.lens)
        for name in columns
        if "words" in reference.lens.get(name, {}) and name in window.table.columns
    }
    return _camera(reference, inputs) + [
        f"{name}: more texts say {', '.join(grown)}" for name, grown in found.items() if grown
    ]


_LOOKS = {"brightness": "light", "sharpness": "sharpness", "redness": "colour", "height": "size", "width": "size"}


def _camera(reference: Profile, inputs: Verdict) -> list[str]:
    """Where pictures ring by how they were taken, not only by what they show."""
    looks: dict[str, list[str]] = {}
    for name in inputs.named:
        column, _, fact = name.partition(": ")
        if fact in _LOOKS and column == reference.by_name[name].column:
            looks.setdefault(column, []).append(_LOOKS[fact])
    return [
        f"{column}: the camera or its settings have changed ({', '.join(dict.fromkeys(facts))})"
        for column, facts in looks.items()
    ]


def _power(log_p: float) -> str:
    return f"1e{log_p / math.log(10):.0f}" if log_p < -7 else f"{math.exp(log_p):.4f}"


def errors_in(reference: Profile, window: Records) -> tuple[list[bool], NDArray[np.int64]]:
    """Whether each labelled answer was wrong, and the rows [m] of these; a regression's is where it is off by over `large`."""
    if window.labels is None or window.scores is None:
        return [], np.zeros(0, np.int64)
    known = np.array([not is_missing(text) for text in window.labels], bool) & _answered(window)
    at = np.flatnonzero(known)
    if not reference.classes:
        truth = [parse_number(str(window.labels[row])) for row in at]
        return [
            t is not None and abs(window.scores[row, 0] - t) > reference.large for row, t in zip(at, truth, strict=True)
        ], at
    place = window.scores.argmax(1)
    return [_plain(window.labels[row]) != _plain(reference.classes[place[row]]) for row in at], at


def _answered(window: Records) -> NDArray[np.bool_]:
    """Rows [n] that the model has answered."""
    return np.array([not error for error in window.errors] or [True] * len(window), bool)


def _plain(text: Any) -> str:
    """A label in the spelling of `class_name`."""
    stripped = str(text).strip().removesuffix(".").strip()
    number = parse_number(stripped)
    return stripped.casefold() if number is None else class_name(int(number) if number.is_integer() else number)


def _estimate(reference: Profile, window: Records, codes: Mapping[str, Any], kind: str) -> Estimate | None:
    if reference.doubt is None or window.scores is None or not len(window) or "prediction" not in codes:
        return None
    rows = _answered(window)
    if not rows.any():
        return None
    known = codes if rows.all() else {name: code[rows] for name, code in codes.items()}
    texts = [name for name, lens in reference.lens.items() if "words" in lens and name in window.table.columns]
    novel = max((novel_texts(window.table.columns[name][rows], name, reference.lens) for name in texts), default=0.0)
    found = estimate(reference.doubt, reference.by_name, known, window.scores.astype(np.float64)[rows], novel)
    if kind != "bug":
        return found
    return Estimate(found.value, found.low, found.high, False, "the feed is broken")


def _quality(reference: Profile, window: Records) -> dict[str, Any]:
    """What the input schema says of the window."""
    table = window.table
    absent = [rule.name for rule in reference.rules if rule.name not in table.columns]
    plain = [rule.name for rule in reference.rules if rule.kind != "image" and rule.name in table.columns]
    rows = set(zip(*(table.columns[name] for name in plain), strict=True)) if plain else set()
    repeated = 1 - len(rows) / len(window) if plain and len(window) else 0.0
    found: dict[str, Any] = {
        "rows": len(window),
        "absent": absent,
        "repeated": round(repeated, 4),
        "not_answered": sum(bool(error) for error in window.errors),
    }
    seconds = _seconds(window)
    if seconds > 0:
        found["rows_per_s"] = round(len(window) / seconds, 3)
    if window.latency_s is not None and not np.isnan(window.latency_s).all():
        p50, p95, p99 = np.nanquantile(window.latency_s, [0.5, 0.95, 0.99])
        found["latency_s"] = {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
    return found


def _seconds(window: Records) -> float:
    """From the first to the last record; 0 where their times cannot be read."""
    if window.times is None or not len(window.times):
        return 0.0
    first, last = (_moment(window.times[place]) for place in (0, -1))
    return last - first if first is not None and last is not None else 0.0


def _moment(text: Any) -> float | None:
    """Unix seconds of ISO 8601, or of a number that is that already."""
    number = parse_number(str(text))
    if number is not None:
        return number
    try:
        read = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp()


def _slices(
    reference: Profile, window: Records, section: MonitorOptions, wrong: list[bool], at: NDArray[np.int64]
) -> tuple[Mapping[str, Any], ...]:
    """Rows and labelled accuracy of each group of the columns that are followed; at most 20 groups a column."""
    found = []
    for name in section.slices:
        column = window.table.columns.get(name)
        if column is None:
            continue
        groups, times = np.unique([str(cell) for cell in column], return_counts=True)
        for place in np.argsort(-times, kind="stable")[:20]:
            member = [w for w, row in zip(wrong, at, strict=True) if str(column[row]) == groups[place]]
            accuracy = round(1 - sum(member) / len(member), 4) if member else None
            found.append(
                {
                    "column": name,
                    "group": str(groups[place]),
                    "rows": int(times[place]),
                    "labels": len(member),
                    "accuracy": accuracy,
                }
            )
    return tuple(found)
