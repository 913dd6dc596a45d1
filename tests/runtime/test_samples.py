"""Ids that are written only when asked for, hashes of rows, and numbers by level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.core.errors import InternalFault
from keepfit.runtime import samples
from keepfit.runtime.coded import Coded, objects
from keepfit.runtime.samples import Ids, contents, contents_of, first_of, places_of, repeated, repeated_in, rows_of
from keepfit.runtime.spread import Spread, moments, quantiles
from keepfit.runtime.table import Table, concat
from keepfit.stages.packing import pack_column, pack_table, unpack_column, unpack_table

NUMBERS = st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(float("nan"))), min_size=1, max_size=60)


def some_ids(rows, source="a.csv"):
    rows = np.asarray(rows, np.int64)
    return Ids([source], np.zeros(len(rows), np.int32), rows, rows.astype(np.uint64) * np.uint64(7))


def test_ids_are_text_for_whoever_reads_them():
    ids = samples.joined([some_ids([3, 5]), some_ids([3], "b#1.csv")])
    assert ids.tolist() == ["a.csv#3:0000000000000015", "a.csv#5:0000000000000023", "b#1.csv#3:0000000000000015"]
    assert list(ids) == ids.tolist() == np.asarray(ids).tolist() and ids[2] == ids.tolist()[2]
    assert ids[1:].tolist() == ids.tolist()[1:] and ids[np.array([2, 0])].tolist() == [ids[2], ids[0]]
    wanted = [ids[2], "a.csv#5:0000000000000024", "c.csv#3:0000000000000015", "a.csv#x:0", "", ids[0]]
    assert places_of(ids, wanted).tolist() == [2, -1, -1, -1, -1, 0]
    assert places_of(np.asarray(ids), wanted).tolist() == [2, -1, -1, -1, -1, 0]
    assert rows_of(ids, some_ids([5])).tolist() == [False, True, False]
    assert contents_of(ids).tolist() == contents_of(np.asarray(ids)).tolist() == [21, 35, 21]
    assert repeated(ids) == 0 and repeated(ids[np.array([1, 1, 0])]) == 1
    assert repeated_in([ids, objects(["x"])]) == 0 and repeated_in([ids, objects(["x", "x", ids[0]])]) == 2
    assert ids.numbered([("b#1.csv", 3), ("a.csv", 4)]) == {("b#1.csv", 3): 2}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "a", None])), max_size=30))
def test_rows_have_one_hash_where_all_cells_are_equal(rows):
    columns = [Coded.of([row[place] for row in rows]) for place in range(2)]
    found = contents(columns, len(rows)).tolist()
    assert len(set(zip(found, rows, strict=True))) == len(set(found)) == len(set(rows))
    again = contents([Coded.of(list(column.tolist())) for column in columns], len(rows)).tolist()
    assert (found == again and contents(columns[::-1], len(rows)).tolist() != found) or not rows or len(set(rows)) < 3


@given(st.lists(st.integers(0, 5), max_size=40))
def test_the_first_of_equal_rows(numbers):
    ids = Ids(
        ["t"], np.zeros(len(numbers), np.int32), np.arange(len(numbers)), np.array(numbers, np.uint64) << np.uint64(20)
    )
    found = first_of(ids)  # equal in the bits of the sieve
    assert found.tolist() == [numbers.index(one) for one in numbers]


@given(st.lists(st.integers(0, 3), max_size=20), st.data())
def test_what_was_known_of_all_rows_is_right_for_some_of_them(numbers, data):
    ids = Ids(["t"], np.zeros(len(numbers), np.int32), np.arange(len(numbers)), np.array(numbers, np.uint64))
    first_of(ids)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers))), bool)
    drawn = np.array(data.draw(st.lists(st.integers(0, max(len(numbers) - 1, 0)), max_size=20 if numbers else 0)), int)
    for rows in (mask, np.flatnonzero(mask), drawn, drawn.tolist(), slice(1, None, 2)):
        some = np.array(numbers)[rows].tolist()
        assert first_of(ids[rows]).tolist() == [some.index(one) for one in some]


@given(NUMBERS)
def test_levels_tell_what_all_numbers_do(numbers):
    values = np.array(numbers)
    found, known = Spread.of(values), values[~np.isnan(values)]
    texts = Coded.of([repr(one) for one in numbers] + ["99.0"])[np.arange(len(numbers))]
    by_codes = Spread.of_codes(texts.values.astype(float), texts, "x")
    for one in (found, by_codes):
        counts = one.counts()
        levels, counts = one.levels[counts > 0], counts[counts > 0]
        assert np.repeat(levels, counts).tolist() == np.sort(known).tolist()
        some = np.flatnonzero(values > 0)
        assert one.counts(some).sum() == len(some) and one.counts(some) is one.counts(some)
        if len(known):
            points = [0, 0.1, 0.25, 0.5, 0.99, 1]
            assert quantiles(levels, counts, points).tolist() == np.quantile(known, points).tolist()
            assert np.allclose(moments(levels, counts), (known.mean(), known.std()))


@given(st.lists(st.sampled_from(["a", "b", "é", None]), min_size=1, max_size=30), st.data())
def test_a_table_is_packed_alike_however_it_is_held(cells, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=20)), np.int64)
    ids = some_ids(np.sort(rows))
    one, two = (Table({"x": column[rows]}, ids) for column in (Coded.of(cells), objects(cells)))
    packed = pack_table(one)
    assert packed == pack_table(two)
    back = unpack_table(packed)
    assert back is unpack_table(packed) and back.columns["x"].tolist() == one.columns["x"].tolist()
    assert back.ids.tolist() == ids.tolist() and concat([back, back]).ids.tolist() == ids.tolist() * 2
    assert unpack_column(pack_column(one.columns["x"])).tolist() == one.columns["x"].tolist()
    again = pack_table(two, hold=True)
    held, anew = unpack_table(again), unpack_table(bytes(bytearray(again)), hold=False)
    assert (
        again == packed and held is unpack_table(again) and held is not anew and held.ids.tolist() == anew.ids.tolist()
    )
    assert held.columns["x"].codes.tolist() == anew.columns["x"].codes.tolist()
    assert held.columns["x"].values.tolist() == anew.columns["x"].values.tolist()
    named = Table({"x": objects(cells)}, objects([f"p{n}.png:{n:016x}" for n in range(len(cells))]))
    assert unpack_table(pack_table(named)).ids.tolist() == named.ids.tolist()


def test_ids_of_another_form_are_not_there():
    ids = some_ids([0, 1], "f.csv")
    strange = [
        "f.csv#0:zzzzzzzzzzzzzzzz",
        "f.csv#99999999999999999999:0000000000000000",
        "f.csv#\u0661:0000000000000007",
    ]
    assert places_of(ids, strange).tolist() == [-1, -1, -1]


def test_a_damaged_table_is_a_fault_that_says_so():
    whole = pack_table(Table({"x": Coded.of(["a", "b"] * 50)}, some_ids(range(100))))
    damaged = [
        b"",
        b"x",
        whole[:-1],
        whole[:-40],
        whole + b"x",
        whole[: whole.index(b"\n") + 9],
        whole.replace(b'"|u1"', b'"|O8"', 1),
    ]
    for data in (*damaged, whole.replace(b"100]", b"-10]", 1), whole.replace(b"100]", b"099]", 1)):
        with pytest.raises(InternalFault, match="damaged"):
            unpack_table(data)


def test_a_part_of_a_column_that_was_written_to_is_its_own():
    whole = Coded.of(["a", "b", "c"]).copy()
    whole[0] = "z"
    part = whole[:2]
    part[1], whole[2] = "q", "w"
    assert part.tolist() == ["z", "q"] and whole.tolist() == ["z", "b", "w"]
