"""Cells that are written otherwise than the rest of their column: letters in a column of digits, another order of signs."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.view import View, known_of, some
from keepfit.core.options import Options
from keepfit.runtime.table import Column, mapped
from keepfit.store.ledger import counted

_LEAST = 30


class FormatOptions(Options):
    """Cells that break the form of their column; blanked in training rows only."""

    impl: ClassVar[str] = "keepfit.cleaning.formats:look"
    do: Literal["blank", "report", "off"] = Field("report", description="blank: the cell counts as missing")
    usual: float = Field(0.9, gt=0.5, lt=1, description="least share of cells that the usual forms cover together")
    rare: float = Field(0.03, gt=0, lt=0.5, description="largest share of cells of a form that is a violation")


def look(view: View, options: FormatOptions) -> list[Finding]:
    """One finding per column that has a form and cells that break it."""
    found = []
    for rule in view.named("categorical", "datetime", "ignore", "text"):
        column = view.cells(rule)
        rows, usual = odd_ones(column, options)
        if not rows:
            continue
        written = [str(column[row]) for row in rows]
        found.append(
            Finding(
                "another format",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} is written like {some(usual, 2)}; {counted(len(rows), 'cell')} written otherwise: {some(written)}",
                "read as missing",
                "clean.formats: off" if options.do == "blank" else "clean.formats: blank",
                "note",
                tuple(Cell(str(view.table.ids[row]), rule.name, str(column[row])) for row in rows),
                share=len(rows) / max(len(column), 1),
            )
        )
    return found


def form(value: str) -> str:
    """The form of a text: 9 for a run of digits, a for letters, words that follow one another as one, signs as they are."""
    parts = re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", value))
    return re.sub(r"a( a)+", "a", parts)


def odd_ones(column: Column, options: FormatOptions) -> tuple[list[int], list[str]]:
    """Rows whose form is rare where few forms are the rule, and examples of those forms; nothing for plain words."""
    times = known_of(column)
    forms = {value: form(value) for value in times}
    counts: Counter[str] = Counter()
    for value, n in times.items():
        counts[forms[value]] += n
    known = sum(counts.values())
    usual = [name for name, n in counts.most_common(4) if n >= 0.05 * known]
    covered = sum(counts[name] for name in usual)
    if known < _LEAST or covered < options.usual * known or covered == known or not _has_structure(usual):
        return [], []
    often = max(3, 0.003 * known)  # a mistake is not made the same way again and again
    odd = {
        value
        for value in times
        if forms[value] not in usual and counts[forms[value]] <= options.rare * known and times[value] <= often
    }
    rows = np.flatnonzero(mapped(column, odd.__contains__, bool)).tolist() if odd else []
    first = {name: next(value for value in times if forms[value] == name) for name in usual}
    return rows, [str(first[name]) for name in itertools.islice(usual, 2)]


def _has_structure(usual: list[str]) -> bool:
    """Whether the commonest form says more than `words`."""
    return bool(usual) and usual[0] not in ("a", "") and "9" in usual[0]
