"""The data page of the report: what was found in the data and done about it, with pictures of suspects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keepfit.cleaning.findings import Finding
from keepfit.core.catalog import load
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import decode
from keepfit.runtime.samples import places_of
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.stages import picture_report
from keepfit.store.artifacts import Files
from keepfit.tasks.wording import count, number, percent

if TYPE_CHECKING:
    from keepfit.stages.report import ReportFacts

_SHOWN, _CELLS = 16, 20
_NAMED, _LONGEST = 6, 160
_LEVELS = {"stop": "stops a run", "warning": "warning", "note": "note"}


def sheets(table: Table, told: list[Finding], leaks: list[Finding]) -> Files:
    """`suspected.png`, the pictures whose labels are doubted, surest first; `copies.png` and `duplicates.png`, pictures that
    stand on both sides of the split or twice among the training rows, beside their copies."""
    place = {str(sample): row for row, sample in enumerate(table.ids)}
    labels = [one for one in told if one.rule == "wrong_labels"]
    doubted = [place[sample] for one in labels for sample in one.ids if sample in place][:_SHOWN]
    found: Files = {}
    for name, rows, columns in (
        ("suspected.png", doubted, 8),
        ("copies.png", _pairs(leaks, place), 4),
        ("duplicates.png", _pairs(told, place), 4),
    ):
        if rows:
            pixels = [decode(table.columns[COLUMN][row])[0] for row in rows]
            found[name] = load("keepfit.modalities.image.augment:contact_sheet")(pixels, columns)
    return found


def _pairs(findings: list[Finding], place: dict[str, int]) -> list[int]:
    """Rows two by two: the first of each group and a copy of it."""
    groups = [group for one in findings for group in one.groups if len(group) > 1 and {*group[:2]} <= place.keys()]
    return [place[sample] for group in groups[: _SHOWN // 2] for sample in group[:2]]


def contents(table: Table, told: list[Finding], target: str) -> dict[str, str]:
    """What the doubted and the repeated rows that the page shows say, by sample id: the text, or the first cells."""
    wanted = {cell.id for one in told if one.rule == "wrong_labels" for cell in one.cells[:_CELLS]}
    wanted |= {sample for one in told for group in one.groups[:_CELLS] for sample in group[:2]}
    found = {}
    for row in np.sort(places_of(table.ids, wanted)):
        if row >= 0:
            said = {name: column[row] for name, column in table.columns.items() if name != target}
            plain = [f"{name} {value}" for name, value in list(said.items())[:_NAMED]]
            plain += ["\u2026"] if len(said) > _NAMED else []
            text = str(next(iter(said.values()))) if set(said) == {TEXT} else ", ".join(plain)
            found[str(table.ids[row])] = text if len(text) <= _LONGEST else text[:_LONGEST] + "\u2026"
    return found


def of(facts: ReportFacts, table: Callable[..., str]) -> str:
    """Findings as a table, scores before and after, suspects cell by cell, pictures, and what each column is like."""
    rows = [
        [_LEVELS[one["level"]], one["rule"].replace("_", " "), one["message"], one["proposal"], one["override"]]
        for one in facts.findings
    ]
    headers = ["weight", "finding", "what was seen", "what keepfit did", "to decide otherwise"]
    text = table("What was found", headers, rows) if rows else "<p>Nothing stood out in the data.</p>"
    for one in facts.findings:
        text += _scores(one, facts, table)
        if one["cells"] or one["groups"]:
            text += _pairs_of(one, facts, table) if one["groups"] else _cells_of(one, facts, table)
    for name, title, words in (
        (
            "suspected",
            "Doubted labels",
            f"Training pictures whose labels are doubted, the surest first, line by line: {_changes(facts)}.",
        ),
        ("copies", "Copies", "Pictures that stand on both sides of the split, each left of its copy."),
        ("duplicates", "Duplicates", "Training pictures that repeat or nearly repeat, each left of its copy."),
    ):
        if name in facts.sheets:
            text += f'<div class="figures">{picture_report.figure(name, facts.sheets[name], title, words)}</div>'
    return text + _columns(facts, table)


def _changes(facts: ReportFacts) -> str:
    cells = [cell for one in facts.findings if one["rule"] == "wrong_labels" for cell in one["cells"][:_SHOWN]]
    return ", ".join(f"{cell['before']} \u2192 {cell['after']}" for cell in cells)


def _scores(one: dict[str, Any], facts: ReportFacts, table: Callable[..., str]) -> str:
    """Errors before and after a proposal, as the models that judged it made them."""
    if not one["scores"]:
        return ""
    wrong = facts.task.kind == "classification"
    shown = percent if wrong else number
    rows = [[said["judge"], shown(said["before"]), shown(said["after"]), count(said["rows"])] for said in one["scores"]]
    what = "answers wrong" if wrong else "mean absolute error"
    headers = ["judged by", f"{what}, before", f"{what}, after", "rows judged, labels as they came"]
    return table(f"Before and after: {_caption(one, facts).lower()}", headers, rows, numbers=(1, 2, 3))


def _pairs_of(one: dict[str, Any], facts: ReportFacts, table: Callable[..., str]) -> str:
    """Rows that belong together, side by side."""
    pairs = [group for group in one["groups"] if len(group) > 1][:_CELLS]
    rows = []
    for group in pairs:
        first, copy = ([_place(sample, facts), facts.shown.get(sample, "")] for sample in group[:2])
        rows.append([*first, *copy] if facts.shown else [first[0], copy[0]])
    headers = ["sample", "what it says", "its copy", "what that says"] if facts.shown else ["sample", "its copy"]
    return table(f"{_caption(one, facts)}: {len(rows)} side by side", headers, rows) if rows else ""


def _cells_of(one: dict[str, Any], facts: ReportFacts, table: Callable[..., str]) -> str:
    """What would change, or was changed, cell by cell."""
    cells = one["cells"][:_CELLS]
    done = "proposed" if one["proposal"].startswith("kept") else "done"
    if one["rule"] == "wrong_labels":
        rows = [[_place(c["id"], facts), facts.shown.get(c["id"], ""), c["before"], c["after"]] for c in cells]
        headers = ["sample", "what it says", "label", "proposed"]
        if not facts.shown:
            rows, headers = [[row[0], *row[2:]] for row in rows], [headers[0], *headers[2:]]
    else:
        rows = [[_place(c["id"], facts), c["column"], c["before"], c["after"]] for c in cells]
        headers = ["sample", "column", "as it came", done]
    rows = [[cell or "\u2013" for cell in row] for row in rows]
    return table(f"{_caption(one, facts)}: {len(cells)} of {count(one['changes'])}", headers, rows)


def _caption(one: dict[str, Any], facts: ReportFacts) -> str:
    if one["rule"] == "wrong_labels":
        return "Doubted labels" if facts.task.kind == "classification" else "Doubted values of the target"
    said = str(one["rule"]).replace("_", " ").capitalize()
    return f"{said} ({one['columns'][0]})" if one["columns"] else said


def _place(sample: str, facts: ReportFacts) -> str:
    """A sample's source and row; a picture is the only one in its file."""
    source, _, _ = sample.rpartition(":")
    return source.removesuffix("#0") if facts.modality == "image" else source


def _columns(facts: ReportFacts, table: Callable[..., str]) -> str:
    if not facts.described:
        return ""
    rows = [
        [name, one["picture"], one["range"], count(one["outliers"]), _alone(one)]
        for name, one in facts.described.items()
    ]
    headers = ["column", "distribution", "range, commonest or lengths", "far values", "tells alone"]
    return table("What the columns are like (training rows)", headers, rows, numbers=(3, 4))


def _alone(one: dict[str, Any]) -> str:
    return percent(max(one["alone"], 0.0)) if "alone" in one else "\u2013"


def card_lines(facts: ReportFacts) -> list[str]:
    """The findings for the data part of the card: what was seen and what was done."""
    return [f"{one['message']}: {one['proposal']}." for one in facts.findings]
