"""The data page of the report: what was found in the data and done about it, with pictures of suspects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keepfit.cleaning.findings import Finding
from keepfit.core.catalog import load
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import decode
from keepfit.runtime.table import Table
from keepfit.stages import picture_report
from keepfit.store.artifacts import Files
from keepfit.tasks.wording import count, percent

if TYPE_CHECKING:
    from keepfit.stages.report import ReportFacts

_SHOWN, _CELLS = 16, 20
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


def of(facts: ReportFacts, table: Callable[..., str]) -> str:
    """Findings as a table, suspects cell by cell, pictures, and what each column is like."""
    rows = [
        [_LEVELS[one["level"]], one["rule"].replace("_", " "), one["message"], one["proposal"], one["override"]]
        for one in facts.findings
    ]
    headers = ["weight", "finding", "what was seen", "what keepfit did", "to decide otherwise"]
    text = table("What was found", headers, rows) if rows else "<p>Nothing stood out in the data.</p>"
    for one in facts.findings:
        if one["cells"]:
            cells = [[c["id"].rpartition(":")[0], c["before"], c["after"]] for c in one["cells"][:_CELLS]]
            of_all = f"{one['rule'].replace('_', ' ')}: {min(len(cells), one['changes'])} of {count(one['changes'])}"
            text += table(of_all.capitalize(), ["sample", "label", "proposed"], cells)
    for name, title, words in (
        (
            "suspected",
            "Doubted labels",
            "Training pictures whose labels are doubted, the surest first, in the table's order.",
        ),
        ("copies", "Copies", "Pictures that stand on both sides of the split, each left of its copy."),
        ("duplicates", "Duplicates", "Training pictures that repeat or nearly repeat, each left of its copy."),
    ):
        if name in facts.sheets:
            text += f'<div class="figures">{picture_report.figure(name, facts.sheets[name], title, words)}</div>'
    return text + _columns(facts, table)


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
