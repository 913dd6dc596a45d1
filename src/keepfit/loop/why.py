"""Walks from an answer to what made it: record, version, decision, recipe, rows of data that are most like it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import DataError, KeepfitError
from keepfit.loop.attempts import Attempt
from keepfit.loop.journal import Journal
from keepfit.recipe import parse
from keepfit.runtime.coerce import parse_number
from keepfit.runtime.sources import expand
from keepfit.runtime.table import Table
from keepfit.store.records import Records, records_folder
from keepfit.store.registry import Registry, Version

_ALIKE = 5
_MOST_ROWS = 200_000


def why_of(request_id: str, workspace: Path) -> dict[str, Any]:
    """What is known of an answer, as JSON. Raises DataError where no record has this id."""
    home = records_folder(workspace)
    places: list[Path | str] = [*sorted(path.parent for path in home.glob("*/key")), *_databases(workspace)]
    for place in places:
        rows = Records.open(place, workspace).find(request_id)
        if rows:
            break
    else:
        raise DataError(
            "unknown_request",
            "no record here has this request id",
            where=str(home),
            seen=request_id[:80],
            hint="records are kept by keepfit serve and keepfit up with serve.record full; look in that --workspace",
        )
    name, sha256 = rows[0].name, rows[0].sha256
    answers = [
        {
            "row": row.row,
            "inputs": row.inputs,
            "prediction": row.prediction,
            "probabilities": row.probabilities,
            "label": row.label,
        }
        for row in rows
    ]
    found: dict[str, Any] = {"request_id": request_id, "at": rows[0].at, "answers": answers}
    found["model"] = {"name": name, "version": rows[0].version, "sha256": sha256}
    version = _version(Registry(workspace), name, sha256)
    if version is None:
        found["made_by"] = "this model is in no registry here: it was served from a folder"
        return found
    bundle = version.open()
    found["version"] = version.as_json()
    found["lineage"] = dict(version.lineage)
    found["recipe"] = bundle.files["recipe.yaml"].decode()
    found["metrics"] = bundle.manifest.get("metrics", {})
    found["decisions"] = _decisions(Journal(workspace, name), version.version)
    table, source = _training_rows(workspace, name, version, found["recipe"])
    found["data"] = {"source": source, "rows": len(table)}
    if rows[0].inputs and len(table):
        found["data"]["alike"] = alike(dict(rows[0].inputs), table)
    return found


def _databases(workspace: Path) -> list[str]:
    """The databases that champions of this workspace are recorded in, as their recipes say; those that cannot be named here are
    left out."""
    registry, found = Registry(workspace), dict[str, None]()
    for name in registry.names():
        try:
            text = registry.resolve(name).open().files["recipe.yaml"].decode()
            place = parse(text, origin="recipe.yaml of the bundle").serve.record_store
            if place:
                found[expand(place)] = None
        except KeepfitError:
            continue
    return list(found)


def _version(registry: Registry, name: str, sha256: str) -> Version | None:
    try:
        versions = registry.versions(name)
    except KeepfitError:
        return None
    return next((one for one in reversed(versions) if one.sha256 == sha256), None)


def _decisions(journal: Journal, version: int) -> list[dict[str, Any]]:
    """The lines of the journal that led to a version: the change, the run, the trial, the promotion."""
    entries = list(journal)
    last = next((place for place, one in enumerate(entries) if one.data.get("version") == version), None)
    if last is None:
        return []
    first = next((place for place in range(last, -1, -1) if entries[place].what in ("changed", "retrain")), last)
    while first > 0 and entries[first - 1].what == "changed":
        first -= 1
    kept = [
        one
        for place, one in enumerate(entries)
        if first <= place and (place <= last or one.data.get("version") == version or one.data.get("worse") == version)
    ]
    return [{"number": one.number, "at": one.at, "what": one.what, **one.data} for one in kept]


def _training_rows(workspace: Path, name: str, version: Version, recipe: str) -> tuple[Table, str]:
    """The rows that the version learned from, where they are at hand, and where they lie."""
    for entry in Journal(workspace, name):
        if entry.what == "challenger" and entry.data.get("version") == version.version:
            folder = Journal(workspace, name).folder / "attempts"
            numbers = [
                one.data["attempt"]
                for one in Journal(workspace, name)
                if one.what == "retrain" and one.number < entry.number
            ]
            attempt = Attempt(folder / f"{numbers[-1]:04d}")
            rows = attempt.rows("train")
            names = list(dict.fromkeys(key for row in rows for key in row["inputs"]))
            columns = {key: _column([row["inputs"].get(key) for row in rows]) for key in names}
            target = parse(recipe).data.target
            return Table({**columns, target: _column([row["label"] for row in rows])}), str(attempt.folder)
    from keepfit.engine.plan import plan
    from keepfit.stages.results import table_of
    from keepfit.store.artifacts import Store

    said = Path(version.run) / "recipe.yaml"
    try:
        loaded = parse(said.read_text("utf-8"), origin=str(said), folder=said.parent)
        kept = Store(workspace).made_by(plan(loaded, until="ingest").steps[0].key)
        return (table_of(kept[1]) if kept else Table({})), str(said)
    except (KeepfitError, OSError):
        return Table({}), f"{said} (not at hand)"


def _column(values: list[Any]) -> np.ndarray[Any, np.dtype[np.object_]]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def alike(inputs: dict[str, Any], table: Table) -> list[dict[str, Any]]:
    """The training rows most like an input: numbers by their distance in ranks' spread, texts by being the same."""
    size = min(len(table), _MOST_ROWS)
    gaps = np.zeros(size)
    for name, value in inputs.items():
        if name not in table.columns:
            continue
        column = table.columns[name][:size]
        number = parse_number(value) if isinstance(value, str) else value
        if isinstance(number, int | float) and np.isfinite(number):
            values = np.array([_number(cell) for cell in column], float)
            spread = float(np.nanstd(values)) or 1.0
            gaps += np.nan_to_num(np.minimum(np.abs(values - number) / spread, 1.0), nan=1.0)
        else:
            gaps += np.array([cell != value for cell in column], float)
    nearest = np.argsort(gaps, kind="stable")[:_ALIKE]
    return [
        {
            "row": int(place),
            "distance": round(float(gaps[place]), 4),
            **{name: column[place] for name, column in table.columns.items() if not isinstance(column[place], bytes)},
        }
        for place in nearest
    ]


def _number(cell: Any) -> float:
    number = parse_number(cell) if isinstance(cell, str) else cell
    return float(number) if isinstance(number, int | float) else float("nan")


def told(found: dict[str, Any]) -> str:
    """For a person."""
    model = found["model"]
    lines = [f"answer     {found['request_id']}: " + ", ".join(str(one["prediction"]) for one in found["answers"][:5])]
    lines += [f"truth      {one['label']}" for one in found["answers"][:5] if one["label"] is not None]
    lines.append(f"model      {model['name']}@{model['version']} ({model['sha256'][:12]})")
    if "made_by" in found:
        return "\n".join([*lines, f"           {found['made_by']}"])
    lines.append(f"run        {found['version']['run'] or 'registered by hand'}")
    lines += [f"decision   {one['number']}: {one['what']} {one.get('why', '')}".rstrip() for one in found["decisions"]]
    lines.append(f"lineage    {json.dumps(found['lineage'])}")
    lines.append(f"data       {found['data']['rows']} rows of {found['data']['source']}")
    for row in found["data"].get("alike", []):
        cells = ", ".join(f"{name} {value}" for name, value in row.items() if name not in ("row", "distance"))
        lines.append(f"  row {row['row']} (distance {row['distance']}): {cells[:200]}")
    return "\n".join(lines)
