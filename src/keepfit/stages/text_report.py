"""What a report says of a model of texts: which n-grams speak for each answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keepfit.stages.report import ReportFacts


def of(facts: ReportFacts, table: Callable[[str, list[str], list[list[str]]], str]) -> str:
    """The heaviest n-grams of each answer as a table, heaviest first; empty where the facts have none."""
    rows = [
        [str(one["name"]), ", ".join(f"\u201c{gram}\u201d {weight:.2g}" for gram, weight in one["terms"])]
        for one in facts.terms
    ]
    return table("Heaviest n-grams", ["answer", "n-grams with their weights"], rows) if rows else ""
