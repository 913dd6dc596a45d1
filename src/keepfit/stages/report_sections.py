"""The chapters of report.html: headline, quality, errors, groups, importance, data, models, making and limits."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keepfit.stages import data_page, forgotten, picture_report, plots, text_report
from keepfit.stages.card import limits, rate
from keepfit.stages.plots import Picture
from keepfit.tasks import wording
from keepfit.tasks.task import class_name
from keepfit.tasks.wording import count, interval_text, metric_text, number, percent, points, title

if TYPE_CHECKING:
    from keepfit.stages.report import ReportFacts

_CONFUSIONS, _COLUMNS_NAMED = 5, 3


def page(facts: ReportFacts, figures: dict[str, str], style: str) -> str:
    """The whole document from its chapters; `figures` are HTML by picture name."""
    chapters = [
        ("good", "How good it is", _good(facts, figures)),
        ("errs", "Where it errs", _errs(facts, figures) + forgotten.told(facts.forgotten, table)),
        ("groups", "Who it errs on", _groups(facts, figures)),
        ("looks", "What it looks at", _looks(facts, figures)),
        ("data", "The data", _data(facts, figures)),
        ("models", "Models tried", _models(facts, figures)),
        ("made", "How it was made", _made(facts)),
        ("limits", "Limits and next steps", _limits(facts)),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in chapters)
    body = "".join(f'<section id="{key}"><h2>{name}</h2>{text}</section>' for key, name, text in chapters)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{esc(facts.name)} · Keepfit report</title>'
        f'<style>{style}</style></head>\n<body><main>{_top(facts)}<nav aria-label="chapters">{links}</nav>{body}'
        f"<footer>Made by Keepfit. This file needs no network and runs no script.</footer></main></body></html>\n"
    )


def esc(text: object) -> str:
    """Text made harmless for HTML, also inside quotes; characters that cannot be shown become spaces."""
    shown = "".join(mark if mark.isprintable() or mark in "\n\t" else " " for mark in str(text))
    return html.escape(shown, quote=True).replace(" %", "\u00a0%")


def figure(picture: Picture) -> str:
    """A picture with its caption."""
    return (
        f'<figure id="fig-{picture.name}">{plots.svg(picture)}<figcaption><b>{esc(picture.title)}.</b> '
        f"{esc(picture.alt)}</figcaption></figure>"
    )


def table(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    marked: Sequence[bool] = (),
) -> str:
    """A table of plain texts; columns in `numbers` are right-aligned, rows in `marked` stand out."""

    def cell(tag: str, place: int, text: object, more: str = "") -> str:
        kind = ' class="number"' if place in numbers else ""
        return f"<{tag}{more}{kind}>{esc(text)}</{tag}>"

    head = "".join(cell("th", place, text, ' scope="col"') for place, text in enumerate(headers))
    lines = []
    for line, row in enumerate(rows):
        chosen = ' class="chosen"' if line < len(marked) and marked[line] else ""
        cells = "".join(cell("td", place, text) for place, text in enumerate(row))
        lines.append(f"<tr{chosen}>{cells}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table><caption>{esc(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _words(*lines: str) -> str:
    return "".join(f"<p>{esc(line)}</p>" for line in lines if line)


def _bullets(lines: Sequence[str], kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f"<ul{name}>{''.join(f'<li>{esc(line)}</li>' for line in lines)}</ul>" if lines else ""


def _side_by_side(figures: dict[str, str], *names: str) -> str:
    found = [figures[name] for name in names if name in figures]
    return f'<div class="figures">{"".join(found)}</div>' if found else ""


def _top(facts: ReportFacts) -> str:
    seen, primary = facts.evaluation, facts.primary
    first, *others = wording.headline(seen)
    asked = "which class" if facts.task.kind == "classification" else "how much"
    tiles = [
        (
            f"{title(primary)} on the test split",
            metric_text(primary, seen["metrics"].get(primary)),
            f"95 % interval {interval_text(primary, seen['intervals'].get(primary))}",
        ),
        (
            "Guessing would give",
            metric_text(primary, seen["baseline"].get(primary)),
            "the most frequent class" if facts.task.kind == "classification" else "the mean",
        ),
        ("Chosen model", str(facts.model.get("learner", "–")), _size_text(facts)),
        ("Judged on", count(seen["n"]), "rows kept away from training"),
    ]
    boxes = "".join(
        f'<div class="tile"><span>{esc(label)}</span><strong>{esc(value)}</strong><small>{esc(more)}</small></div>'
        for label, value, more in tiles
    )
    return (
        f'<header><p class="kicker">Keepfit report · {esc(facts.modality)} {esc(facts.task.kind)} · {asked}: '
        f'<code>{esc(facts.task.target)}</code></p><h1>{esc(facts.name)}</h1><p class="headline">{esc(first)}</p>'
        f'{_words(*others)}<div class="tiles">{boxes}</div></header>'
    )


def _size_text(facts: ReportFacts) -> str:
    size_bytes = facts.model.get("size_bytes")
    return wording.size(size_bytes) if size_bytes else ""


def _good(facts: ReportFacts, figures: dict[str, str]) -> str:
    seen = facts.evaluation
    before = facts.metrics.get("validation", {})
    rows = [
        [
            title(name),
            metric_text(name, value),
            interval_text(name, seen["intervals"].get(name)),
            metric_text(name, seen["baseline"].get(name)),
            metric_text(name, before.get(name)),
            wording.MEANINGS.get(name, ""),
        ]
        for name, value in seen["metrics"].items()
    ]
    text = table(
        "Metrics",
        ["metric", "test", "95 % interval (test)", "guessing", "validation", "what it means"],
        rows,
        numbers=(1, 2, 3, 4),
        marked=[name == facts.primary for name in seen["metrics"]],
    )
    text += _words(
        "The interval says how far the value could move with as many other test rows (bootstrap; Wilson's for accuracy). "
        f"Models are chosen and blended by {_chosen_by(facts)}, on rows that the scored model had not seen and never on "
        "the test split; the highlighted metric is the one to read first."
    )
    if "calibration" in seen:
        found = seen["calibration"]
        text += _words(
            f"When it gives a probability, it is {points(found['ece'])} away from what happens on average "
            f"(expected calibration error); the Brier score is {number(found['brier'], 3)}."
        )
    return text + _side_by_side(figures, "roc", "precision_recall", "calibration", "predicted_and_actual")


def _chosen_by(facts: ReportFacts) -> str:
    if facts.epochs:
        return "accuracy, epoch by epoch," if "accuracy" in facts.epochs[0] else "loss, epoch by epoch,"
    return "log loss" if facts.task.kind == "classification" else "root mean squared error"


def _errs(facts: ReportFacts, figures: dict[str, str]) -> str:
    seen = facts.evaluation
    if facts.task.kind == "regression":
        plain = seen["baseline_absolute_error"]
        rows = [
            [f"{percent(float(level), 0)} of the answers", number(value), number(plain[level])]
            for level, value in seen["absolute_error"].items()
        ]
        side = "too high" if seen["bias"] > 0 else "too low"
        return (
            _side_by_side(figures, "residuals")
            + _words(f"On average the answers are {number(abs(seen['bias']))} {side}.")
            + table("Size of the error", ["of all rows", "off by at most", "guessing the mean"], rows, numbers=(1, 2))
        )
    rows = [
        [
            class_name(row["class"]),
            count(row["support"]),
            count(row["answered"]),
            percent(row["precision"]),
            percent(row["recall"]),
            percent(row["f1"]),
        ]
        for row in seen["per_class"]
    ]
    headers = ["class", "rows in truth", "times answered", "precision", "recall", "F1"]
    notes = _words(
        "Precision: of the times the model says this class, how often it is right. Recall: of the rows of "
        "this class, how many the model finds. F1 balances both."
    )
    return (
        _side_by_side(figures, "confusion")
        + _mistakes(facts)
        + _bullets(_confusions(facts))
        + table("Per class", headers, rows, numbers=(1, 2, 3, 4, 5))
        + notes
    )


def _mistakes(facts: ReportFacts) -> str:
    """The surest mistakes on pictures, with the name of each file."""
    if "mistakes" not in facts.sheets:
        return ""
    words = "The test pictures on which it was most wrong, in reading order."
    drawn = picture_report.figure("mistakes", facts.sheets["mistakes"], "Surest mistakes", words)
    rows = [[place + 1, row["name"], row["said"]] for place, row in enumerate(facts.mistakes)]
    return f'<div class="figures">{drawn}</div>' + table("Surest mistakes", ["", "picture", "what happened"], rows)


def _augmented(facts: ReportFacts) -> str:
    if "augmented" not in facts.sheets:
        return ""
    words = "Training pictures as they are (first of each four) and as three epochs showed them."
    drawn = picture_report.figure("augmented", facts.sheets["augmented"], "Augmentation", words)
    return f'<div class="figures">{drawn}</div>'


def _confusions(facts: ReportFacts) -> list[str]:
    counts, names = facts.evaluation["confusion"], facts.task.names
    pairs = [
        (counts[row][column], row, column)
        for row in range(len(names))
        for column in range(len(names))
        if row != column and counts[row][column]
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:_CONFUSIONS]
    return [
        f"{names[row]} was taken for {names[column]} {count(times)} times ({percent(times / sum(counts[row]))} of "
        f"all {names[row]})."
        for times, row, column in worst
    ]


def _groups(facts: ReportFacts, figures: dict[str, str]) -> str:
    columns = facts.evaluation["slices"]
    if not columns:
        return (
            "<p>No groups were compared. Name columns in the recipe, for example <code>evaluate: {slices: [sex]}"
            "</code>, to see whether it serves everybody equally.</p>"
        )
    intro = (
        "A gap is listed where it is larger than chance over all comparisons together. A gap in the base rate is "
        "in the data; a gap in errors or calibration is in the model."
    )
    return _words(intro) + "".join(
        _group(facts, column, figures.get(f"slice_{place}", "")) for place, column in enumerate(columns)
    )


def _group(facts: ReportFacts, column: dict[str, Any], drawn: str) -> str:
    found = [finding["sentence"] for finding in column["findings"]]
    words = _bullets(found, "findings") or _words("No gap between these groups is larger than chance.")
    classes = facts.task.kind == "classification"
    of = f" of {class_name(facts.evaluation['reference_class'])}" if classes else ""
    headers = [
        "group",
        "rows",
        f"base rate{of}" if classes else "mean truth",
        f"predicted rate{of}" if classes else "mean answer",
        title(facts.primary),
        "calibration gap",
    ]
    rows = [
        [
            group["value"],
            count(group["n"]),
            rate(facts, group["base_rate"]),
            rate(facts, group["predicted_rate"]),
            metric_text(facts.primary, group["metrics"].get(facts.primary)),
            rate(facts, group["calibration_gap"]),
        ]
        for group in column["groups"]
    ]
    if facts.task.binary:
        headers += ["false positive rate", "false negative rate"]
        for row, group in zip(rows, column["groups"], strict=True):
            row += [percent(group["false_positive_rate"]), percent(group["false_negative_rate"])]
    return (
        f"<h3>By {esc(column['column'])}</h3>{words}"
        + (f'<div class="figures">{drawn}</div>' if drawn else "")
        + table(f"Groups of {column['column']}", headers, rows, numbers=range(1, len(headers)))
    )


def _looks(facts: ReportFacts, figures: dict[str, str]) -> str:
    if facts.modality != "tabular":
        return text_report.of(facts, table) or _words("A picture is one input: there are no columns to shuffle.")
    if not facts.importance:
        return _words("Importance was not measured in this run.")
    best = [row["name"] for row in facts.importance if row["drop"] > 0][:_COLUMNS_NAMED]
    idle = sum(1 for row in facts.importance if row["drop"] <= row["spread"])
    said = f"It leans most on {', '.join(best)}. " if best else "Shuffling any one column costs nothing measurable. "
    metric = title(facts.importance[0]["metric"])
    return (
        _words(f"{said}{idle} of {len(facts.importance)} columns could be shuffled without a clear loss.")
        + _side_by_side(figures, "importance")
        + _words(
            f"Each column is shuffled in turn in test rows, which the model never saw, to see how much worse {metric} "
            "gets; the thin line is the spread. Nothing is chosen by it. Columns that carry the same knowledge hide "
            "each other, and importance is not a cause."
        )
    )


def _data(facts: ReportFacts, figures: dict[str, str]) -> str:
    dropped = facts.rows_in - facts.rows_kept
    text = (
        f'<p class="sum"><b>{count(facts.rows_in)}</b> rows in = <b>{count(facts.rows_kept)}</b> kept + '
        f"<b>{count(dropped)}</b> dropped</p>"
    )
    if facts.ledger:
        rows = [[entry["rule"], entry["stage"], count(entry["count"]), entry["sentence"]] for entry in facts.ledger]
        text += table("Dropped, changed or noted", ["rule", "stage", "samples", "what happened"], rows, numbers=(2,))
        text += "<p>Every single one is in <code>ledger.parquet</code>.</p>"
    else:
        text += _words("Nothing was dropped or changed.")
    text += _side_by_side(figures, "splits", "target", "missing") + _augmented(facts) + data_page.of(facts, table)
    rows = [
        [
            column["name"],
            column["kind"],
            "yes" if column["used"] else "no",
            percent(column["missing"]),
            count(column["distinct"]),
            column["example"],
            column["why"],
            column["action"],
        ]
        for column in facts.columns
    ]
    headers = ["column", "kind", "used", "missing", "distinct", "example", "why this kind", "what was done"]
    return text + table("Columns", headers, rows, numbers=(3, 4))


def _models(facts: ReportFacts, figures: dict[str, str]) -> str:
    if not facts.leaderboard:
        return _words("One model was trained; nothing was compared.") + _side_by_side(
            figures, "training_curve", "epochs"
        )
    rows = [
        [
            row["name"],
            metric_text(facts.primary, row["validation"]),
            "" if row["seconds"] is None else wording.duration(row["seconds"]),
            "chosen" if row["chosen"] else "",
            row["note"],
        ]
        for row in facts.leaderboard
    ]
    chosen = [bool(row["chosen"]) for row in facts.leaderboard]
    headers = ["model", f"{title(facts.primary)} (validation)", "time", "", "note"]
    return table("Leaderboard", headers, rows, numbers=(1, 2), marked=chosen) + _side_by_side(
        figures, "leaderboard", "training_curve", "epochs"
    )


def _made(facts: ReportFacts) -> str:
    return (
        f'<div class="columns">{_pairs("Model", facts.model)}</div><h3>Recipe</h3>'
        f'<pre tabindex="0" aria-label="recipe">{esc(facts.recipe)}</pre>'
    )


def _pairs(caption: str, values: dict[str, Any]) -> str:
    rows = [[key.replace("_", " ").removesuffix(" bytes"), _value(key, value)] for key, value in values.items()]
    return table(caption, ["what", "value"], rows) if rows else ""


def _value(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return wording.size(value) if key.endswith("_bytes") else number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _limits(facts: ReportFacts) -> str:
    steps = [
        ("keepfit serve bundle", "answer over HTTP"),
        ("keepfit predict bundle NEW.csv -o answers.csv", "answer a file"),
        ("keepfit evaluate bundle LABELLED.csv", "judge it again on rows whose truth is known"),
        ("keepfit verify bundle", "check that no file was altered"),
    ]
    lines = "".join(f"<li><code>{esc(command)}</code> {esc(what)}</li>" for command, what in steps)
    return _bullets(limits(facts)) + f'<h3>Next</h3><p>In the folder of this report:</p><ul class="steps">{lines}</ul>'
