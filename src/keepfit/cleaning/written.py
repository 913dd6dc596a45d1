"""Numbers and dates that are written otherwise than plainly: units, currencies, percent signs, decimal commas, several dates.

How a column writes them is its rule's; here each such cell is told with what it was read as.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.formats import form
from keepfit.cleaning.view import View
from keepfit.runtime import coerce
from keepfit.runtime.coded import Coded, objects
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Column, counts_of, mapped, text_column
from keepfit.store.ledger import counted

RULE = "written otherwise"
_LOOKED_AT = 500
_THOUSANDS, _SMALL = re.compile(r"[1-9]\d{0,2}(\.\d{3})+"), re.compile(r"[1-9]\d{0,2}|0")


def look(view: View) -> list[Finding]:
    """One finding per column of numbers or dates with cells that are not plain, each with what it was read as."""
    found = []
    for rule in view.named("numeric", "datetime"):
        read = _numbers(view, rule) if rule.kind == "numeric" else _dates(view, rule)
        column = view.table.columns[rule.name]
        found += _doubtful(view, rule)
        if not read:
            continue
        rows = np.flatnonzero(mapped(column, read.__contains__, bool))
        pairs = ", ".join(f"{text!r} as {after}" for text, after in list(read.items())[:3])
        noun = "number" if rule.kind == "numeric" else "date"
        found.append(
            Finding(
                f"{RULE}: {_how(rule, list(read))}",
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


def _how(rule: ColumnRule, texts: list[str | None]) -> str:
    if rule.kind == "datetime":
        return "a date in another form than most of its column"
    if rule.form is None:
        grouped = any("," in text or " " in text.strip() for text in texts if text)
        return "thousands apart" if grouped else "digits of another script"
    comma = rule.form.comma and any("," in text for text in texts if text)
    if rule.form.unit:
        return f"{'a decimal comma, or ' if comma else ''}{rule.form.unit!r} beside the number"
    return "a decimal comma" if comma else "thousands apart"


def _doubtful(view: View, rule: ColumnRule) -> list[Finding]:
    """Numbers whose point may stand between thousands, and dates of both orders: read one way, and told."""
    column = view.table.columns[rule.name]
    said = _points(column, rule.missing) if rule.kind == "numeric" and rule.form is None else ""
    proposal = "read with the point before the decimals; if it stands between thousands, take it out of the file"
    if rule.kind == "datetime":
        said = _orders(counts_of(column), rule.month_first)
        order = "month" if rule.month_first else "day"
        proposal = (
            f"those that could be either are read with the {order} first; write all in one order, best as 2024-12-31"
        )
    return [Finding("read_two_ways", (rule.name,), (), f"{rule.name}: {said}", proposal, "", "warning")] if said else []


def _points(column: Column, missing: frozenset[str]) -> str:
    """What makes 56.565 look like 56565: every number with a point has three digits after it and none before it but up to
    three, every number without one is below a thousand, and there are many of both."""
    if isinstance(column, Coded) and not any(
        map(_THOUSANDS.fullmatch, filter(None, column.values[:_LOOKED_AT].tolist()))
    ):
        return ""  # of columns by codes the first distinct texts, without a look at all
    cells = counts_of(column)
    if not any(_THOUSANDS.fullmatch(text) for text in itertools.islice(cells, _LOOKED_AT) if text is not None):
        return ""
    known = {text: times for text, times in cells.items() if text is not None and not coerce.is_missing(text, missing)}
    grouped = [text for text in known if _THOUSANDS.fullmatch(text.lstrip("+-"))]
    small = [text for text in known if _SMALL.fullmatch(text.lstrip("+-"))]
    both = min(sum(map(known.__getitem__, some)) for some in (grouped, small))
    if len(grouped) + len(small) < len(known) or both < max(5, 0.02 * sum(known.values())):
        return ""
    one, whole = grouped[0], grouped[0].replace(".", "")
    return f"{one!r} may be {whole}: every point has three digits after it, and no number without one has four digits"


def _orders(cells: Mapping[str | None, int], month_first: bool) -> str:
    """How many dates with slashes can be read in one order only, and in the other only, where there are both."""
    found = {
        text: match
        for text in cells
        if text is not None and (match := coerce.SLASHED.match(text)) and coerce.parse_date(text) is not None
    }
    days = {text: cells[text] for text, match in found.items() if int(match[1]) > 12}
    months = {text: cells[text] for text, match in found.items() if int(match[2]) > 12}
    if not days or not months:
        return ""
    either = sum(cells[text] for text in found) - sum(days.values()) - sum(months.values())
    return (
        f"{counted(sum(days.values()), 'date')} such as {next(iter(days))!r} can only have the day first, "
        f"{sum(months.values())} such as {next(iter(months))!r} only the month; {either} could be either"
    )


def _numbers(view: View, rule: ColumnRule) -> dict[str | None, str]:
    """What every text that Python does not take for a number is read as, where it is one."""
    column = view.table.columns[rule.name]
    if rule.form is None and isinstance(column, Coded) and coerce.figures(column) is not None:
        return {}
    texts = [text for text in counts_of(column) if text is not None]
    if rule.form is None and "".join(texts).isascii() and coerce.plain_numbers(text_column(texts)) is not None:
        return {}
    values, _ = coerce.numbers(objects(texts), rule.bare())
    pairs = [(text, value) for text, value in zip(texts, values.tolist(), strict=True) if not np.isnan(value)]
    return {text: f"{value:.15g}" for text, value in pairs if not _is_plain(text, value)}


def _is_plain(text: str, value: float) -> bool:
    """Whether Python reads a text of plain digits as this number, or it is a truth."""
    try:
        return float(text) == value and text.strip().isascii()
    except ValueError:
        return text.strip().lower() in ("true", "false")


def _dates(view: View, rule: ColumnRule) -> dict[str | None, str]:
    """What the dates are read as that are in another form than most of their column, and not plain themselves."""
    column = view.table.columns[rule.name]
    cells = counts_of(column)
    moments = {text: coerce.parse_date(text, rule.month_first) for text in cells if text is not None}
    forms = {text: form(text.strip()) for text, moment in moments.items() if moment is not None}
    if len(set(forms.values())) < 2 and not any(_is_other(text, rule.month_first) for text in forms):
        return {}
    times = Counter[str]()
    for text in forms:
        times[forms[text]] += cells[text]
    usual = times.most_common(1)[0][0]
    odd = [text for text in cells if text in forms and (forms[text] != usual or _is_other(text, rule.month_first))]
    return {text: iso for text in odd if (iso := _iso(moments[text])) != text.strip()}


def _is_other(text: str, month_first: bool) -> bool:
    """Whether a date can only be read in the order that its column does not have."""
    found = coerce.SLASHED.match(text)
    return found is not None and int(found[1 if month_first else 2]) > 12


def _iso(moment: dt.datetime | None) -> str:
    if moment is None:
        return ""
    return moment.date().isoformat() if moment.time() == dt.time() else moment.isoformat()
