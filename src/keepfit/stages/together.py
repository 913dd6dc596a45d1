"""Which rows must stay on one side of a split: copies, near-copies, and rows of one patient, customer and the like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning import groups
from keepfit.cleaning.crossings import content_of, group_column, names_somebody, near_groups
from keepfit.cleaning.near_pictures import near_pictures
from keepfit.cleaning.near_texts import near_texts
from keepfit.core.catalog import load
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coded import objects
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.picture_predictor import COLUMN as PICTURE
from keepfit.runtime.samples import Ids, first_of
from keepfit.runtime.table import Table, coded_column, mapped
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.tasks.task import Task

Keys = NDArray[np.uint64] | NDArray[np.object_]
MOST_PICTURES = 12_000  # a perceptual hash costs half a millisecond
MOST_ROWS = 200_000


@dataclass(frozen=True)
class Bound:
    """A key per row [n]; rows of one key stay together, and `first` [n] is the first row of each row's.

    `column` names the group, `near` counts rows that repeat another one exactly or nearly, `copies` those that repeat an
    earlier one exactly, `groups` those of the column with two rows or more.
    """

    keys: Keys
    first: NDArray[np.int64]
    column: str | None = None
    near: int = 0
    groups: int = 0
    copies: int = 0


def alone(rows: Table) -> Bound:
    """Each row by its own content, so that exact copies alone are together."""
    return Bound(_keys(rows), first_of(rows.ids))


def _keys(rows: Table) -> Keys:
    """What a row is placed by: its content as a number, or as text where its id came as such."""
    return rows.ids.contents if isinstance(rows.ids, Ids) else objects(list(map(content_of, rows.ids.tolist())))


def bound(rows: Table, room: str, section: DataOptions, task: Task, alone_too: bool) -> Bound:
    """Rows bound to their near-copies, and to their group where there is one and rows are not asked to be `alone_too`.

    The key is the smallest content hash of those bound, so that it does not depend on the order of rows.
    """
    target = task.target
    rules: list[ColumnRule] = []
    if room == "tabular" and (len(rows) <= MOST_ROWS or any(map(names_somebody, rows.names))):
        looked = load("keepfit.modalities.tabular.schema:looked")
        rules = [one.rule for one in looked(rows, target, section.columns, section.read.missing)]
    same = first_of(rows.ids)  # of pictures and texts by their hash, of tables by every cell
    first = alike(rows, room, target, rules, same)
    shared = _shared(first)
    near = len(shared)
    named = section.split.column if section.split.by == "given" else None
    found = group_column(rows, target, rules) if room == "tabular" and not alone_too and named is None else None
    column = named if named in rows.columns else found
    count = 0
    if column is not None:
        who = coded_column(rows.columns[column])
        order, times = who.used()
        known = mapped(who, lambda key: key is not None, bool)
        head = np.zeros(len(who.values), np.int64)
        head[who.codes[::-1]] = np.arange(len(who) - 1, -1, -1)
        pairs = np.flatnonzero(known)
        count = int(
            sum(n > 1 for code, n in zip(order.tolist(), times.tolist(), strict=True) if who.values[code] is not None)
        )
        first = groups.joined(
            len(rows),
            [*enumerate(first.tolist()), *zip(head[who.codes[pairs]].tolist(), pairs.tolist(), strict=True)],
        )
        shared = _shared(first)
    keys = _keys(rows).copy()
    copies = int((same != np.arange(len(rows))).sum())
    heads = first[shared]
    least = keys[heads]
    order = np.argsort(heads, kind="stable")
    starts = np.flatnonzero(np.diff(heads[order], prepend=-1))
    if len(starts):
        smallest = np.minimum.reduceat(keys[shared][order], starts)
        least = smallest[np.searchsorted(heads[order][starts], heads)]
    keys[shared] = least
    return Bound(keys, first, column, near, count, copies)


def _shared(first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of groups of two rows or more, ascending, from the first row of each row's group [n]."""
    again = np.flatnonzero(first != np.arange(len(first)))
    return np.unique(np.concatenate([again, first[again]]))


def alike(
    table: Table, room: str, target: str, rules: list[ColumnRule], same: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The first row of each row's group [n] of exact and near-duplicates, whatever their answers are; `same` are the exact
    ones, where they are known.

    Beyond MOST_PICTURES pictures or MOST_ROWS rows only exact copies are found, since the search would take minutes.
    """
    same = first_of(table.ids) if same is None else same
    if len(table) > (MOST_PICTURES if room == "image" else MOST_ROWS):
        return same
    if room == "image":
        near = near_pictures(list(table.columns[PICTURE]))
    elif room == "text":
        near = near_texts(list(table.columns[TEXT]))
    else:
        near = near_groups(table, target, rules)
    pairs: list[tuple[int, int]] = []
    for first in (same, near):
        again = np.flatnonzero(first != np.arange(len(table)))
        pairs += zip(again.tolist(), first[again].tolist(), strict=True)
    return groups.joined(len(table), pairs)
