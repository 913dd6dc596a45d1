"""What the stages hand to each other, as files that the store keeps: JSON and packed text, never a pickle."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import DataError
from keepfit.runtime.coded import Coded, objects
from keepfit.runtime.coerce import ColumnRule, is_missing, parse_number
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.samples import places_of
from keepfit.runtime.table import Column, Table, counts_of, from_rows, mapped
from keepfit.stages.packing import pack_table, unpack_column, unpack_table
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Block, Entry, Ledger
from keepfit.tasks.task import Task, class_name

PARTS = ("train", "validation", "test")


def part_of(files: Files) -> Coded:
    """The split of each row [n] after the stage split or clean: train, validation, test, or empty where it is none's."""
    return unpack_column(files["part"])


def given_of(ingested: Files) -> Coded:
    """The split that each row was given with [n], or empty."""
    return unpack_column(ingested["given"])


def table_of(ingested: Files) -> Table:
    """The table that was read; the column of pictures holds the bytes of their files."""
    table = unpack_table(ingested["table"])
    if "pictures.json" not in ingested:
        return table
    ends = json.loads(ingested["pictures.json"])
    whole = ingested["pictures"]
    cells = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return Table({**table.columns, COLUMN: objects(cells)}, table.ids)


def found_in(cleaned: Files, balance: str) -> list[dict[str, Any]]:
    """Every finding of the clean stage as JSON, those that end a run first. `balance` is how the recipe evens classes out,
    which cleaning does not depend on."""
    found = [one for name in ("leaks.json", "findings.json", "seen.json") for one in json.loads(cleaned[name])]
    for one in found:
        if one["rule"] == "class_balance" and balance != "none":
            one |= {"proposal": f"evened out by data.balance: {balance}", "override": ""}
    return sorted(found, key=lambda one: ("stop", "warning", "note").index(one["level"]))


def changed(train: Table, cleaned: Files) -> Table:
    """Training rows with the cells that cleaning changed."""
    cells = json.loads(cleaned["changes.json"])["cells"]
    columns = dict(train.columns)
    for name, found in cells.items():
        columns[name] = columns[name].copy()
        rows = places_of(train.ids, found)
        columns[name][rows[rows >= 0]] = [text for text, row in zip(found.values(), rows, strict=True) if row >= 0]
    return Table(columns, train.ids)


def room_of(ingested: Files) -> str:
    """tabular, image or text."""
    return "image" if "pictures.json" in ingested else "text" if "texts.json" in ingested else "tabular"


def rows_of(inputs: list[dict[str, Any]], rules: list[ColumnRule]) -> Table:
    """JSON inputs, such as the made-up ones, as a table of the used columns."""
    names = [rule.name for rule in rules if rule.kind != "ignore"]
    if any(rule.kind == "image" for rule in rules):
        return Table({COLUMN: objects([base64.b64decode(row[COLUMN]) for row in inputs])})
    return from_rows(inputs, names)


def json_of(files: Files, name: str) -> Any:
    """A JSON file of a result."""
    return json.loads(files[name])


def as_json(value: Any) -> bytes:
    """Canonical JSON bytes; NaN is refused."""
    return digest.canonical(value)


def ledger_files(entries: Iterable[Entry]) -> Files:
    """`ledger.json`, and `ledger/N` for each block that it names."""
    made: Files = {}
    said: list[dict[str, Any]] = []
    for part in Ledger.parts_of(entries):
        if isinstance(part, Block):
            name = f"ledger/{len(made)}"
            made[name] = pack_table(Table({"before": part.before, "after": part.after}, part.ids))
            about = {key: getattr(part, key) for key in ("column", "rule", "stage", "action")}
            said.append({"block": name, **about})
        else:
            said.append(part.as_json())
    return {"ledger.json": as_json(said), **made}


def ledger_of(files: Files) -> Ledger:
    """The ledger entries that a stage made."""
    return Ledger(_part_of(files, part) for part in json.loads(files.get("ledger.json", b"[]")))


def _part_of(files: Files, said: dict[str, Any]) -> Entry | Block:
    if "block" not in said:
        return Entry(**said)
    table = unpack_table(files[said["block"]], hold=False)
    before, after = table.columns["before"], table.columns["after"]
    return Block(table.ids, said["column"], said["rule"], before, after, said["stage"], said["action"])


def all_entries(files: dict[str, Files]) -> Ledger:
    """The whole ledger, in the order of the stages."""
    stages = [stage for stage in ("ingest", "split", "clean") if stage in files]
    return Ledger(part for stage in stages for part in ledger_of(files[stage]).parts)


def row_counts(files: dict[str, Files]) -> tuple[int, int]:
    """Samples that came in (unreadable lines included) and samples that some split keeps."""
    unread = sum(entry.count for entry in ledger_of(files["ingest"]) if entry.action == "dropped")
    came = len(given_of(files["ingest"])) + unread
    last = files.get("clean", files.get("split", {}))
    kept = int((part_of(last) != "").sum()) if last else came - unread
    return came, kept


def task_of(value: Mapping[str, Any]) -> Task:
    """A task from JSON."""
    matches = value.get("label_matches", {})
    return Task(value["kind"], value["target"], tuple(value["classes"]), tuple(sorted(matches.items())))


def task_json(task: Task) -> dict[str, Any]:
    """A task as JSON; classes keep their JSON type."""
    return {
        "kind": task.kind,
        "target": task.target,
        "classes": list(task.classes),
        "label_matches": dict(task.aliases),
    }


def truth_of(column: Column, task: Task) -> NDArray[Any]:
    """Class codes int64 [n], or values float64 [n]. Raises DataError for a label that is no class."""
    if task.kind == "regression":
        return mapped(column, lambda text: np.nan if (number := _number(text)) is None else number, np.float64)
    codes = {class_name(label): place for place, label in enumerate(task.classes)}
    aliases = dict(task.aliases)
    spelled = {text: aliases.get(text, text) for text in {label_text(text, task) for text in counts_of(column)}}
    unknown = sorted(text for text in spelled if spelled[text] not in codes)
    if unknown:
        raise DataError(
            "unknown_label",
            "the data has labels that the model does not know",
            seen=", ".join(unknown[:8]),
            hint="known: " + ", ".join(list(codes)[:20]),
        )
    return mapped(column, lambda text: codes[spelled[label_text(text, task)]], np.int64)


def _number(text: str | None) -> float | None:
    return None if text is None else parse_number(text)


def label_text(text: str | None, task: Task) -> str:
    """A target cell in the spelling of `class_name`."""
    stripped = (text or "").strip()
    first = task.classes[0] if task.classes else ""
    if isinstance(first, bool):
        return stripped.lower()
    if isinstance(first, int | float):
        number = parse_number(stripped)
        return stripped if number is None else str(int(number)) if number.is_integer() else repr(number)
    return stripped


def missing_target(column: Column, extra: frozenset[str]) -> NDArray[np.bool_]:
    """Mask [n] of rows without an answer."""
    return mapped(column, lambda text: is_missing(text, extra), bool)


def match_labels(labels: Iterable[str], classes: Iterable[str], *, strict: bool = True) -> dict[str, str]:
    """Class of each label that is none but for outer spaces or one trailing dot, where that is unique.

    Raises DataError with both lists for any other label; without `strict` only for one that could be several classes.
    """
    given, known = sorted(set(labels)), sorted(set(classes))
    bare: dict[str, list[str]] = {}
    for name in known:
        bare.setdefault(_bare(name), []).append(name)
    matches = {}
    for text in given:
        found = [text] if text in known else bare.get(_bare(text), [])
        if len(found) > 1 or (strict and not found):
            raise DataError(
                "unknown_label",
                "labels of the data are not classes of the model",
                seen=f"{text!r}; in the data: {given[:20]}",
                hint=f"classes: {known[:20]}",
            )
        if found and found[0] != text:
            matches[text] = found[0]
    return matches


def _bare(text: str) -> str:
    return text.strip().removesuffix(".").strip()


def matched_truth(
    labels: Column, task: Task, missing: frozenset[str] = frozenset()
) -> tuple[NDArray[Any], dict[str, str], NDArray[np.bool_]]:
    """Answers [n], the spellings of classes that were matched, and a mask [n] of rows that have a label.

    `missing` are more spellings of a label that is not there.
    """
    known = ~missing_target(labels, missing)
    if task.kind == "regression":
        values = truth_of(labels, task)
        return values, {}, known & ~np.isnan(values)
    classes = [class_name(label) for label in task.classes]
    matches = match_labels({label_text(text, task) for text in counts_of(labels[known])}, classes)
    filled = labels.copy()
    filled[~known] = classes[0]
    return truth_of(filled, replace(task, aliases=tuple(matches.items()))), matches, known
