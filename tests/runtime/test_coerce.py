"""The text of a cell is one, whether it came from CSV, JSON or a frame; coercion never raises."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keepfit.core.errors import DataError
from keepfit.runtime.coerce import (
    ColumnRule,
    categories,
    dates,
    is_missing,
    is_month_first,
    numbers,
    parse_date,
    parse_number,
)
from keepfit.runtime.table import text_column, to_text

NUMERIC = ColumnRule("x", "numeric", boolean=True)
CATEGORY = ColumnRule("x", "categorical", number_like=True, boolean=True)
CELLS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | st.text(max_size=20)


def through_csv(value):
    """A cell as Python's csv writes it and a text source reads it."""
    out = io.StringIO()
    csv.writer(out).writerow(["" if value is None else value, "end"])
    return next(csv.reader(io.StringIO(out.getvalue(), newline="")))[0]


def through_json(value):
    return json.loads(json.dumps(value))


@settings(max_examples=400, deadline=None)
@given(CELLS)
@example("0001-01-01T00:00:00+14:00")
@example(1e22)
@example(2.0**53)
@example(-0.0)
@example("1,234.5")
@example("١٢")
def test_csv_text_and_json_values_are_one_value(value):
    pair = text_column([through_csv(value), to_text(through_json(value))])
    number, bad = numbers(pair, NUMERIC)
    assert bad[0] == bad[1] and (number[0] == number[1] or np.isnan(number).all())
    first, second = categories(pair, CATEGORY)
    assert first == second
    moments, _ = dates(pair, ColumnRule("x", "datetime"))
    assert np.array_equal(moments[0], moments[1], equal_nan=True)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=40))
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-14:00")
@example("1" * 5000)
@example("²,345")
@example("nan")
@example("1_000")
def test_no_text_makes_coercion_raise(text):
    number = parse_number(text)
    assert number is None or math.isfinite(number)
    moment = parse_date(text)
    assert moment is None or moment.tzinfo is None
    assert is_missing(text) in (True, False)


@given(
    st.datetimes(
        min_value=dt.datetime(1, 1, 3), max_value=dt.datetime(9999, 12, 29), timezones=st.timezones() | st.none()
    )
)
@settings(max_examples=200, deadline=None)
def test_dates_come_back_as_utc(moment):
    found = parse_date(moment.isoformat())
    wanted = moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
    assert found is not None and abs((found - wanted).total_seconds()) < 60


def test_the_edges_of_the_calendar_are_no_date_in_far_zones():
    assert [parse_date(t) for t in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")] == [None, None]
    assert parse_date("0001-01-01T00:00:00") == dt.datetime(1, 1, 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" 12 ", 12.0),
        ("1,234", 1234.0),
        ("1,234,567.5", 1234567.5),
        ("-1,234", -1234.0),
        ("1e3", 1000.0),
        ("12,34", None),
        ("1_000", None),
        ("inf", None),
        ("nan", None),
        ("12 kg", None),
        ("", None),
        ("0x10", None),
        ("1e400", None),
        ("\u00a012", 12.0),
        ("+5", 5.0),
        (",123", None),
        ("1234,567", None),
    ],
)
def test_what_a_number_is(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, "true"),
        (np.bool_(False), "false"),
        (1.0, "1"),
        (1.5, "1.5"),
        (np.float64(2.0), "2"),
        (np.int8(3), "3"),
        (float("nan"), None),
        (2.0**53, "9007199254740992.0"),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (dt.datetime(2020, 1, 2, 3), "2020-01-02 03:00:00"),
        (np.datetime64("NaT"), None),
        (-0.0, "0"),
        ("", ""),
    ],
)
def test_the_text_of_a_cell(value, text):
    assert to_text(value) == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"x", object(), {1}, 1j])
def test_what_no_cell_can_hold(value):
    with pytest.raises(DataError) as caught:
        to_text(value)
    assert caught.value.code == "cell_type"


def test_spellings_of_missing():
    usual = ["", " ", "NA", "n/a", "NaN", "NULL", "None", "?", " ? ", "#N/A", "<NA>", "NaT", None]
    assert all(map(is_missing, usual)) and len(usual) == 13
    assert not any(is_missing(text) for text in ["0", "no", "-", "unknown", "Nan cy"])
    assert is_missing(" Unknown ", frozenset({"unknown"}))


@pytest.mark.parametrize(
    ("cells", "month_first"),
    [
        (["03/04/2020", "01/25/2020", None], True),
        (["03/04/2020", "25/01/2020 10:30"], False),
        (["03/04/2020", "04/05/2020"], False),
        (["01/25/2020", "25/01/2020", "26/01/2020"], False),
        (["2020-25-01", "soon"], False),
    ],
)
def test_one_order_of_day_and_month_for_a_column(cells, month_first):
    assert is_month_first(cells) == month_first
    rule = ColumnRule("x", "datetime", month_first=is_month_first(cells))
    assert ColumnRule.from_json(json.loads(json.dumps(rule.as_json()))) == rule
    found, bad = dates(text_column(["03/04/2020", "03/04/2020 10:30", "01/25/2020", "25/01/2020"]), rule)
    assert found[:, 2].tolist() == ([3, 3, 1, 1] if month_first else [4, 4, 1, 1]) and not bad.any()


def test_a_rule_of_an_older_bundle_opens():
    raw = {"name": "x", "kind": "datetime", "why": "", "missing": [], "number_like": False, "integer": True}
    assert ColumnRule.from_json({**raw, "boolean": False}) == ColumnRule("x", "datetime")


_CELLS = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.floats().map(repr),
    st.sampled_from(["nan", "-nan", "inf", "1e999", "1_0", "٣", " 5 ", "", "1,000", "-999", "+1", "1.", "\xa05", "#"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_CELLS, max_size=5), st.sampled_from([frozenset(), frozenset({"-999"}), frozenset({"x"})]))
def test_numbers_read_at_once_are_those_read_one_by_one(cells, missing):
    column, rule = np.array([*cells, None], object)[:-1], ColumnRule("x", "numeric", missing=missing)
    values, bad = numbers(column, rule)
    slow = [numbers(np.array([cell, "no"], object), rule) for cell in cells]
    np.testing.assert_array_equal(values, [found[0] for found, _ in slow])
    np.testing.assert_array_equal(bad, [odd[0] for _, odd in slow])
