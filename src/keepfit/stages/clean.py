"""Looks at the training split: what each column is, what is dropped from training, and the reference profile."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from keepfit.core.catalog import load
from keepfit.core.errors import DataError
from keepfit.recipe.clean import CleanOptions
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coerce import ColumnRule, is_missing
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN
from keepfit.stages import data_page, guard, labelling, pictures, texts
from keepfit.stages.ingest import row_of
from keepfit.stages.results import as_json, json_of, room_of, table_of, task_of
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry

VERSION = 4
_GOLDEN = 12


def clean(section: CleanOptions, data: DataOptions, seed: int, ingested: Files, parted: Files) -> Files:
    """`part.json` after dropping, `rules.json`, `findings.json`, `profile.json`, `golden.json`, `ledger.json`."""
    table = table_of(ingested)
    part = np.array(json_of(parted, "part.json"), object)
    room = room_of(ingested)
    if room == "image":
        rules, findings, _ = pictures.look(table.take(part == "train"))
    elif room == "text":
        rules, findings, _ = texts.look(table.take(part == "train"), data.target)
    else:
        found = load("keepfit.modalities.tabular.schema:infer")(
            table.take(part == "train"), data.target, data.columns, data.read.missing
        )
        rules, findings = [finding.rule for finding in found], [finding.as_json() for finding in found]
    repeated = _duplicates(section, table, part, data.target)
    already = {entry.id for entry in repeated if entry.action == "dropped"}
    empty = [] if room == "image" else _blank(table, part) if room == "text" else _sparse(section, table, part, rules)
    entries = repeated + [entry for entry in empty if entry.id not in already]
    gone = {entry.id for entry in entries if entry.action == "dropped"}
    left = np.array(["" if sample in gone else p for sample, p in zip(table.ids, part, strict=True)], object)
    labelled = labelling.labelling(
        section.labels, table, left, rules, room, task_of(json_of(parted, "task.json")), seed
    )
    entries += labelled.entries
    dropped = {entry.id for entry in entries if entry.action == "dropped"}
    part = np.array(["" if sample in dropped else p for sample, p in zip(table.ids, part, strict=True)], object)
    if (part == "train").sum() < 5:
        raise DataError(
            "too_few_rows",
            "cleaning leaves too few training rows",
            seen=f"{int((part == 'train').sum())} rows",
            hint="loosen clean.drop_rows_missing_over or clean.duplicates",
        )
    train = table.take(part == "train")
    case = guard.case_of(seed, ingested, parted, rules)
    leaks, crossing = guard.guard(section.leaks, data, case, ingested, parted)
    profile, golden = _described(room, train, rules, data.target, seed)
    return {
        **guard.as_files(leaks, crossing),
        **(data_page.sheets(table, labelled.findings, leaks) if room == "image" else {}),
        **guard.looked_at(case, ingested),
        "labels.json": as_json(labelled.mended),
        "suspects.json": as_json([finding.as_json() for finding in labelled.findings]),
        "part.json": as_json(part.tolist()),
        "rules.json": as_json([rule.as_json() for rule in rules]),
        "findings.json": as_json(findings),
        "profile.json": as_json(profile),
        "golden.json": as_json(golden),
        "ledger.json": as_json([e.as_json() for e in entries]),
    }


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
    return profile, _synthetic(profile, seed)


def _blank(table: Table, part: Any) -> list[Entry]:
    """Training rows without a text, which teach nothing; elsewhere they are answered."""
    rows = [row for row in np.flatnonzero(part == "train") if texts.is_blank(table.columns[COLUMN][row])]
    return [_entry(table, int(row), "no text", "dropped") for row in rows]


def _entry(table: Table, row: int, rule: str, action: str, before: str = "") -> Entry:
    sample = str(table.ids[row])
    return Entry(sample, *row_of(sample), "", rule, before, "", "clean", action)


def _duplicates(section: CleanOptions, table: Table, part: Any, target: str) -> list[Entry]:
    """Rows of the training split that repeat an earlier one in every cell; a picture under another label is noted."""
    if section.duplicates == "off":
        return []
    seen: dict[str, str] = {}
    labels: dict[str, str] = {}
    found = []
    for row in np.flatnonzero(part == "train"):
        content, label = str(table.ids[row]).rpartition(":")[2], str(table.columns[target][row])
        if content in seen and labels[content] != label:
            rule = f"repeats an earlier one, which is labelled {labels[content]}"
            found.append(_entry(table, int(row), rule, "noted", seen[content]))
        elif content in seen:
            action = "dropped" if section.duplicates == "drop" else "noted"
            found.append(_entry(table, int(row), "repeats an earlier row", action, seen[content]))
        else:
            seen[content], labels[content] = str(table.ids[row]), label
    return found


def _sparse(section: CleanOptions, table: Table, part: Any, rules: list[ColumnRule]) -> list[Entry]:
    most = section.drop_rows_missing_over
    if most is None:
        return []
    used = [rule for rule in rules if rule.kind != "ignore"]
    gaps = np.mean([[is_missing(text, rule.missing) for text in table.columns[rule.name]] for rule in used], axis=0)
    rows = np.flatnonzero((part == "train") & (gaps > most))
    return [
        _entry(table, int(row), f"more than {most:g} of its cells are missing", "dropped", f"{gaps[row]:.3f}")
        for row in rows
    ]


def _profile(train: Table, rules: list[ColumnRule]) -> dict[str, Any]:
    """The reference that monitoring compares with: quantiles, category counts of five rows or more, share of missing."""
    data = coerced(train, rules)
    columns: dict[str, Any] = {}
    for name, values in data.numbers.items():
        known = values[~np.isnan(values)]
        points = np.quantile(known, np.linspace(0, 1, 41)).tolist() if len(known) else []
        columns[name] = {
            "kind": "numeric",
            "missing": float(np.isnan(values).mean()),
            "quantiles": points,
            "whole": bool(len(known)) and bool(np.all(known == np.floor(known))),
        }
    for name, column in data.categories.items():
        counts = Counter(key for key in column if key is not None)
        common = {key: n for key, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:200] if n >= 5}
        columns[name] = {
            "kind": "categorical",
            "missing": sum(k is None for k in column) / max(len(column), 1),
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


def _synthetic(profile: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Made-up rows: each column drawn on its own from the profile, so that nobody's row is among them."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [{} for _ in range(_GOLDEN)]
    for name, column in profile["columns"].items():
        for row in rows:
            row[name] = None if rng.random() < max(column["missing"], 0.02) else _cell(column, rng)
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
