"""Decides the task from the target and shares out the rows; a function of the seed and the content of each row."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, nearest
from keepfit.recipe.data import DataOptions, SplitOptions
from keepfit.runtime.coded import Coded, small, times_of
from keepfit.runtime.coerce import is_missing, is_month_first, parse_date, parse_number
from keepfit.runtime.samples import first_of, shares_of
from keepfit.runtime.table import Column, Table, coded_column, counts_of, mapped, renamed_cells
from keepfit.stages import together
from keepfit.stages.packing import named, pack_column, unpack_table
from keepfit.stages.results import (
    PARTS,
    as_json,
    given_of,
    json_of,
    label_text,
    match_labels,
    missing_target,
    room_of,
    table_of,
    task_json,
)
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry, place_of
from keepfit.tasks.task import Task, class_name

VERSION = 7
NAMES = ("", "train", "validation", "test")
_TRAIN, _VALIDATION, _TEST = 1, 2, 3
Places = NDArray[np.uint8]
_FEW = 20
_RANKED_BELOW = 200
_EPOCH = dt.datetime(1970, 1, 1)


def split(
    section: DataOptions,
    asked: str,
    seed: int,
    ingested: Files,
    known: Sequence[str | int | bool | float] | None = None,
    leaks: str = "stop",
) -> Files:
    """`part` (one of train, validation, test or empty per row), `task.json`, `together.json`, `ledger.json`.

    Near-copies stay on one side, and so do rows of one patient, customer and the like where `data.split.by` is auto; with
    `leaks` off exact copies only.
    `known` are the classes of a model that exists already, which the rows need not all have.
    """
    table, given = unpack_table(ingested["table"]), given_of(ingested)
    column = table.columns[section.target]
    extra = frozenset(text.strip().lower() for text in section.read.missing)
    none = mapped(column, lambda text: text is None, bool)
    gone = none if is_named(section, ingested) else missing_target(column, extra)
    task = _task_of(column, given, gone, section.target, asked, [class_name(one) for one in known or ()])
    if task.kind == "regression":
        gone = gone | mapped(column, lambda text: text is None or parse_number(text) is None, bool)
    kept, left = np.flatnonzero(~gone), table.take(~gone)
    if len(kept) < 10:
        raise DataError(
            "too_few_rows",
            "there are too few rows with an answer to learn from",
            seen=f"{len(kept)} rows",
            hint="ten is the least, hundreds are useful",
        )
    bound = _bound(ingested, ~gone, section, task, leaks, given)
    places = np.zeros(len(table), np.uint8)
    places[kept] = _parts(left, given[kept], section.split, task, seed, bound)
    if {"pictures.json", "texts.json"} & set(ingested) and given[0] == "":
        places[kept] = places[kept][first_of(table.ids[kept])]
    part = named(NAMES, places)
    _check(part, column, task, bool(known))
    return {
        "part": pack_column(part),
        "task.json": as_json(task_json(task)),
        "together.json": as_json(
            {"column": bound.column, "near": bound.near, "groups": bound.groups, "copies": bound.copies}
        ),
        "ledger.json": as_json([entry.as_json() for entry in _entries(table, gone, extra, task)]),
    }


def _bound(
    ingested: Files, kept: NDArray[np.bool_], section: DataOptions, task: Task, leaks: str, given: Column
) -> together.Bound:
    """The key by which each kept row is placed. Where the user gave all splits, or named a group or a time, its own."""
    rows = table_of(ingested).take(kept)
    cut = given[0] == "" or len({"validation", "test"} & counts_of(given).keys()) < 2
    if leaks == "off" or section.split.by in ("group", "time") or not cut:
        return together.alone(rows)
    return together.bound(rows, room_of(ingested), section, task, alone_too=section.split.by == "random")


def is_named(section: DataOptions, ingested: Files) -> bool:
    """Whether the classes are names of folders: they may be called None, NA or 1."""
    if "texts.json" in ingested:
        return bool(json_of(ingested, "texts.json")["column"] is None)
    return "pictures.json" in ingested and section.image is None


def _check(part: Coded, column: Column, task: Task, learned: bool) -> None:
    """Raises DataError for an empty split, and for classes that cannot be learned."""
    present = {name: int((part == name).sum()) for name in PARTS}
    for name in ("train", "validation", "test"):
        if not present[name]:
            raise DataError(
                "empty_split",
                f"the {name} split has no rows",
                seen=f"{sum(present.values())} rows",
                hint="change data.split, or give more rows; equal rows stay in one split",
            )
    if task.kind != "classification" or learned:
        return
    found = {name: set(counts_of(_labels(column[np.flatnonzero(part == name)], task))) for name in present}
    if len(found["train"]) < 2:
        raise DataError(
            "one_class", "the training split has one class only", where=task.target, seen=str(sorted(found["train"]))
        )
    unlearned = sorted(found["test"] - found["train"] - found["validation"])
    if unlearned:
        raise DataError(
            "class_only_in_test",
            "the test rows have a class that no other row has",
            where=task.target,
            seen=", ".join(repr(label) for label in unlearned[:8]),
            hint="change data.split, or give rows of this class to learn from",
        )


def _entries(table: Table, gone: NDArray[np.bool_], extra: frozenset[str], task: Task) -> list[Entry]:
    """Rows without an answer are dropped; labels in another spelling are changed."""
    column, aliases = table.columns[task.target], dict(task.aliases)
    spelled = mapped(column, lambda text: label_text(text, task) in aliases, bool) if aliases else gone
    rows = np.flatnonzero(gone | spelled)
    found = []
    for row, sample in zip(rows.tolist(), table.ids[rows].tolist(), strict=True):
        text = column[row]
        if gone[row]:
            why = "missing target" if is_missing(text, extra) else "target is not a number"
            found.append(Entry(sample, *place_of(sample), task.target, why, str(text or ""), "", "split"))
        else:
            why, label = "label in another spelling", label_text(text, task)
            found.append(Entry(sample, *place_of(sample), task.target, why, label, aliases[label], "split", "changed"))
    return found


def _labels(column: Column, task: Task) -> Column:
    """The class of each row, as text."""
    aliases = dict(task.aliases)
    return renamed_cells(column, lambda text: aliases.get(label := label_text(text, task), label))


def _task_of(column: Column, given: Coded, gone: NDArray[np.bool_], target: str, asked: str, known: list[str]) -> Task:
    """The task of the rows that are not test rows; labels of given files are matched with the classes."""
    held = {name: column[~gone & (given == name)] for name in ("validation", "test")}
    values = Counter[str]()
    for text, times in counts_of(column[~gone & (given != "validation") & (given != "test")]).items():
        values[text.strip()] += times
    if known:
        distinct = Counter([*values, *known])
        numeric = all(parse_number(text) is not None for text in distinct)
        task = Task("classification", target, _classes(distinct, numeric))
    else:
        task = _task(values, target, asked)
    if task.kind == "regression" or not any(map(len, held.values())):
        return task
    classes = [class_name(label) for label in task.classes]
    choosing = [label_text(text, task) for text in counts_of(held["validation"])]
    matches = match_labels(choosing, classes, strict=False)
    if not set(choosing) <= set(classes) | set(matches):
        for text, times in counts_of(held["validation"]).items():
            values[matches.get(label := label_text(text, task), label)] += times
        task = _task(values, target, "classification")
        classes = [class_name(label) for label in task.classes]
    labels = {label_text(text, task) for texts in held.values() for text in counts_of(texts)}
    return replace(task, aliases=tuple(sorted(match_labels(labels, classes).items())))


def _task(distinct: Counter[str], target: str, asked: str) -> Task:
    """The task that the answers of the rows to learn from make, which are so many of each."""
    rows = distinct.total()
    if not rows:
        raise DataError("no_answers", "every value of the target is missing", where=target)
    numbers = {text: parse_number(text) for text in distinct}
    numeric = all(number is not None for number in numbers.values())
    kind = asked
    if asked == "auto":
        whole = numeric and all(float(n or 0).is_integer() for n in numbers.values())
        few = len(distinct) <= _FEW and rows >= 3 * len(distinct)
        kind = "classification" if not numeric or (whole and few) else "regression"
    if kind == "regression":
        readable = sum(distinct[text] for text, number in numbers.items() if number is not None)
        if readable < 0.5 * rows:
            raise DataError(
                "target_not_numeric",
                "the target of a regression must be numbers",
                where=target,
                seen=next(text for text, number in numbers.items() if number is None)[:60],
            )
        return Task("regression", target)
    if len(distinct) == 1:
        raise DataError(
            "one_class",
            "the target has one value only",
            where=target,
            seen=next(iter(distinct))[:60],
            hint="a classifier needs two classes or more",
        )
    if len(distinct) > max(_FEW, rows // 2) or len(distinct) > 1000:
        raise DataError(
            "too_many_classes",
            "the target has too many classes for its rows",
            where=target,
            seen=f"{len(distinct)} different values in {rows} rows",
            hint="is it an identifier or free text? Name another target, or say task: regression",
        )
    return Task("classification", target, _classes(distinct, numeric))


def _classes(distinct: Counter[str], numeric: bool) -> tuple[bool | int | float | str, ...]:
    if {text.lower() for text in distinct} == {"true", "false"}:
        return (False, True)
    zeros = any(len(text) > 1 and text[0] == "0" and text.isdigit() for text in distinct)
    if numeric and not zeros:
        found = sorted({number for text in distinct if (number := parse_number(text)) is not None})
        return tuple(int(n) if n.is_integer() else n for n in found)
    return tuple(sorted(distinct))


def _parts(table: Table, given: Coded, section: SplitOptions, task: Task, seed: int, bound: together.Bound) -> Places:
    """The place in NAMES [n] of each row's split."""
    shares = {"test": section.test, "validation": section.validation}
    if given[0] == "":
        if section.by == "given":
            raise DataError(
                "nothing_given", "data.split.by is given, but the source is one", hint="use train:, validation:, test:"
            )
        return _cut(table, section, task, (shares["test"], shares["validation"]), seed, bound.keys, bound.first)
    out = given.mapped(NAMES.index, np.uint8)
    rows = np.flatnonzero(out == _TRAIN)
    test, validation = (0.0 if (given == name).any() else shares[name] for name in ("test", "validation"))
    if test or validation:
        _, start, group = np.unique(bound.first[rows], return_index=True, return_inverse=True)
        first = start[group.ravel()]
        out[rows] = _cut(table.take(rows), section, task, (test, validation), seed, bound.keys[rows], first)
    return out


def _cut(
    table: Table,
    section: SplitOptions,
    task: Task,
    shares: tuple[float, float],
    seed: int,
    keys: together.Keys,
    first: NDArray[np.int64],
) -> Places:
    """Test and validation cut from these rows in the asked way; rows of one key, `first` [n] being its first row, stay
    together."""
    if section.by == "time":
        return _by_time(table, section, shares)
    if section.by == "group":
        groups = _known(table, section.column)
        return _by_threshold(mapped(groups, lambda key: _place(f"group:{key}", seed), np.float64), shares)
    places = (
        np.array([_place(str(key), seed) for key in keys.tolist()], np.float64)
        if keys.dtype == object
        else shares_of(keys.astype(np.uint64, copy=False), seed)
    )
    if task.kind == "regression":
        return _by_class(places, np.zeros(len(table), np.uint8), 1, shares)
    own = coded_column(_labels(table.columns[task.target], task))
    count = len(own.values)
    order = np.argsort(np.argsort(own.values.astype(str)))  # classes are cut in the order of their names
    labels = small(order, count)[own.codes[first]]
    out = _by_class(places, *((np.zeros_like(labels), 1) if section.by == "random" else (labels, count)), shares)
    learned = times_of(labels[out == _TRAIN], count)
    for label in np.flatnonzero((times_of(labels, count) > 0) & (learned == 0)):  # it could not be learned
        rows = np.flatnonzero(labels == label)
        out[rows[places[rows] == places[rows].max()]] = _TRAIN
    return out


def _known(table: Table, column: str | None) -> Column:
    if column not in table.columns:
        raise DataError(
            "column_missing",
            f"the data has no column {column!r}",
            where="data.split.column",
            hint=nearest(str(column), table.names),
        )
    return table.columns[column]


def _place(key: str, seed: int) -> float:
    """A number in [0, 1) that is a function of seed and key."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()) / 2**64


def _by_threshold(places: NDArray[np.float64], shares: tuple[float, float]) -> Places:
    test, validation = shares
    later = np.where(places < test + validation, np.uint8(_VALIDATION), np.uint8(_TRAIN))
    return np.where(places < test, np.uint8(_TEST), later)


def _by_class(places: NDArray[np.float64], labels: NDArray[Any], count: int, shares: tuple[float, float]) -> Places:
    """Low places go to test, the next to validation, so that a row stays where it is when others are added.

    A class of fewer than 200 rows is cut by rank instead, and so is one that would leave a split without a row: its
    shares are exact, but rows near a border may move when rows are added. Equal rows stay together.
    """
    out = _by_threshold(places, shares)
    train, validation, test = (times_of(labels[out == part], count) for part in (_TRAIN, _VALIDATION, _TEST))
    rows_of = train + validation + test
    lacking = (rows_of > 0) & (train == 0)
    for found, share in zip((test, validation), shares, strict=True):
        lacking |= (found == 0) & (np.round(share * rows_of) > 0)
    for label in np.flatnonzero((rows_of > 0) & ((rows_of < _RANKED_BELOW) | lacking)):
        rows = np.flatnonzero(labels == label)
        out[rows] = _by_rank(places[rows], shares)
    return out


def _by_rank(places: NDArray[np.float64], shares: tuple[float, float]) -> Places:
    out, order = np.full(len(places), _TRAIN, np.uint8), np.sort(places)
    tests, validations = (round(share * len(places)) for share in shares)
    for part, first, last in ((_TEST, 0, tests), (_VALIDATION, tests, tests + validations)):
        inside = order[first:last]
        if len(inside):
            out[(places >= inside[0]) & (places <= inside[-1]) & (out == _TRAIN)] = part
    return out


def _by_time(table: Table, section: SplitOptions, shares: tuple[float, float]) -> Places:
    column = _known(table, section.column)
    month_first = is_month_first(column)

    def moment(text: str | None) -> float:
        date = parse_date(text, month_first) if text else None
        number = parse_number(text) if text and date is None else None
        return (date - _EPOCH).total_seconds() if date is not None else np.nan if number is None else number

    times = mapped(column, moment, np.float64)
    if np.isnan(times).any():
        bad = column[int(np.flatnonzero(np.isnan(times))[0])]
        raise DataError(
            "no_time",
            "the time column has cells that are no date and no number",
            where=str(section.column),
            seen=repr(bad),
            hint="name a column of dates or of numbers that go up with time in data.split.column; its cells must all be filled",
        )
    test, validation = shares
    first, second = np.quantile(times, [1 - test - validation, 1 - test], method="lower")
    return np.where(times > second, _TEST, np.where(times > first, _VALIDATION, _TRAIN)).astype(np.uint8)
