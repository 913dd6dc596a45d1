"""The model card: what the model is for, how good it is, whom it fails, how to check it; no clock, host or path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.stages import data_page
from keepfit.tasks.task import class_name
from keepfit.tasks.wording import count, headline, interval_text, metric_text, number, percent, points, size, title

if TYPE_CHECKING:
    from keepfit.stages.report import ReportFacts

_FEW_ROWS = 500
_FEW_SUPPORT = 30
_UNCALIBRATED = 0.05
_SHOWN = 20


def card_markdown(facts: ReportFacts) -> str:
    """The card as Markdown; the same facts give the same bytes."""
    parts = [
        f"# Model card: {_cell(facts.name)}",
        " ".join(headline(facts.evaluation)),
        "## What it is",
        _what(facts),
        "## Intended use",
        _use(facts),
        "## Data",
        _data(facts),
        "## How good it is",
        _metrics(facts),
        "## Who it errs on",
        _slices(facts),
        "## Limits",
        _bullets(limits(facts)),
        "## How to verify",
        _verify(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def limits(facts: ReportFacts) -> list[str]:
    """What a careful reader must know, derived from the facts, then the notes of the run."""
    found, evaluation = [], facts.evaluation
    if evaluation["n"] < _FEW_ROWS:
        found.append(f"Judged on {count(evaluation['n'])} rows only: read the intervals, not the single numbers.")
    for row in evaluation.get("per_class", []):
        if row["support"] < _FEW_SUPPORT:
            found.append(
                f"The class {class_name(row['class'])} has only {row['support']} test rows: its rates are rough."
            )
    ece = evaluation.get("calibration", {}).get("ece", 0.0)
    if ece > _UNCALIBRATED:
        found.append(f"The probabilities are off by {points(ece)} on average: use them to rank, not as odds.")
    gaps = sum(len(column["findings"]) for column in evaluation["slices"])
    if gaps:
        found.append(
            f"{gaps} gaps between groups are larger than chance: see 'Who it errs on' before deciding about people."
        )
    if not evaluation["slices"]:
        found.append("No groups were compared: name columns in evaluate.slices to see on whom it errs.")
    found.append("It repeats the past that its data shows; when the world changes it must be checked again.")
    return found + list(facts.notes)


def _what(facts: ReportFacts) -> str:
    kind = "a class" if facts.task.kind == "classification" else "a number"
    used = sum(1 for column in facts.columns if column["used"])
    lines = [f"It answers {kind}, '{_cell(facts.task.target)}', from {count(used)} columns ({facts.modality})."]
    if facts.task.classes:
        names = [_cell(name) for name in facts.task.names]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"Classes: {', '.join(names[:_SHOWN])}{more}.")
    lines.append(f"Learner: {_cell(facts.model.get('learner', 'unknown'))}.")
    if facts.model.get("size_bytes"):
        lines.append(f"Size: {size(facts.model['size_bytes'])}.")
    return " ".join(lines)


def _use(facts: ReportFacts) -> str:
    return (
        "For rows that come from the same source and time as the training data. A person should decide where an "
        "answer has consequences for somebody; the rates below say how often it would be wrong."
    )


def _data(facts: ReportFacts) -> str:
    dropped = facts.rows_in - facts.rows_kept
    splits = ", ".join(f"{_cell(name)} {count(rows)}" for name, rows in facts.splits.items())
    whole = (
        f"{count(facts.rows_in)} rows in = {count(facts.rows_kept)} kept + {count(dropped)} dropped. Splits: {splits}."
    )
    done = [
        f"{entry['rule']} ({entry['stage']}): {count(entry['count'])} samples. {entry['sentence']}"
        for entry in facts.ledger
    ]
    done += data_page.card_lines(facts)
    return f"{whole}\n\n{_bullets(done)}" if done else whole


def _metrics(facts: ReportFacts) -> str:
    evaluation = facts.evaluation
    rows = [
        [
            title(name),
            metric_text(name, value),
            interval_text(name, evaluation["intervals"].get(name)),
            metric_text(name, evaluation["baseline"].get(name)),
            metric_text(name, facts.metrics.get("validation", {}).get(name)),
        ]
        for name, value in evaluation["metrics"].items()
    ]
    return _table(["metric", "test", "95 % interval", "baseline", "validation"], rows)


def _slices(facts: ReportFacts) -> str:
    parts = []
    for column in facts.evaluation["slices"]:
        rows = [
            [
                group["value"],
                count(group["n"]),
                rate(facts, group["base_rate"]),
                rate(facts, group["predicted_rate"]),
                metric_text(facts.primary, group["metrics"].get(facts.primary)),
            ]
            for group in column["groups"]
        ]
        headers = ["group", "rows", "base rate", "predicted rate", title(facts.primary)]
        parts.append(f"### {_cell(column['column'])}\n\n{_table(headers, rows)}")
        if column["findings"]:
            parts.append(_bullets([finding["sentence"] for finding in column["findings"]]))
    return "\n\n".join(parts) or "No groups were compared."


def rate(facts: ReportFacts, value: float | None) -> str:
    """A group's rate: a share for classes, a number for a numeric target."""
    return percent(value) if facts.task.kind == "classification" else number(value)


def _verify() -> str:
    return (
        "- `keepfit verify BUNDLE` checks every file against SHA256SUMS.\n"
        "- `keepfit evaluate BUNDLE DATA` repeats the metrics on labelled rows.\n"
        "- `recipe.yaml` in the bundle makes the model again from the same data."
    )


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: Any) -> str:
    """Text that cannot break out of a Markdown line, table or HTML."""
    flat = " ".join(str(text).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
