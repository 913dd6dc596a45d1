"""The process that makes a challenger: `python -m keepfit.loop.training FOLDER`. Killed at any time, it goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from keepfit import recipe as recipes
from keepfit.core import atomic
from keepfit.core.errors import KeepfitError
from keepfit.core.events import Event
from keepfit.engine.plan import Plan, plan
from keepfit.engine.run import run as walk
from keepfit.loop.attempts import LOG, Asked, Attempt, Result
from keepfit.loop.rows import Labelled, table_of
from keepfit.loop.strategies import training_table
from keepfit.recipe.model import Recipe
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import Table, to_text
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.stages import results
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry

_NICE = 10


def main(folder: Path) -> int:
    """Makes every kind that was asked for, keeps the one that is best on the hold-out, and registers it as challenger."""
    attempt = Attempt(folder)
    with attempt.held() as own:
        if not own or attempt.result() is not None:
            return 0
        os.nice(_NICE)
        try:
            made(attempt)
        except KeepfitError as error:
            if attempt.result() is None:
                attempt.finish(Result(0, error=f"{error.what} ({error.code}); {error.seen}"[:500]))
        except Exception as error:
            traceback.print_exc()
            if attempt.result() is None:
                attempt.finish(Result(0, error=f"internal fault: {error!r}; see {attempt.folder / LOG}"[:500]))
    return 0


def made(attempt: Attempt) -> Result:
    """The best challenger of an attempt, registered with the champion as its parent; said to be done before its report is."""
    asked = attempt.asked
    recipe = recipes.load(Path(asked.recipe), asked.overrides)
    parts = {part: _table(attempt.rows(part), recipe) for part in ("train", "holdout", "past")}
    old = _old(recipe, asked) if any(kind in ("full", "replay") for kind in asked.kinds) else Table({})
    scores: dict[str, float | None] = {}
    plans: dict[str, Plan] = {}
    faults = []
    for kind in asked.kinds:
        rows = training_table(kind, old, parts["past"], parts["train"], recipe.data.target, asked.memory, asked.seed)
        try:
            plans[kind] = _plan(recipe, _as_sources_give(rows, recipe.modality, asked))
            bundle = _bundle(plans[kind], asked, attempt.folder / "bundles" / kind)
        except KeepfitError as error:
            faults.append(f"{kind}: {error.what} ({error.code})")
            continue
        scores[kind] = score(bundle, parts["holdout"], recipe.data.target)
    if not scores:
        result = Result(0, error="; ".join(faults)[:500])
        attempt.finish(result)
        return result
    best = max(scores, key=lambda kind: -np.inf if (found := scores[kind]) is None else found)
    version = Registry(Path(asked.workspace)).register(
        attempt.folder / "bundles" / best,
        asked.name,
        parents=(asked.champion,),
        run=str(attempt.folder),
        note=f"retrained, {best}",
    )
    attempt.finish(Result(version.version, best, scores))
    _report(plans[best], asked)
    return Result(version.version, best, scores)


def _bundle(steps: Plan, asked: Asked, place: Path) -> Path:
    """The bundle alone: the trial need not wait for the report."""
    if not place.exists():
        root = Path(asked.workspace)
        short = Plan(steps.recipe, steps.text, tuple(one for one in steps.steps if one.stage != "report"), steps.frame)
        files = walk(short, Store(root), root / "runs", _told).files["package"]
        with atomic.new_folder(place) as scratch:
            for name, data in files.items():
                (scratch / name).write_bytes(data)
    return place


def _report(steps: Plan, asked: Asked) -> None:
    """The run folder with its report, of what is made already; the challenger does not depend on it."""
    root = Path(asked.workspace)
    with contextlib.suppress(KeepfitError):
        walk(steps, Store(root), root / "runs", _told)


def _old(recipe: Recipe, asked: Asked) -> Table:
    """The recipe's own rows, less a test split that it gives."""
    data = recipe.data.model_copy(update={"validation": None, "test": None})
    steps = plan(recipe.model_copy(update={"data": data}), until="ingest")
    done = walk(steps, Store(Path(asked.workspace)), Path(asked.workspace) / "runs", _told)
    table = results.table_of(done.files["ingest"])
    return Table(dict(table.columns))


def _plan(recipe: Recipe, rows: Table) -> Plan:
    """The line on these rows; the hold-out of the loop is beside it, so that little is split off here."""
    split = recipe.data.split
    by = "auto" if split.by == "given" else split.by
    data = recipe.data.model_copy(
        update={
            "source": "frame",
            "train": None,
            "validation": None,
            "test": None,
            "split": split.model_copy(update={"test": min(split.test, 0.1), "by": by}),
        }
    )
    return plan(recipe.model_copy(update={"data": data}), rows)


def _as_sources_give(rows: Table, modality: str, asked: Asked) -> Table:
    """Texts under the name of the column that the champion read them from, so that the next reads it too; pictures with names."""
    if modality == "image":
        ids = np.empty(len(rows), object)
        ids[:] = [f"row{place}" for place in range(len(rows))]
        return Table(rows.columns, ids)
    if modality == "text":
        champion = Registry(Path(asked.workspace)).get(asked.name, asked.champion).open()
        column = champion.manifest.get("text_column") or TEXT
        return Table({column if name == TEXT else name: cells for name, cells in rows.columns.items()}, rows.ids)
    return rows


def _table(rows: list[dict[str, Any]], recipe: Recipe) -> Table:
    """Rows of an attempt as a table with the target; no columns where there are no rows."""
    if not rows:
        return Table({})
    labelled = [Labelled("", 0, 0.0, 0.0, "", row["inputs"], None, row["label"]) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row["inputs"])
    return table_of(labelled, names, recipe.modality, recipe.data.target)


def score(bundle: Path | None, rows: Table, target: str) -> float | None:
    """Share of right answers, or the mean absolute error below zero; None where there are no rows."""
    if bundle is None or not len(rows):
        return None
    opened = Bundle.open(bundle)
    names = [column.name for column in opened.inputs]
    answers = opened.predictor().predict(Table({name: rows.columns[name] for name in names}))
    truth = rows.columns[target]
    if opened.task == "regression":
        gaps = [
            abs(float(one) - float(true)) for one, true in zip(answers.labels, truth, strict=True) if one is not None
        ]
        return -float(np.mean(gaps)) if gaps and np.isfinite(gaps).all() else None
    return float(np.mean([to_text(one) == true for one, true in zip(answers.labels, truth, strict=True)]))


def _told(event: Event) -> None:
    print(json.dumps({"at": event.at, "what": event.what}), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
