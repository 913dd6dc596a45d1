"""Columns that give the target away: copies, transforms, sums, words of names, and what is known only after the event.

A column that is nearly perfect alone is suspicious only where the others together come nowhere near it: the petals of
iris tell the species almost perfectly, and so do the sepals and petals without any one of them.
"""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.crossed import crossed, features_of
from keepfit.cleaning.findings import Finding, Level
from keepfit.cleaning.guarded import Guarded, codes_of
from keepfit.cleaning.single import skill, told
from keepfit.runtime.coded import Coded
from keepfit.runtime.table import Column, counts_of, mapped

_PERFECT = 0.98  # petal width of iris alone: 0.94; the ticket class of titanic: 0.3
_PERFECT_NUMBER = 0.999
_TELLING = 0.9
_PRESENT = 0.85  # what merely being filled in may tell before it looks like a record of the event itself
_TIMES = 5.0  # the other columns err this many times more often than the one
_CHANCE = 0.01
_REST_ROWS, _REST_TREES = 2000, 60
_MOST_PAIRED = 40
_LEAST = 20
_EVIDENCE = 100  # a table of fewer rows is told, not stopped
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d{1,15}")
_DISTINCT = 20
_LOOSE = 1e-6  # of the answer's variance: rounding leaves less, and a sum that grows with time leaves more
_MENDED = 0.01  # of the rows may have been changed by hand
_DISORDER = 0.002  # of neighbouring rows, such as a cell that was mended by hand


@dataclass(frozen=True)
class _Suspect:
    column: str
    rule: str
    skill: float
    errors: NDArray[np.float64]
    sure: bool
    seen: str


def giveaways(case: Guarded) -> list[Finding]:
    """One finding per column that tells the target suspiciously well; level stop where nothing innocent explains it."""
    rows, truth = case.learned, case.truth[case.learned]
    if len(rows) < _LEAST or (case.classes and len(np.unique(truth)) < 2):
        return []
    columns: dict[str, NDArray[Any] | Coded] = {**case.seen(rows)}
    columns |= {name: _numbered(cells)[rows] for name, cells in _identifiers(case).items()}
    suspects = [s for name, column in columns.items() if (s := _suspect(case, name, column, truth)) is not None]
    suspects += [s for name in _named(case) if (s := _by_word(case, name, rows, truth)) is not None]
    suspects += [] if case.classes else _formulas(case, rows, truth)
    known = {suspect.column for suspect in suspects}
    left = {rule.name for rule in case.rules if rule.kind != "ignore"} - known
    rest = _rest(case, frozenset(known)) if left and any(not suspect.sure for suspect in suspects) else None
    found = [_finding(case, suspect, rest) for suspect in suspects]
    return [one for one in found if one is not None]


def _suspect(case: Guarded, name: str, column: NDArray[Any] | Coded, truth: NDArray[Any]) -> _Suspect | None:
    answers = told(column, truth, case.classes, case.seed)
    good = skill(answers, truth, case.classes)
    if not case.classes and name in case.data.numbers and _in_order(np.asarray(column), truth):
        return _in_other_words(case, name, np.asarray(column), truth, good)
    errors = (answers != truth).astype(float) if case.classes else (truth - answers) ** 2
    gone = np.array([cell is None for cell in column]) if column.dtype == object else np.isnan(np.asarray(column))
    if case.classes and 0.02 < gone.mean() < 0.98:
        filled = told(gone.astype(float), truth, case.classes, case.seed)
        if (by_gap := skill(filled, truth, case.classes)) >= _PRESENT:
            seen = f"whether it is filled in tells {case.target} with skill {by_gap:.3f}"
            return _Suspect(name, "known_after", by_gap, (filled != truth).astype(float), False, seen)
    if good < (_TELLING if case.classes else _PERFECT_NUMBER):
        return None
    copied = bool(case.classes) and good >= 1.0 and codes_of(column)[1] == len(np.unique(truth))
    rule = "target_copy" if copied else "known_after" if case.classes else "target_transform"
    if name in _identifiers(case):
        rule, copied = "identifier_tells", False
    said = f"its values stand one to one for those of {case.target}" if copied else _said(case, good)
    return _Suspect(name, rule, good, errors, copied, said)


def _in_order(column: NDArray[np.float64], truth: NDArray[Any]) -> bool:
    """Whether the column is the answer in other words: the answer never falls where the column rises, or never rises, and one is
    the other, its logarithm, power or inverse, in any unit, or rounded. Order alone is not enough: a count that only grows
    is in the order of time."""
    known = ~np.isnan(column)
    x, y = column[known], truth[known].astype(float)
    if known.mean() < 0.9 or min(len(np.unique(x)), len(np.unique(y))) < _DISTINCT:
        return False
    for up in (y, -y):
        order = np.lexsort((up, x))
        steps = np.diff(up[order])[np.diff(x[order]) > 0]
        rises, falls = int((steps > 0).sum()), int((steps < 0).sum())
        if rises >= _DISTINCT - 1 and falls <= _DISORDER * rises and _is_made_of(x, y):
            return True
    return False


def _is_made_of(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether the column is the answer rounded, or some plain function of it goes straight with the answer, to a millionth of
    its variance; a hundredth of the rows may have been mended by hand."""
    unit = float(np.diff(np.unique(x)).min())
    if np.mean(np.abs(x - y) <= unit) >= 1 - _MENDED:
        return True
    with np.errstate(all="ignore"):
        made = [x, x**2, x**3, np.cbrt(x), np.exp(x), 1 / x]
        made += [np.log(x), np.sqrt(x)] if (x > 0).all() else []
    return any(np.isfinite(one).all() and np.ptp(one) > 0 and _goes_straight(one, y) for one in made)


def _goes_straight(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    for _ in range(2):  # without the rows that are farthest from the line the second time
        x, y = (x - x.mean()) / (x.std() or 1.0), (y - y.mean()) / (y.std() or 1.0)
        apart = np.abs(y - (x * y).mean() * x)
        if np.mean(apart**2) <= _LOOSE:
            return True
        near = apart <= np.quantile(apart, 1 - _MENDED)
        x, y = x[near], y[near]
    return False


def _in_other_words(
    case: Guarded, name: str, column: NDArray[np.float64], truth: NDArray[Any], good: float
) -> _Suspect:
    """A column in the order of a numeric target: its copy, or what was made of it."""
    known = ~np.isnan(column)
    copied = bool(np.mean(column[known] == truth[known]) > 1 - _DISORDER)
    said = (
        f"it is {case.target}"
        if copied
        else f"it rises or falls with {case.target} in every row, as a transform of it does"
    )
    rule = "target_copy" if copied else "target_transform"
    return _Suspect(name, rule, good, np.zeros(len(truth)), True, said)


def _said(case: Guarded, good: float) -> str:
    measure = "balanced accuracy above chance" if case.classes else "R squared"
    return f"alone it tells {case.target} with {measure} {good:.4f}"


def _named(case: Guarded) -> list[str]:
    """Columns whose cells are looked at word by word: texts, and categories of many values."""
    many = [name for name, cells in case.data.categories.items() if len(counts_of(cells[case.learned])) > _DISTINCT]
    return [*case.data.texts, *many, *_identifiers(case)]


def _identifiers(case: Guarded) -> dict[str, Column]:
    """Columns that were left out as identifiers without the recipe saying so: one that tells the answer shows how rows
    were gathered, and other columns may tell it too."""
    left_out = [rule.name for rule in case.rules if rule.kind == "ignore" and rule.why.startswith("an identifier")]
    return {name: case.table.columns[name] for name in left_out}


def _numbered(cells: Column) -> NDArray[np.float64]:
    """The last number in each cell [n], NaN where there is none."""
    return mapped(
        cells, lambda cell: float(found[-1]) if (found := _NUMBER.findall(cell or "")) else np.nan, np.float64
    )


def _by_word(case: Guarded, name: str, rows: NDArray[np.int64], truth: NDArray[Any]) -> _Suspect | None:
    """A column, such as of file names, in which one word per class stands in all its rows and in no others."""
    if not case.classes:
        return None
    cells = {**case.data.texts, **case.data.categories, **_identifiers(case)}[name][rows]
    where: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        for word in set(_WORD.findall((cell or "").lower())):
            where.setdefault(word, []).append(row)
    counts = np.bincount(truth.astype(int), minlength=case.classes)
    telling: dict[int, str] = {}
    for word, places in where.items():
        inside = np.bincount(truth[places].astype(int), minlength=case.classes)
        label = int(inside.argmax())
        if inside[label] >= max(0.98 * counts[label], 10) and inside[label] >= 0.99 * len(places):
            telling.setdefault(label, word)
    if len(telling) < max(int((counts > 0).sum()) - 1, 1):
        return None
    if not _is_name(cells) and not all(_is_said(case.names[label], word) for label, word in telling.items()):
        return None
    words = ", ".join(f"{word!r} for {case.names[label]}" for label, word in sorted(telling.items())[:4])
    return _Suspect(name, "name_tells", 1.0, np.zeros(len(rows)), True, f"a word of it tells {case.target}: {words}")


def _is_name(cells: Column) -> bool:
    """Whether cells are names of files or codes, and not sentences."""
    known = [cell.strip() for cell in cells[:500] if cell]
    return bool(known) and sum(" " not in cell for cell in known) >= 0.9 * len(known)


def _is_said(label: str, word: str) -> bool:
    """Whether a word says the class: words of free text may tell it and be innocent, the class's own name is not."""
    said = _WORD.findall(label.lower())
    return any(part in word for part in said if len(part) > 1)


def _formulas(case: Guarded, rows: NDArray[np.int64], truth: NDArray[Any]) -> list[_Suspect]:
    """Two columns whose sum, difference, product or quotient is the target."""
    numbers = {name: case.data.at(name, rows) for name in case.data.numbers}
    if not 2 <= len(numbers) <= _MOST_PAIRED:
        return []
    few = np.random.default_rng(case.seed).permutation(len(rows))[:64]
    for (one, x), (two, y) in itertools.combinations(numbers.items(), 2):
        for sign, made in _made(x[few], y[few]):
            if _equal(made, truth[few]) and _equal(dict(_made(x, y))[sign], truth):
                names = (one, two) if sign[0] == "a" else (two, one)
                seen = f"{names[0]} {sign[1]} {names[1]} is {case.target}"
                return [_Suspect(name, "target_formula", 1.0, np.zeros(len(rows)), True, seen) for name in (one, two)]
    return []


def _made(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[str, NDArray[np.float64]]]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return [("a+", x + y), ("a-", x - y), ("b-", y - x), ("a*", x * y), ("a/", x / y), ("b/", y / x)]


def _equal(made: NDArray[np.float64], truth: NDArray[Any]) -> bool:
    known = np.isfinite(made)
    if known.mean() < 0.9:
        return False
    return bool((np.abs(made[known] - truth[known]) <= 1e-6 * (np.abs(truth[known]) + 1e-9)).mean() >= 0.99)


def _rest(case: Guarded, suspects: frozenset[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions in `learned` and the errors there of a model that reads all columns but the suspects."""
    some = np.arange(len(case.learned))
    if len(some) > _REST_ROWS:
        some = np.sort(np.random.default_rng(case.seed).choice(some, _REST_ROWS, replace=False))
    rows = case.learned[some]
    truth = case.truth[rows]
    scores = crossed(features_of(case.data, rows, suspects), truth, case.classes, case.seed, _REST_TREES)
    errors = (scores.argmax(1) != truth).astype(float) if case.classes else (scores[:, 0] - truth) ** 2
    return some, errors


def _finding(
    case: Guarded, suspect: _Suspect, rest: tuple[NDArray[np.int64], NDArray[np.float64]] | None
) -> Finding | None:
    name = suspect.column
    if len(case.truth) < _EVIDENCE:
        said = "used as it is: so few rows show nothing for sure; be sure that it is known beforehand"
        return Finding(suspect.rule, (name,), (), f"column {name!r}: {suspect.seen}", said, ignored(name), "warning")
    level: Level = "stop" if suspect.sure else "note"
    more = ""
    if not suspect.sure and rest is not None:
        places, errors = rest
        own = suspect.errors[places]
        apart = _stands_apart(own, errors, bool(case.classes))
        perfect = suspect.rule != "known_after" or suspect.skill >= _PERFECT or "filled in" in suspect.seen
        level = "stop" if apart and perfect else "note"
        if case.classes:
            more = f"; it errs on {own.mean():.1%} of rows, all other columns together on {errors.mean():.1%}"
    if level == "note" and suspect.skill < _TELLING:
        return None
    proposal = (
        "the run stops: such a column is a copy of the answer, or written after it was known, and will not be there when "
        "the model is asked"
        if level == "stop"
        else "used as it is: the others tell nearly as much, or it is not perfect, or there are no others; be sure that it is "
        "known beforehand"
    )
    override = ignored(name) if level == "stop" else ""
    return Finding(suspect.rule, (name,), (), f"column {name!r}: {suspect.seen}{more}", proposal, override, level)


def ignored(column: str) -> str:
    """The override that leaves a column out; one whose name cannot stand in an override lets the run go on instead."""
    if "." in column or "=" in column or not column.strip():
        return "clean.leaks=report"
    plain = re.fullmatch(r"[\w-]+", column)
    return f"data.columns.{column}=ignore" if plain else shlex.quote(f"data.columns.{column}=ignore")


def _stands_apart(own: NDArray[np.float64], rest: NDArray[np.float64], classes: bool) -> bool:
    """Whether the others err many times more, and not by chance (sign test on rows where one of both errs)."""
    if not classes:
        return bool(rest.mean() > _TIMES * own.mean())
    from scipy.stats import binomtest

    worse, better = int((rest > own).sum()), int((own > rest).sum())
    if rest.sum() < _TIMES * own.sum() or worse + better == 0:
        return False
    return bool(binomtest(worse, worse + better, alternative="greater").pvalue < _CHANCE)
