"""Infers what each column is, from the training split: numeric, categorical, datetime, text or ignored, and says why."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, nearest
from keepfit.modalities.tabular.identifiers import identifier, override
from keepfit.runtime.coded import Coded, side_by_side
from keepfit.runtime.coerce import (
    FIGURES,
    SLASHED,
    ColumnRule,
    figures,
    is_missing,
    is_month_first,
    parse_date,
    parse_number,
    plain_numbers,
)
from keepfit.runtime.figures import ZERO_COMMA, Form, damaged_by_spreadsheet, form_of, number_as, spelled_missing
from keepfit.runtime.table import Column, Table, counts_of, text_column


@dataclass(frozen=True)
class Finding:
    """A column's rule and what was seen of it."""

    rule: ColumnRule
    missing: float
    distinct: int
    example: str
    action: str

    def as_json(self) -> dict[str, Any]:
        """The row of the report's column table."""
        return {
            "name": self.rule.name,
            "kind": self.rule.kind,
            "why": self.rule.why,
            "missing": round(self.missing, 6),
            "distinct": self.distinct,
            "example": self.example,
            "used": self.rule.kind != "ignore",
            "action": self.action,
            "override": self._override(),
        }

    def _override(self) -> str:
        """What makes the model learn from a column that is taken for an identifier; empty for every other."""
        running = self.rule.why == _RUNNING
        found = self.rule.kind == "ignore" and self.rule.why.startswith("an identifier")
        return override(self.rule.name, "numeric" if running else "text") if found else ""


_SEEN = 1024
_FEW = 20  # values of a column that is categories, however rare each is
_BOOLEANS = 49  # spellings of true and false in upper and lower letters, and more
_NEARLY, _MOSTLY = 0.98, 0.5  # cells that must be written alike; where the recipe says numeric, most
_RUNNING = "an identifier: a different running number in every row"
_ZEROS = "codes with leading zeros"  # 0123 is another code than 123
_ACTIONS = {
    "numeric": "read as a number",
    "categorical": "each value is a category; unseen values are answered and counted",
    "datetime": "split into year, month, day, weekday, hour and days since 1970",
    "text": "words are counted and weighed",
    "ignore": "not given to the model",
}


def infer(table: Table, target: str, kinds: Mapping[str, str], missing: list[str]) -> list[Finding]:
    """One finding per column but the target, in order. Raises DataError for an unknown name or nothing left to learn from."""
    for name in kinds:
        if name not in table.columns:
            raise DataError(
                "column_missing",
                f"data.columns names {name!r}, which the data does not have",
                where=name,
                hint=nearest(name, table.names),
            )
    found = looked(table, target, kinds, missing)
    if not any(finding.rule.kind != "ignore" for finding in found):
        raise DataError(
            "no_features",
            "no column is left to learn from",
            seen="; ".join(f"{f.rule.name}: {f.rule.why}" for f in found)[:400] or "the target is the only column",
            hint="say a kind for a column under data.columns",
        )
    return found


def looked(table: Table, target: str, kinds: Mapping[str, str], missing: list[str]) -> list[Finding]:
    """What `infer` gives, also where no column is left to learn from."""
    extra = frozenset(text.strip().lower() for text in missing)
    names = [name for name in table.names if name != target]
    return side_by_side(lambda name: _column(name, table.columns[name], kinds.get(name), extra), names, len(table))


def _column(name: str, column: Column, said: str | None, extra: frozenset[str]) -> Finding:
    if (found := _of_figures(name, column, said, extra)) is not None:
        return found
    counts = _counts(column, extra)
    plain = plain_numbers(_cells(counts)) if counts else None
    plain = plain if plain is not None and np.isfinite(plain).all() else None
    look = said in (None, "numeric") and plain is None
    form, spelled = _written(counts, said) if look else (None, frozenset[str]())
    extra |= spelled
    if spelled:
        counts = {text: n for text, n in counts.items() if text.lower() not in spelled}
    share = 1 - sum(counts.values()) / max(len(column), 1)
    sample = list(counts)
    numeric, odd = (1.0, set[str]()) if plain is not None else _numeric_share(counts, form)
    boolean = bool(counts) and len(counts) < _BOOLEANS and {v.lower() for v in counts} <= {"true", "false"}
    kind, why = (
        _kind(counts, numeric, len(column), form, plain, boolean) if said is None else (said, "said in the recipe")
    )
    different = len(counts) if kind != "numeric" else _different(counts, form, plain)
    if kind == "numeric" and said is None:
        why = f"numbers with {different} different values"
    if not counts and kind != "ignore":
        kind, why = "ignore", "every cell is missing"
    rule = ColumnRule(
        name,
        kind,
        why,
        extra | (frozenset(v.lower() for v in odd) if kind == "numeric" and said is None else frozenset()),
        number_like=numeric == 1.0 and form is None and why != _ZEROS,
        boolean=boolean,
        month_first=kind == "datetime" and is_month_first(sample),
        form=form if kind == "numeric" else None,
    )
    action = _ACTIONS[kind]
    gone = sorted({*(odd if kind == "numeric" else ()), *spelled})
    if gone:
        action += f"; {', '.join(repr(v) for v in gone[:4])} taken as missing"
    action += _said(form if kind == "numeric" else None, counts, kind)
    return Finding(rule, share, different, sample[0][:40] if sample else "", action)


def _of_figures(name: str, column: Column, said: str | None, extra: frozenset[str]) -> Finding | None:
    """What is found of a column of plain figures, from the numbers of its codes; None where that does not make it numeric."""
    if not isinstance(column, Coded) or extra or said not in (None, "numeric"):
        return None
    by_code = figures(column)
    there = np.flatnonzero(column.times()) if by_code is not None else np.zeros(0, np.int64)
    if by_code is None or not len(there):
        return None
    plain = by_code[there]
    known = ~np.isnan(plain)
    plain, every = plain[known], int(column.times()[there[known]].sum())
    texts = column.values[there[known]].tolist()
    kind, _ = _number_kind(texts, every, len(column), plain) if len(texts) > 1 else ("ignore", "")
    if (kind if said is None else said) != "numeric" or not texts or not np.isfinite(plain).all():
        return None
    different = len(np.unique(plain))
    example = next(cell for cell in _cells_of(column) if cell is not None)
    why = f"numbers with {different} different values" if said is None else "said in the recipe"
    rule = ColumnRule(name, "numeric", why, extra, number_like=True)
    return Finding(rule, 1 - every / max(len(column), 1), different, example[:40], _ACTIONS["numeric"])


def _cells_of(column: Coded) -> Iterator[str | None]:
    for first in range(0, len(column), _SEEN):
        yield from column[first : first + _SEEN].tolist()


def _counts(column: Column, extra: frozenset[str]) -> dict[str, int]:
    """How often each stripped text that is not missing stands in a column, in the order in which they first do."""
    found = counts_of(column)
    if not extra and "" not in found and FIGURES.issuperset("".join(text for text in found if text is not None)):
        return {text: n for text, n in found.items() if text is not None}  # none of these is missing, or has a blank
    counts: dict[str, int] = {}
    for text, n in found.items():
        if not is_missing(text, extra):
            stripped = text.strip()
            counts[stripped] = counts.get(stripped, 0) + n
    return counts


def _cells(values: Iterable[str]) -> Column:
    return text_column(list(values))


def _written(counts: Mapping[str, int], said: str | None = None) -> tuple[Form | None, frozenset[str]]:
    """How a column writes numbers where that is not the plain way, and its spellings of a missing one."""
    readable = {text: any(c.isdigit() for c in text) for text in counts}
    spelled = spelled_missing(counts, readable)
    rest = {text: n for text, n in counts.items() if text.lower() not in spelled}
    plain = sum(n for text, n in rest.items() if parse_number(text) is not None)
    decimal = sum(n for text, n in rest.items() if ZERO_COMMA.fullmatch(text))
    if not rest or (plain >= 0.98 * sum(rest.values()) and decimal < 3):
        return None, spelled if rest else frozenset()
    form = (
        form_of(
            [text for text, n in rest.items() for _ in range(min(n, 50))], _MOSTLY if said == "numeric" else _NEARLY
        )
        if any(map(readable.get, rest))
        else None
    )
    return form, spelled if form is not None else frozenset()


def _said(form: Form | None, counts: Mapping[str, int], kind: str) -> str:
    """What the report says about how the column is written."""
    if form is not None:
        said = f"; {form.unit!r} beside the number is read away" if form.unit else ""
        if not form.comma:
            return said
        commas = any("," in text for text in counts)
        return said + ("; the comma is its decimal mark" if commas else "; its points stand between thousands")
    count, one = damaged_by_spreadsheet(counts) if kind in ("categorical", "ignore", "text") else (0, "")
    return f"; {count} cells such as {one!r} look damaged by a spreadsheet: export the column as text" if count else ""


def _numeric_share(counts: Mapping[str, int], form: Form | None) -> tuple[float, set[str]]:
    """Share of cells that are numbers, and the few spellings that are not.

    Infinity, and formulas of a spreadsheet, are spoilt numbers: they count as missing, not against the others.
    """
    readable = {text: _number(text, form) is not None for text in counts}
    odd = {text for text, good in readable.items() if not good}
    spoilt = {text for text in odd if _is_spoilt(text)}
    every = sum(counts.values())
    left = every - sum(counts[text] for text in spoilt)
    return (sum(n for text, n in counts.items() if readable[text]) / left if 2 * left > every else 0.0), odd


def _is_spoilt(text: str) -> bool:
    if text.startswith("="):
        return True
    try:
        return math.isinf(float(text))
    except ValueError:
        return False


def _number(text: str, form: Form | None) -> float | None:
    return parse_number(text) if form is None else number_as(text, form)


def _different(texts: Iterable[str], form: Form | None, plain: NDArray[np.float64] | None) -> int:
    """How many numbers these texts are: 38.5 and 38.50 are one. `plain` are they as read, where all are plain."""
    if plain is not None:
        return len(np.unique(plain))
    return len({number for text in texts if (number := _number(text, form)) is not None})


def _kind(
    counts: Mapping[str, int],
    numeric: float,
    rows: int,
    form: Form | None,
    plain: NDArray[np.float64] | None,
    boolean: bool,
) -> tuple[str, str]:
    sample, every = list(counts), sum(counts.values())
    if not counts:
        return "ignore", "every cell is missing"
    if len(counts) == 1:
        return "ignore", f"the same value {sample[0][:30]!r} in every row"
    if boolean:
        return "categorical", "true and false"
    if numeric >= 0.98:
        if plain is None:
            plain = np.array([number for v in counts if (number := _number(v, form)) is not None])
        return _number_kind(counts, every, rows, plain)
    dated = sum(parse_date(v) is not None for v in sample[:500]) / len(sample[:500])
    short = [int(found[1]) for v in sample[:500] if (found := SLASHED.fullmatch(v)) and len(v.rpartition("/")[2]) == 2]
    if short and min(short) > 12:  # 24/03/15 begins with the year
        dated = 0.0
    if dated >= 0.95:
        return "datetime", f"{dated:.0%} of its values are dates"
    words = float(np.mean([v.count(" ") + 1 for v in sample[:2000]]))
    length = float(np.mean([len(v) for v in sample[:2000]]))
    if len(counts) > 0.95 * every and words < 1.5 and every >= 20 and _one_shape(sample[:500]):
        return "ignore", "an identifier: a different code of one shape in almost every row"
    if len(counts) > _FEW and words < 1.5 and (why := identifier(counts)) is not None:
        return "ignore", why
    if len(counts) > _FEW and (len(counts) > 0.3 * every or words >= 4 or length > 50):
        return "text", f"{len(counts)} different values of {words:.1f} words on average"
    return "categorical", f"{len(counts)} different values"


def _number_kind(counts: Collection[str], every: int, rows: int, numbers: NDArray[np.float64]) -> tuple[str, str]:
    whole = bool(np.all(numbers == np.floor(numbers)))
    if whole and len(counts) == every == rows and rows >= 30 and np.ptp(numbers) < 4 * rows:
        return "ignore", _RUNNING
    many = 0.1 * len(counts)
    are_whole = (numbers == np.floor(numbers)).sum() > many  # as all are that are nothing but digits
    zeros = sum(v[0] == "0" and len(v) > 1 and v.isdigit() for v in counts) if are_whole else 0
    filled = zeros > 1 and len({len(v) for v in counts if v.isdigit()}) == 1  # up to one length
    if zeros > many or filled:
        return "categorical", _ZEROS
    return "numeric", ""


def _one_shape(sample: list[str]) -> bool:
    shapes = {"".join("9" if c.isdigit() else "a" if c.isalpha() else c for c in v) for v in sample}
    mixed = any(c.isdigit() for v in sample[:50] for c in v)
    return (len(shapes) <= max(3, len(sample) // 50) or len({len(v) for v in sample}) <= 2) and (
        mixed or len(shapes) == 1
    )
