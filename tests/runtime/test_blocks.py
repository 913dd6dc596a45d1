"""Rows of JSON numbers give the same bits whether they go through text or not; whatever may differ is left to the text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.core import quick_json
from keepfit.core.errors import DataError
from keepfit.runtime.blocks import BlockTable, stacked
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.predictor import Predictor
from keepfit.runtime.preparation import coerced, opened

RULES = (
    ColumnRule("a", "numeric"),
    ColumnRule("b", "numeric", clip=(-2.5, 40.0)),
    ColumnRule("c", "numeric", missing=frozenset({"unknown"})),
    ColumnRule("d", "numeric", missing=frozenset({"-999"})),
    ColumnRule("e", "numeric", boolean=True),
    ColumnRule("x", "ignore"),
    ColumnRule("f", "categorical", number_like=True),
    ColumnRule("g", "categorical", boolean=True),
    ColumnRule("h", "datetime"),
    ColumnRule("i", "text"),
)
NUMERIC = ("a", "b", "c", "d", "e")
FEATURES: list[dict[str, Any]] = [
    *({"op": "number", "column": name, "names": [name], "fill": None} for name in NUMERIC),
    *({"op": "number", "column": name, "names": [name], "fill": 0.1, "mean": 1 / 3, "scale": 0.7} for name in NUMERIC),
    *({"op": "indicator", "column": name, "names": [f"{name}?"]} for name in NUMERIC),
    {
        "op": "number",
        "column": "a",
        "names": ["log a"],
        "fill": 2.0,
        "mean": 0.2,
        "scale": 1.3,
        "log": True,
        "clip": 3.0,
    },
    {"op": "pair", "a": "a", "b": "d", "how": "ratio", "add": 0.5, "names": ["a/d"]},
    {"op": "length", "column": "i", "names": ["characters", "words"]},
    {"op": "number", "column": "b", "names": ["late b"], "fill": 1.0, "mean": 0.2, "scale": 1.3},
    {"op": "date", "column": "h", "names": ["days"], "parts": [0]},
]
PREPARATION = opened(FEATURES, RULES)
PREDICTOR = Predictor(PREPARATION, None, "regression", [], frozenset({"id"}))  # type: ignore[arg-type]

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-100, 100).map(lambda value: round(value, 3)),
    st.integers(-1000, 1000),
    st.integers(-(10**25), 10**25),
    st.sampled_from([-999, -999.0, 0, -0.0, 2**53, 2**53 - 1, 1e-320, 1.7e308, 10**301, None, True, False]),
    st.sampled_from(["3", " 4,000 ", "unknown", "-999", "", "nan", "true", "5%", "12:30"]),
)
TEXTS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False), st.text(max_size=6)
)
DATES = st.sampled_from([None, "2020-01-31", "2020-01-31 10:00", "31.12.1999", "never", ""])
ROW = st.fixed_dictionaries(
    {**dict.fromkeys(NUMERIC, NUMBERS), "f": TEXTS, "g": TEXTS, "h": DATES, "i": st.one_of(st.none(), st.text())},
    optional={"id": TEXTS, "y": st.just(1)},
)


def quick(rows: list[Any]) -> BlockTable | None:
    read = PREDICTOR.quick_body(json.dumps({"inputs": rows}).encode(), 100)
    return None if read is None else read[0]


def judged(rows: list[Any]) -> Any:
    """The matrix and the errors by way of text, or what is refused."""
    try:
        table = PREDICTOR.check_rows(rows)
    except DataError as error:
        return error.code
    data = coerced(table, PREPARATION.rules)
    unseen: dict[str, int] = {}
    return PREPARATION.apply(data, unseen), data.errors, unseen, {n: c.tolist() for n, c in table.columns.items()}


@settings(max_examples=400, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_a_block_gives_the_bits_that_text_gives(rows):
    table = quick(rows)
    if table is None:
        return
    slow = judged(rows)
    assert not isinstance(slow, str), f"text refuses it: {slow}"
    data = coerced(table, PREPARATION.rules)
    unseen: dict[str, int] = {}
    assert PREPARATION.apply(data, unseen).tobytes() == slow[0].tobytes()
    assert (data.errors, unseen) == (slow[1], slow[2])
    assert {name: column.tolist() for name, column in table.columns.items()} == slow[3]


def plain(**said: Any) -> dict[str, Any]:
    row = {"a": 1.5, "b": 2, "c": None, "d": 0, "e": -1.0, "f": "x", "g": True, "h": "2020-01-31", "i": "two words"}
    return {**row, **said}


def test_ordinary_rows_take_the_quick_way():
    rows = [plain(), plain(a=-0.0, id="k"), plain(b=1e-320, f=3.0, g=None, h=None, i=None)]
    table = quick(rows)
    assert isinstance(table, BlockTable) and len(table) == 3
    assert list(table.layout.at) == ["a", "b", "c", "e"]  # -999 means missing in d
    assert isinstance(stacked([table, table]), BlockTable)
    assert stacked([table, table]).columns["a"].tolist() == ["1.5", "0", "1.5"] * 2


@pytest.mark.parametrize(
    "said",
    [
        {"a": True},
        {"a": "3"},
        {"a": 2**53},
        {"a": 1e300},
        {"a": 10**301},
        {"a": [1]},
        {"f": 2**60},
        {"f": 1e16},
        {"y": 1},
        {"h": "never"},
    ],
    ids=str,
)
def test_what_text_has_to_judge_is_left_to_it(said):
    assert quick([plain(), plain(**said)]) is None
    short = plain()
    del short["c"]
    assert quick([short]) is None
    assert quick([plain(), 3]) is None and quick([]) is None


def test_a_block_of_another_preparation_is_read_as_text():
    other = opened(FEATURES, [*RULES[:-1], ColumnRule("i", "text")])
    table = quick([plain(b=99)])
    data = coerced(table, [rule.bare() for rule in other.rules])
    assert data.numbers["b"].tolist() == [99.0]


NUMBERS_ONLY = Predictor(opened([{"op": "number", "column": c, "names": [c], "fill": None} for c in ("tf", "n", "ü")],
                                [ColumnRule(c, "numeric") for c in ("tf", "n", "ü")]), None, "regression", [])  # type: ignore[arg-type]  # fmt: skip
GOOD = '{"input": {"tf": 1, "n": 2.5, "ü": -0}}'


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(("tf", "n", "ü"), NUMBERS), optional={"x": NUMBERS}), min_size=1, max_size=3),
       st.booleans(), st.booleans(), st.integers(0, 5))  # fmt: skip
def test_numbers_alone_are_told_by_their_marks(rows, ascii_only, many, turned):
    rows = [dict(list(row.items())[turned % len(row) :] + list(row.items())[: turned % len(row)]) for row in rows]
    said = {"inputs": rows} if many else {"input": rows[0]}
    read = NUMBERS_ONLY.quick_body(json.dumps(said, ensure_ascii=ascii_only).encode(), 100)
    if read is None:
        return
    rows = rows if many else rows[:1]
    slow = NUMBERS_ONLY.check_rows(rows)
    assert read[1] == many
    assert {name: column.tolist() for name, column in read[0].columns.items()} == {
        name: column.tolist() for name, column in slow.columns.items()
    }


@pytest.mark.parametrize("with_msgspec", [True, False])
@pytest.mark.parametrize("with_orjson", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        '{"input": {"tf": 1, "n": 2, "n": 2, "ü": 3}}', GOOD[:-1] + ', "input": {"tf": 1, "n": 2, "ü": 3}}', GOOD.replace("1", "NaN"),
        GOOD.replace("1", "-Infinity"), GOOD.replace("1", "[1]"), GOOD.replace("1", '{"b": 1}'), GOOD.replace("1", "true"),
        GOOD.replace('"tf": 1', '"\\u0074f": true'), GOOD.replace("1", '"x:y"'), GOOD.replace("1", '"\\ud800"'), '{"input": [1]}',
        GOOD.replace("input", "inputs"), "[]", "", "{", GOOD[:-1] + ', "more": 1}', GOOD.replace("1", "1e400"), "\ufeff" + GOOD,
        GOOD.replace("1", "01"), '{"inputs": []}', GOOD.replace("ü", "u"), GOOD.replace("1", "1" * 400), GOOD.replace("1", "9007199254740993"),
    ],
)  # fmt: skip
def test_bodies_that_are_not_plainly_rows_take_the_strict_way(text, with_orjson, with_msgspec, monkeypatch):
    if not with_msgspec:
        monkeypatch.setattr(NUMBERS_ONLY._reader, "_number_rows", None)
    if not with_orjson:
        monkeypatch.setattr(quick_json, "_fast_loads", None)
    assert NUMBERS_ONLY.quick_body(text.encode(), 100) is None
    assert NUMBERS_ONLY.quick_body(b"\xff" + GOOD.encode(), 100) is None
    table, many = NUMBERS_ONLY.quick_body(GOOD.encode(), 100) or pytest.fail("not read")
    assert table.block.tolist() == [[1.0, 2.5, 0.0]] and not many
    assert NUMBERS_ONLY.quick_body(b'{"inputs": [' + GOOD.encode()[10:-1] + b"]}", 1)[1]
    assert NUMBERS_ONLY.quick_body(b'{"inputs": [' + GOOD.encode()[10:-1] + b"]}", 0) is None
    nulls = NUMBERS_ONLY.quick_body(GOOD.replace("2.5", "null").encode(), 1)
    assert np.isnan(nulls[0].block[0, 1])


def test_json_is_the_same_with_and_without_orjson(monkeypatch):
    values = [
        {"a": [1, 2.5, None, True, "ü\n\x7f"], "b": 1e-7, "c": 1e22, "d": 2**70},
        "\ud800",
        {1: 2},
        [1e-320, 0.1 + 0.2],
    ]
    fast = [quick_json.to_json(value) for value in values]
    with pytest.raises(ValueError, match="JSON"):
        quick_json.to_json({"a": float("nan")})
    monkeypatch.setattr(quick_json, "_fast_dumps", None)
    assert list(map(json.loads, fast)) == list(map(json.loads, map(quick_json.to_json, values)))
    with pytest.raises(ValueError, match="JSON"):
        quick_json.to_json({"a": float("nan")})


def test_numbers_read_back_are_those_of_orjson():
    draw = np.random.default_rng(0)
    texts = [repr(value) for value in (draw.random(2000) * 10.0 ** draw.integers(-30, 30, 2000)).tolist()]
    texts += [f"{value:.17g}" for value in draw.standard_normal(500)] + [f"{value:.30f}" for value in draw.random(200)]
    body = "{" + ", ".join(f'"{place}": {text}' for place, text in enumerate(texts)) + "}"
    rows, _ = quick_json.rows_of(f'{{"input": {body}}}'.encode()) or ([], False)
    assert list(rows[0].values()) == list(map(float, texts))
    read = quick_json.number_rows(tuple(map(str, range(len(texts))))) or pytest.fail("msgspec is not there")
    found, _ = read(f'{{"input": {body}}}'.encode()) or pytest.fail("not read")
    assert list(found[0]) == list(map(float, texts))


@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb", "class", "1", "input", "ü", "x:{y"])
def test_columns_of_any_name_are_read_in_bulk_or_left_to_the_way_over_text(name):
    rules = [ColumnRule(one, "numeric") for one in (name, "n")]
    features = [{"op": "number", "column": rule.name, "names": [rule.name], "fill": None} for rule in rules]
    reader = Predictor(opened(features, rules), None, "regression", [])  # type: ignore[arg-type]
    for said in ({name: 1.5, "n": 2}, {"n": 2, name: 1.5}):
        read = reader.quick_body(json.dumps({"input": said}).encode(), 5)
        assert read is None or read[0].block.tolist() == [[1.5, 2.0]]
    assert reader.quick_body(json.dumps({"input": {"n": 1}}).encode(), 5) is None
