"""Puts preparation, network, profile, recipe and card into a bundle; refuses when its answers are not the trained model's."""

from __future__ import annotations

import base64
import json
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import GateError
from keepfit.recipe.data import ReadOptions
from keepfit.recipe.outcome import PackageOptions
from keepfit.runtime.arrays import unpack
from keepfit.runtime.bundle import FORMAT
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table
from keepfit.stages.evaluate import predictor_of
from keepfit.stages.reference import reference_of
from keepfit.stages.results import as_json, json_of, part_of, room_of, table_of, task_json, task_of, truth_of
from keepfit.stages.train import probe_of
from keepfit.store.artifacts import Files
from keepfit.tasks.task import Task

VERSION = 6
LIBRARIES = ("numpy", "onnxruntime", "onnx", "duckdb")
OF_TABLES = ("scikit-learn", "lightgbm")
OF_NETWORKS = ("torch",)
OF_TEXTS = ("scikit-learn", "scipy")


def package(
    section: PackageOptions,
    name: str,
    recipe: str,
    card: str,
    metrics: dict[str, Any],
    ingested: Files,
    parted: Files,
    cleaned: Files,
    trained: Files,
    *,
    read: ReadOptions | None = None,
    image: str | None = None,
    monitor: dict[str, Any] | None = None,
) -> Files:
    """The files of the bundle, SHA256SUMS included. Raises GateError when parity fails."""
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    part = part_of(cleaned)
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    used = [rule for rule in rules if rule.kind != "ignore"]
    made_up = json_of(cleaned, "golden.json")
    probe = probe_of(table.take(part == "test"), made_up, rules)
    native = unpack(json_of(trained, "native.json"))
    scores, _, _ = predictor_of(trained, task).scores(probe)
    scale = _scale(table.take(part == "train"), task)
    parity = check_parity(native, scores.astype(np.float64), task.kind, scale)
    golden = _golden(section.golden, made_up, probe, native)
    manifest = {
        **_schema(used, rules),
        **task_json_parts(task_json(task)),
        **_read(read, table.names),
        **({"image_column": image} if image is not None else {}),
        **_text_column(ingested),
        "format": FORMAT,
        "name": name,
        "modality": room_of(ingested),
        "scale": scale,
        "golden": section.golden,
        "monitor": monitor or {},
        "metrics": metrics,
        "parity": parity,
        "lineage": _lineage(ingested, recipe, trained),
        "libraries": _versions(room_of(ingested), json_of(trained, "trained.json")),
        "keepfit": version("keepfit"),
        "model": {key: json_of(trained, "trained.json")[key] for key in ("chosen", "weights", "rounds", "features")},
    }
    files = {
        "bundle.json": json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1).encode(),
        "model.onnx": trained["model.onnx"],
        "preparation.json": trained["preparation.json"],
        "profile.json": as_json(
            {**json_of(cleaned, "profile.json"), "monitor": reference_of(ingested, parted, cleaned, trained)}
        ),
        "recipe.yaml": recipe.encode(),
        "card.md": card.encode(),
    }
    files |= _where_there_are(section.golden, golden, trained)
    sums = "".join(f"{digest.of_bytes(data)}  {file}\n" for file, data in sorted(files.items()))
    return {**files, "SHA256SUMS": sums.encode()}


def _where_there_are(kind: str, golden: bytes, trained: Files) -> Files:
    """The files that not every bundle has: recorded answers, and the tokenizer of a network for texts."""
    found = {"golden.jsonl": golden} if kind != "off" else {}
    return found | {name: trained[name] for name in ("tokenizer.json",) if name in trained}


def _lineage(ingested: Files, recipe: str, trained: Files) -> dict[str, str]:
    return {
        "data": digest.of_bytes(ingested["table"]),
        "recipe": digest.of_bytes(recipe.encode()),
        "trained": digest.of_json({n: digest.of_bytes(data) for n, data in trained.items()}),
    }


def _text_column(ingested: Files) -> dict[str, str]:
    """Which column of a table held the texts."""
    column = json_of(ingested, "texts.json")["column"] if "texts.json" in ingested else None
    return {"text_column": column} if column is not None else {}


def _versions(room: str, facts: dict[str, Any]) -> dict[str, str]:
    """Of the libraries that had a part in this model."""
    if "libraries" in facts:
        return {library: version(library) for library in dict.fromkeys((*LIBRARIES, *facts["libraries"]))}
    tried = facts["tried"]
    tables = OF_TABLES + (OF_NETWORKS if {"mlp", "custom"} & set(tried) else ())
    texts = OF_TEXTS if {"tfidf", "auto"} & set(tried) else (*OF_NETWORKS, "tokenizers")
    more = {"image": ("pillow", *OF_NETWORKS), "text": texts}.get(room, tables)
    return {library: version(library) for library in (*LIBRARIES, *more)}


def _read(said: ReadOptions | None, names: list[str]) -> dict[str, Any]:
    """How the rows were read, where that was said: what `predict` and `evaluate` begin with."""
    found = said.model_dump(exclude_defaults=True) if said is not None else {}
    if found.get("header") is False:
        found["names"] = names
    return {"read": {"header": True, **found}} if found else {}


def _scale(train: Table, task: Task) -> float:
    """The deviation of a numeric target in training, 1 for classes."""
    if task.kind == "classification":
        return 1.0
    return float(truth_of(train.columns[task.target], task).std() or 1.0)


def task_json_parts(task: dict[str, Any]) -> dict[str, Any]:
    """Task, target and classes as the manifest spells them."""
    return {"task": task["kind"], "target": task["target"], "classes": task["classes"]}


def check_parity(native: NDArray[np.float64], scores: NDArray[np.float64], kind: str, scale: float) -> dict[str, Any]:
    """The gate: labels equal in 99.9 %, probabilities within 1e-4, regression within 1e-4 of the target's deviation."""
    worst = float(np.abs(native - scores).max()) / scale if len(native) else 0.0
    same = float((native.argmax(1) == scores.argmax(1)).mean()) if kind == "classification" and len(native) else 1.0
    if not (worst <= 1e-4 and same >= 0.999):
        raise GateError(
            "parity",
            "the bundle does not answer like the trained model",
            where="package",
            seen=f"largest difference {worst:.2e} (allowed 1e-4), labels equal {same:.4%} (needed 99.9 %)",
            hint="report this with the recipe: it is a fault of the export",
        )
    return {"rows": len(native), "largest_difference": float(f"{worst:.1e}"), "labels_equal": same}


def _golden(kind: str, made_up: list[dict[str, Any]], probe: Table, native: NDArray[np.float64]) -> bytes:
    """JSON lines of inputs with their scores."""
    count = len(made_up)
    picked = range(count) if kind == "synthetic" else range(count, min(count + 20, len(probe)))
    rows = (
        made_up[row] if kind == "synthetic" else {name: _plain(column[row]) for name, column in probe.columns.items()}
        for row in picked
    )
    lines = [{"input": said, "scores": native[row].tolist()} for row, said in zip(picked, rows, strict=True)]
    return "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines).encode()


def _plain(cell: str | bytes | None) -> str | None:
    """A cell as JSON holds it: pictures in base64."""
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell


def _schema(used: list[ColumnRule], rules: list[ColumnRule]) -> dict[str, Any]:
    inputs = [{"name": rule.name, "kind": rule.kind, "datatype": _datatype(rule)} for rule in used]
    return {"inputs": inputs, "ignored": [rule.name for rule in rules if rule.kind == "ignore"]}


def _datatype(rule: ColumnRule) -> str:
    if rule.kind == "numeric":
        return "FP64"
    if rule.kind == "categorical" and rule.boolean:
        return "BOOL"
    return "BYTES"
