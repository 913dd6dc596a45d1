"""Rare categories: values of few rows, which may be read as one category."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.view import View, known_of, some
from keepfit.core.options import Options
from keepfit.runtime.coerce import OTHER
from keepfit.runtime.table import mapped


class RareOptions(Options):
    """Categories of few rows. Grouped, the served model reads them and unknown values as one category too."""

    impl: ClassVar[str] = "keepfit.cleaning.rare:look"
    do: Literal["group", "report", "off"] = Field("report", description="group: one category for all of them")
    least: int = Field(5, ge=2, description="rows that a category needs to stay by itself")


def look(view: View, options: RareOptions) -> list[Finding]:
    """One finding per categorical column with two rare values or more."""
    found = []
    for rule in view.named("categorical"):
        column = view.data.categories[rule.name]
        counts = known_of(column)
        rare = sorted(value for value, times in counts.items() if times < options.least and value != OTHER)
        if len(rare) < 2 or len(rare) == len(counts):
            continue
        gone = set(rare)
        rows = np.flatnonzero(mapped(column, gone.__contains__, bool))
        found.append(
            Finding(
                "rare category",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} has {len(rare)} categories of fewer than {options.least} rows: {some(rare)}",
                "read as one category, here and by the served model",
                "clean.rare: off" if options.do == "group" else "clean.rare: group",
                "note",
                tuple(Cell(str(view.table.ids[row]), rule.name, str(column[row]), OTHER) for row in rows),
                share=len(rows) / max(len(column), 1),
            )
        )
    return found
