"""Sketches of what a service saw: per column counts in the bins of the bundle's profile; constant memory, merged by adding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime import coerce
from keepfit.runtime.blocks import BlockTable, Layout, stacked
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Column, Table

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.bundle import Bundle

Counts = NDArray[np.int64]
CONFIDENCE_BINS = 20
_MOST_VALUES = 256


@dataclass(frozen=True)
class Bins:
    """How one column is counted. `numeric`, `datetime` (days since 1970) and `text` (characters): `edges` [m] of the profile's
    quantiles make m + 1 bins, the outer two for what training never saw; `categorical`: a bin per value, one for others.
    Two more follow: missing, unreadable."""

    rule: ColumnRule
    edges: NDArray[np.float64]
    values: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many counts a column has."""
        return (len(self.values) + 1 if self.rule.kind == "categorical" else len(self.edges) + 1) + 2

    def count(self, column: Column) -> Counts:
        """int64 [size] of the cells of a column."""
        kind = self.rule.kind
        if kind == "categorical":
            return self._count_values(coerce.categories(column, self.rule))
        bad = None
        if kind == "numeric":
            numbers, bad = coerce.numbers(column, self.rule)
        elif kind == "datetime":
            dates, bad = coerce.dates(column, self.rule)
            numbers = dates[:, 0]
        else:
            gone = [coerce.is_missing(cell, self.rule.missing) for cell in column]
            numbers = np.array([np.nan if none else len(cell) for none, cell in zip(gone, column, strict=True)], float)
        return self.count_numbers(numbers, bad)

    def count_numbers(self, numbers: NDArray[np.float64], bad: NDArray[np.bool_] | None = None) -> Counts:
        """int64 [size] of numbers [n], NaN where missing; `bad` [n] are those that could not be read."""
        found = np.zeros(self.size, np.int64)
        gone = np.isnan(numbers)
        known = numbers[~gone] if gone.any() else numbers
        # The last edge belongs to its own bin: a profile's largest value is inside.
        places = np.searchsorted(self.edges, known, side="right")
        places -= (known == self.edges[-1]) if len(self.edges) else 0
        found[: self.size - 2] = np.bincount(places, minlength=self.size - 2)
        found[-1] = 0 if bad is None else int(bad.sum())
        found[-2] = int(gone.sum()) - found[-1]
        return found

    def _count_values(self, column: Column) -> Counts:
        found = np.zeros(self.size, np.int64)
        at = {value: place for place, value in enumerate(self.values)}
        for value, times in Counter(column.tolist()).items():
            found[self.size - 2 if value is None else at.get(value, len(self.values))] += times
        return found


@dataclass
class Sketch:
    """Counts of the rows that one model answered. `columns` hold int64 [size of their Bins]; `predictions` int64 [k + 1] of
    the classes and others, empty for regression; `confidence` int64 [20] of the largest probability; `moments` of a
    regression's answers: count, sum, sum of squares, least, largest. Rows beyond a limit are counted, not looked into."""

    rows: int = 0
    looked: int = 0
    columns: dict[str, Counts] = field(default_factory=dict)
    predictions: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    confidence: Counts = field(default_factory=lambda: np.zeros(CONFIDENCE_BINS, np.int64))
    moments: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, float("inf"), float("-inf"))

    def merged(self, other: Sketch) -> Sketch:
        """The sketch of both; the same whatever the order. Both must be of the same profile."""
        one, two = self.moments, other.moments
        longer = self.predictions if len(self.predictions) else other.predictions
        return Sketch(
            self.rows + other.rows,
            self.looked + other.looked,
            {
                name: self.columns.get(name, 0) + other.columns.get(name, 0)  # type: ignore[misc]
                for name in [*self.columns, *(name for name in other.columns if name not in self.columns)]
            },
            longer if not (len(self.predictions) and len(other.predictions)) else self.predictions + other.predictions,
            self.confidence + other.confidence,
            (one[0] + two[0], one[1] + two[1], one[2] + two[2], min(one[3], two[3]), max(one[4], two[4])),
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON; counts are lists."""
        found: dict[str, Any] = {
            "rows": self.rows,
            "looked": self.looked,
            "columns": {name: counts.tolist() for name, counts in self.columns.items()},
            "confidence": self.confidence.tolist(),
        }
        if len(self.predictions):
            found["predictions"] = self.predictions.tolist()
        if self.moments[0]:
            found["moments"] = list(self.moments)
        return found

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Sketch:
        """Inverse of `as_json`; more keys may be there."""
        made = cls(
            int(raw["rows"]),
            int(raw["looked"]),
            {name: np.array(counts, np.int64) for name, counts in raw["columns"].items()},
            np.array(raw.get("predictions", []), np.int64),
            np.array(raw["confidence"], np.int64),
        )
        if "moments" in raw:
            count, total, squares, least, largest = map(float, raw["moments"])
            made.moments = (count, total, squares, least, largest)
        return made


class Sketcher:
    """Makes sketches for one bundle, from its profile and its rules."""

    def __init__(self, bundle: Bundle) -> None:
        rules = _rules(bundle)
        self.bins = _bins(bundle, rules)
        self.block_names = list(Layout.of(tuple(rules)).at)
        self._codes = {label: place for place, label in enumerate(bundle.classes)}
        self._regression = bundle.task == "regression"

    def sketch(self, table: Table, answers: Answers, most: int) -> Sketch:
        """The sketch of answered rows; at most `most` of them are looked into."""
        return self.sketch_all([(table, answers, most)])

    def sketch_all(self, answered: Sequence[tuple[Table, Answers, int]]) -> Sketch:
        """The sketch of several answers at once: their rows, what was said, and how many of the rows are looked into."""
        looks = [min(len(answers), max(most, 0)) for _, answers, most in answered]
        made = Sketch(rows=sum(len(answers) for _, answers, _ in answered), looked=sum(looks))
        if made.looked and self.bins:
            parts = [table.take(slice(look)) for (table, _, _), look in zip(answered, looks, strict=True) if look]
            made.columns = self._count(stacked(parts))
        labels = [label for _, answers, _ in answered for label in answers.labels]
        if self._regression:
            values = np.array([value for value in labels if value is not None], float)
            if len(values):
                squares = float((values**2).sum())
                least, largest = float(values.min()), float(values.max())
                made.moments = (float(len(values)), float(values.sum()), squares, least, largest)
            return made
        made.predictions = np.zeros(len(self._codes) + 1, np.int64)
        for label, times in Counter(labels).items():
            made.predictions[self._codes.get(label, len(self._codes))] += times
        shares = [
            answers.probabilities for _, answers, _ in answered if answers.probabilities is not None and len(answers)
        ]
        if shares:
            surest = np.concatenate(shares).max(1)
            places = np.minimum(surest * CONFIDENCE_BINS, CONFIDENCE_BINS - 1).astype(int)
            made.confidence = np.bincount(places, minlength=CONFIDENCE_BINS).astype(np.int64)
        return made

    def _count(self, table: Table) -> dict[str, Counts]:
        if not isinstance(table, BlockTable):
            return {name: bins.count(table.columns[name]) for name, bins in self.bins.items() if name in table.columns}
        at, found = table.layout.at, {}
        alike: dict[int, list[str]] = {}
        for name, bins in self.bins.items():
            if name in at:
                alike.setdefault(len(bins.edges), []).append(name)
            elif name in table.rest:
                found[name] = bins.count(table.rest[name])
        numbers = table.layout.clipped(table.block)
        for names in alike.values():
            edges = np.array([self.bins[name].edges for name in names])
            found |= zip(names, _counted(numbers[:, [at[name] for name in names]], edges), strict=True)
        return {name: found[name] for name in self.bins if name in found}


def _counted(numbers: NDArray[np.float64], edges: NDArray[np.float64]) -> Counts:
    """int64 [d, m + 3]: what `Bins.count_numbers` says of each column of numbers [n, d] with its edges [d, m]."""
    columns, most = edges.shape
    counts = np.zeros((columns, most + 3), np.int64)
    gone = np.isnan(numbers).sum(0)
    above = np.empty((columns, most + 1), np.int64)  # how many are at or above each edge, and known at all
    above[:, 0] = len(numbers) - gone
    for place in range(most):
        above[:, place + 1] = np.count_nonzero(numbers >= edges[:, place], axis=0)
    counts[:, :most] = above[:, :-1] - above[:, 1:]
    counts[:, most] = above[:, -1]
    if most:
        last = np.count_nonzero(numbers == edges[:, -1], axis=0)
        counts[:, most] -= last
        counts[:, most - 1] += last
    counts[:, -2] = gone
    return counts


def _rules(bundle: Bundle) -> list[ColumnRule]:
    """The rules of a table's columns; none for pictures."""
    try:
        rules = json.loads(bundle.files["preparation.json"]).get("columns", [])
    except (KeyError, ValueError, AttributeError, TypeError):
        return []
    return [ColumnRule.from_json(raw) for raw in rules] if isinstance(rules, list) else []


def _bins(bundle: Bundle, rules: Sequence[ColumnRule]) -> dict[str, Bins]:
    """The bins of every column that rules and profile know."""
    try:
        profile = json.loads(bundle.files["profile.json"])["columns"]
    except (KeyError, ValueError, TypeError):
        return {}
    found: dict[str, Bins] = {}
    for rule in rules:
        seen = profile.get(rule.name)
        if rule.kind == "categorical" and seen and "counts" in seen:
            values = sorted(seen["counts"], key=lambda value: (-seen["counts"][value], value))[:_MOST_VALUES]
            found[rule.name] = Bins(rule, np.zeros(0), tuple(values))
        elif rule.kind in ("numeric", "datetime", "text") and seen and seen.get("quantiles"):
            found[rule.name] = Bins(rule, np.unique(np.array(seen["quantiles"], float)))
    return found


def merged(sketches: Sequence[Sketch]) -> Sketch:
    """The sketch of all."""
    whole = Sketch()
    for one in sketches:
        whole = whole.merged(one)
    return whole
