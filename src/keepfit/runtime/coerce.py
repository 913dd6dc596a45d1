"""Coercion: turns the text of a column into numbers, dates, categories and missing values, by fitted rules."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coded import Coded
from keepfit.runtime.figures import Form, number_as
from keepfit.runtime.table import Column, renamed_cells

ALWAYS_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "?", "#n/a", "<na>", "nat"}) | frozenset(
    {"#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!"}  # a spreadsheet's errors
)
OTHER = "(other)"
_DIGITS = "0123456789"
FIGURES = frozenset(f"{_DIGITS}.+-:/")


@dataclass(frozen=True)
class ColumnRule:
    """How one column is read. `missing` holds extra spellings of a missing value (folded, stripped).

    `form` is how its numbers are written, where that is not the plain way.
    `month_first`: 03/04/2020 is the fourth of March in this column. Repairs: numbers are brought inside `clip`,
    categories read by `spellings`, and where there are `common` ones every other is OTHER.
    """

    name: str
    kind: str
    why: str = ""
    missing: frozenset[str] = frozenset()
    number_like: bool = False
    boolean: bool = False
    month_first: bool = False
    clip: tuple[float, float] | None = None
    spellings: tuple[tuple[str, str], ...] = ()
    common: tuple[str, ...] = ()
    form: Form | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON form for preparation.json; repairs only where there are any."""
        repairs: dict[str, Any] = {}
        if self.clip is not None:
            repairs["clip"] = list(self.clip)
        if self.spellings:
            repairs["spellings"] = dict(self.spellings)
        if self.common:
            repairs["common"] = list(self.common)
        return {**self._plain(), **repairs}

    def bare(self) -> ColumnRule:
        """The rule without repairs."""
        return replace(self, clip=None, spellings=(), common=())

    def _plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "why": self.why,
            "missing": sorted(self.missing),
            "number_like": self.number_like,
            "boolean": self.boolean,
            "month_first": self.month_first,
            **({} if self.form is None else {"form": self.form.as_json()}),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ColumnRule:
        """Inverse of `as_json`."""
        return cls(
            str(raw["name"]),
            str(raw["kind"]),
            str(raw["why"]),
            frozenset(raw["missing"]),
            bool(raw["number_like"]),
            bool(raw["boolean"]),
            bool(raw.get("month_first", False)),
            (float(raw["clip"][0]), float(raw["clip"][1])) if "clip" in raw else None,
            tuple(sorted((str(k), str(v)) for k, v in raw.get("spellings", {}).items())),
            tuple(str(name) for name in raw.get("common", ())),
            Form.from_json(raw.get("form")),
        )


def is_missing(text: str | None, extra: frozenset[str] = frozenset()) -> bool:
    """Whether a cell is a missing value in the usual or the column's own spelling."""
    if text is None:
        return True
    if not extra and text[:1] in _DIGITS and text:  # no usual spelling begins so, and most cells of numbers do
        return False
    folded = text.strip().lower()
    return folded in ALWAYS_MISSING or folded in extra or (folded[0] == "#" and not folded.strip("#"))


def parse_number(text: str) -> float | None:
    """A number with stray spaces, thousands commas or a percent sign; None when it is not one or not finite."""
    try:
        number = float(text)
    except ValueError:
        cleaned = text.strip().replace("\u00a0", "").replace(" ", "")
        if "_" in text or not _looks_grouped(cleaned):
            return None
        try:
            number = float(cleaned.replace(",", ""))
        except ValueError:
            return None
    return number if "_" not in text and np.isfinite(number) else None


def _looks_grouped(text: str) -> bool:
    head, *groups = text.lstrip("+-").partition(".")[0].split(",")
    return (
        bool(groups)
        and head.isdigit()
        and head[0] != "0"
        and len(head) <= 3
        and all(len(g) == 3 and g.isdigit() for g in groups)
    )


_FORMATS = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%Y年%m月%d日",
    "%d.%m.%Y %H:%M",
    "%d/%m/%y",  # 69 to 99 are of the last century
    "%m/%d/%y",
)


_MONTH_FIRST = tuple(sorted(_FORMATS, key=lambda form: not form.startswith("%m/")))
SLASHED = re.compile(r"\s*(\d{1,2})/(\d{1,2})/\d{2}(?:\d{2})?\b")


def is_month_first(column: Iterable[str | None]) -> bool:
    """Whether a column writes 03/25/2020: more of its cells can only be read so than the other way."""
    found = [match for text in column if text is not None and (match := SLASHED.match(text))]
    days, months = (sum(int(match[part]) > 12 for match in found) for part in (1, 2))
    return months > days


def parse_date(text: str, month_first: bool = False) -> dt.datetime | None:
    """ISO 8601 or one of a few other spellings, as a naive UTC datetime; None when it is none.

    `month_first` is the column's: it decides where a cell such as 03/04/2020 could be read both ways.
    """
    cleaned = text.strip()
    if len(cleaned) < 8 and not SLASHED.match(cleaned):
        return None
    if not any(mark in cleaned for mark in "-/.:, 年"):
        return None
    try:
        moment = dt.datetime.fromisoformat(cleaned)
    except ValueError:
        for form in _MONTH_FIRST if month_first else _FORMATS:
            try:
                return dt.datetime.strptime(cleaned, form)
            except ValueError:
                continue
        return None
    try:
        return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError:  # the first and the last day of the calendar have no UTC in some zones
        return None


def numbers(column: Column, rule: ColumnRule) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """float64 [n] with NaN where missing, and a mask [n] of cells that are text but no number."""
    if isinstance(column, Coded):
        each_one, odd = by_code(column, rule)
        return each_one[column.codes], odd[column.codes]
    if (found_at_once := _at_once(column, rule)) is not None:
        return found_at_once
    out = np.full(len(column), np.nan)
    bad = np.zeros(len(column), bool)
    seen: dict[str | None, tuple[float, bool]] = {}
    for row, text in enumerate(column):
        found = seen.get(text)
        if found is None:
            found = _one_number(text, rule)
            if len(seen) < 100_000:
                seen[text] = found
        out[row], bad[row] = found
    return (out if rule.clip is None else np.clip(out, *rule.clip)), bad


def by_code(column: Coded, rule: ColumnRule) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What `numbers` gives for each code [k], whether some row has it or not."""
    key = ("numbers", rule)
    if key not in column.memo:
        known = column.memo.get("figures")
        at_once = _at_once(column.values, rule, known) if known is not None else None
        column.memo[key] = numbers(column.values, rule) if at_once is None else at_once
    found: tuple[NDArray[np.float64], NDArray[np.bool_]] = column.memo[key]
    return found


def figures(column: Coded) -> NDArray[np.float64] | None:
    """The number of each code [k], NaN where missing; None where a text has anything but digits, marks and a sign."""
    if "figures" not in column.memo:
        texts = [text for text in column.values.tolist() if text is not None]
        plain = bool(texts) and FIGURES.issuperset(texts[0]) and "" not in texts and FIGURES.issuperset("".join(texts))
        found = plain_numbers(column.values) if plain else None
        column.memo["figures"] = found
    made: NDArray[np.float64] | None = column.memo["figures"]
    return made


def plain_numbers(column: Column) -> NDArray[np.float64] | None:
    """float64 [n] of a column in which every cell is what Python reads as a float, NaN where None; None for any other.

    A cell of another spelling of NaN, or infinite, is in the answer as Python reads it: it may mean something else here.
    """
    texts = ["nan" if text is None else text for text in column.tolist()]
    try:
        if "_" in "".join(texts):  # Python reads 1_000
            return None
        return np.array(texts, object).astype(np.float64)
    except (ValueError, TypeError):
        return None


def _at_once(
    column: Column, rule: ColumnRule, known: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """What `numbers` gives, ten times as fast, where every cell is written plainly; None where one is not.

    `known` is what `plain_numbers` gives, where somebody has it."""
    if rule.form is not None or rule.boolean or not len(column):
        return None
    out = plain_numbers(column) if known is None else known.copy()
    if out is None or any(mark in _DIGITS for text in rule.missing for mark in text):
        return None
    bad = np.zeros(len(column), bool)
    for row in np.flatnonzero(~np.isfinite(out)):
        if column[row] is not None:
            out[row], bad[row] = _one_number(column[row], rule)
    return (out if rule.clip is None else np.clip(out, *rule.clip)), bad


def _one_number(text: str | None, rule: ColumnRule) -> tuple[float, bool]:
    if text is None or is_missing(text, rule.missing):
        return np.nan, False
    if rule.boolean and text.strip().lower() in ("true", "false"):
        return float(text.strip().lower() == "true"), False
    number = parse_number(text) if rule.form is None else number_as(text, rule.form)
    return (np.nan, True) if number is None else (number, False)


def categories(column: Column, rule: ColumnRule) -> Column:
    """Stripped category text [n], None where missing; numbers in one spelling, booleans in lower case; then repairs."""
    usual, common = dict(rule.spellings), frozenset(rule.common)

    def repaired(text: str | None) -> str | None:
        found = _one_category(text, rule)
        if found is None:
            return None
        found = usual.get(found, found)
        return found if not common or found in common else OTHER

    return renamed_cells(column, repaired, ("categories", rule))


def _one_category(text: str | None, rule: ColumnRule) -> str | None:
    if text is None or is_missing(text, rule.missing):
        return None
    stripped = text.strip()
    if rule.boolean and stripped.lower() in ("true", "false"):
        return stripped.lower()
    if rule.number_like:
        number = parse_number(stripped)
        if number is not None:
            return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
    return stripped


DATE_PARTS = ("epoch_days", "year", "month", "day", "weekday", "hour", "day_of_year")


def dates(column: Column, rule: ColumnRule) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """float64 [n, 7] of DATE_PARTS with NaN where missing, and a mask of cells that are text but no date."""
    if isinstance(column, Coded):
        parts, odd = dates(column.values, rule)
        return parts[column.codes], odd[column.codes]
    out = np.full((len(column), len(DATE_PARTS)), np.nan)
    bad = np.zeros(len(column), bool)
    epoch = dt.datetime(1970, 1, 1)
    for row, text in enumerate(column):
        if text is None or is_missing(text, rule.missing):
            continue
        moment = parse_date(text, rule.month_first)
        if moment is None:
            bad[row] = True
            continue
        days = (moment - epoch).total_seconds() / 86400
        out[row] = (
            days,
            moment.year,
            moment.month,
            moment.day,
            moment.weekday(),
            moment.hour + moment.minute / 60,
            moment.timetuple().tm_yday,
        )
    return out, bad
