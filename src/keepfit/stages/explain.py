"""Which raw columns the model leans on: permutation importance on test rows.

The shipped model may have been fitted again on the validation rows; nothing is chosen by what is measured here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keepfit.recipe.outcome import EvaluateOptions, ExplainOptions
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table
from keepfit.stages.evaluate import predictor_of, wanted
from keepfit.stages.importance import permutation_importance
from keepfit.stages.results import as_json, json_of, part_of, room_of, table_of, task_of, truth_of
from keepfit.store.artifacts import Files

VERSION = 2


def explain(
    section: ExplainOptions,
    asked: EvaluateOptions,
    seed: int,
    ingested: Files,
    parted: Files,
    cleaned: Files,
    trained: Files,
) -> Files:
    """`importance.json`."""
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    part = part_of(cleaned)
    rows = table.take(part == "test")
    rules = [ColumnRule.from_json(rule) for rule in json_of(cleaned, "rules.json")]
    if room_of(ingested) != "tabular":
        return {"importance.json": as_json([])}  # one column: shuffling it says nothing
    predictor = predictor_of(trained, task)
    used = [rule.name for rule in rules if rule.kind != "ignore"]

    def scores(sample: Table) -> NDArray[np.float64]:
        found = predictor.scores(sample)[0].astype(np.float64)
        return found if task.kind == "classification" else found[:, 0]

    inputs = Table({name: rows.columns[name] for name in used}, rows.ids)
    found = permutation_importance(
        scores,
        inputs,
        task,
        truth_of(rows.columns[task.target], task),
        wanted(asked, task)[0],
        seed=seed,
        rows=section.rows,
    )
    return {"importance.json": as_json(found)}
