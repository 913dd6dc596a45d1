"""Numbers and dates that are written otherwise than plainly: units, currencies, percent signs, decimal commas, several dates.

How a column writes them is its rule's; here each such cell is told with what it was read as.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter

import numpy as np

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.formats import form
from keepfit.cleaning.view import View
from keepfit.runtime import coerce
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import counts_of, mapped, text_column
from keepfit.store.ledger import counted

RULE = "written otherwise"


def look(view: View) -> list[Finding]:
    """One finding per column of numbers or dates with cells that are not plain, each with what it was read as."""
    found = []
    for rule in view.named("numeric", "datetime"):
        read = _numbers(view, rule) if rule.kind == "numeric" else _dates(view, rule)
        column = view.table.columns[rule.name]
        if not read:
            continue
        rows = np.flatnonzero(mapped(column, read.__contains__, bool))
        pairs = ", ".join(f"{text!r} as {after}" for text, after in list(read.items())[:3])
        noun = "number" if rule.kind == "numeric" else "date"
        found.append(
            Finding(
                f"{RULE}: {_how(rule)}",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} has {counted(len(rows), noun)} not written plainly, read as such: {pairs}",
                f"read as {noun}s, here and by the served model",
                f"data.columns: {{{rule.name}: categorical}}",
                cells=tuple(
                    Cell(str(view.table.ids[row]), rule.name, str(column[row]), read[column[row]]) for row in rows
                ),
                share=len(rows) / len(column),
            )
        )
    return found


def _how(rule: ColumnRule) -> str:
    if rule.kind == "datetime":
        return "a date in another form than most of its column"
    if rule.form is None:
        return "thousands apart"
    if rule.form.unit:
        return f"{'a decimal comma, or ' if rule.form.comma else ''}{rule.form.unit!r} beside the number"
    return "a decimal comma" if rule.form.comma else "thousands apart"


def _numbers(view: View, rule: ColumnRule) -> dict[str | None, str]:
    """What every text that Python does not take for a number is read as, where it is one."""
    if coerce.is_plain(view.table.columns[rule.name]):
        return {}
    cells = counts_of(view.table.columns[rule.name])
    if coerce.plain_numbers(text_column(list(cells))) is not None:
        return {}
    texts = [text for text in cells if text is not None and not _is_plain(text)]
    column = np.empty(len(texts), object)
    column[:] = texts
    values, _ = coerce.numbers(column, rule.bare())
    return {text: f"{value:.15g}" for text, value in zip(texts, values, strict=True) if not np.isnan(value)}


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false")
    return True


def _dates(view: View, rule: ColumnRule) -> dict[str | None, str]:
    """What the dates are read as that are in another form than most of their column, and not plain themselves."""
    column = view.table.columns[rule.name]
    cells = counts_of(column)
    moments = {text: coerce.parse_date(text, rule.month_first) for text in cells if text is not None}
    forms = {text: form(text.strip()) for text, moment in moments.items() if moment is not None}
    if len(set(forms.values())) < 2:
        return {}
    times = Counter[str]()
    for text in forms:
        times[forms[text]] += cells[text]
    usual = times.most_common(1)[0][0]
    odd = [text for text in cells if text in forms and forms[text] != usual]
    return {text: iso for text in odd if (iso := _iso(moments[text])) != text.strip()}


def _iso(moment: dt.datetime | None) -> str:
    if moment is None:
        return ""
    return moment.date().isoformat() if moment.time() == dt.time() else moment.isoformat()
