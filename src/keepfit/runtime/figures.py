"""Numbers as people write them: a unit, a currency or a percent sign beside them, a decimal comma, thousands apart.

How a column writes them is fitted once, on training rows, and holds for every row after that.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

_SHARE, _LARGEST = 0.98, 10**300
_CODES = frozenset(
    [
        "usd",
        "eur",
        "gbp",
        "chf",
        "cny",
        "rmb",
        "jpy",
        "inr",
        "rs",
        "kr",
        "sek",
        "nok",
        "dkk",
        "zł",
        "pln",
        "cad",
        "aud",
        "us$",
    ]
)
_PARTS = re.compile(r"([^\d+\-.,]*)([+-]?[\d.,'\u00a0\u202f ]*\d)\s*([^\d]*)", re.DOTALL)
_ENGLISH = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(,\d{3})+)?(\.\d+)?")  # no thousands begin with 0
_COMMA = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}([.' \u00a0\u202f]\d{3})+)?(,\d+)?")
_SPELLED = frozenset(
    [
        "not available",
        "not reported",
        "no data",
        "not applicable",
        "无",
        "未知",
        "缺失",
        "暂无",
        "-",
        "--",
        "---",
        "—",
        "–",
        ".",
        "..",
        "*",
        "unknown",
        "missing",
        "nil",
        "n.a.",
        "n.a",
        "tbd",
        "empty",
        "blank",
        "k.a.",
        "k.a",
        "k. a.",
        "keine angabe",
        "ohne angabe",
        "unbekannt",
        "n.d.",
        "non disponible",
        "inconnu",
        "s/d",
        "sin datos",
        "desconocido",
    ]
)


ZERO_COMMA = re.compile(r"[+-]?0+,\d+")  # no thousands begin so


@dataclass(frozen=True)
class Form:
    """How a column writes numbers: with `unit` (folded; empty for none) before or after them, and which decimal mark."""

    unit: str = ""
    comma: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON form, inside of a column's rule."""
        return {"unit": self.unit, "comma": self.comma}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | None) -> Form | None:
        """Inverse of `as_json`; None where a column has no form of its own."""
        return None if raw is None else cls(str(raw["unit"]), bool(raw["comma"]))


def number_as(text: str, form: Form) -> float | None:
    """The number in a cell of this form; None for another unit or mark. A percentage keeps its figure: 12 % is 12."""
    found = _PARTS.fullmatch(text.strip())
    if found is None:
        return None
    unit = _unit(found[1], found[3])
    bare = form.unit != "%" and unit == ""  # 0.5 among percentages might mean 50 %
    if unit is None or not (unit == form.unit or bare):
        return None
    figure = found[2].strip()
    if not (_COMMA if form.comma else _ENGLISH).fullmatch(figure):
        return None
    plain = re.sub(r"[.' \u00a0\u202f]", "", figure).replace(",", ".") if form.comma else figure.replace(",", "")
    return float(plain)


def as_written(number: float, form: Form) -> str:
    """A finite number as a column of this form writes it, which `number_as` reads back: 12 among percentages is `12%`."""
    plain = np.format_float_positional(float(number), trim="-")
    return (plain.replace(".", ",") if form.comma else plain) + form.unit


def in_form(row: Mapping[str, Any], forms: Mapping[str, Form]) -> dict[str, Any]:
    """A row whose JSON numbers are written as their columns write them; texts stay as they are."""
    return {name: written(cell, forms[name]) if name in forms else cell for name, cell in row.items()}


def frame_in_form(frame: Any, forms: Mapping[str, Form]) -> Any:
    """A frame whose numbers are written as their columns write them, where those have a unit or a mark of their own."""
    if isinstance(frame, list):
        return [in_form(row, forms) if isinstance(row, Mapping) else row for row in frame]
    if not (isinstance(frame, Mapping) or hasattr(frame, "columns")):
        return frame
    columns = {name: frame[name] for name in (frame if isinstance(frame, Mapping) else frame.columns)}
    return {
        name: [written(cell, forms[name]) for cell in column] if name in forms else column
        for name, column in columns.items()
    }


def written(cell: Any, form: Form) -> Any:
    """`as_written` for a cell that is a finite number; others as they are."""
    if (
        not isinstance(cell, Real | Decimal)
        or isinstance(cell, bool | np.bool_)
        or (isinstance(cell, int) and abs(cell) > _LARGEST)
    ):
        return cell
    return as_written(float(cell), form) if np.isfinite(float(cell)) else cell


def _unit(before: str, after: str) -> str | None:
    """The folded unit; None where what stands there is no unit: letters before a number are a code, unless a currency's."""
    before, after = (re.sub(r"\s+", " ", part.strip().lower()).rstrip(".") for part in (before, after))
    if (before and after) or len(before) > 4 or len(after) > 12:
        return None
    if before and before not in _CODES and any(unicodedata.category(mark) != "Sc" for mark in before):
        return None
    return before or after


def form_of(values: Sequence[str], share: float = _SHARE) -> Form | None:
    """The form that a `share` of the cells has, or None where they do not agree on one. Cells hold no missing values."""
    found = [match for text in values if (match := _PARTS.fullmatch(text))]
    if len(found) < share * len(values) or len(values) < 3:
        return None
    units = Counter(unit for match in found if (unit := _unit(match[1], match[3])) is not None)
    named = [unit for unit, _ in units.most_common() if unit]
    for unit in (*named[:1], ""):
        # A currency that few cells name is that of all; 1.80 m among figures without a unit may stand among centimetres.
        if unit and units[unit] < 0.5 * len(values) and not (len(named) == 1 and _is_currency(unit)):
            continue
        read = {
            comma: sum(number_as(text, Form(unit, comma)) is not None for text in values) for comma in (False, True)
        }
        better = read[True] - read[False] >= max(3, 0.002 * len(values))  # as where 0,519 is among 1,208
        comma = better or read[False] < share * len(values)
        if read[comma] >= share * len(values):
            return Form(unit, comma)
    return None


def units_of(values: Mapping[str, int], share: float = _SHARE) -> dict[str, int]:
    """The two to four units, the most frequent first, that a `share` of the cells has beside a number, none of them in a
    few cells only; empty where it is not so. `values` counts each cell."""
    counts: Counter[str] = Counter()
    for text, times in values.items():
        match = _PARTS.fullmatch(text.strip())
        unit = _unit(match[1], match[3]) if match else None
        if unit is not None:
            counts[unit] += times
    every = sum(values.values())
    common = {unit: times for unit, times in counts.most_common(4) if times >= 0.02 * every}
    return common if len(common) > 1 and sum(common.values()) >= share * every else {}


def _is_currency(unit: str) -> bool:
    return unit in _CODES or all(unicodedata.category(mark) == "Sc" for mark in unit)


def spelled_missing(values: Mapping[str, int], readable: Mapping[str, bool]) -> frozenset[str]:
    """Cells of a column of numbers that say that there is none: a dash, `unknown`; folded. `values` counts each spelling."""
    odd = {text for text, good in readable.items() if not good}
    said = {text for text in odd if text.lower() in _SPELLED}
    cells = sum(values.values())
    share = sum(values[text] for text in said)
    return frozenset(text.lower() for text in said) if said and 2 * share <= cells else frozenset()


_DAMAGED = re.compile(r"\d(\.\d+)?E\+\d{2,}|\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)", re.ASCII)


def damaged_by_spreadsheet(values: Mapping[str, int]) -> tuple[int, str]:
    """How many cells of a column of codes look like what a spreadsheet makes of them (1E+05, 2-Mar), and one of them.

    What they were cannot be known. A column where most cells look so was written so.
    """
    found = [text for text in values if _DAMAGED.fullmatch(text)]
    count = sum(values[text] for text in found)
    return (count, found[0]) if found and 2 * count < sum(values.values()) else (0, "")
