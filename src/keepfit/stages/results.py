"""What the stages hand to each other, as files that the store keeps: JSON and packed text, never a pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import DataError
from keepfit.runtime.coerce import is_missing, parse_number
from keepfit.runtime.table import Column, Table
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry
from keepfit.tasks.task import Task, class_name

PARTS = ("train", "validation", "test")


def pack_table(table: Table) -> bytes:
    """A table as compressed JSON."""
    value = {"columns": {name: column.tolist() for name, column in table.columns.items()}, "ids": table.ids.tolist()}
    return zlib.compress(json.dumps(value, ensure_ascii=False).encode(), 1)


def unpack_table(data: bytes) -> Table:
    """Inverse of `pack_table`."""
    value = json.loads(zlib.decompress(data))
    return Table({name: _objects(cells) for name, cells in value["columns"].items()}, _objects(value["ids"]))


def _objects(cells: list[Any]) -> Column:
    out = np.empty(len(cells), object)
    out[:] = cells
    return out


def json_of(files: Files, name: str) -> Any:
    """A JSON file of a result."""
    return json.loads(files[name])


def as_json(value: Any) -> bytes:
    """Canonical JSON bytes; NaN is refused."""
    return digest.canonical(value)


@dataclass(frozen=True)
class Rows:
    """All rows with their split (`train`, `validation`, `test`, or empty for a dropped row) and the task."""

    table: Table
    part: NDArray[np.object_]
    task: Task

    def of(self, name: str) -> Table:
        """The rows of a split."""
        return self.table.take(self.part == name)


def ledger_of(files: Files) -> list[Entry]:
    """The ledger entries that a stage made."""
    return [Entry(**entry) for entry in json.loads(files.get("ledger.json", b"[]"))]


def all_entries(files: dict[str, Files]) -> list[Entry]:
    """The whole ledger, in the order of the stages."""
    return [entry for stage in ("ingest", "split", "clean") if stage in files for entry in ledger_of(files[stage])]


def row_counts(files: dict[str, Files]) -> tuple[int, int]:
    """Samples that came in (unreadable lines included) and samples that some split keeps."""
    came = len(json_of(files["ingest"], "given.json")) + len(ledger_of(files["ingest"]))
    last = files.get("clean", files.get("split", {}))
    part = json_of(last, "part.json") if last else json_of(files["ingest"], "given.json")
    kept = sum(1 for name in part if name) if last else len(part)
    return came, kept


def task_of(value: Mapping[str, Any]) -> Task:
    """A task from JSON."""
    return Task(value["kind"], value["target"], tuple(value["classes"]))


def task_json(task: Task) -> dict[str, Any]:
    """A task as JSON; classes keep their JSON type."""
    return {"kind": task.kind, "target": task.target, "classes": list(task.classes)}


def truth_of(column: Column, task: Task, aliases: Mapping[str, str] | None = None) -> NDArray[Any]:
    """Class codes int64 [n], or values float64 [n]. Raises DataError for a label that is no class."""
    if task.kind == "regression":
        numbers = [None if text is None else parse_number(text) for text in column]
        return np.array([np.nan if n is None else n for n in numbers])
    codes = {class_name(label): place for place, label in enumerate(task.classes)}
    spelled = {text: (aliases or {}).get(text, text) for text in {label_text(text, task) for text in column}}
    unknown = sorted(text for text in spelled if spelled[text] not in codes)
    if unknown:
        raise DataError(
            "unknown_label",
            "the data has labels that the model does not know",
            seen=", ".join(unknown[:8]),
            hint="known: " + ", ".join(list(codes)[:20]),
        )
    return np.array([codes[spelled[label_text(text, task)]] for text in column], np.int64)


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
    return np.array([is_missing(text, extra) for text in column], bool)
