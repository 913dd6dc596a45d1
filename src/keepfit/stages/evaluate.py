"""Answers the held-out raw rows with the runtime and measures; the test split is touched here and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, RecipeError, nearest
from keepfit.recipe.outcome import EvaluateOptions
from keepfit.runtime.arrays import unpack
from keepfit.runtime.opening import Predictor, predictor_from
from keepfit.runtime.samples import Samples, rows_of
from keepfit.runtime.table import Table
from keepfit.runtime.writers import parquet_bytes
from keepfit.stages.evaluation import evaluation
from keepfit.stages.packing import unpack_table
from keepfit.stages.picture_report import mistakes
from keepfit.stages.results import as_json, changed, json_of, label_text, part_of, table_of, task_of, truth_of
from keepfit.store.artifacts import Files
from keepfit.tasks.metrics import METRICS, default_primary, score
from keepfit.tasks.task import Task

VERSION = 5


def predictor_of(trained: Files, task: Task) -> Predictor:
    """The runtime's predictor of a trained model."""
    files = trained["preparation.json"], trained["model.onnx"]
    return predictor_from(*files, task.kind, list(task.classes), threads=2, tokenizer=trained.get("tokenizer.json"))


def wanted(section: EvaluateOptions, task: Task) -> tuple[str, list[str]]:
    """Primary metric and all metrics. Raises RecipeError where one does not fit the task."""
    fit = list(METRICS[task.kind])
    asked = [*section.metrics, *([] if section.primary == "auto" else [section.primary])]
    for name in asked:
        if name not in fit:
            raise RecipeError(
                "metric_task", f"{name!r} does not fit {task.kind}", where="evaluate", hint="known: " + ", ".join(fit)
            )
    primary = default_primary(task) if section.primary == "auto" else section.primary
    return primary, list(dict.fromkeys([primary, *(section.metrics or fit)]))


def evaluate(
    section: EvaluateOptions, seed: int, ingested: Files, parted: Files, cleaned: Files, trained: Files
) -> Files:
    """`evaluation.json`, `metrics.json`, `leaderboard.json`, `predictions.parquet`."""
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    part = part_of(cleaned)
    primary, metrics = wanted(section, task)
    test = table.take(part == "test")
    scores, errors, unseen = predictor_of(trained, task).scores(test)
    truth = truth_of(test.columns[task.target], task)
    flat = scores if task.kind == "classification" else scores[:, 0]
    good = np.array([not error for error in errors])
    if not good.any():
        raise DataError(
            "nothing_answered",
            "no test row could be answered",
            where="the test split",
            seen=f"{len(errors)} rows; the first: {errors[0]}",
            hint="read the column as something else (data.columns), or mend its cells",
        )
    before = baseline(truth_of(table.columns[task.target][part == "train"], task), task, int(good.sum()))
    found = evaluation(
        task,
        truth[good],
        flat[good],
        baseline=before,
        metrics=metrics,
        seed=seed,
        slices={name: np.asarray(test.columns[name])[good] for name in section.slices},
    )
    board, validation = _validation(trained, table, cleaned, task, primary, metrics)
    facts = {
        "primary": primary,
        "label_matches": dict(task.aliases),
        "validation": validation,
        "test": found["metrics"],
        "test_without_crossings": _without(
            json_of(cleaned, "crossings.json"), test.ids[good], task, truth[good], flat[good], metrics
        ),
        "unseen": unseen,
        "unanswered": int((~good).sum()),
    }
    shown = mistakes(test.take(good), truth[good], scores[good], task) if "pictures.json" in ingested else {}
    return {
        **shown,
        "evaluation.json": as_json(_plain(found)),
        "metrics.json": as_json(_plain(facts)),
        "leaderboard.json": as_json(_plain(board)),
        "predictions.parquet": _predictions(test, task, scores, errors),
    }


def _without(
    crossing: list[str],
    ids: Samples,
    task: Task,
    truth: NDArray[Any],
    scores: NDArray[Any],
    metrics: list[str],
) -> dict[str, Any] | None:
    """Rows and metrics without test rows that have a copy or a fellow outside the split; None where there are none."""
    clear = ~rows_of(ids, crossing)
    if clear.all() or clear.sum() < 2 or (task.kind == "classification" and len(np.unique(truth[clear])) < 2):
        return None
    return {"rows": int(clear.sum()), "metrics": score(task, truth[clear], scores[clear], metrics)}


def refuse_early(section: EvaluateOptions, balance: str, ingested: Files, parted: Files) -> None:
    """What would fail after training, or be of no effect, is refused before: metrics and balance of another task,
    slices of absent columns."""
    task = task_of(json_of(parted, "task.json"))
    wanted(section, task)
    if balance != "none" and task.kind == "regression":
        raise RecipeError(
            "unused_key",
            f"data.balance: {balance} is for classes, and this is a regression",
            where="data.balance",
            seen=f"the target {task.target!r} is a number",
            hint="leave it out, or say task: classification",
        )
    names = unpack_table(ingested["table"]).names if section.slices else []
    for name in section.slices:
        if name not in names:
            raise RecipeError(
                "column_missing",
                f"evaluate.slices names {name!r}, which the data does not have",
                where="evaluate.slices",
                hint=nearest(name, names),
            )


def baseline(train: NDArray[Any], task: Task, rows: int) -> NDArray[np.float64]:
    """Class shares of the training split, or its mean, for every row."""
    if task.kind == "regression":
        return np.full(rows, float(train.mean()))
    shares = np.bincount(train, minlength=len(task.classes)) / len(train)
    return np.tile(shares, (rows, 1))


def _validation(
    trained: Files, table: Table, cleaned: Files, task: Task, primary: str, metrics: list[str]
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """Leaderboard and the chosen model's figures, on rows that the scored models had not seen, with the answers that chose
    it: mended ones where cleaning mended them."""
    facts, held = json_of(trained, "trained.json"), json_of(trained, "held.json")
    place = {str(sample): row for row, sample in enumerate(table.ids)}
    rows = np.array([place[sample] for sample in held["ids"]])
    truth = truth_of(changed(table.take(rows), cleaned).columns[task.target], task)
    all_scores = unpack(held["scores"])
    shaped = all_scores if task.kind == "classification" else all_scores[:, :, 0]
    chosen = facts["chosen"]
    board = [
        {
            "name": trial["name"],
            "validation": score(task, truth, shaped[trial["scores_at"]], [primary])[primary],
            "seconds": None,
            "chosen": trial["name"] == chosen,
            "note": _note(trial),
        }
        for trial in facts["trials"]
    ]
    board += [
        {"name": trial["name"], "validation": None, "seconds": None, "chosen": False, "note": trial["why"]}
        for trial in facts["ended"]
    ]
    blend = score(task, truth, shaped[-1], metrics)
    if chosen == "ensemble":
        note = ", ".join(f"{name} {weight:.2f}" for name, weight in facts["weights"].items())
        board.append({"name": "ensemble", "validation": blend[primary], "seconds": None, "chosen": True, "note": note})
    return board, blend


def _note(trial: dict[str, Any]) -> str:
    rounds = f"{trial['rounds']} rounds, " if trial["rounds"] else ""
    return rounds + ", ".join(f"{key} {value}" for key, value in trial["params"].items() if key != "rounds")


def _predictions(test: Table, task: Task, scores: NDArray[Any], errors: list[str]) -> bytes:
    best = scores.argmax(1) if task.kind == "classification" else None
    names, kinds = ["id", "actual", "prediction"], ["VARCHAR", "VARCHAR", "VARCHAR"]
    if best is None:
        kinds = ["VARCHAR", "DOUBLE", "DOUBLE"]
        answers: list[Any] = [float(value) for value in scores[:, 0]]
        actual: list[Any] = [float(value) for value in truth_of(test.columns[task.target], task)]
        columns = [list(test.ids), actual, answers]
    else:
        labels, aliases = task.names, dict(task.aliases)
        names += [f"probability_{label}" for label in labels]
        kinds += ["FLOAT"] * len(labels)
        columns = [
            list(test.ids),
            [aliases.get(label_text(text, task), text) for text in test.columns[task.target]],
            [labels[n] for n in best],
            *[[float(v) for v in scores[:, n]] for n in range(len(labels))],
        ]
    return parquet_bytes([*names, "error"], [*kinds, "VARCHAR"], zip(*columns, errors, strict=True))


def _plain(value: Any) -> Any:
    """JSON without numpy scalars; NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
