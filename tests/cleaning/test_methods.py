"""Each method on small columns whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.cleaning import dependencies, line, spellings, written
from keepfit.cleaning.dependencies import DependencyOptions, discover, violated
from keepfit.cleaning.formats import FormatOptions, odd_ones
from keepfit.cleaning.missing import fill_of, neighbours, regressed
from keepfit.cleaning.outliers import OutlierOptions, anomaly, fences
from keepfit.cleaning.spellings import distance, variants
from keepfit.cleaning.unreadable import look
from keepfit.cleaning.view import View
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.coerce import OTHER, ColumnRule, categories, numbers
from keepfit.runtime.spread import Spread
from keepfit.runtime.table import Column, Table, from_rows, text_column


def column(values: list[object]) -> Column:
    return text_column(values)


def test_spellings_are_letters_mistakes_and_initials() -> None:
    counts = {
        "New York": 40,
        "new york": 3,
        "New-York": 1,
        "NY": 5,
        "Boston": 30,
        "Bostom": 1,
        "Los Angeles": 9,
        "12th": 20,
        "11th": 1,
    }
    found = variants(counts)
    assert found["letters"] == {"new york": "New York", "New-York": "New York"}
    assert found["typing"] == {"Bostom": "Boston"} and found["initials"] == {"NY": "New York"}
    assert (
        variants({"Male": 50, "Female": 2, "Iran": 40, "Iraq": 1, "C": 9, "C++": 3, "ISLAND": 4, "INLAND": 900}) == {}
    )
    merged = {"New York": 48, "Boston": 31, "Los Angeles": 9}
    assert variants(merged) == {}


def test_distance_is_levenshtein() -> None:
    def slow(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for n, x in enumerate(a, 1):
            last, row = row, [n]
            row += [0] * len(b)
            for m, y in enumerate(b, 1):
                row[m] = min(row[m - 1] + 1, last[m] + 1, last[m - 1] + (x != y))
        return row[-1]

    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join("abc"[int(n)] for n in rng.integers(0, 3, int(rng.integers(0, 90)))) for _ in range(2))
        assert distance(a, b) == slow(a, b)


def test_a_city_tells_its_state_and_a_majority_mends_it() -> None:
    cities = [f"city {n % 6}" for n in range(120)]
    states = [f"S{n % 6 // 2}" for n in range(120)]
    states[7], states[20] = "S2", None  # type: ignore[call-overload]
    noise = [f"v{n * 7 % 5}" for n in range(120)]
    columns = {"city": column(cities), "state": column(states), "noise": column(noise)}
    told = discover(columns, 0.85)
    assert [(one.left, one.right) for one in told] == [("city", "state")]
    rows, after, lefts = violated(columns, DependencyOptions())["state"]
    assert (rows, after, lefts) == ([7, 20], ["S0", "S1"], ("city",))


def test_exceptions_that_share_a_cause_are_a_rule() -> None:
    cities = [f"city {n % 6}" for n in range(240)]
    fees = [f"F{n % 6}" for n in range(240)]
    kinds = ["plain"] * 240
    for row in range(0, 60, 6):
        kinds[row], fees[row] = "express", f"X{row}"
    columns = {"city": column(cities), "fee": column(fees), "kind": column(kinds)}
    assert "fee" not in violated(columns, DependencyOptions(strength=0.7, majority=0.6, minority=0.2))


def test_another_format_is_seen_where_there_is_one() -> None:
    times = [f"{n % 12 + 1}:{n % 60:02d} a.m." for n in range(100)]
    times[4], times[9] = "Dec 1 at seven", "10:3x"
    assert odd_ones(column(times), FormatOptions())[0] == [4, 9]
    words = ["red", "dark blue", "green-ish", "grey", "o'er"] * 20
    assert odd_ones(column(words), FormatOptions()) == ([], [])


def test_fences_and_isolation_forest() -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(0, 1, 300), [50.0, np.nan])
    bounds = fences(Spread.of(values), 3.0)
    assert bounds is not None and -8 < bounds[0] < -3 and 3 < bounds[1] < 8
    assert fences(Spread.of(np.array([0.0, 1.0] * 50)), 3.0) is None and fences(Spread.of(np.zeros(100)), 3.0) is None
    matrix = np.vstack([rng.normal(0, 1, (300, 3)), [[9.0, -9.0, 9.0]]])
    scores = anomaly(matrix, 0)
    assert int(scores.argmax()) == 300 and scores[300] > 0.7 and np.median(scores) < 0.5
    assert (scores == anomaly(matrix, 0)).all()
    with pytest.raises(ValueError, match="cannot be clipped"):
        OutlierOptions(do="clip", use="isolation_forest")


def test_fills_are_fitted_and_neighbours_and_regressions_beat_the_mean() -> None:
    found = {
        how: fill_of(np.array([1.0, 2.0, 9.0]), how, 7.0) for how in ("mean", "median", "constant", "knn", "iterative")
    }
    assert found == {
        "mean": 4.0,
        "median": 2.0,
        "constant": 7.0,
        "knn": 2.0,
        "iterative": 2.0,
    }
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 200)
    whole = np.column_stack([base, 3 * base + rng.normal(0, 0.1, 200), rng.normal(0, 1, 200)])
    holed = whole.copy()
    holed[::9, 1] = np.nan
    error = {
        name: np.abs(made(holed)[::9, 1] - whole[::9, 1]).mean() for name, made in (("k", neighbours), ("r", regressed))
    }
    plain = np.abs(np.nanmean(holed[:, 1]) - whole[::9, 1]).mean()
    assert error["r"] < 0.2 * plain and error["k"] < 0.5 * plain
    for made in (neighbours, regressed):
        assert (
            not np.isnan(made(holed)).any()
            and (made(holed)[~np.isnan(holed)] == whole[~np.isnan(holed)]).sum() >= 0.99 * 570
        )


def test_repairs_of_a_rule_are_the_runtimes() -> None:
    rule = ColumnRule("x", "numeric", clip=(-1.0, 2.0))
    assert numbers(column(["-5", "1", "9", None]), rule)[0].tolist()[:3] == [-1.0, 1.0, 2.0]
    spelled = ColumnRule("c", "categorical", spellings=(("NY", "New York"),), common=("New York", "Boston"))
    assert categories(column([" NY", "Boston", "Rome", None]), spelled).tolist() == ["New York", "Boston", OTHER, None]
    assert ColumnRule.from_json(rule.as_json()) == rule and ColumnRule.from_json(spelled.as_json()) == spelled
    assert set(ColumnRule("x", "numeric").as_json()) & {"clip", "spellings", "common"} == set()


def test_cells_that_are_no_numbers_are_told() -> None:
    rows = [{"a": n, "b": n if n % 9 else "—", "c": "word"} for n in range(60)]
    rows[3]["a"] = "lots"
    rules = (
        ColumnRule("a", "numeric"),
        ColumnRule("b", "categorical", "60 different values"),
        ColumnRule("c", "categorical"),
    )
    table = from_rows(rows, ["a", "b", "c"])
    ids = np.array([f"t#{n}:0" for n in range(60)], object)
    found = {f.rule: f for f in look(View(type(table)(table.columns, ids), rules, "y"))}
    assert [cell.before for cell in found["unreadable cell: not a number"].cells] == ["lots"]
    assert found["numbers read as words"].columns == ("b",) and "'—'" in found["numbers read as words"].message
    assert found["numbers read as words"].override == "data.columns: {b: numeric}"


def test_each_cell_with_a_unit_a_currency_or_another_date_is_told_with_what_it_is_read_as() -> None:
    rows = [
        {
            "weight": f"{n}.5 oz",
            "price": f"${n + 1},000",
            "share": f"{n},5",
            "day": f"2020-01-{n % 28 + 1:02}",
            "x": n / 4,
        }
        for n in range(60)
    ]
    rows[4] |= {"day": "25/03/2020", "x": "inf"}
    rows[5] |= {"x": "=1/0", "price": None}
    table = from_rows(rows, list(rows[0]))
    table = type(table)(table.columns, np.array([f"t#{n}:0" for n in range(60)], object))
    view = View(table, tuple(one.rule for one in looked(table, "y", {}, [])), "y")
    assert {rule.name: rule.kind for rule in view.rules} == dict.fromkeys(
        ("weight", "price", "share", "x"), "numeric"
    ) | {"day": "datetime"}
    told = {finding.columns[0]: finding for finding in written.look(view)}
    first = {name: (len(found.cells), found.cells[0].before, found.cells[0].after) for name, found in told.items()}
    assert first == {
        "weight": (60, "0.5 oz", "0.5"),
        "price": (59, "$1,000", "1000"),
        "share": (60, "0,5", "0.5"),
        "day": (1, "25/03/2020", "2020-03-25"),
    }
    assert [cell.before for cell in look(view)[0].cells] == ["inf", "=1/0"]
    entries = line.read_elsewhere(view)
    assert {entry.action for entry in entries if entry.column == "x"} == {"noted"} and len(entries) == 182
    assert not any(entry.is_undoable for entry in entries)


def test_a_plain_date_among_others_is_no_repair_and_several_units_are_told() -> None:
    days = [f"{n % 28 + 1}.3.2020" for n in range(60)]
    days[7] = "2020-03-09"
    table = from_rows(
        [
            {"day": day, "weight": f"{n}.5 {'kg' if n % 3 else 'g'}", "street": f"{n} Oak St"}
            for n, day in enumerate(days)
        ],
        ["day", "weight", "street"],
    )
    table = Table(table.columns, np.array([f"t#{n}:0" for n in range(60)], object))
    view = View(table, tuple(one.rule for one in looked(table, "y", {}, [])), "y")
    assert "2020-03-09" not in {cell.before for finding in written.look(view) for cell in finding.cells}
    told = [finding for finding in look(view) if finding.rule == "several units"]
    assert [one.columns for one in told] == [("weight",)] and "'kg' in 40, 'g' in 20" in told[0].message


def view_of(columns: dict[str, list[str]], target: str) -> View:
    table = from_rows(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], list(columns)
    )
    table = Table(table.columns, np.array([f"t#{n}" for n in range(len(table))], object))
    rules = tuple(ColumnRule(name, "categorical", "") for name in columns if name != target)
    return View(table, rules, target)


def test_two_columns_that_blame_each_other_are_not_both_mended() -> None:
    pairs = [("London", "UK"), ("Berlin", "Germany"), ("Paris", "France")] * 30
    pairs[6] = ("London", "Germany")
    view = view_of({"city": [c for c, _ in pairs], "land": [s for _, s in pairs], "y": ["0"] * 90}, "y")
    found = dependencies.look(view, DependencyOptions())
    assert {f.columns[0] for f in found} == {"city", "land"} and not any(f.cells for f in found)
    assert all("may be the wrong one" in f.message for f in found)


def test_classes_that_differ_in_letters_are_told() -> None:
    view = view_of({"a": ["x"] * 30, "y": ["yes"] * 20 + ["no"] * 8 + ["Yes", " YES"]}, "y")
    seen = spellings.look(view, spellings.SpellingOptions())
    assert [f.rule for f in seen] == ["spelling of a class"] and len(seen[0].ids) == 2
    assert "'Yes -> yes'" in seen[0].message


def test_a_spelling_that_a_contradiction_mended_is_served_too() -> None:
    rule = ColumnRule("city", "categorical")
    ids = np.array([f"t.csv#{row}:0" for row in range(10)], object)
    came = Table({"city": text_column(["New York"] * 9 + ["new york"]), "y": text_column(["a"] * 10)}, ids)
    left = Table({"city": text_column(["New York"] * 10), "y": came.columns["y"]}, ids)
    found = spellings.look(View(came, (rule,), "y"), spellings.SpellingOptions(do="apply"))
    assert [(cell.before, cell.after) for one in found for cell in one.cells] == [("new york", "New York")]
    served = line._remembered(rule, View(left, (rule,), "y"), found)
    assert categories(came.columns["city"], served).tolist() == ["New York"] * 10
    assert line._remembered(rule, View(came, (rule,), "y"), found) == rule  # nothing was mended: its own method decides
