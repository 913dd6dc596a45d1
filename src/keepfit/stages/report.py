"""The report of a run: one self-contained HTML file that a manager can read, and PNG copies of its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.stages import learning_plots, plots, report_sections
from keepfit.stages.plots import HALF, Picture
from keepfit.tasks.task import Task
from keepfit.tasks.wording import count, metric_text, percent, title


@dataclass(frozen=True)
class ReportFacts:
    """All that the report and the card say; JSON-like, filled by the run.

    `metrics` has `validation` and `test`; `evaluation` is `stages.evaluation` on the test split; the keys of the lists
    are named in docs/how-to/report.md.
    """

    name: str
    task: Task
    modality: str
    recipe: str
    metrics: dict[str, dict[str, float | None]]
    primary: str
    evaluation: dict[str, Any]
    validation_curve: dict[str, Any] | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    target_summary: dict[str, float] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    rows_in: int = 0
    rows_kept: int = 0
    leaderboard: list[dict[str, Any]] = field(default_factory=list)
    importance: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    terms: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    sheets: dict[str, bytes] = field(default_factory=dict)
    mistakes: list[dict[str, str]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    forgotten: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)


def report_html(facts: ReportFacts) -> str:
    """The whole report; the same facts and library versions give the same bytes. Needs matplotlib."""
    figures = {picture.name: report_sections.figure(picture) for picture in pictures(facts)}
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    return report_sections.page(facts, figures, style)


def write_plots(facts: ReportFacts, folder: Path) -> list[Path]:
    """Every picture of the report as a PNG file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [plots.png(picture, folder / f"{picture.name}.png") for picture in pictures(facts)]
    for name, sheet in facts.sheets.items():
        (folder / f"{name}.png").write_bytes(sheet)
    return [*drawn, *(folder / f"{name}.png" for name in facts.sheets)]


def pictures(facts: ReportFacts) -> list[Picture]:
    """The pictures that these facts can fill, in the order of the report."""
    found = [*_quality(facts), *_groups(facts), *_importance(facts), *_data(facts)]
    if len(facts.leaderboard) > 1:
        found.append(_leaderboard(facts))
    if facts.validation_curve and facts.validation_curve["validation"]:
        found.append(learning_plots.training_curve(facts.validation_curve))
    if facts.epochs and "accuracy" in facts.epochs[0]:
        found.append(learning_plots.epochs(facts.epochs))
    return found


def _quality(facts: ReportFacts) -> list[Picture]:
    seen = facts.evaluation
    if facts.task.kind == "regression":
        return [plots.residuals(seen), plots.predicted_and_actual(seen)]
    found = [plots.confusion(seen["classes"], seen["confusion"])]
    if seen["curves"]:
        found += [plots.roc(seen["curves"], seen["metrics"].get("roc_auc")), plots.precision_recall(seen["curves"])]
    return [*found, plots.calibration(seen["calibration"])]


def _groups(facts: ReportFacts) -> list[Picture]:
    overall = facts.evaluation["metrics"].get(facts.primary)
    return [
        plots.group_rates(column, facts.primary, overall, place)
        for place, column in enumerate(facts.evaluation["slices"])
        if column["groups"]
    ]


def _importance(facts: ReportFacts) -> list[Picture]:
    if not facts.importance:
        return []
    rows = [(row["name"], row["drop"], _drop_text(row)) for row in facts.importance]
    first = facts.importance[0]
    alt = f"How much worse {title(first['metric'])} gets when a column is shuffled; {first['name']} matters most."
    return [plots.bars("importance", "What it looks at", alt, rows, spread=[row["spread"] for row in facts.importance])]


def _drop_text(row: dict[str, Any]) -> str:
    text = metric_text(row["metric"], row["drop"])
    return text.replace(" %", " points")


def _data(facts: ReportFacts) -> list[Picture]:
    found = []
    if facts.splits:
        total = max(sum(facts.splits.values()), 1)
        rows = [(name, float(size), f"{count(size)} ({percent(size / total)})") for name, size in facts.splits.items()]
        found.append(plots.bars("splits", "Splits", f"Rows per split: {_said(facts.splits)}.", rows, width=HALF))
    found += _target(facts)
    gaps = sorted((column for column in facts.columns if column["missing"]), key=lambda column: -column["missing"])
    if gaps:
        rows = [(column["name"], column["missing"], percent(column["missing"])) for column in gaps]
        alt = f"Share of missing cells; {len(gaps)} of {len(facts.columns)} columns have gaps."
        found.append(plots.bars("missing", "Missing values", alt, rows, full=1.0, width=HALF))
    return found


def _target(facts: ReportFacts) -> list[Picture]:
    summary = facts.target_summary
    if not summary:
        return []
    if facts.task.kind == "regression":
        return [plots.target_histogram(summary)]
    total = max(sum(summary.values()), 1)
    ordered = sorted(summary.items(), key=lambda item: -item[1])
    rows = [(name, float(size), f"{count(int(size))} ({percent(size / total)})") for name, size in ordered]
    alt = f"Rows per class; the most frequent of {len(summary)} is {ordered[0][0]}."
    return [plots.bars("target", "The target", alt, rows, width=HALF)]


def _said(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {count(rows)}" for name, rows in sizes.items())


def _leaderboard(facts: ReportFacts) -> Picture:
    rows = [
        (row["name"], row["validation"], metric_text(facts.primary, row["validation"]))
        for row in facts.leaderboard
        if row["validation"] is not None
    ]
    marked = [bool(row["chosen"]) for row in facts.leaderboard if row["validation"] is not None]
    chosen = next((row["name"] for row in facts.leaderboard if row["chosen"]), "none")
    alt = f"{title(facts.primary)} on the validation split per model; chosen: {chosen}."
    return plots.bars("leaderboard", "Models tried", alt, rows, marked=marked, width=HALF)
