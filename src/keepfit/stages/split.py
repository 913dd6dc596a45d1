"""Decides the task from the target and shares out the rows; a function of the seed and the content of each row."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, nearest
from keepfit.recipe.data import DataOptions, SplitOptions
from keepfit.runtime.coerce import is_missing, parse_date, parse_number
from keepfit.runtime.table import Column, Table
from keepfit.stages.ingest import row_of
from keepfit.stages.results import as_json, json_of, label_text, missing_target, task_json, unpack_table
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry
from keepfit.tasks.task import Task

VERSION = 1
_FEW = 20
_EPOCH = dt.datetime(1970, 1, 1)


def split(section: DataOptions, asked: str, seed: int, ingested: Files) -> Files:
    """`part.json` (one of train, validation, test or empty per row), `task.json`, `ledger.json`."""
    table, given = unpack_table(ingested["table"]), np.array(json_of(ingested, "given.json"), object)
    column = table.columns[section.target]
    extra = frozenset(text.strip().lower() for text in section.read.missing)
    gone = missing_target(column, extra)
    task, odd = _task(column, gone, section.target, asked)
    gone = gone | odd
    kept = np.flatnonzero(~gone)
    if len(kept) < 10:
        raise DataError(
            "too_few_rows",
            "there are too few rows with an answer to learn from",
            seen=f"{len(kept)} rows",
            hint="ten is the least, hundreds are useful",
        )
    part = np.full(len(table), "", object)
    part[kept] = _parts(table.take(kept), given[kept], section.split, task, seed)
    present = Counter(str(p) for p in part[kept])
    for name in ("train", "validation", "test"):
        if not present[name]:
            raise DataError(
                "empty_split",
                f"the {name} split has no rows",
                seen=f"{len(kept)} rows",
                hint="change data.split, or give more rows; equal rows stay in one split",
            )
    learned = {label_text(text, task) for text in column[part == "train"]}
    if task.kind == "classification" and len(learned) < 2:
        raise DataError(
            "one_class", "the training split has one class only", where=section.target, seen=str(sorted(learned))
        )
    entries = [
        Entry(
            str(table.ids[row]),
            *row_of(str(table.ids[row])),
            section.target,
            "missing target" if is_missing(column[row], extra) else "target is not a number",
            str(column[row] or ""),
            "",
            "split",
        )
        for row in np.flatnonzero(gone)
    ]
    return {
        "part.json": as_json(part.tolist()),
        "task.json": as_json(task_json(task)),
        "ledger.json": as_json([entry.as_json() for entry in entries]),
    }


def _task(column: Column, gone: NDArray[np.bool_], target: str, asked: str) -> tuple[Task, NDArray[np.bool_]]:
    """The task, and a mask of rows whose answer does not fit it."""
    values = [text.strip() for text in column[~gone]]
    if not values:
        raise DataError("no_answers", "every value of the target is missing", where=target)
    distinct = Counter(values)
    numbers = {text: parse_number(text) for text in distinct}
    numeric = all(number is not None for number in numbers.values())
    kind = asked
    if asked == "auto":
        whole = numeric and all(float(n or 0).is_integer() for n in numbers.values())
        few = len(distinct) <= _FEW and len(values) >= 3 * len(distinct)
        kind = "classification" if not numeric or (whole and few) else "regression"
    if kind == "regression":
        readable = sum(distinct[text] for text, number in numbers.items() if number is not None)
        if readable < 0.5 * len(values):
            raise DataError(
                "target_not_numeric",
                "the target of a regression must be numbers",
                where=target,
                seen=next(text for text, number in numbers.items() if number is None)[:60],
            )
        odd = np.array([not g and parse_number(t) is None for t, g in zip(column, gone, strict=True)], bool)
        return Task("regression", target), odd
    if len(distinct) == 1:
        raise DataError(
            "one_class",
            "the target has one value only",
            where=target,
            seen=next(iter(distinct))[:60],
            hint="a classifier needs two classes or more",
        )
    if len(distinct) > max(_FEW, len(values) // 2) or len(distinct) > 1000:
        raise DataError(
            "too_many_classes",
            "the target has too many classes for its rows",
            where=target,
            seen=f"{len(distinct)} different values in {len(values)} rows",
            hint="is it an identifier or free text? Name another target, or say task: regression",
        )
    return Task("classification", target, _classes(distinct, numeric)), np.zeros(len(column), bool)


def _classes(distinct: Counter[str], numeric: bool) -> tuple[bool | int | float | str, ...]:
    if {text.lower() for text in distinct} == {"true", "false"}:
        return (False, True)
    zeros = any(len(text) > 1 and text[0] == "0" and text.isdigit() for text in distinct)
    if numeric and not zeros:
        found = sorted({number for text in distinct if (number := parse_number(text)) is not None})
        return tuple(int(n) if n.is_integer() else n for n in found)
    return tuple(sorted(distinct))


def _parts(
    table: Table, given: NDArray[np.object_], section: SplitOptions, task: Task, seed: int
) -> NDArray[np.object_]:
    if given[0] != "":
        return _given_parts(table, given, section, task, seed)
    by = section.by
    if by == "given":
        raise DataError(
            "nothing_given", "data.split.by is given, but the source is one", hint="use train:, validation:, test:"
        )
    if by == "auto":
        by = "stratified" if task.kind == "classification" else "random"
    shares = (section.test, section.validation)
    if by == "time":
        return _by_time(table, section, shares)
    if by == "group":
        keys = _known(table, section.column)
        return _by_threshold([f"group:{key}" for key in keys], shares, seed)
    hashes = [str(sample).rpartition(":")[2] for sample in table.ids]
    if by == "stratified":
        labels = np.array([label_text(text, task) for text in table.columns[task.target]], object)
        return _by_class(hashes, labels, shares, seed)
    return (
        _by_threshold(hashes, shares, seed)
        if len(table) >= 2000
        else _by_class(hashes, np.full(len(table), "", object), shares, seed)
    )


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


def _by_threshold(keys: list[str], shares: tuple[float, float], seed: int) -> NDArray[np.object_]:
    test, validation = shares
    places = np.array([_place(key, seed) for key in keys])
    return np.where(places < test, "test", np.where(places < test + validation, "validation", "train")).astype(object)


def _by_class(
    hashes: list[str], labels: NDArray[np.object_], shares: tuple[float, float], seed: int
) -> NDArray[np.object_]:
    """Within each class the rows with the lowest places go to test, the next to validation; equal rows stay together."""
    out = np.full(len(hashes), "train", object)
    places = np.array([_place(key, seed) for key in hashes])
    for label in sorted({str(label) for label in labels}):
        rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(places[rows], kind="stable")]
        tests, validations = (round(share * len(rows)) for share in shares)
        for name, first, last in (("test", 0, tests), ("validation", tests, tests + validations)):
            inside = order[first:last]
            if len(inside):
                low, high = places[inside[0]], places[inside[-1]]
                out[rows[(places[rows] >= low) & (places[rows] <= high) & (out[rows] == "train")]] = name
    return out


def _by_time(table: Table, section: SplitOptions, shares: tuple[float, float]) -> NDArray[np.object_]:
    column = _known(table, section.column)
    moments = []
    for text in column:
        date = parse_date(text) if text else None
        number = parse_number(text) if text and date is None else None
        moments.append((date - _EPOCH).total_seconds() if date is not None else np.nan if number is None else number)
    times = np.array(moments, float)
    if np.isnan(times).any():
        bad = next(text for text, value in zip(column, times, strict=True) if np.isnan(value))
        raise DataError(
            "no_time",
            "the time column has cells that are no date and no number",
            where=str(section.column),
            seen=repr(bad),
        )
    test, validation = shares
    first, second = np.quantile(times, [1 - test - validation, 1 - test], method="lower")
    return np.where(times > second, "test", np.where(times > first, "validation", "train")).astype(object)


def _given_parts(
    table: Table, given: NDArray[np.object_], section: SplitOptions, task: Task, seed: int
) -> NDArray[np.object_]:
    out = given.copy()
    rows = np.flatnonzero(given == "train")
    absent = [name for name in ("test", "validation") if not (given == name).any()]
    shares = {"test": section.test, "validation": section.validation}
    asked = (shares["test"] if "test" in absent else 0.0, shares["validation"] if "validation" in absent else 0.0)
    if any(asked):
        hashes = [str(sample).rpartition(":")[2] for sample in table.ids[rows]]
        labels = (
            np.array([label_text(text, task) for text in table.columns[task.target][rows]], object)
            if task.kind == "classification"
            else np.full(len(rows), "", object)
        )
        out[rows] = _by_class(hashes, labels, asked, seed)
    return out
