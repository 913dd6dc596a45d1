"""Rows that stand on both sides of a split: exact and near-duplicates, and groups such as the visits of one patient."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Finding, Level
from keepfit.cleaning.guarded import Guarded, codes_of
from keepfit.cleaning.near_rows import near_rows
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.samples import Samples
from keepfit.runtime.table import Column, Table

MOST_CROSSING = 0.05
_ALIKE = 0.1
_CHANCE = 0.5
_PAIRS = 2000
_WHO = re.compile(
    r"id|uid|uuid|guid|patient|subject|person|customer|client|user|account|member|student|employee|device|machine|"
    r"household|family|session|group|hospitalnumber|policyholder|owner|author|speaker|writer"
)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def content_of(sample: object) -> str:
    """The hash of a sample's content, the last part of its id."""
    return str(sample).rpartition(":")[2]


def group_column(table: Table, target: str, rules: Sequence[ColumnRule]) -> str | None:
    """The column that says to whom a row belongs, where several rows belong to one: a name that says so (`patient_id`),
    values that come back, and rows that are more alike inside a group than outside. None where there is none.
    """
    for rule in rules:
        if names_somebody(rule.name) and rule.kind in ("numeric", "categorical", "text", "ignore"):
            keys = table.columns[rule.name]
            if rule.name != target and _comes_back(keys) and _are_alike(table, rule.name, keys):
                return rule.name
    return None


def names_somebody(name: str) -> bool:
    """Whether a column's name is that of an identifier of somebody or something."""
    words = [word.lower() for word in _PARTS.findall(name)]
    return bool(words) and (bool(_WHO.fullmatch(words[-1])) or bool(_WHO.fullmatch("".join(words))))


def _comes_back(keys: Column) -> bool:
    """Thirty groups or more, which are neither whole classes nor lone rows."""
    known = [key for key in keys if key is not None]
    counts = np.unique(known, return_counts=True)[1] if known else np.zeros(0)
    enough = len(known) >= 0.95 * len(keys) and 30 <= len(counts) <= 0.97 * len(known)
    return enough and int(counts.max()) <= 0.1 * len(known)


def _are_alike(table: Table, name: str, keys: Column) -> bool:
    """Whether two rows of a group agree in clearly more cells than two others."""
    rng = np.random.default_rng(0)
    order = np.argsort([str(key) for key in keys], kind="stable")
    ordered = keys[order]
    pairs = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(pairs) > _PAIRS:
        pairs = rng.choice(pairs, _PAIRS, replace=False)
    strangers = rng.integers(0, len(keys), (_PAIRS, 2))
    strangers = strangers[keys[strangers[:, 0]] != keys[strangers[:, 1]]]
    inside, outside = [], []
    for other, cells in table.columns.items():
        if other != name and len(set(cells[:2000])) > 1:
            inside.append((cells[order[pairs]] == cells[order[pairs + 1]]).mean())
            outside.append((cells[strangers[:, 0]] == cells[strangers[:, 1]]).mean())
    return bool(inside) and float(np.mean(inside) - np.mean(outside)) >= _ALIKE


def near_groups(table: Table, target: str, rules: Sequence[ColumnRule]) -> NDArray[np.int64]:
    """The first row of each row's group [n]: rows alike in every column that the model reads, but for the target."""
    used = [rule for rule in rules if rule.kind != "ignore"]
    return near_rows(table.without([target]), used)


def crossings(
    case: Guarded, groups: NDArray[np.int64], column: str | None, by_cells: bool = True
) -> tuple[list[Finding], list[str]]:
    """Findings about test rows that have a copy, a near-copy or a fellow of their group outside the test split, and the
    ids of these test rows. Level stop where one kind is more than 5 % of the test rows; nothing in splits of our own.

    `by_cells`: rows are equal where all cells and the answers are, however a file spells its answers; else by content.
    Where columns are so few and coarse that half as many would be equal by chance, equal rows are told of and no more.
    """
    if not case.given or not (case.part == "test").any():
        return [], []
    test, found, rows = case.part == "test", [], np.zeros(len(case.part), bool)
    codes = _codes(case) if by_cells else None
    contents = _numbered(codes) if codes is not None else np.array(list(map(content_of, case.table.ids)), object)
    exact = _crossing(contents, test)
    near = _crossing(groups, test) & ~exact
    by_chance = _expected(codes, test, exact) if codes is not None and exact.any() else 0.0
    if by_chance >= _CHANCE * exact.sum() and exact.any():
        found.append(_chance(case, exact, by_chance))
        exact, near = np.zeros(len(test), bool), near & ~near
    kinds: list[tuple[str, str, NDArray[np.bool_], NDArray[np.int64] | Column]] = [
        ("duplicates_cross", "repeat a training row exactly", exact, contents),
        ("near_duplicates_cross", "are near-copies of a training row", near, groups),
    ]
    if column is not None:
        who = case.table.columns[column]
        said = f"belong to a {column!r} that has training rows too"
        kinds.append(("group_crosses", said, _crossing(who, test), who))
    for rule, words, crossing, keys in kinds:
        if crossing.any():
            found.append(_finding(case, rule, words, crossing, keys, column))
            rows |= crossing
    return found, [str(sample) for sample in case.table.ids[rows]]


def _codes(case: Guarded) -> NDArray[np.int64]:
    """A code per distinct cell [n, columns], the answers last."""
    cells = [codes_of(cells)[0] for name, cells in case.table.columns.items() if name != case.target]
    return np.stack([*cells, codes_of(case.truth)[0]], axis=1)


def _numbered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number per distinct row of codes [n]."""
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel()


def _expected(codes: NDArray[np.int64], test: NDArray[np.bool_], exact: NDArray[np.bool_]) -> float:
    """How many of the `exact` rows would have an equal row outside the test split if columns had nothing to do with
    each other."""
    rows = int((~test).sum())
    shares = [(np.bincount(column[~test], minlength=column.max() + 1) / rows)[column[exact]] for column in codes.T]
    return float(-np.expm1(-rows * np.prod(shares, axis=0)).sum())


def _chance(case: Guarded, exact: NDArray[np.bool_], by_chance: float) -> Finding:
    share = float(exact.sum() / (case.part == "test").sum())
    message = (
        f"{exact.sum()} of the test rows ({share:.1%}) are equal to a training row, as about {by_chance:.0f} would be by "
        "chance: the columns have so few different values"
    )
    proposal = "kept: this does not show that a row stands on both sides"
    return Finding("duplicates_cross", (), tuple(map(str, case.table.ids[exact])), message, proposal, share=share)


def _crossing(keys: NDArray[np.int64] | Column, test: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Test rows whose key stands outside the test split too."""
    outside = set(keys[~test].tolist())
    there = np.array([key is not None and key in outside for key in keys.tolist()], bool)
    return np.asarray(test & there)


def _finding(
    case: Guarded,
    rule: str,
    words: str,
    crossing: NDArray[np.bool_],
    keys: NDArray[np.int64] | Column,
    column: str | None,
) -> Finding:
    share = float(crossing.sum() / (case.part == "test").sum())
    ids = tuple(str(sample) for sample in case.table.ids[crossing])
    groups = _shown(case.table.ids, keys, crossing)
    stops = share > MOST_CROSSING
    message = f"{len(ids)} of the test rows ({share:.1%}) {words}"
    proposal = (
        f"the run stops, since over {MOST_CROSSING:.0%} of the test rows are not held out; split again"
        if stops
        else "kept; the metrics are given without these rows too"
    )
    columns = (column,) if column is not None and rule == "group_crosses" else ()
    level: Level = "stop" if stops else "warning"
    return Finding(
        rule, columns, ids, message, proposal, "clean.leaks=report" if stops else "", level, (), groups, share
    )


def _shown(
    ids: Samples, keys: NDArray[np.int64] | Column, crossing: NDArray[np.bool_], most: int = 50
) -> tuple[tuple[str, ...], ...]:
    """Ids that share a key with one of the first crossing rows."""
    wanted: Mapping[object, list[str]] = {key: [] for key in keys[np.flatnonzero(crossing)[:most]].tolist()}
    for sample, key in zip(ids, keys.tolist(), strict=True):
        if key in wanted:
            wanted[key].append(str(sample))
    return tuple(tuple(group[:8]) for group in wanted.values())
