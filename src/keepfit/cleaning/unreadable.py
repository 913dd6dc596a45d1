"""Cells that cannot be read as what their column is, and columns that are numbers but for a few cells."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.view import View, known_of, some
from keepfit.runtime import coerce
from keepfit.runtime.coded import Coded
from keepfit.runtime.coerce import ALWAYS_MISSING, ColumnRule, parse_number
from keepfit.runtime.figures import units_of
from keepfit.runtime.table import Column, mapped
from keepfit.store.ledger import counted

RULE = "unreadable cell"
_MOSTLY = 0.5
_DECIDED = ("said in the recipe", "codes with leading zeros")  # whatever its other cells are


def look(view: View) -> list[Finding]:
    """One finding per column of numbers or dates with cells that are neither; they count as missing.

    And one per column that would be numbers but for a few cells, or but for their several units, and is read as something
    else.
    """
    return [*cells(view), *_nearly_numbers(view), *_several_units(view)]


def cells(view: View) -> list[Finding]:
    """One finding per column of numbers or dates with cells that are neither."""
    found = []
    for rule in view.named("numeric", "datetime"):
        column = view.table.columns[rule.name]
        noun = "a number" if rule.kind == "numeric" else "a date"
        bad = _bad(column, rule)
        odd = rule.missing - ALWAYS_MISSING - view.missing
        if odd:
            bad = bad | mapped(column, partial(_is_spelled, odd), bool)
        rows = np.flatnonzero(bad)
        if not len(rows):
            continue
        texts = [str(column[row]) for row in rows]
        found.append(
            Finding(
                f"{RULE}: not {noun}",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} has {counted(len(rows), 'cell')} that cannot be read as {noun}: {some(list(dict.fromkeys(texts)))}",
                "read as missing in training rows",
                f"data.columns: {{{rule.name}: categorical}}",
                "warning",
                tuple(Cell(str(view.table.ids[row]), rule.name, text) for row, text in zip(rows, texts, strict=True)),
                share=len(rows) / len(column),
            )
        )
    return found


def _is_spelled(odd: frozenset[str], text: str | None) -> bool:
    return text is not None and text.strip().lower() in odd


def _bad(column: Column, rule: ColumnRule) -> NDArray[np.bool_]:
    """Mask [n] of cells that are text and neither a number nor a date."""
    if rule.kind == "numeric" and isinstance(column, Coded):
        _, odd = coerce.by_code(column, rule)
        return np.asarray(odd[column.codes]) if odd.any() else np.zeros(len(column), bool)
    return (coerce.numbers if rule.kind == "numeric" else coerce.dates)(column, rule)[1]


def _nearly_numbers(view: View) -> list[Finding]:
    found = []
    for rule in view.named("categorical", "text", "ignore"):
        counts = known_of(view.cells(rule))
        readable = {value: parse_number(value) is not None for value in counts}
        known, good = sum(counts.values()), sum(n for value, n in counts.items() if readable[value])
        if rule.why in _DECIDED or good == known or good < _MOSTLY * known:
            continue
        if sum(readable.values()) < 10:
            continue
        odd = [value for value, _ in counts.most_common() if not readable[value]]
        rows = np.flatnonzero(mapped(view.cells(rule), set(odd).__contains__, bool))
        found.append(
            Finding(
                "numbers read as words",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} is a number in {good / known:.1%} of its cells; for {some(odd)} it is read as {rule.kind}",
                f"read as {rule.kind}",
                f"data.columns: {{{rule.name}: numeric}}",
                "warning",
                share=len(rows) / max(len(view.table), 1),
            )
        )
    return found


def _several_units(view: View) -> list[Finding]:
    """Grams among kilograms: what to multiply with is not for keepfit to guess."""
    found = []
    for rule in view.named("categorical", "text"):
        units = units_of(known_of(view.cells(rule)))
        if rule.why in _DECIDED or not units:
            continue
        said = ", ".join(f"{unit or 'none'!r} in {times}" for unit, times in units.items())
        message = f"{rule.name} has numbers with several units: {said} cells"
        proposal = f"read as {rule.kind}: write them in one unit, and it is read as numbers"
        found.append(Finding("several units", (rule.name,), (), message, proposal, "", "warning"))
    return found
