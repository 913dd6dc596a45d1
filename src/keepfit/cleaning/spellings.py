"""Spellings of one category: letters and blanks, typing mistakes, initials. Proposed; applied where the recipe asks."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from keepfit.cleaning.dependencies import codes_of, unexplained
from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.view import View, known_of, some
from keepfit.core.options import Options
from keepfit.runtime.table import Column, mapped

_MOST = 3000
_PAIRS = 300_000
_SHORTEST = 5
_REPEATED, _LONG = 3, 12  # the same mistake is seldom made more often, and short words are near to each other
_LETTERS_PER_MISTAKE = 8
Way = Literal["letters", "typing", "initials"]


class SpellingOptions(Options):
    """Spelling variants of categories. Applied, the served model reads the variant as the usual spelling too."""

    impl: ClassVar[str] = "keepfit.cleaning.spellings:look"
    do: Literal["apply", "report", "off"] = Field("report", description="report proposes; apply does it")
    ways: list[Way] = Field(
        ["letters", "typing", "initials"],
        description="letters: case, blanks, hyphens; typing: a wrong letter or two; initials: NY for New York",
    )


def look(view: View, options: SpellingOptions) -> list[Finding]:
    """One finding per column and way: variants, and the usual spelling proposed for each."""
    found = _classes(view)
    for rule in view.named("categorical"):
        column = view.data.categories[rule.name]
        counts = known_of(column)
        if rule.boolean or rule.number_like:
            continue
        for way, usual in variants(counts, options.ways).items():
            rows = _rows(view, rule.name, usual) if way == "typing" else _within(column, usual)
            usual = {str(column[row]): usual[column[row]] for row in rows}
            if not rows:
                continue
            said = [f"{variant} -> {name}" for variant, name in sorted(usual.items())]
            found.append(
                Finding(
                    f"spelling ({way})",
                    (rule.name,),
                    view.ids(rows),
                    f"{rule.name} may spell a category in more than one way: {some(said)}",
                    "read as the usual spelling, here and by the served model",
                    "clean.spellings: off" if options.do == "apply" else "clean.spellings: apply",
                    "note",
                    tuple(Cell(str(view.table.ids[r]), rule.name, str(column[r]), usual[column[r]]) for r in rows),
                    share=len(rows) / max(len(column), 1),
                )
            )
    return found


def _classes(view: View) -> list[Finding]:
    """Classes that differ in letters only: another spelling makes a class of its own, which nobody asks for."""
    column = view.table.columns.get(view.target)
    if column is None:
        return []
    counts = Counter[str]()
    for text, times in known_of(column).items():
        counts[text.strip()] += times
    usual = variants(counts, ("letters",)).get("letters", {})
    if not usual:
        return []
    rows = np.flatnonzero(mapped(column, lambda text: text is not None and text.strip() in usual, bool))
    return [
        Finding(
            "spelling of a class",
            (view.target,),
            view.ids(rows),
            f"{view.target} may spell a class in more than one way: {some([f'{a} -> {b}' for a, b in sorted(usual.items())])}",
            "classes of their own: write them alike in the data where they are the same",
            "",
            "warning",
            share=len(rows) / max(len(column), 1),
        )
    ]


def _rows(view: View, name: str, usual: Mapping[str, str]) -> list[int]:
    """Rows of mistyped values, less the values that are the rule where another column has some value."""
    columns = {rule.name: codes_of(view.data.categories[rule.name]) for rule in view.named("categorical")}
    column = view.data.categories[name]
    rows = np.array(_within(column, usual), np.int64)
    free = unexplained(columns, name, rows)
    kept = {column[row] for row in rows[~free]}
    return [int(row) for row in rows if column[row] not in kept]


def _within(column: Column, usual: Mapping[str, str]) -> list[int]:
    return [int(row) for row in np.flatnonzero(mapped(column, usual.__contains__, bool))]


def variants(
    counts: Mapping[str, int], ways: Sequence[Way] = ("letters", "typing", "initials")
) -> dict[Way, dict[str, str]]:
    """Way -> variant -> usual spelling. A usual spelling is never a variant itself, so doing it twice does nothing."""
    if len(counts) > _MOST:
        return {}
    out: dict[Way, dict[str, str]] = {}
    left = dict(counts)
    finders: tuple[tuple[Way, Callable[[Mapping[str, int]], dict[str, str]]], ...] = (
        ("letters", _letters),
        ("typing", _typing),
        ("initials", _initials),
    )
    for way, find in finders:
        found = find(left) if way in ways else {}
        if found:
            out[way] = found
        for variant, name in found.items():
            left[name] += left.pop(variant)
    usual = {variant: name for found in out.values() for variant, name in found.items()}
    for found in out.values():
        for variant, name in found.items():
            while name in usual:
                name = usual[name]
            found[variant] = name
    return out


def folded(value: str) -> str:
    """A category without case, and with blanks, hyphens and underscores as one blank."""
    plain = unicodedata.normalize("NFKC", value).casefold()
    return re.sub(r"[\s_\-]+", " ", plain).strip(" .") or plain


def _letters(counts: Mapping[str, int]) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for value in counts:
        groups.setdefault(folded(value), []).append(value)
    out: dict[str, str] = {}
    for group in groups.values():
        name = min(group, key=lambda value: (-counts[value], value))
        out |= {value: name for value in group if value != name}
    return out


def _typing(counts: Mapping[str, int]) -> dict[str, str]:
    """Rare values a mistake or two away from one common value; where two could be meant, none is proposed."""
    common = [value for value in counts if counts[value] >= 5 and len(value) >= _SHORTEST]
    rare = [value for value in counts if len(value) >= _SHORTEST - 1]
    if len(common) * len(rare) > _PAIRS:
        return {}
    plain = {value: re.sub(r"\s+", " ", value.casefold()) for value in counts}
    out = {}
    for value in rare:
        near = [
            name
            for name in common
            if counts[value] <= max(1, 0.05 * counts[name])
            and (counts[value] <= _REPEATED or len(value) >= _LONG)
            and name != value
            and re.findall(r"\d+", name) == re.findall(r"\d+", value)
            and is_mistyped(plain[value], plain[name])
        ]
        if len(near) == 1:
            out[value] = near[0]
    return {value: name for value, name in out.items() if name not in out}


def is_mistyped(left: str, right: str) -> bool:
    """Whether two texts are at most one mistake in 8 letters apart (one at least)."""
    most = max(1, min(len(left), len(right)) // _LETTERS_PER_MISTAKE)
    if abs(len(left) - len(right)) > most:
        return False
    return distance(left, right) <= most


def distance(left: str, right: str) -> int:
    """Levenshtein distance, bit-parallel (Myers 1999, as Hyyrö 2003 has it); one step per character of `right`."""
    if not left or not right:
        return len(left) + len(right)
    masks: dict[str, int] = {}
    for place, letter in enumerate(left):
        masks[letter] = masks.get(letter, 0) | 1 << place
    every, last, score = (1 << len(left)) - 1, 1 << (len(left) - 1), len(left)
    plus, minus = every, 0
    for letter in right:
        same = masks.get(letter, 0)
        across = (((same & plus) + plus) ^ plus) | same | minus
        up, down = minus | (~(across | plus) & every), plus & across
        score += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & every, (down << 1) & every
        plus, minus = down | (~(across | up) & every), up & across
    return score


def _initials(counts: Mapping[str, int]) -> dict[str, str]:
    """`NY` or `N.Y.` for `New York`, where one value of two words or more has these initials."""
    by_initials: dict[str, list[str]] = {}
    for value in counts:
        words = [word for word in re.split(r"[\s\-]+", value) if word and word[0].isalpha()]
        if len(words) >= 2 and all(len(word) > 1 for word in words):
            by_initials.setdefault("".join(word[0] for word in words).upper(), []).append(value)
    out = {}
    for value in counts:
        short = value.replace(".", "")
        if 2 <= len(short) <= 5 and short.isupper() and short.isalpha() and len(by_initials.get(short, [])) == 1:
            out[value] = by_initials[short][0]
    return out
