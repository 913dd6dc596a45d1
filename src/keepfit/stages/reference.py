"""The reference that records are compared with: from the training split before cleaning, and from answers on held-out rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from keepfit.monitor import Held, make_profile
from keepfit.runtime.arrays import unpack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table
from keepfit.stages.results import changed, json_of, part_of, room_of, table_of, task_of, truth_of
from keepfit.store.artifacts import Files
from keepfit.tasks.task import class_name

_ROWS = {"tabular": 50_000, "text": 4000, "image": 2000}
_SEED = 0


def reference_of(ingested: Files, parted: Files, cleaned: Files, trained: Files) -> dict[str, Any]:
    """`monitor` of profile.json.

    Rows that cleaning drops from training still come to a service, so the inputs are those of the whole training split. The
    answers are those on rows that the scored models had not seen.
    """
    table, task, room = table_of(ingested), task_of(json_of(parted, "task.json")), room_of(ingested)
    part = part_of(parted)
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    held = json_of(trained, "held.json")
    place = {str(sample): row for row, sample in enumerate(table.ids)}
    rows = np.array([place[sample] for sample in held["ids"]], np.int64)
    scores = unpack(held["scores"])[-1].astype(np.float64)
    kept = _some(len(rows), _ROWS[room])
    known = table.take(rows[kept])
    truth = truth_of(changed(known, cleaned).columns[task.target], task)
    answers = Held(known, scores[kept].reshape(len(known), -1), truth)
    train = np.flatnonzero(part == "train")
    seen: Table = table.take(train[_some(len(train), _ROWS[room])])
    classes = [class_name(label) for label in task.classes]
    return make_profile(seen, rules, answers, classes, _SEED).as_json()


def _some(rows: int, most: int) -> np.ndarray[Any, Any]:
    """At most so many places of rows, drawn once and for all."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False))
