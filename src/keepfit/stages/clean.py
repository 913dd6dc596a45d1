"""Looks at the training split: what each column is, what is dropped from training, and the reference profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning import line
from keepfit.cleaning.findings import Finding
from keepfit.cleaning.line import Cleaned
from keepfit.cleaning.near_pictures import near_pictures
from keepfit.cleaning.near_rows import BY_CHANCE, near_rows
from keepfit.cleaning.near_texts import near_texts
from keepfit.cleaning.view import View, known_of
from keepfit.core.catalog import load
from keepfit.core.errors import DataError
from keepfit.recipe.clean import CleanOptions
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coded import meanwhile
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.figures import Form, as_written
from keepfit.runtime.picture_predictor import COLUMN as PICTURE
from keepfit.runtime.preparation import coerced
from keepfit.runtime.spread import quantiles
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN
from keepfit.stages import data_page, guard, labelling, pictures, texts
from keepfit.stages.packing import pack_column
from keepfit.stages.results import (
    as_json,
    changed,
    json_of,
    ledger_files,
    ledger_of,
    part_of,
    room_of,
    table_of,
    task_of,
)
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry, conserve_samples, place_of, without

VERSION = 20
_GOLDEN = 12


def clean(section: CleanOptions, data: DataOptions, seed: int, ingested: Files, parted: Files) -> Files:
    """`part` after dropping, `rules.json`, `columns.json`, `findings.json`, `changes.json`, `profile.json`, `golden.json`,
    `ledger.json`; for the report pictures of suspects, or their contents as `shown.json`.

    `changes.json` has the cells of training rows that are not as they came (column -> sample id -> text), mended answers of
    validation rows, and the cells that the repairs of the rules leave alone.
    """
    table = table_of(ingested)
    part = part_of(parted)
    train, room = table.take(part == "train"), room_of(ingested)
    rules, columns = _columns(room, train, data)
    view = View(train, tuple(rules), data.target, _spellings(data))
    (leaks, guarded), done = meanwhile(
        partial(_guarded, section, data, seed, rules, ingested, parted),
        partial(_cleaned, section, data, seed, room, view),
        len(table),
    )
    left = part.copy()
    left[done.is_decided(table.ids)] = ""  # so that a row that is taken back changes no other decision
    task = task_of(json_of(parted, "task.json"))
    labelled = labelling.labelling(section.labels, table, left, rules, room, task, seed).less(section.undo)
    done.entries += labelled.entries
    if room == "tabular":
        others = table.take((part == "validation") | (part == "test"))
        done.entries += line.read_elsewhere(View(others, tuple(rules), data.target, _spellings(data)))
    done.findings += labelled.findings + line.unknown_undo(section.undo, done.entries)
    part = part.copy()
    part[done.is_dropped(table.ids)] = ""
    if (part == "train").sum() < 5:
        raise DataError(
            "too_few_rows",
            "cleaning leaves too few training rows",
            seen=f"{int((part == 'train').sum())} rows",
            hint="loosen clean.drop_rows_missing_over, clean.duplicates or clean.outliers",
        )
    earlier = ledger_of(ingested) + ledger_of(parted)
    unread = [entry.id for entry in ledger_of(ingested) if entry.action == "dropped"]
    conserve_samples(table.ids, part != "", unread, earlier + done.entries)
    patches = {**done.patches, **({task.target: labelled.mended} if labelled.mended else {})}
    changes = {"cells": patches, "spared": done.spared}
    cleaned = {"rules.json": as_json([rule.as_json() for rule in done.rules]), "changes.json": as_json(changes)}
    as_left = done.left if section.labels != "drop" and not section.undo else None
    learned = table.take(part == "train") if as_left is None else as_left
    profile, golden = _described(room, changed(learned, cleaned), list(done.rules), data.target, seed)
    return {
        **guarded,
        **_shown(ingested, leaks, done.findings, data.target),
        **cleaned,
        "part": pack_column(part),
        "columns.json": as_json(columns),
        "findings.json": as_json([finding.as_json() for finding in done.findings]),
        "profile.json": as_json(profile),
        "golden.json": as_json(golden),
        **ledger_files(done.entries),
    }


def _guarded(
    section: CleanOptions, data: DataOptions, seed: int, rules: list[ColumnRule], ingested: Files, parted: Files
) -> tuple[list[Finding], Files]:
    """What the leak guard found, and what the columns are like."""
    case = guard.case_of(seed, ingested, parted, rules)
    leaks, crossing = guard.guard(section.leaks, data, case, ingested, parted)
    return leaks, {**guard.as_files(leaks, crossing), **guard.looked_at(case, ingested)}


def _shown(ingested: Files, leaks: list[Finding], told: list[Finding], target: str) -> Files:
    """Pictures or contents of suspects."""
    if room_of(ingested) == "image":
        return data_page.sheets(table_of(ingested), told, leaks)
    return {"shown.json": as_json(data_page.contents(table_of(ingested), [*leaks, *told], target))}


def _spellings(data: DataOptions) -> frozenset[str]:
    return frozenset(text.strip().lower() for text in data.read.missing)


def _columns(room: str, train: Table, data: DataOptions) -> tuple[list[ColumnRule], list[dict[str, Any]]]:
    """What each column is, and its row of the report."""
    if room == "image":
        return pictures.look(train)[:2]
    if room == "text":
        return texts.look(train, data.target)[:2]
    found = load("keepfit.modalities.tabular.schema:infer")(train, data.target, data.columns, data.read.missing)
    return [column.rule for column in found], [column.as_json() for column in found]


def _cleaned(section: CleanOptions, data: DataOptions, seed: int, room: str, view: View) -> Cleaned:
    """Entries, findings and repairs of the training rows; texts and pictures know duplicates only."""
    first, bounded = None, list[str]()
    if section.near_duplicates != "off":
        first = _near(room, view, bounded)
    if room == "tabular":
        made = line.clean(view, section, section.undo, seed, first)
        override = "clean.near_duplicates: off"
        for one in bounded:
            rule = "near_rows_by_chance" if one == BY_CHANCE else "near_rows_bounded"
            proposal = "exact copies are told all the same" if one == BY_CHANCE else "as found"
            made.findings.append(Finding(rule, (), (), one, proposal, override if one != BY_CHANCE else ""))
        return made
    done = line.clean_rows(view, section, section.undo, first)
    if room == "text":
        rows = [row for row, text in enumerate(view.table.columns[COLUMN]) if texts.is_blank(text)]
        ids = [str(view.table.ids[row]) for row in rows]
        gone = done.is_dropped(view.table.ids[rows])
        blank = [Entry(i, *place_of(i), "", "no text", "", "", "clean") for i in np.array(ids, object)[~gone].tolist()]
        done.entries += without(blank, section.undo)
    return done


def _near(room: str, view: View, bounded: list[str]) -> NDArray[np.int64]:
    """The first row of each row's near-duplicates [n]; `bounded` hears where not all pairs of rows were compared."""
    if room == "image":
        return near_pictures(list(view.table.columns[PICTURE]))
    if room == "text":
        return near_texts(list(view.table.columns[COLUMN]))
    return near_rows(view.table, view.rules, told=bounded, data=view.data)


def _described(
    room: str, train: Table, rules: list[ColumnRule], target: str, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The reference profile, and made-up inputs drawn from it."""
    if room == "image":
        profile = pictures.look(train)[2]
        return profile, pictures.synthetic(profile, seed)
    if room == "text":
        profile = texts.look(train, target)[2]
        return profile, texts.synthetic(profile, seed)
    profile = _profile(train, rules)
    return profile, _synthetic(profile, seed, {rule.name: rule.form for rule in rules if rule.form is not None})


def _profile(train: Table, rules: list[ColumnRule]) -> dict[str, Any]:
    """The reference that monitoring compares with: quantiles, category counts of five rows or more, share of missing."""
    data = coerced(train, rules)
    columns: dict[str, Any] = {}
    for name in data.numbers:
        times = data.spread(name).counts()
        levels, times = data.spread(name).levels[times > 0], times[times > 0]
        columns[name] = {
            "kind": "numeric",
            "missing": (len(train) - int(times.sum())) / len(train),
            "quantiles": quantiles(levels, times, np.linspace(0, 1, 41)).tolist() if len(levels) else [],
            "whole": bool(len(levels)) and bool(np.all(levels == np.floor(levels))),
        }
    for name, column in data.categories.items():
        counts = known_of(column)
        common = {key: n for key, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:200] if n >= 5}
        columns[name] = {
            "kind": "categorical",
            "missing": (len(column) - sum(counts.values())) / max(len(column), 1),
            "counts": common,
            "other": int(sum(counts.values()) - sum(common.values())),
        }
    for name, dates in data.dates.items():
        days = dates[~np.isnan(dates[:, 0]), 0]
        columns[name] = {
            "kind": "datetime",
            "missing": float(np.isnan(dates[:, 0]).mean()),
            "quantiles": np.quantile(days, np.linspace(0, 1, 41)).tolist() if len(days) else [],
        }
    for name, cells in data.texts.items():
        lengths = [len(text) for text in cells if text is not None]
        words = Counter(word for text in cells if text for word in set(text.split()))
        columns[name] = {
            "kind": "text",
            "missing": sum(t is None for t in cells) / max(len(cells), 1),
            "quantiles": np.quantile(lengths, np.linspace(0, 1, 11)).tolist() if lengths else [],
            "words": [w for w, n in sorted(words.items(), key=lambda kv: (-kv[1], kv[0]))[:50] if n >= 5],
        }
    return {"rows": len(train), "columns": columns}


def _synthetic(profile: dict[str, Any], seed: int, forms: Mapping[str, Form]) -> list[dict[str, Any]]:
    """Made-up rows: each column drawn on its own from the profile, so that nobody's row is among them, and written in its form."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [{} for _ in range(_GOLDEN)]
    for name, column in profile["columns"].items():
        for row in rows:
            cell = None if rng.random() < max(column["missing"], 0.02) else _cell(column, rng)
            row[name] = as_written(float(cell), forms[name]) if cell is not None and name in forms else cell
    return rows


def _cell(column: dict[str, Any], rng: np.random.Generator) -> str | None:
    kind = column["kind"]
    if kind == "categorical":
        names = list(column["counts"]) or ["?"]
        return str(names[int(rng.integers(len(names)))]) if column["counts"] else None
    if kind == "text":
        words = column["words"]
        return " ".join(words[int(n)] for n in rng.integers(0, len(words), 4)) if words else None
    if not column["quantiles"]:
        return None
    value = float(np.interp(rng.random(), np.linspace(0, 1, len(column["quantiles"])), column["quantiles"]))
    if kind == "datetime":
        return str(np.datetime64("1970-01-01") + np.timedelta64(int(value), "D"))
    return str(round(value)) if column["whole"] else f"{value:.6g}"
