"""Cleaning as a whole: every row kept or dropped, each decision taken back alone, clean data left alone, other splits too."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepfit.cleaning import line
from keepfit.cleaning.line import Cleaned
from keepfit.cleaning.near_rows import near_rows
from keepfit.cleaning.view import View
from keepfit.recipe.clean import clean_class
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Table, from_rows
from keepfit.store.ledger import BACK, Entry, conserve_samples

EVERYTHING = {
    "duplicates": "drop", "near_duplicates": "drop", "drop_rows_missing_over": 0.6, "outliers": "clip", "rare": "group",
    "spellings": "apply", "formats": "blank", "dependencies": "repair",
    "missing": {"numeric": "knn", "categorical": "most_frequent"},
}  # fmt: skip
RULES = (ColumnRule("x", "numeric"), *(ColumnRule(n, "categorical") for n in ("city", "state", "code")))
CITIES = {"Springfield": "IL", "Portland": "OR", "Birmingham": "AL", "Sacramento": "CA"}


def section(**said: Any) -> Any:
    return clean_class().model_validate(said)


def made(rows: list[dict[str, Any]]) -> View:
    table = from_rows(rows, ["x", "city", "state", "code", "y"])
    ids = np.empty(len(rows), object)
    ids[:] = [f"t.csv#{n}:{abs(hash(tuple(row.values()))):x}" for n, row in enumerate(rows)]
    return View(Table(table.columns, ids), RULES, "y")


def neat(count: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    names = list(CITIES)
    return [
        {"x": round(float(rng.normal()), 3), "city": names[n % 4], "state": CITIES[names[n % 4]],
         "code": f"{n % 9}{n % 7}-{n % 5}0", "y": "ab"[n % 2]}
        for n in range(count)
    ]  # fmt: skip


def dirty(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = neat(80, seed)
    pick = rng.permutation(80)
    rows[pick[0]]["city"] = rows[pick[0]]["city"][:-1] + "x"
    rows[pick[1]]["state"] = "ZZ"
    rows[pick[2]]["x"] = 1e6
    rows[pick[3]]["x"] = rows[pick[4]]["x"] = None
    rows[pick[5]] |= {"x": None, "city": None, "state": None}
    rows[pick[6]]["code"] = "unknown"
    rows[pick[7]]["city"] = rows[pick[7]]["city"].upper()
    rows[pick[8]]["state"] = None
    return [*rows, dict(rows[pick[9]]), {**rows[pick[10]], "city": rows[pick[10]]["city"].lower()}]


def done(rows: list[dict[str, Any]], undo: tuple[str, ...] = (), **said: Any) -> tuple[View, Cleaned]:
    view = made(rows)
    first = near_rows(view.table, view.rules)
    return view, line.clean(view, section(**(said or EVERYTHING)), undo, 0, first)


def decided(cleaned: Cleaned) -> list[Entry]:
    return [entry for entry in cleaned.entries if entry.is_undoable]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000))
def test_no_row_is_lost_and_no_other_decision_changes_when_one_is_taken_back(seed: int) -> None:
    rows = dirty(seed)
    view, cleaned = done(rows)
    ids = [str(sample) for sample in view.table.ids]
    conserve_samples(np.array(ids, object), ~cleaned.is_dropped(np.array(ids, object)), [], cleaned.entries)
    every = decided(cleaned)
    assert len({entry.key for entry in cleaned.entries}) == len(cleaned.entries) and len(every) >= 8
    for one in every[:: max(1, len(every) // 4)]:
        _, again = done(rows, (one.key,))
        conserve_samples(np.array(ids, object), ~again.is_dropped(np.array(ids, object)), [], again.entries)
        left = {(e.key, e.rule, e.before, e.after, e.action) for e in again.entries if e.key != one.key}
        assert left == {(e.key, e.rule, e.before, e.after, e.action) for e in cleaned.entries if e.key != one.key}
        back = next(entry for entry in again.entries if entry.key == one.key)
        assert back.action == "noted" and back.rule.endswith(BACK) and one.id not in again.dropped - cleaned.dropped
        if one.column:
            is_spared = one.id in again.spared.get(one.column, [])
            is_left = one.id not in again.patches.get(one.column, {})
            assert is_spared or is_left


def test_clean_data_stays_as_it_is() -> None:
    _, cleaned = done(neat())
    assert decided(cleaned) == [] and cleaned.patches == {} and cleaned.rules == RULES


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000))
def test_cleaning_what_was_cleaned_does_nothing(seed: int) -> None:
    said = {k: v for k, v in EVERYTHING.items() if k != "rare"}
    view, cleaned = done(dirty(seed), **said)
    kept = [str(sample) not in cleaned.dropped for sample in view.table.ids]
    columns = {name: column.copy() for name, column in view.table.columns.items()}
    for name, cells in cleaned.patches.items():
        for sample, text in cells.items():
            columns[name][list(view.table.ids).index(sample)] = text
    data = coerced(Table(columns, view.table.ids).take(np.array(kept)), cleaned.rules)
    rows = [
        {"x": None if np.isnan(data.numbers["x"][n]) else float(data.numbers["x"][n]),
         **{name: data.categories[name][n] for name in ("city", "state", "code")},
         "y": view.table.columns["y"][np.flatnonzero(kept)[n]]}
        for n in range(sum(kept))
    ]  # fmt: skip
    _, again = done(rows, **said)
    left = Counter(entry.rule for entry in decided(again))
    assert not {rule for rule in left if not rule.startswith(("imputed", "outlier"))}, left


def test_each_method_says_what_it_found_and_proposes_by_default() -> None:
    rows = dirty(3)
    _, cleaned = done(rows, duplicates="report")
    assert decided(cleaned) == [] and cleaned.rules == RULES and cleaned.patches == {}
    rules = {finding.rule for finding in cleaned.findings}
    assert {"contradicts another column", "another format", "outlier", "repeats an earlier row"} <= rules
    assert {"spelling (letters)", "spelling (typing)", "missing cell: left to the learner"} <= rules
    assert all(f.message and f.proposal and f.share > 0 for f in cleaned.findings)
    _, off = done(rows, **dict.fromkeys(("duplicates", "near_duplicates", "outliers", "rare", "spellings", "formats", "dependencies"), "off"))  # fmt: skip
    assert {finding.rule.partition(":")[0] for finding in off.findings} == {"missing cell"}


def test_what_is_unknown_among_the_undone_is_said() -> None:
    _, cleaned = done(dirty(3), ("0123456789ab",))
    key = decided(cleaned)[0].key
    assert [finding.rule for finding in line.unknown_undo([key, "0123456789ab"], cleaned.entries)] == ["undo"]
    assert line.unknown_undo([key], cleaned.entries) == []


def test_what_is_only_proposed_is_not_said_to_be_done() -> None:
    _, cleaned = done(dirty(3), spellings="report", rare="report", formats="report", dependencies="report")
    told = {finding.rule: finding.proposal for finding in cleaned.findings if finding.level != "stop"}
    assert all(said.startswith("kept") for rule, said in told.items() if rule.startswith(("spelling", "contradicts")))
    assert any("proposed: " in said for said in told.values())


def test_fences_are_said_with_the_digits_that_tell_them_apart() -> None:
    rows = [{**row, "x": 100_000_000_000 + n} for n, row in enumerate(neat(80))]
    rows[5]["x"] = 123_000_000_000
    _, cleaned = done(rows, outliers="report")
    told = next(finding.message for finding in cleaned.findings if finding.rule == "outlier")
    assert told == "x has 1 value outside 99999999902 to 100000000179, the farthest 123000000000", told
