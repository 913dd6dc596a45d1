"""The process that makes a challenger: `python -m keepfit.loop.training FOLDER`. Killed at any time, it goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit import recipe as recipes
from keepfit.core import atomic
from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError
from keepfit.core.events import Event
from keepfit.engine.plan import Plan, plan, telling
from keepfit.engine.run import run as walk
from keepfit.loop.attempts import LOG, Asked, Attempt, Result
from keepfit.loop.rows import Labelled, table_of
from keepfit.loop.strategies import LEARN_ON, before, learns_on, training_table
from keepfit.recipe.model import Recipe
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import Table, to_text
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.stages import results
from keepfit.stages.warm import Start
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry
from keepfit.tasks.task import Task, class_name

_NICE = 15
HELD = 500
"""Rows from before that no challenger learns from: what was forgotten is measured on them."""


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
    old, held = _old(recipe, asked)
    scores: dict[str, float | None] = {}
    plans: dict[str, Plan] = {}
    faults = []
    for kind in asked.kinds:
        try:
            plans[kind] = _planned(kind, recipe, asked, old, parts["past"], parts["train"])
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
    place = attempt.folder / "bundles" / best
    registry = Registry(Path(asked.workspace))
    both = registry.get(asked.name, asked.champion).open(), Bundle.open(place)
    known = forgotten(*both, held, recipe.data.target)
    version = registry.register(
        place, asked.name, parents=(asked.champion,), run=str(attempt.folder), note=f"retrained, {best}"
    )
    result = Result(version.version, best, scores, "; ".join(faults)[:500], known)
    attempt.finish(result)
    _report(plans[best] if known is None else telling(plans[best], known), asked)
    return result


def _planned(kind: str, recipe: Recipe, asked: Asked, old: Table, past: Table, new: Table) -> Plan:
    """The line of one kind of challenger: its rows, and what it starts from."""
    target, start = recipe.data.target, None
    rows, remembered = training_table(kind, old, past, new, target, asked.memory, asked.seed)
    if kind in LEARN_ON and learns_on(recipe):
        champion = Registry(Path(asked.workspace)).get(asked.name, asked.champion).open()
        counts = Counter(_named(before(old, past, new), target, champion))
        start = warm_start(kind, Path(asked.workspace), asked.name, asked.champion, counts, remembered, recipe)
    return _plan(recipe, _as_sources_give(rows, recipe.modality, asked), start)


def _named(rows: Table, target: str, bundle: Bundle) -> list[str]:
    """The answers of rows as the bundle names its classes: a source may write True for true, or 1.0 for 1."""
    task = Task("regression" if bundle.task == "regression" else "classification", target, tuple(bundle.classes))
    return [results.label_text(text, task) for text in rows.columns[target]] if len(rows) else []


def warm_start(
    kind: str,
    workspace: Path,
    name: str,
    version: int,
    counts: Mapping[str, int],
    remembered: int,
    recipe: Recipe,
) -> Start | None:
    """What a challenger learns on from: the champion's trained files, from the store. None for a champion of numbers that is
    replayed: its remembered rows are all that it is given. Raises EnvironmentFault where the files are not there."""
    manifest = Registry(workspace).get(name, version).open().manifest
    if manifest["task"] == "regression" and kind == "replay":
        return None
    files = Store(workspace).get(str(manifest["lineage"]["trained"]))
    if files is None:
        raise EnvironmentFault(
            "no_champion_weights",
            "the champion's weights are not in the store of this workspace",
            where=str(workspace / ".keepfit" / "objects"),
            seen=f"{name} version {version}",
            hint="retrain.strategy: full or fresh; what a run has made is kept under .keepfit/objects",
        )
    return Start(kind, files, tuple(manifest.get("classes") or ()), counts, remembered, recipe.retrain.hold)


def _bundle(steps: Plan, asked: Asked, place: Path) -> Path:
    """The bundle alone: the trial need not wait for the report."""
    if not place.exists():
        root = Path(asked.workspace)
        short = replace(steps, steps=tuple(one for one in steps.steps if one.stage != "report"))
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


def _old(recipe: Recipe, asked: Asked) -> tuple[Table, Table]:
    """The recipe's own rows, less a test split that it gives, and the rows among them that no challenger learns from: of its
    test split, at most HELD. Nothing of either where the source is gone: learning goes on without it."""
    split = recipe.data.split
    split = split.model_copy(update={"by": "auto" if split.by == "given" else split.by})
    data = recipe.data.model_copy(update={"validation": None, "test": None, "split": split})
    try:
        steps = plan(recipe.model_copy(update={"data": data}), until="split")
        done = walk(steps, Store(Path(asked.workspace)), Path(asked.workspace) / "runs", _told)
    except DataError as error:
        print(json.dumps({"at": "ingest", "what": "old_rows_gone", "why": error.what, "code": error.code}), flush=True)
        return Table({}), Table({})
    table = results.table_of(done.files["ingest"])
    tested = np.flatnonzero(results.part_of(done.files["split"]) == "test")
    held = np.sort(np.random.default_rng(asked.seed).permutation(tested)[:HELD])
    left = np.setdiff1d(np.arange(len(table)), held)
    return Table(dict(table.take(left).columns)), Table(dict(table.take(held).columns))


def _plan(recipe: Recipe, rows: Table, start: Start | None = None) -> Plan:
    """The line on these rows; the hold-out of the loop is beside it, so that little is split off here."""
    split = recipe.data.split
    by = "auto" if split.by == "given" else split.by
    unread = [name for name in rows.names if len(rows) and all(cell is None for cell in rows.columns[name])]
    columns: dict[str, Any] = {**recipe.data.columns, **dict.fromkeys(unread, "ignore")}
    if start is not None:  # read as the champion reads them
        columns = columns | {rule.name: rule.kind for rule in start.rules() or ()}
    data = recipe.data.model_copy(
        update={
            "columns": columns,
            "source": "frame",
            "train": None,
            "validation": None,
            "test": None,
            "split": split.model_copy(update={"test": min(split.test, 0.1), "by": by}),
        }
    )
    clean = recipe.clean
    if (
        clean.labels == "report"
    ):  # suspected labels change nothing of a challenger, and looking for them takes a third of its time
        clean = clean.model_copy(update={"labels": "off"})
    return plan(recipe.model_copy(update={"data": data, "clean": clean}), rows, start=start)


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
    blank = np.full(len(rows), None, object)  # what clients send and the champion does not read is not recorded
    unread = {name: blank for name in ignored_of(asked) if name not in rows.columns}
    return Table({**rows.columns, **unread}, rows.ids)


def ignored_of(asked: Asked) -> tuple[str, ...]:
    """Columns that the champion takes and does not read: its successor must take them too."""
    predictor = Registry(Path(asked.workspace)).get(asked.name, asked.champion).open().predictor()
    return tuple(getattr(predictor, "ignored", ()))


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


def forgotten(champion: Bundle, challenger: Bundle, held: Table, target: str) -> dict[str, Any] | None:
    """Shares of right answers of both on rows from before, overall and by class; None for numbers, or where there are none."""
    if not len(held):
        return None
    right: list[NDArray[np.bool_]] = []
    truth = _named(held, target, champion)
    for opened in (champion, challenger):
        if opened.task == "regression":
            return None
        names = [column.name for column in opened.inputs]
        answers = opened.predictor().predict(Table({name: held.columns[name] for name in names}))
        right.append(np.array([class_name(one) == true for one, true in zip(answers.labels, truth, strict=True)]))

    def shares(rows: Any) -> dict[str, Any]:
        both = [round(float(one[rows].mean()), 4) for one in right]
        return {"rows": len(right[0][rows]), "champion": both[0], "challenger": both[1]}

    labels = np.array(truth)
    by_class = {str(one): shares(labels == one) for one in np.unique(labels)}
    return {**shares(slice(None)), "by_class": by_class}


def _told(event: Event) -> None:
    print(json.dumps({"at": event.at, "what": event.what}), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
