"""Dependencies between columns (city -> state): discovered with a tolerance, their violations mended by majority.

The measure is that of approximate functional dependencies (Huhtala et al., "TANE", 1999: the least share of rows to take
away), set against how often the commonest value alone would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.view import View, known_of, some
from keepfit.core.options import Options
from keepfit.runtime.table import Column, mapped
from keepfit.store.ledger import counted

_SAMPLE = 20_000
_LEAST_GROUP = 3
_MOST_VALUES = 5000
_FIRM = 0.85
_LOOSE, _STRICT_MAJORITY, _STRICT_MINORITY = 0.45, 0.9, 0.005  # a weaker dependency needs near unanimity
_RULE = 0.7
_OWN, _OWN_UNTOLD = 5, 10  # rows


class DependencyOptions(Options):
    """Cells that contradict what another column says elsewhere; repaired in training rows only."""

    impl: ClassVar[str] = "keepfit.cleaning.dependencies:look"
    do: Literal["repair", "report", "off"] = Field("report", description="report proposes the value of the majority")
    strength: float = Field(
        _FIRM, gt=0, le=1, description="share of what the commonest value gets wrong that the other column gets right"
    )
    majority: float = Field(0.6, gt=0.5, le=1, description="share of like rows that must agree on a value")
    minority: float = Field(0.1, ge=0, lt=0.5, description="largest share of like rows that have the doubted value")


@dataclass(frozen=True)
class Dependency:
    """`left` tells `right`; `strength` is 1 where it always does, 0 where it helps nothing."""

    left: str
    right: str
    strength: float


def look(view: View, options: DependencyOptions) -> list[Finding]:
    """One finding per column with cells that its determining columns contradict; missing cells are filled likewise."""
    columns = {
        rule.name: view.cells(rule) for rule in view.rules if rule.kind in ("categorical", "ignore", "text", "datetime")
    }
    found, out = [], violated(columns, options)
    doubtful = _either(out)
    for right, (rows, after, names) in out.items():
        before = view.table.columns[right]
        cells = tuple(
            Cell(str(view.table.ids[row]), right, before[row], value)
            for row, value in zip(rows, after, strict=True)
            if (right, row) not in doubtful
        )
        left = sum((right, row) in doubtful for row in rows)
        changed = list(dict.fromkeys(f"{cell.before} -> {cell.after}" for cell in cells))
        found.append(
            Finding(
                "contradicts another column",
                (right, *names),
                view.ids(rows),
                f"{right} is in {counted(len(rows), 'row')} another than in nearly all with the same {', '.join(names[:3])}"
                + (f": {some(changed)}" if changed else "")
                + (f"; in {left} of them the other column may be the wrong one, and they are left" if left else ""),
                "the value of the majority of like rows",
                "clean.dependencies: off" if options.do == "repair" else "clean.dependencies: repair",
                "warning",
                cells,
                share=len(rows) / max(len(view.table), 1),
            )
        )
    return found


def violated(
    columns: dict[str, Column], options: DependencyOptions
) -> dict[str, tuple[list[int], list[str], tuple[str, ...]]]:
    """Column -> rows, the values proposed for them, and the columns that say so."""
    told: dict[str, list[Dependency]] = {}
    for one in discover(columns, min(options.strength, _LOOSE)):
        told.setdefault(one.right, []).append(one)
    if not told:
        return {}
    codes, out = {name: codes_of(column) for name, column in columns.items()}, {}
    for right, dependencies in told.items():
        rows, values = _outvoted(codes, right, dependencies, options)
        exact = max(one.strength for one in dependencies) >= _FIRM
        free = ~_of_its_own(codes, right, rows, dependencies)
        if exact:
            free &= (codes[right][rows] < 0) | unexplained(codes, right, rows)
        if free.any():
            names = np.array(sorted(known_of(columns[right])), object)
            leading = sorted(dependencies, key=lambda one: (-one.strength, one.left))
            out[right] = (rows[free].tolist(), names[values[free]].tolist(), tuple(one.left for one in leading[:5]))
    return out


def _either(out: dict[str, tuple[list[int], list[str], tuple[str, ...]]]) -> set[tuple[str, int]]:
    """Column and row of what cannot be decided: two columns of a row each say that the other is wrong. To mend both would make
    a third thing of it, so the one that more columns speak for stays, and neither is mended where as many do."""
    doubtful: set[tuple[str, int]] = set()
    rows = {name: set(found[0]) for name, found in out.items()}
    for one, (_, _, lefts) in out.items():
        for other in lefts:
            if other in out and one in out[other][2] and len(lefts) <= len(out[other][2]):
                doubtful |= {(one, row) for row in rows[one] & rows[other]}
    return doubtful


def unexplained(codes: dict[str, NDArray[np.int64]], right: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of suspect rows of a column that are no rule of their own: where another column has a value on three rows or
    more, nearly all of them suspect, the exception is a rule (every row of Alaska) and not a mistake."""
    free = np.ones(len(rows), bool)
    for name, column in codes.items():
        if name == right or not len(rows) or column.max(initial=-1) < 0:
            continue
        of = column[rows]
        often = np.bincount(column[column >= 0])
        suspect = np.bincount(of[of >= 0], minlength=len(often))
        rule = (often >= 3) & (suspect >= _RULE * often)
        free &= ~((of >= 0) & rule[np.maximum(of, 0)])
    return free


def _of_its_own(
    codes: dict[str, NDArray[np.int64]], right: str, rows: NDArray[np.int64], told: Sequence[Dependency]
) -> NDArray[np.bool_]:
    """Mask of suspect rows whose value is one of its own: five rows or more have it and nearly all of them are suspect, or
    ten have it and no dependency tells it of them. The same mistake is seldom made so often: Married-AF-spouse among
    husbands and wives, who are nearly all Married-civ-spouse, is a rare truth."""
    own = codes[right]
    value = own[rows]
    never = np.ones(len(own), bool)
    for one in told:
        outside = codes[one.left] < 0
        outside[_suspects(codes, own, [one])] = True
        never &= outside
    often, suspect, untold = (
        np.bincount(some[some >= 0], minlength=int(own.max(initial=0)) + 1) for some in (own, value, own[never])
    )
    always = (often >= _OWN) & (suspect >= _RULE * often)
    always |= (often >= _OWN_UNTOLD) & (untold >= _RULE * often)
    return np.asarray((value >= 0) & always[np.maximum(value, 0)])


def codes_of(column: Column, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The rank of each value [n], or of these rows', among the column's distinct ones, -1 where missing."""
    place = {value: n for n, value in enumerate(sorted(known_of(column)))}
    return mapped(
        column if rows is None else column[rows], lambda value: -1 if value is None else place[value], np.int64
    )


def discover(columns: dict[str, Column], least: float) -> list[Dependency]:
    """Every pair of columns where one tells the other with `least` strength, judged on groups of 3 rows or more.

    The groups must hold half of the rows; a column of one value is told by nothing. Looks at 20,000 rows at most.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    picked = np.arange(rows)
    if rows > _SAMPLE:
        picked = np.sort(np.random.default_rng(0).choice(rows, _SAMPLE, replace=False))
    part = {name: codes_of(column, picked) for name, column in columns.items()}
    grouping = {
        name: column
        for name, column in part.items()
        if 1 < len(np.unique(column[column >= 0])) <= min(_MOST_VALUES, len(picked) / _LEAST_GROUP)
    }
    found = []
    for left in grouping:
        for right in part:
            if right != left and (strength := _strength(part[left], part[right])) >= least:
                found.append(Dependency(left, right, strength))
    return found


def _strength(left: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    known = (left >= 0) & (right >= 0)
    sizes = np.bincount(left[known], minlength=1)
    known[known] = sizes[left[known]] >= _LEAST_GROUP
    if known.sum() < 0.5 * len(left) or known.sum() < 10:
        return 0.0
    a, b = left[known], right[known]
    whole = np.bincount(b).max()
    if whole == len(b):
        return 0.0
    pairs, counts = np.unique(a * (b.max() + 1) + b, return_counts=True)
    groups = pairs // (b.max() + 1)
    right_ones = np.maximum.reduceat(counts, np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])))
    return float(1 - (len(b) - right_ones.sum()) / (len(b) - whole))


def _outvoted(
    codes: dict[str, NDArray[np.int64]], right: str, told: Sequence[Dependency], options: DependencyOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose like rows, by all dependencies together, agree on another value; and that value.

    A row has no say about itself, so a group needs two others.
    """
    own = codes[right]
    votes = _Votes()
    suspects = _suspects(codes, own, told)
    for one in told:
        firm = one.strength >= options.strength
        most, least = (options.minority, options.majority) if firm else (_STRICT_MINORITY, _STRICT_MAJORITY)
        groups = _table(codes[one.left], own)
        for row in suspects[codes[one.left][suspects] >= 0].tolist():
            votes.take(row, int(own[row]), groups.get(int(codes[one.left][row]), {}), one.strength, most, least)
    found = votes.result(0.5 * sum(one.strength for one in told))
    rows = np.array(sorted(found), np.int64)
    return rows, np.array([found[int(row)] for row in rows], np.int64)


def _suspects(
    codes: dict[str, NDArray[np.int64]], own: NDArray[np.int64], told: Sequence[Dependency]
) -> NDArray[np.int64]:
    """Rows that some dependency sees outside the largest value of their group."""
    out = np.zeros(len(own), bool)
    for one in told:
        left = codes[one.left]
        modes = np.full(int(left.max()) + 1, -1, np.int64)
        for group, values in _table(left, own).items():
            modes[group] = min(values, key=lambda value: (-values[value], value))
        out |= (left >= 0) & (modes[np.maximum(left, 0)] >= 0) & (modes[np.maximum(left, 0)] != own)
    return np.flatnonzero(out)


class _Votes:
    """What the dependencies say of each suspect row: weights of values, and of the row's own value."""

    def __init__(self) -> None:
        self.ground: dict[int, float] = {}
        self.values: dict[int, dict[int, float]] = {}

    def take(self, row: int, own: int, group: dict[int, int], weight: float, most: float, least: float) -> None:
        """One dependency's say; none where the group is small, is not agreed, or knows the row's own value well."""
        others = sum(group.values()) - (own >= 0)
        if others < _LEAST_GROUP - 1:
            return
        alike = (group.get(own, 1) - 1) / others if own >= 0 else 0.0
        value, times = max(
            ((v, n) for v, n in group.items() if v != own), key=lambda vn: (vn[1], -vn[0]), default=(-1, 0)
        )
        self.ground[row] = self.ground.get(row, 0.0) + weight
        if value >= 0 and alike <= most and times / others >= least:
            held = self.values.setdefault(row, {})
            held[value] = held.get(value, 0.0) + weight

    def result(self, least: float) -> dict[int, int]:
        """Row -> value, where half of the say or more is for one value.

        Less say than `least` counts for nothing: a row that is alone in most columns is another thing, not a mistake.
        """
        out = {}
        for row, values in self.values.items():
            value = min(values, key=lambda one: (-values[one], one))
            if self.ground[row] >= least and values[value] >= 0.5 * self.ground[row]:
                out[row] = value
        return out


def _table(left: NDArray[np.int64], right: NDArray[np.int64]) -> dict[int, dict[int, int]]:
    """Group -> value -> how many rows."""
    known = (left >= 0) & (right >= 0)
    out: dict[int, dict[int, int]] = {}
    if known.any():
        width = int(right.max()) + 1
        pairs, counts = np.unique(left[known] * width + right[known], return_counts=True)
        for pair, times in zip(pairs.tolist(), counts.tolist(), strict=True):
            out.setdefault(pair // width, {})[pair % width] = times
    return out
