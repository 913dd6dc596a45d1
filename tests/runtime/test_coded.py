"""A column of codes is used like an object array, and tells the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.runtime.coded import Coded, joined, meanwhile, objects, same, side_by_side
from keepfit.runtime.coerce import ColumnRule, categories, dates, numbers
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Table, coded_column, concat, counts_of, each, mapped, renamed_cells

CELLS = st.lists(st.sampled_from(["a", "b", "", " b", "1", "1.0", "2020-01-02", "é", None]), max_size=40)


@given(CELLS, st.data())
def test_it_is_like_an_object_array(cells, data):
    column, plain = Coded.of(cells), objects(cells)
    rows = np.array(data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=20)) if cells else [], np.int64)
    mask = np.isin(np.arange(len(cells)), rows)
    for some in (rows, mask, slice(1, None, 2)):
        assert column[some].tolist() == plain[some].tolist()
    taken = column[rows]
    assert list(taken) == plain[rows].tolist() and len(taken) == len(rows) and taken.shape == (len(rows),)
    assert np.asarray(taken).tolist() == taken.astype(object).tolist() == taken.tolist()
    for cell in ("a", None, "nowhere"):
        assert (column == cell).tolist() == [one == cell for one in cells]
        assert (column != cell).tolist() == [one != cell for one in cells]
    assert (column[rows] == column[rows[::-1]]).tolist() == [
        plain[a] == plain[b] for a, b in zip(rows, rows[::-1], strict=True)
    ]
    assert (taken == Coded.of(taken.tolist())).all() and (plain[rows] == taken).all()
    assert list(counts_of(taken).items()) == list(Counter(plain[rows].tolist()).items())
    assert (taken.times() > 0).sum() == len(set(taken.tolist()))
    assert each(taken, repr) == [repr(one) for one in taken]
    assert mapped(taken, lambda one: len(one or ""), np.int64).tolist() == [len(one or "") for one in taken]


@given(CELLS, CELLS)
def test_what_is_written_and_joined(cells, more):
    column = Coded.of(cells)
    copy = column.copy()
    for row, cell in enumerate(more[: len(cells)]):
        copy[row] = cell
    assert copy.tolist() == [*more[: len(cells)], *cells[len(more) :]] and column.tolist() == cells
    copy[np.arange(len(cells))] = cells
    copy[np.zeros(len(cells), bool)] = "x"
    assert copy.tolist() == cells
    assert joined([column, Coded.of(more)]).tolist() == cells + more
    tables = [Table({"a": column}), Table({"a": objects(more)})]
    assert concat(tables).columns["a"].tolist() == cells + more
    assert coded_column(objects(cells)).tolist() == cells and same("z", 3).tolist() == ["z"] * 3


@given(CELLS, st.data())
def test_only_what_a_row_has_is_asked_for(cells, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=20)) if cells else [], np.int64)
    taken, asked = Coded.of(cells)[rows], []
    mapped(taken, lambda one: asked.append(one) or 0, np.int64)
    assert sorted(map(str, asked)) == sorted({str(one) for one in taken.tolist()})


@pytest.mark.parametrize("kind", ["numeric", "categorical", "datetime"])
@given(cells=CELLS, data=st.data())
def test_it_is_coerced_like_an_object_array(kind, cells, data):
    rule = ColumnRule("x", kind, number_like=kind == "categorical", missing=frozenset({"b"}))
    rows = np.array(data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=20)) if cells else [], np.int64)
    column, plain = Coded.of(cells)[rows], objects(cells)[rows]
    if kind == "categorical":
        assert categories(column, rule).tolist() == categories(plain, rule).tolist()
        assert renamed_cells(column, str, "key").tolist() == renamed_cells(column, repr, "key").tolist()  # remembered
        return
    method = numbers if kind == "numeric" else dates
    for one, other in zip(method(column, rule), method(plain, rule), strict=True):
        assert np.array_equal(one, other, equal_nan=True)


def test_numbers_and_copies_do_not_follow_what_is_written_to_their_column():
    column = Coded.of(["1", "2", "3"])
    rule = ColumnRule("x", "numeric", "")
    data = coerced(Table({"x": column}), [rule])
    spread = data.spread("x")
    column[1] = "77"
    twin = column.copy()
    column[0] = "2"
    assert data.numbers["x"].tolist() == [1, 2, 3] and data.at("x", np.array([1])).tolist() == [2]
    assert spread.counts().tolist() == [1, 1, 1] and spread.counts(np.array([1])).tolist() == [0, 1, 0]
    assert twin.tolist() == ["1", "77", "3"] and column.tolist() == ["2", "77", "3"]
    assert twin.times().sum() == column.times().sum() == 3 and column.counts() == {"2": 1, "77": 1, "3": 1}


@pytest.mark.parametrize("rows", [3, 200_000])
def test_side_by_side_keeps_the_order_and_raises_what_failed_first(rows):
    assert side_by_side(lambda n: n * n, range(5), rows) == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 / n, [1, 0, 2], rows)
    assert meanwhile(lambda: 1, lambda: "b", rows) == (1, "b")
    with pytest.raises(KeyError):  # what the second raises goes first
        meanwhile(lambda: 1 / 0, lambda: {}["b"], rows)
