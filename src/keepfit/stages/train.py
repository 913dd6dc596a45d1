"""Fits preparation and learner on the training split, by way of the catalog's part."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from keepfit.core.catalog import load
from keepfit.core.options import Options
from keepfit.runtime.arrays import pack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, concat
from keepfit.stages.results import PARTS, as_json, json_of, rows_of, table_of, task_of, truth_of
from keepfit.store.artifacts import Files

VERSION = 4
PROBES, PICTURES = 5000, 500


def train(
    learner: Options,
    way: dict[str, Any],
    ingested: Files,
    parted: Files,
    cleaned: Files,
    stopped: Callable[[], bool],
    say: Callable[[str, dict[str, Any]], None],
) -> Files:
    """`preparation.json`, `model.onnx`, `weights/*`, `native.json` (the learner's own answers), `trained.json`."""
    sample, ways = load("keepfit.modalities.room:Sample"), load("keepfit.modalities.room:Way")
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    part = np.array(json_of(cleaned, "part.json"), object)
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    modality = "image" if any(rule.kind == "image" for rule in rules) else "tabular"
    room = load(f"keepfit.modalities.{modality}.learn:fit")
    data = {}
    for name in PARTS[:2]:
        rows = table.take(part == name)
        data[name] = sample(rows, truth_of(rows.columns[task.target], task))
    probe = probe_of(table.take(part == "test"), json_of(cleaned, "golden.json"), rules)
    made = room(
        learner, rules, data["train"], data["validation"], probe, len(task.classes), ways(**way, stopped=stopped), say
    )
    held = {"ids": made.held, "scores": pack(made.held_scores, "f8")}
    files = {f"weights/{name}": data for name, data in made.weights.items()}
    files |= {f"pictures/{name}": data for name, data in made.pictures.items()}
    return {
        **files,
        "preparation.json": made.preparation,
        "model.onnx": made.onnx,
        "trained.json": as_json(made.facts),
        "native.json": as_json(pack(made.native, "f8")),
        "held.json": json.dumps(held).encode(),
    }


def probe_of(test: Table, golden: list[dict[str, Any]], rules: list[ColumnRule]) -> Table:
    """Synthetic rows first, then at most PROBES test rows; only inputs, no answers."""
    first = rows_of(golden, rules)
    most = PICTURES if any(rule.kind == "image" for rule in rules) else PROBES
    some = test.take(np.arange(min(len(test), most)))
    return concat([first, Table({name: some.columns[name] for name in first.names})])
