"""The leak guard: planted leaks stop, honest data goes through, and rows that belong together stay together."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.cleaning.crossings import crossings, group_column, names_somebody
from keepfit.cleaning.foreknowledge import foreknowledge
from keepfit.cleaning.giveaways import giveaways
from keepfit.cleaning.guarded import Guarded
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.table import Table, text_column


def case(columns, truth, classes=2, given=False):
    rows = len(truth)
    table = Table({name: text_column(list(values)) for name, values in {**columns, "y": truth}.items()})
    rules = [finding.rule for finding in looked(table, "y", {}, [])]
    part = np.array(["train"] * (rows - rows // 4) + ["test"] * (rows // 4), object)
    ids = np.array([f"d.csv#{n}:{n}" for n in range(rows)], object)
    names = [f"class {n}" for n in range(classes)]
    return Guarded(Table(table.columns, ids), part, np.asarray(truth), classes, names, "y", rules, given)


def honest(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows)).round(4)
    return {"a": a, "b": b}, (a + b + rng.normal(size=rows) > 0).astype(int)


def test_an_honest_table_goes_through():
    columns, truth = honest()
    found = case(columns, truth)
    assert giveaways(found) == [] and foreknowledge(found) == [] and len(found.learned) == 300


@pytest.mark.parametrize("rule", ["target_copy", "known_after", "name_tells"])
def test_a_column_that_gives_the_class_away_stops(rule):
    columns, truth = honest()
    rng = np.random.default_rng(1)
    planted = {
        "target_copy": [("stays", "left")[y] for y in truth],
        "known_after": [round(float(rng.gamma(2, 30)), 2) if y else None for y in truth],
        "name_tells": [f"in/{('ok', 'fraud')[y]}_{rng.integers(10**6)}.pdf" for y in truth],
    }
    found = giveaways(case({**columns, "extra": planted[rule]}, truth))
    assert [(one.rule, one.level, one.columns) for one in found] == [(rule, "stop", ("extra",))]
    assert found[0].override == "data.columns.extra=ignore"


def test_equal_rows_of_given_splits_are_told_and_stop_only_where_chance_does_not_explain_them():
    rng = np.random.default_rng(4)
    columns, truth = honest()
    for name in columns:
        columns[name][300:303] = columns[name][:3]
    truth[300:303] = truth[:3]
    told, ids = crossings(case(columns, truth, given=True), np.arange(400), None)
    assert [(one.rule, one.level, len(one.ids)) for one in told] == [("duplicates_cross", "warning", 3)] and len(
        ids
    ) == 3
    spelled = case(columns, truth, given=True)
    spelled.table.columns["y"][300:] += "."
    assert crossings(spelled, np.arange(400), None)[1] == ids
    columns["a"][300:], columns["b"][300:], truth[300:] = columns["a"][:100], columns["b"][:100], truth[:100]
    assert crossings(case(columns, truth, given=True), np.arange(400), None)[0][0].level == "stop"
    coarse = {name: rng.choice(["low", "mid", "high"], 400) for name in ("a", "b", "c")}
    told, ids = crossings(case(coarse, truth, given=True), np.arange(400), None)
    assert [one.level for one in told] == ["note"] and "by chance" in told[0].message and ids == []


def test_numbers_transforms_and_sums_stop():
    columns, _ = honest()
    y = np.round(100 + 20 * columns["a"] + np.random.default_rng(2).normal(0, 10, 400), 2)
    transform = giveaways(case({**columns, "t": np.log(y + 500).round(6)}, y, 0))
    assert [one.rule for one in transform if one.level == "stop"] == ["target_transform"]
    part = np.random.default_rng(3).integers(0, 90, 400).astype(float)
    formula = giveaways(case({**columns, "one": part, "two": (y - part).round(2)}, y, 0))
    assert {one.columns[0] for one in formula if one.rule == "target_formula"} == {"one", "two"}


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (lambda y: y, "target_copy"),
        (np.log, "target_transform"),
        (np.sqrt, "target_transform"),
        (lambda y: 1.8 * y + 32, "target_transform"),
        (lambda y: 1 / y, "target_transform"),
        (lambda y: -y, "target_transform"),
        (lambda y: y**2, "target_transform"),
        (np.round, "target_transform"),
    ],
)
def test_a_numeric_target_in_other_words_stops_also_where_others_tell_much(made, rule):
    rng = np.random.default_rng(3)
    a, b = rng.uniform(1, 9, (2, 400))
    truth = (a * 20 + b + rng.normal(0, 0.5, 400)).round(3)
    found = giveaways(case({"a": a, "b": b, "extra": np.asarray(made(truth), float)}, truth, classes=0))
    assert [(one.rule, one.level, one.columns) for one in found] == [(rule, "stop", ("extra",))]
    near = truth + rng.normal(0, 3, 400)  # R squared 0.995, and not in the order of every row
    assert [
        one for one in giveaways(case({"a": a, "b": b, "extra": near}, truth, classes=0)) if one.level == "stop"
    ] == []


@pytest.mark.parametrize("case_of", ["sparse", "growing", "tariff", "rating"])
def test_honest_columns_in_the_order_of_a_number_do_not_stop(case_of):
    rng = np.random.default_rng(5)
    n = 4000
    sparse = [np.where(rng.random(n) < share, rng.gamma(2, 100, n), 0.0).round(2) for share in (0.01, 0.05)]
    time = np.sort(rng.choice(20_000, n, replace=False)).astype(float)
    weight = rng.uniform(0, 30, n).round(3)
    planted = {
        "sparse": (sparse[0], sparse[1]),
        "growing": (time, np.cumsum(rng.gamma(1, 5, n)).round(2)),
        "tariff": (weight, (3.9 + 1.2 * np.floor(weight)).round(2)),
        "rating": (rng.integers(1, 6, n).astype(float), rng.integers(0, 50, n).astype(float)),
    }
    x, truth = planted[case_of]
    found = giveaways(case({"a": rng.normal(size=n), "extra": x}, truth, classes=0))
    assert [one.message for one in found if one.message.endswith("as a transform of it does")] == []


def test_a_perfect_column_among_others_that_are_as_good_is_innocent():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    found = giveaways(case({name: (y * 4 + rng.normal(0, 0.5, 400)).round(3) for name in "abcd"}, y))
    assert {one.level for one in found} <= {"note"}


def test_target_means_over_all_rows_stop_and_over_training_rows_do_not():
    columns, truth = honest(800)
    city = np.random.default_rng(4).integers(0, 12, 800)
    whole, train = (np.array([truth[:n][city[:n] == c].mean() for c in range(12)]) for n in (800, 600))
    rules = [
        [one.rule for one in foreknowledge(case({**columns, "rate": means[city].round(6)}, truth))]
        for means in (whole, train)
    ]
    assert rules == [["target_statistics"], []]


@pytest.mark.parametrize(("swap", "level"), [(False, []), (True, ["stop"])])
def test_time_going_backwards_stops_in_given_splits(swap, level):
    columns, truth = honest()
    days = [str(np.datetime64("2020-01-01") + n) for n in range(400)]
    found = foreknowledge(case({**columns, "seen": days[::-1] if swap else days}, truth, given=True))
    assert [one.level for one in found] == level


def test_whose_rows_they_are():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(100), 4)
    table = {"patient_id": who * 7, "age": rng.integers(20, 80, 100)[who], "x": rng.normal(size=400), "y": who % 2}
    made = Table({name: text_column(list(values)) for name, values in table.items()})
    rules = [finding.rule for finding in looked(made, "y", {}, [])]
    assert group_column(made, "y", rules) == "patient_id"
    assert group_column(made.without(["age", "y"]), "y", rules[:1]) is None
    assert [names_somebody(name) for name in ("userId", "customer", "paid", "width", "CustomerID", "idle")] == [
        *(True, True, False, False, True, False)
    ]
