"""A column's way of writing numbers is found on training rows, said, and holds for every later row; codes stay codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.modalities.tabular.schema import infer
from keepfit.runtime import coerce
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.figures import Form, number_as
from keepfit.runtime.table import Table, text_column


def finding(cells, missing=()):
    rng = np.random.default_rng(0)
    table = Table(
        {
            "c": text_column(cells),
            "other": text_column(list(rng.normal(size=len(cells)))),
            "y": text_column([str(n % 2) for n in range(len(cells))]),
        }
    )
    return infer(table, "y", {}, list(missing))[0]


NUMBERS = [n * 1.25 + (n % 7) for n in range(60)]
WAYS = {
    "unit": ([f"{n:.2f} oz" for n in NUMBERS], Form("oz")),
    "unit spelt two ways": ([f"{n:.2f}{' OZ.' if i % 2 else 'oz'}" for i, n in enumerate(NUMBERS)], Form("oz")),
    "percent": ([f"{n:.2f}%" for n in NUMBERS], Form("%")),
    "dollars": ([f"${n * 1000:,.2f}" for n in NUMBERS], Form("$")),
    "euros after": ([f"{n * 1000:,.2f} €".translate(str.maketrans(",.", ".,")) for n in NUMBERS], Form("€", True)),
    "decimal comma": ([f"{n:.2f}".replace(".", ",") for n in NUMBERS], Form("", True)),
    "currency code": ([f"USD {n:.2f}" for n in NUMBERS], Form("usd")),
}


@pytest.mark.parametrize("name", WAYS)
def test_numbers_are_read_as_they_are_written_and_it_is_said(name):
    cells, form = WAYS[name]
    found = finding(cells)
    assert found.rule.kind == "numeric" and found.rule.form == form
    assert (not form.unit or repr(form.unit) in found.action) and (not form.comma or "comma" in found.action)
    numbers, bad = coerce.numbers(text_column(cells), found.rule)
    scale = 1000 if name in ("dollars", "euros after") else 1
    assert not bad.any() and np.allclose(numbers, np.array(NUMBERS) * scale, atol=0.01)
    assert ColumnRule.from_json(found.rule.as_json()) == found.rule
    later, odd = coerce.numbers(text_column(["3 gallons", cells[3], None]), found.rule)
    assert odd.tolist() == [True, False, False] and not np.isnan(later[1])


CODES = {
    "letters before": [f"A{n}" for n in range(60)],
    "two units": [f"{n} {'oz' if n % 2 else 'ml'}" for n in range(60)],
    "times": [f"{n % 12 + 1}{'am' if n % 2 else 'pm'}" for n in range(60)],
    "places": [f"{n}{'st' if n == 1 else 'nd' if n == 2 else 'th'} of {n % 3}" for n in range(60)],
    "percent among plain": [f"{n}%" if n % 2 else str(n / 100) for n in range(60)],
    "ranges": [f"{n}-{n + 9}" for n in range(60)],
    "addresses": [f"10.0.{n}.{n % 7}" for n in range(60)],
}


@pytest.mark.parametrize("name", CODES)
def test_what_might_be_something_else_is_left_as_it_is(name):
    assert finding(CODES[name]).rule.form is None and finding(CODES[name]).rule.kind != "numeric"


@pytest.mark.parametrize("spelling", ["—", "-", "unknown", "not available", "未知"])
def test_a_spelling_of_missing_among_numbers_is_found_and_said(spelling):
    cells = [spelling if n % 8 == 0 else f"{n * 0.7:.3f}" for n in range(80)]
    found = finding(cells)
    assert found.rule.kind == "numeric" and repr(spelling) in found.action and abs(found.missing - 1 / 8) < 0.01
    numbers, bad = coerce.numbers(text_column([spelling, " " + spelling.upper(), "1.5"]), found.rule)
    assert not bad.any() and np.isnan(numbers[:2]).all() and numbers[2] == 1.5


def test_a_dash_among_words_is_a_word():
    found = finding(["-" if n % 4 == 0 else ["red", "blue"][n % 2] for n in range(60)])
    assert found.rule.kind == "categorical" and "-" not in found.rule.missing


def test_errors_of_a_spreadsheet_are_missing_and_damaged_codes_are_told():
    assert all(coerce.is_missing(text) for text in ("#REF!", "#DIV/0!", "####", " #N/A ")) and not coerce.is_missing(
        "#1"
    )
    found = finding(["1E+05" if n % 9 == 0 else f"{n % 11}D{n % 5}x" for n in range(80)])
    assert "9 cells such as '1E+05' look damaged" in found.action


@given(st.floats(-1e12, 1e12), st.sampled_from(["", "oz", "$", "%", "kg/m"]), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_number_written_in_a_form_is_read_back(number, unit, comma, before):
    figure = f"{number:,.3f}"
    figure = figure.translate(str.maketrans(",.", ".,")) if comma else figure
    cell = f"{unit} {figure}" if before and unit == "$" else f"{figure} {unit}"
    assert number_as(cell, Form(unit, comma)) == pytest.approx(number, abs=6e-4)


@given(st.text(max_size=20), st.sampled_from([Form("oz"), Form("", True), Form("$"), Form("%", True)]))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_finite_number_or_none(text, form):
    number = number_as(text, form)
    assert number is None or isinstance(number, float)


def comma(n):
    return f"{n:.2f}".replace(".", ",")


@pytest.mark.parametrize(
    ("odd", "form", "gone"),
    [
        ([f"{comma(n)} €" for n in NUMBERS[:5]], Form("€", True), 0),  # a currency beside few is that of all
        ([f"EUR {comma(n)}" for n in NUMBERS[:5]], Form("eur", True), 0),
        (["1,80 m"], Form("", True), 1),  # metres among what may be centimetres
        (["k.A.", "keine Angabe", "sin datos", "n.d."], Form("", True), 4),
        ([f"{comma(n)} €" for n in NUMBERS[:5]] + ["k.A."] * 4, Form("€", True), 4),
    ],
)
def test_a_few_cells_otherwise_leave_a_column_of_decimal_commas_numbers(odd, form, gone):
    made = finding([comma(n) for n in NUMBERS * 2] + odd)
    assert (made.rule.kind, made.rule.form) == ("numeric", form)
    values, _ = coerce.numbers(text_column([*odd, "2,5"]), made.rule)
    assert np.isnan(values).sum() == gone and values[-1] == 2.5


@pytest.mark.parametrize("odd", [["1,80 m"] * 8, [f"{comma(n)} €" for n in NUMBERS[:4]] + ["3,5 $"] * 4, ["7 %"] * 8])
def test_units_that_could_mean_several_things_are_not_mixed(odd):
    assert finding([comma(n) for n in NUMBERS * 2] + odd).rule.kind != "numeric"
