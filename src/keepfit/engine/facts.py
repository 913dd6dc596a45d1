"""Gathers what report and card say from the results of the stages."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import missing_extra
from keepfit.engine.plan import Plan
from keepfit.stages.card import card_markdown
from keepfit.stages.packing import unpack_table
from keepfit.stages.report import ReportFacts, report_html, write_plots
from keepfit.stages.results import PARTS, all_entries, found_in, json_of, part_of, row_counts, task_of, truth_of
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Block, Ledger, counted
from keepfit.tasks.task import Task
from keepfit.tasks.wording import metric_text, title


def gather(plan: Plan, files: dict[str, Files]) -> ReportFacts:
    """The facts of a run, with no clock, host or path among them."""
    task = task_of(json_of(files["split"], "task.json"))
    metrics, trained = json_of(files["evaluate"], "metrics.json"), json_of(files["train"], "trained.json")
    part = part_of(files["clean"])
    came, kept = row_counts(files)
    return ReportFacts(
        name=plan.recipe.name,
        task=task,
        modality=plan.recipe.modality,
        recipe=plan.text,
        metrics={"validation": metrics["validation"], "test": metrics["test"]},
        primary=metrics["primary"],
        evaluation=json_of(files["evaluate"], "evaluation.json"),
        validation_curve=trained["curve"],
        columns=json_of(files["clean"], "columns.json"),
        splits={name: int((part == name).sum()) for name in PARTS},
        target_summary=_target(files, task),
        ledger=_ledger(all_entries(files)),
        rows_in=came,
        rows_kept=kept,
        leaderboard=json_of(files["evaluate"], "leaderboard.json"),
        importance=json_of(files["explain"], "importance.json"),
        notes=_notes(metrics, trained),
        terms=trained.get("terms", []),
        epochs=trained.get("epochs", []),
        sheets=_sheets(files),
        forgotten=plan.forgotten or {},
        findings=found_in(files["clean"], plan.recipe.data.balance),
        described=json_of(files["clean"], "described.json"),
        shown=json_of(files["clean"], "shown.json") if "shown.json" in files["clean"] else {},
        mistakes=json_of(files["evaluate"], "mistakes.json") if "mistakes.json" in files["evaluate"] else [],
        model={
            "learner": trained["chosen"],
            "size_bytes": trained["onnx_bytes"],
            "features": trained["features"],
            "scored by": trained["scored_by"],
        },
    )


def _sheets(files: dict[str, Files]) -> dict[str, bytes]:
    found = {
        "augmented": files["train"].get("pictures/augmented.png"),
        "mistakes": files["evaluate"].get("mistakes.png"),
        "suspected": files["clean"].get("suspected.png"),
        "copies": files["clean"].get("copies.png"),
        "duplicates": files["clean"].get("duplicates.png"),
    }
    return {name: sheet for name, sheet in found.items() if sheet is not None}


def _target(files: dict[str, Files], task: Task) -> dict[str, float]:
    table, part = unpack_table(files["ingest"]["table"]), part_of(files["clean"])
    texts, ids = table.columns[task.target][part != ""].copy(), table.ids[part != ""]
    mended = json_of(files["clean"], "changes.json")["cells"].get(task.target, {})
    texts[:] = [mended.get(str(sample), text) for sample, text in zip(ids, texts, strict=True)] if mended else texts
    truth = truth_of(texts, task)
    if task.kind == "classification":
        return {
            task.names[code]: int(count) for code, count in enumerate(np.bincount(truth, minlength=len(task.classes)))
        }
    return {str(level): float(np.quantile(truth, level)) for level in (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1)}


def _ledger(entries: Ledger) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for part in entries.parts:
        rule = part.rule if part.count > 1 else part.rule.partition(":")[0]
        counts[rule, part.stage, part.action, part.unit] += len(part) if isinstance(part, Block) else part.count
    said = {"dropped": "dropped from the data", "noted": "kept, and noted here", "changed": "changed"}
    return [
        {"rule": rule, "stage": stage, "count": count, "sentence": f"{counted(count, unit)}: {rule}; {said[action]}."}
        for (rule, stage, action, unit), count in sorted(counts.items())
    ]


def _notes(metrics: dict[str, Any], trained: dict[str, Any]) -> list[str]:
    notes = [
        f"{count} values of {column} in the test rows were not seen in training; they were answered as unknown."
        for column, count in sorted(metrics["unseen"].items())
    ]
    if trained["class_weights"]:
        notes.append(
            "Rare classes weighed more while training (data.balance: class_weight): "
            + ", ".join(f"{weight:g}" for weight in trained["class_weights"])
            + ", in the order of the classes."
        )
    notes += trained.get("notes", [])
    if apart := metrics.get("test_without_crossings"):
        value = apart["metrics"][metrics["primary"]]
        said = metric_text(metrics["primary"], value)
        notes.append(
            f"Some test rows have a copy, or a row of the same group, among the rows learned from. On the "
            f"{apart['rows']} test rows without one, {title(metrics['primary'])} is {said}."
        )
    if metrics["unanswered"]:
        notes.append(f"{metrics['unanswered']} test rows could not be read and are not in the figures.")
    return notes


def card(plan: Plan, files: dict[str, Files]) -> str:
    """card.md of the bundle."""
    return card_markdown(gather(plan, files))


def report(plan: Plan, files: dict[str, Files]) -> Files:
    """`report.html` and `plots/*.png`."""
    facts = gather(plan, files)
    try:
        found: Files = {"report.html": report_html(facts).encode()}
        with tempfile.TemporaryDirectory(prefix="keepfit-") as scratch:
            for path in write_plots(facts, Path(scratch)):
                found[f"plots/{path.name}"] = path.read_bytes()
    except ModuleNotFoundError as error:
        raise missing_extra("tables", str(error.name)) from None
    return found
