"""Numbers and dates that are not written plainly: each is told with what it was read as, and what could be read two ways too."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.cleaning import written
from keepfit.cleaning.view import View
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.coded import Coded
from keepfit.runtime.coerce import dates, numbers
from keepfit.runtime.table import Table, text_column


def seen(cells, coded):
    column = Coded.of(list(cells)) if coded else text_column(list(cells))
    ids = np.array([f"d.csv#{n}:{n}" for n in range(len(cells))], object)
    table = Table({"x": column, "y": text_column(["a", "b"] * (len(cells) // 2))}, ids)
    rule = looked(table, "y", {}, [])[0].rule
    return rule, written.look(View(table, (rule,), "y", frozenset())), table


@pytest.mark.parametrize("coded", [False, True])
def test_a_number_that_begins_with_0_shows_that_the_comma_is_decimal(coded):
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 2, 300).round(3)
    rule, found, table = seen([f"{v:.3f}".replace(".", ",") for v in values], coded)
    assert rule.form is not None and rule.form.comma and np.allclose(numbers(table.columns["x"], rule)[0], values)
    assert [one.rule for one in found] == ["written otherwise: a decimal comma"] and len(found[0].cells) == 300


def test_a_few_numbers_below_one_show_it_for_all_and_one_slip_does_not():
    values = np.random.default_rng(1).uniform(1, 60, 400).round(3)
    values[:5] = [0.444, 0.079, 0.5, 0.25, 0.911]
    rule, _, table = seen([f"{v:.3f}".replace(".", ",") for v in values], True)
    assert np.allclose(numbers(table.columns["x"], rule)[0], values)
    whole = [f"{n:,}" for n in range(1000, 1400)]
    whole[7] = "0,519"
    rule, _, table = seen(whole, True)
    assert numbers(table.columns["x"], rule)[0][0] == 1000 and np.isnan(numbers(table.columns["x"], rule)[0][7])


@pytest.mark.parametrize("coded", [False, True])
def test_points_between_thousands_are_in_the_ledger_where_read_so_and_warned_of_where_not(coded):
    whole = [int(10 ** (n / 60)) for n in range(60, 460)]
    rule, found, table = seen([f"{v:,}".replace(",", ".") for v in whole], coded)
    assert numbers(table.columns["x"], rule)[0].tolist() == whole
    assert [one.rule for one in found] == ["written otherwise: thousands apart"]
    assert {cell.before for cell in found[0].cells} == {f"{v:,}".replace(",", ".") for v in whole if v > 999}
    rule, found, table = seen([f"{v:,}".replace(",", ".") for v in whole if v < 10**6], coded)
    assert rule.form is None and [(one.rule, one.level) for one in found] == [("read_two_ways", "warning")]
    assert "may be 1000: every point" in found[0].message
    assert seen([f"{v:.3f}" for v in np.linspace(1, 40, 300)], coded)[1] == []  # decimals, all of three digits
    assert seen([f"{v:g}" for v in np.linspace(0, 40, 301)[:300]], coded)[1] == []


def test_dates_of_both_orders_are_warned_of_and_the_others_are_told():
    days = [np.datetime64("2021-01-01") + n for n in range(300)]
    texts = [f"{d.astype(object):%d/%m/%Y}" if n % 3 else f"{d.astype(object):%m/%d/%Y}" for n, d in enumerate(days)]
    rule, found, _ = seen(texts, True)
    both = next(one for one in found if one.rule == "read_two_ways")
    assert rule.kind == "datetime" and not rule.month_first and "could be either" in both.message
    other = next(one for one in found if one.rule.startswith("written otherwise"))
    assert {cell.before for cell in other.cells} == {t for n, t in enumerate(texts) if n % 3 == 0 and int(t[3:5]) > 12}
    assert seen([f"{d.astype(object):%d/%m/%Y}" for d in days], True)[1] == []


def test_years_of_two_digits_are_read_in_the_order_of_their_column():
    days = [np.datetime64("2021-01-01") + n for n in range(300)]
    rule, found, table = seen([f"{d.astype(object).month}/{d.astype(object):%d/%y}" for d in days], True)
    read = dates(table.columns["x"], rule)[0][:, 0]
    assert rule.kind == "datetime" and rule.month_first and found == []
    assert read.tolist() == [int(d.astype(int)) for d in days]


def test_what_is_no_date_makes_no_order_and_a_year_first_is_no_day():
    days = [np.datetime64("2021-01-01") + n for n in range(300)]
    texts = [f"{d.astype(object):%d/%m/%Y}" for d in days]
    assert not [one for one in seen([*texts[:290], *["99/99/9999"] * 10], True)[1] if one.rule == "read_two_ways"]
    assert seen([f"{d.astype(object):%y/%m/%d}" for d in days], True)[0].kind != "datetime"


@pytest.mark.parametrize("coded", [False, True])
def test_other_numbers_disprove_thousands(coded):
    cells = ["12"] * 20 + [f"{n}.{n:03d}" for n in range(100, 350)]
    assert [one.rule for one in seen(cells, coded)[1]] == ["read_two_ways"]
    assert seen([*cells, *["-0.25"] * 4], coded)[1] == [] and seen([*cells, *["7\xa0"] * 4], coded)[1] == []


def test_digits_of_another_script_are_told_and_codes_of_one_length_stay_codes():
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    rule, found, _ = seen([str(n * 7).translate(wide) for n in range(10, 310)], True)
    assert rule.kind == "numeric" and found[0].rule == "written otherwise: digits of another script"
    assert seen([f"{n * 331 % 100_000:05d}" for n in range(1, 301)], True)[0].why == "codes with leading zeros"
