"""Fits preparation and learner on the training split, by way of the catalog's part."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from keepfit.core.catalog import load
from keepfit.core.errors import RecipeError, missing_extra, nearest
from keepfit.core.options import Options
from keepfit.runtime.arrays import pack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, concat
from keepfit.stages.results import (
    PARTS,
    as_json,
    changed,
    json_of,
    part_of,
    room_of,
    rows_of,
    table_of,
    task_of,
    truth_of,
)
from keepfit.stages.warm import Start, warm_of
from keepfit.store.artifacts import Files
from keepfit.tasks.task import Task

VERSION = 7
PROBES, PICTURES = 5000, 500
_LOSSES = {"classification": ("cross_entropy", "focal"), "regression": ("mse", "mae", "huber")}


def train(
    learner: Options,
    way: dict[str, Any],
    ingested: Files,
    parted: Files,
    cleaned: Files,
    stopped: Callable[[], bool],
    say: Callable[[str, dict[str, Any]], None],
    start: Start | None = None,
) -> Files:
    """`preparation.json`, `model.onnx`, `weights/*`, `native.json` (the learner's own answers), `trained.json`."""
    if way.get("train") is not None:
        need_the_extra()
    sample, ways = load("keepfit.modalities.room:Sample"), load("keepfit.modalities.room:Way")
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    _refuse_early(way, task)
    part = part_of(cleaned)
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    room = load(
        learner.impl if hasattr(learner, "fits_itself") else f"keepfit.modalities.{room_of(ingested)}.learn:fit"
    )
    data = {}
    for name in PARTS[:2]:
        rows = changed(table.take(part == name), cleaned)
        data[name] = sample(rows, truth_of(rows.columns[task.target], task))
    warm = warm_of(start, task, data["train"].table.ids)
    rules = rules if start is None else start.rules() or rules
    notes = _even_out(data, way["balance"], room_of(ingested), way["seed"], len(task.classes))
    probe = probe_of(table.take(part == "test"), json_of(cleaned, "golden.json"), rules)
    made = room(
        learner,
        rules,
        data["train"],
        data["validation"],
        probe,
        len(task.classes),
        ways(**way, names=task.names, stopped=stopped, spared=json_of(cleaned, "changes.json")["spared"], warm=warm),
        say,
    )
    held = {"ids": made.held, "scores": pack(made.held_scores, "f8")}
    files = {f"weights/{name}": data for name, data in made.weights.items()}
    files |= {f"pictures/{name}": data for name, data in made.pictures.items()}
    return {
        **files,
        **made.files,
        "preparation.json": made.preparation,
        "model.onnx": made.onnx,
        "trained.json": as_json({**made.facts, "notes": [*made.facts.get("notes", []), *notes]}),
        "native.json": as_json(pack(made.native, "f8")),
        "held.json": json.dumps(held).encode(),
    }


def rehearse(
    learner: Options, way: dict[str, Any], ingested: Files, parted: Files, cleaned: Files
) -> dict[str, Any] | None:
    """What a learner that can be tried would train, after one batch went through it; None for other learners."""
    rehearsal = getattr(learner, "rehearsal", None)
    if rehearsal is None:
        return None
    need_the_extra()
    sample, ways = load("keepfit.modalities.room:Sample"), load("keepfit.modalities.room:Way")
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    _refuse_early(way, task)
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    rows = changed(table.take(part_of(cleaned) == "train"), cleaned)
    train = sample(rows, truth_of(rows.columns[task.target], task))
    found: dict[str, Any] = load(rehearsal)(learner, rules, train, len(task.classes), ways(**way, names=task.names))
    return found


def _even_out(data: dict[str, Any], balance: str, room: str, seed: int, classes: int) -> list[str]:
    """Repeat or leave out pictures or texts of the training split; tables are evened out fold by fold, in their room."""
    if room == "tabular" or not classes or balance in ("none", "class_weight"):
        return []
    if balance in ("smote", "noise"):
        raise RecipeError(
            "bad_value",
            f"data.balance: {balance} makes rows of tables, and this is {room}",
            where="data.balance",
            seen=balance,
            hint="oversample, undersample or class_weight",
        )
    train = data["train"]
    found: list[str] = load("keepfit.modalities.room:evened")(balance, train.truth, classes)
    rows = load("keepfit.modalities.room:resampled")(balance, train.truth, seed)
    data["train"] = replace(train, table=train.table.take(rows), truth=train.truth[rows])
    return found


def need_the_extra() -> None:
    """Said before hours of training, what export and report need too."""
    for module in ("torch", "safetensors", "onnx", "onnxscript", "matplotlib"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise missing_extra("networks", error.name or module) from None


def _refuse_early(way: dict[str, Any], task: Task) -> None:
    """What does not go with the task: losses, weights of classes, and mixing of answers."""
    said = way.get("train")
    if said is None:
        return
    numbers = task.kind == "regression"
    fitting = ("auto", *(_LOSSES[task.kind]))
    if said.loss not in fitting:
        raise RecipeError(
            "bad_value",
            f"the loss {said.loss} is not for {task.kind}",
            where="train.loss",
            seen=f"the target {task.target!r} is {'a number' if numbers else 'a class'}",
            hint=f"known: {', '.join(fitting)}; or say task: ...",
        )
    mixing = [part.use for part in way.get("augment", ()) if part.of == "batch"]
    for key, used in (
        ("train.class_weight", said.class_weight not in ("auto", "none")),
        ("train.label_smoothing", said.label_smoothing > 0),
        (f"augment: {', '.join(mixing)}", bool(mixing)),
    ):
        if used and numbers:
            raise RecipeError(
                "unused_key",
                f"{key} is for classes, and this is a regression",
                where=key.partition(":")[0],
                seen=f"the target {task.target!r} is a number",
                hint="leave it out, or say task: classification",
            )
    for name in said.class_weight if isinstance(said.class_weight, dict) else ():
        if name not in task.names:
            raise RecipeError(
                "bad_value",
                f"train.class_weight names {name!r}, which is no class",
                where=f"train.class_weight.{name}",
                hint=nearest(name, task.names),
            )


def probe_of(test: Table, golden: list[dict[str, Any]], rules: list[ColumnRule]) -> Table:
    """Synthetic rows first, then at most PROBES test rows; only inputs, no answers."""
    first = rows_of(golden, rules)
    most = PICTURES if any(rule.kind == "image" for rule in rules) else PROBES
    some = test.take(np.arange(min(len(test), most)))
    return concat([first, Table({name: some.columns[name] for name in first.names})])
