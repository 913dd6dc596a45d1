"""One window: kinds, features, estimates, quarantine; on a made table with a made model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keepfit.core.errors import EnvironmentFault
from keepfit.monitor import Held, MonitorOptions, Profile, Records, check, make_profile
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, text_column

RULES = [
    ColumnRule("age", "numeric"),
    ColumnRule("income", "numeric"),
    ColumnRule("city", "categorical"),
    ColumnRule("seen", "datetime"),
]
CITIES = ["Köln", "München", "Berlin", "Lima", "Oslo"]


def drawn(rows, seed, older=0.0):
    """A table of text, the model's scores, and the truth: the model is right as often as it says."""
    rng = np.random.default_rng(seed)
    age = np.round(rng.normal(40 + older, 12, rows), 1)
    income = np.round(np.exp(rng.normal(0, 0.5, rows)) * 2000, 2)
    city = rng.choice(CITIES, rows, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    hours = np.clip(rng.normal(12, 2, rows), 0, 23).astype(int)
    table = {
        "age": age,
        "income": income,
        "city": city,
        "seen": [f"2024-05-{1 + n % 28:02} {h:02}:00" for n, h in enumerate(hours)],
    }
    p = 1 / (1 + np.exp(-(age - 40) / 6))
    truth = (rng.random(rows) < p).astype(int)
    return Table({k: text_column(list(v)) for k, v in table.items()}), np.column_stack([1 - p, p]), truth


@pytest.fixture(scope="module")
def reference():
    table, scores, truth = drawn(3000, 0)
    return make_profile(table, RULES, Held(table, scores, truth), ["no", "yes"])


def window(rows=500, seed=5, labels=True, older=0.0, **columns):
    table, scores, truth = drawn(rows, seed, older)
    for name, change in columns.items():
        table.columns[name] = text_column([change(cell) for cell in table.columns[name]])
    said = np.array([("no", "yes")[t] for t in truth], object) if labels else None
    return Records(table, scores, said, start=1000)


def test_a_quiet_window_is_quiet_and_its_accuracy_known(reference):
    report = check(reference, window(), MonitorOptions())
    said = report.as_json()
    assert (report.kind, report.alarm, said["from"], said["to"], said["features"]) == ("none", False, 1000, 1500, [])
    estimated = said["estimated_accuracy"]
    assert estimated["low"] <= said["labelled_accuracy"] <= estimated["high"] and estimated["trusted"]
    assert report.labels == 500 and report.quarantined == [] and json.dumps(said)
    again = Profile.from_json(json.loads(json.dumps(reference.as_json())))
    assert again.as_json() == reference.as_json() and check(again, window(), MonitorOptions()).kind == "none"


def hour_moved(cell):
    return f"{cell[:11]}{(int(cell[11:13]) + 7) % 24:02}:00"


BUGS = {
    "unit": ("income", lambda cell: str(float(cell) * 1000)),
    "nulls": ("age", lambda cell: None if float(cell) % 1 < 0.5 else cell),
    "stuck": ("age", lambda cell: "41.5"),
    "format": ("income", lambda cell: cell + " EUR"),
    "encoding": ("city", lambda cell: cell.encode().decode("latin-1")),
    "time zone": ("seen", hour_moved),
    "filler": ("age", lambda cell: "-999" if float(cell) > 50 else cell),
}


@pytest.mark.parametrize("sign", BUGS)
def test_broken_feeds_are_bugs_and_their_rows_in_quarantine(reference, sign):
    column, change = BUGS[sign]
    report = check(reference, window(labels=False, **{column: change}), MonitorOptions())
    assert report.kind == "bug" and report.features[0].startswith(column)
    assert report.faults[0].sign == sign and report.faults[0].column == column
    assert report.quarantined and min(report.quarantined) >= 1000 and not report.estimate.trusted
    if sign == "nulls":
        assert 150 < len(report.quarantined) < 350  # the rows with gaps, not the window


def test_swapped_absent_and_repeated(reference):
    swapped = window()
    swapped.table.columns["age"], swapped.table.columns["income"] = (
        swapped.table.columns["income"],
        swapped.table.columns["age"],
    )
    report = check(reference, swapped, MonitorOptions())
    assert report.kind == "bug" and {fault.sign for fault in report.faults} == {"swapped"}
    absent = window()
    del absent.table.columns["city"]
    report = check(reference, absent, MonitorOptions())
    assert report.kind == "bug" and report.features[0] == "city" and len(report.quarantined) == 500
    table, scores, _ = drawn(500, 7)
    same = Table({name: np.tile(column[:50], 10) for name, column in table.columns.items()})
    assert check(reference, Records(same, np.tile(scores[:50], (10, 1))), MonitorOptions()).kind == "bug"


def test_a_shift_is_a_shift(reference):
    report = check(reference, window(older=6.0), MonitorOptions())
    assert report.kind == "shift" and report.features[0] == "age" and report.faults == () and report.quarantined == []
    assert report.estimate.low <= 1 - report.errors / report.labels <= report.estimate.high


def test_errors_alone_are_accuracy_and_the_state_goes_on(reference):
    watch, kinds = None, []
    for seed in range(20, 26):
        one = window(seed=seed)
        one.labels[:] = np.where(np.arange(500) % 4 == 0, np.where(one.labels == "yes", "no", "yes"), one.labels)
        report = check(reference, one, MonitorOptions(), watch)
        watch = report.watch
        kinds.append(report.kind)
    assert "accuracy" in kinds and set(kinds) <= {"none", "accuracy"} and report.estimate is not None


def test_slices_latency_and_damage(reference):
    one = window()
    one = Records(one.table, one.scores, one.labels, latency_s=np.linspace(0.001, 0.1, 500))
    report = check(reference, one, MonitorOptions(slices=["city", "nope"]))
    assert {s["group"] for s in report.slices} == set(CITIES) and sum(s["rows"] for s in report.slices) == 500
    assert all(s["labels"] == s["rows"] and 0 <= s["accuracy"] <= 1 for s in report.slices)
    assert report.quality["latency_s"]["p50"] == pytest.approx(0.0505)
    raw = reference.as_json()
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        Profile.from_json({**raw, "inputs": {"age": {}}})


@pytest.mark.parametrize("said", ["1/1000", "1/1000 windows", "0.5/100 windows"])
def test_budgets(said):
    assert 0.0009 < MonitorOptions(false_alarms=said).rate < 0.006


@pytest.mark.parametrize("said", ["never", "1/2 windows", "0/10 windows", "1 per day", 0.001])
def test_no_budgets(said):
    with pytest.raises(ValueError, match="false alarms are said as"):
        MonitorOptions(false_alarms=said)


def test_relations_that_break_are_seen_though_each_column_is_as_before():
    rng = np.random.default_rng(0)

    def world(rows, broken=False):
        x = rng.normal(0, 1, rows)
        y = x + rng.normal(0, 0.1, rows)
        table = {"x": x, "y": rng.permutation(y) if broken else y}
        p = 1 / (1 + np.exp(-3 * x))
        columns = {name: text_column(column.round(4).tolist()) for name, column in table.items()}
        return Table(columns), np.column_stack([1 - p, p]), (rng.random(rows) < p).astype(int)

    table, scores, truth = world(3000)
    profile = make_profile(table, [ColumnRule(n, "numeric") for n in "xy"], Held(table, scores, truth), ["no", "yes"])
    profile = Profile.from_json(json.loads(json.dumps(profile.as_json())))
    sound, broken = (check(profile, Records(*world(1000, one)[:2]), MonitorOptions()) for one in (False, True))
    assert sound.kind == "none" and sound.estimate.trusted
    assert not broken.estimate.trusted and "not related" in broken.estimate.why


def test_other_shares_of_the_classes_are_estimated(reference):
    table, scores, truth = drawn(8000, 9)
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.permutation(np.flatnonzero(truth == 1))[:2400], np.flatnonzero(truth == 0)[:600]])
    actual = float((scores[rows].argmax(1) == truth[rows]).mean())
    said = check(reference, Records(table.take(rows), scores[rows]), MonitorOptions()).estimate
    assert said.low <= actual <= said.high and abs(said.value - actual) < 0.03


def test_a_window_of_texts_about_something_unknown_is_not_trusted():
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(200)]

    def texts(rows):
        return [" ".join(rng.choice(words, 8)) for _ in range(rows)]

    def told(rows):
        p = np.where(rng.random(rows) < 0.5, 0.97, 0.03)
        return np.column_stack([1 - p, p]), (rng.random(rows) < p).astype(int)

    scores, truth = told(1500)
    table = Table({"text": text_column(texts(1500))})
    profile = make_profile(table, [ColumnRule("text", "text")], Held(table, scores, truth), ["ham", "spam"])
    for share, trusted in ((0.0, True), (0.3, False)):
        some = texts(500)
        for row in range(int(500 * share)):
            some[row] = "your parcel waits for customs " + some[row]
        said = check(profile, Records(Table({"text": text_column(some)}), told(500)[0]), MonitorOptions())
        assert said.estimate.trusted is trusted, (share, said.estimate)


def test_labels_put_an_estimate_in_doubt(reference):
    from keepfit.monitor.report import Story

    story = Story(reference, MonitorOptions(), "shop")
    for seed, labels in ((5, False), (6, True), (7, False)):
        one = window(1000, seed, labels)
        if one.labels is not None:
            one.labels[:] = np.where(one.labels == "yes", "no", "yes")
        story.add(check(reference, one, MonitorOptions()), one)
    assert [said["estimated_accuracy"]["trusted"] for said in story.windows] == [True, False, False]
    assert "labels before it" in story.windows[2]["estimated_accuracy"]["why"]
