"""What is remembered of one feature: bins with counts, and the questions (contrasts) that a window is asked about it."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_ATOM, _ATOMS, _LEAST, _NAMED, _GROUPS = 0.05, 8, 5, 12, 8
_SPLITS = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
LEVEL, SPREAD = "mean rank in the reference", "mean distance from its middle rank, 0 to 1,"
MISSING, UNREADABLE, OUTSIDE, RARE = "missing", "unreadable", "outside the known range", "rare or unknown value"


@dataclass(frozen=True)
class Values:
    """One feature of a window: float64 [n] with NaN, or text [n] with None; `bad` [n] marks cells that cannot be read."""

    data: Any
    bad: NDArray[np.bool_]
    column: str

    def __len__(self) -> int:
        return len(self.data)

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers."""
        return bool(self.data.dtype != object)


@dataclass(frozen=True)
class Feature:
    """Bins of a reference. `edges` [k - 1] end the bins of numbers, ends included; `values` name those of categories,
    after which come groups of less frequent ones and the rare. `counts` [k + 2]: the bins, missing, unreadable.
    """

    name: str
    column: str
    edges: Floats | None
    values: tuple[str, ...]
    groups: int
    counts: Floats
    lucky: int = 0  # rows whose value has just the number of rows that makes it frequent

    @property
    def bins(self) -> int:
        """How many bins hold values."""
        return len(self.counts) - 2

    @property
    def is_numeric(self) -> bool:
        """Whether the bins are of numbers."""
        return self.edges is not None

    @cached_property
    def prior(self) -> Floats:
        """What is added to the counts [k]: a value below all others is as likely as one between any two neighbours;
        values that just made the list of frequent ones were lucky, and a window's are rarer (leave-one-out)."""
        known = self.counts[:-2]
        prior = np.where(known > 0, 0.0, 0.5)
        if self.is_numeric:
            prior[[0, -1]] = 1.0
            return prior
        least = _NAMED if self.groups else 0
        listed = float(known[least:-1].sum())
        prior[least:-1] -= known[least:-1] * (self.lucky / listed if listed else 0.0)
        prior[-1] = self.lucky + 0.5
        return prior

    @cached_property
    def codes(self) -> dict[str, int]:
        """Bin of each named value."""
        return {value: place for place, value in enumerate(self.values)}

    def code(self, values: Values) -> NDArray[np.int64]:
        """The bin [n] of each cell; k is missing, k + 1 unreadable."""
        if self.edges is not None:
            if not values.is_numeric:
                return np.full(len(values), self.bins + 1)
            found: NDArray[np.int64] = np.searchsorted(self.edges, values.data, side="left").astype(np.int64)
            found[np.isnan(values.data)] = self.bins
        else:
            data = values.data if not values.is_numeric else values.data.astype(object)
            bin_of, rare = self._bin_of.get, self.bins - 1
            found = np.array([bin_of(text, rare) for text in data.tolist()], np.int64)
        found[values.bad] = self.bins + 1
        return found

    @cached_property
    def _bin_of(self) -> dict[str | None, int]:
        """Bin of each named value, and of a missing one; any other is rare."""
        found: dict[str | None, int] = {None: self.bins}
        for value, place in self.codes.items():
            named = place < _NAMED or not self.groups
            found[value] = place if named else _NAMED + zlib.crc32(value.encode()) % self.groups
        return found

    def tally(self, values: Values) -> Floats:
        """Counts [k + 2] of a window."""
        return np.bincount(self.code(values), minlength=self.bins + 2).astype(np.float64)

    @cached_property
    def masks(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names [m] and bins [m, k] of the shares that are compared."""
        share = self.counts[:-2] / max(self.counts[:-2].sum(), 1.0)
        found: dict[bytes, tuple[str, Floats]] = {}

        def add(name: str, mask: Floats) -> None:
            if 0 < mask.sum() < len(mask) and (1 - mask).astype(bool).tobytes() not in found:
                found.setdefault(mask.astype(bool).tobytes(), (name, mask))

        one = np.eye(self.bins)
        if self.edges is not None:
            self._add_numeric(add, share, one)
        else:
            for place in range(self.bins):
                last = place == self.bins - 1
                named = place < min(len(self.values), _NAMED if self.groups else self.bins)
                add(
                    RARE if last else f"share of {self.values[place]!r}" if named else "less frequent values",
                    one[place],
                )
        names = tuple(name for name, _ in found.values())
        return names, np.array([mask for _, mask in found.values()]).reshape(len(names), self.bins)

    def _add_numeric(self, add: Any, share: Floats, one: Floats) -> None:
        edges = self.edges if self.edges is not None else np.empty(0)
        add(OUTSIDE, one[0] + one[-1])
        upto = np.cumsum(share)
        for level in _SPLITS:
            place = int(np.abs(upto[:-1] - level).argmin())
            add(f"share at or below {edges[place]:g}", (np.arange(self.bins) <= place).astype(float))
        inner = (upto > 0.26) & (upto <= 0.76)
        outer = (upto <= 0.051) | (upto - share >= 0.949)
        add("share in the middle half", inner.astype(float))
        add("share in the outer tenth", outer.astype(float))
        for place in (np.flatnonzero(share[1:-1] > _ATOM) + 1).tolist():
            if np.nextafter(edges[place], -np.inf) == edges[place - 1]:
                add(f"share of {edges[place]:g}", one[place])

    @cached_property
    def scores(self) -> tuple[tuple[str, ...], Floats]:
        """Names and scores [s, k] of bins whose means are compared: rank, and distance of the rank from the middle."""
        if not self.is_numeric:
            return (), np.zeros((0, self.bins))
        weight = self.counts[:-2] + self.prior
        rank = (np.cumsum(weight) - weight / 2) / weight.sum()
        return (LEVEL, SPREAD), np.array([rank, 2 * np.abs(rank - 0.5)])

    def as_json(self) -> dict[str, Any]:
        """For profile.json."""
        return {
            "column": self.column,
            "edges": None if self.edges is None else self.edges.tolist(),
            "values": list(self.values),
            "groups": self.groups,
            "counts": [int(n) for n in self.counts],
            "lucky": self.lucky,
        }

    @classmethod
    def from_json(cls, name: str, raw: Mapping[str, Any]) -> Feature:
        """Inverse of `as_json`."""
        edges = None if raw["edges"] is None else np.array(raw["edges"], np.float64)
        counts = np.array(raw["counts"], np.float64)
        return cls(name, raw["column"], edges, tuple(raw["values"]), int(raw["groups"]), counts, int(raw["lucky"]))


def feature_of(name: str, values: Values) -> Feature:
    """The bins that a reference gives. Categories that fewer than five rows have are counted and not named."""
    lucky = 0
    if values.is_numeric:
        edges = _edges(values.data[~np.isnan(values.data) & ~values.bad])
        empty = Feature(name, values.column, edges, (), 0, np.zeros(len(edges) + 3))
    else:
        times = Counter(text for text, bad in zip(values.data, values.bad, strict=True) if text is not None and not bad)
        named = [text for text, n in sorted(times.items(), key=lambda item: (-item[1], item[0])) if n >= _LEAST][:2000]
        lucky = sum(n for n in times.values() if n == _LEAST)
        groups = _GROUPS if len(named) > _NAMED + _GROUPS else 0
        bins = (_NAMED + groups if groups else len(named)) + 1
        empty = Feature(name, values.column, None, tuple(named), groups, np.zeros(bins + 2))
    return Feature(name, values.column, empty.edges, empty.values, empty.groups, empty.tally(values), lucky)


def _edges(known: Floats) -> Floats:
    """Ends of bins at observed values; a value that 5 % of the rows have gets a bin of its own."""
    if not len(known):
        return np.array([0.0])
    ordered = np.sort(known)
    size = len(ordered)
    ends = {float(ordered[max(int(np.ceil(level * size)) - 1, 0)]) for level in LEVELS} | {float(ordered[-1])}
    found, times = np.unique(ordered, return_counts=True)
    often = np.argsort(-times, kind="stable")[:_ATOMS] if len(found) > 12 else np.arange(len(found))
    atoms = [float(found[place]) for place in often if times[place] > _ATOM * size or len(found) <= 12]
    ends |= set(atoms) | {float(np.nextafter(atom, -np.inf)) for atom in atoms}
    return np.array(sorted(ends | {float(np.nextafter(ordered[0], -np.inf))}))


def code_rows(features: Sequence[Feature], values: Mapping[str, Values]) -> list[NDArray[np.int64]]:
    """The bins [n] of every feature's cells, in order."""
    return [feature.code(values[feature.name]) for feature in features]
