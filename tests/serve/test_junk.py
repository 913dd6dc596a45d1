"""Seeded junk at the two model routes of a real bundle: whatever a client sends, the status stays below 500."""

from __future__ import annotations

import json
import random
import struct
from collections import Counter
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inprocess import Client
from serve_real import DATATYPES, GOLDEN, write_bundle

from keepfit.core.errors import DataError
from keepfit.runtime.bundle import Bundle
from keepfit.serve.app import create_app
from keepfit.serve.body import parse_json
from keepfit.serve.settings import ServeSettings
from keepfit.serve.tensors import Given, decode

ODD = [
    None,
    True,
    -1,
    2**63,
    10**307,
    1e308,
    -0.0,
    "",
    " ",
    "nan",
    "Infinity",
    "\0",
    "ü" * 5000,
    "1e999",
    "0000-00-00",
    "9999-99-99",
    [],
    {},
    [[[]]],
    {"a": 1},
    "1_000",
    "١٢",
]

NUMBERS = (
    st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([10**307, -(10**309), 1e308, 5e-324, float("nan")])
)
TEXTS = st.text(max_size=9) | st.sampled_from(
    ["\ud800", "\0", "1e999", "٣", "9" * 400, "2020-W01-1", "0000-00-00", "+14:00"]
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
JUNK = st.recursive(LEAVES, lambda c: st.lists(c, max_size=3) | st.dictionaries(TEXTS, c, max_size=3), max_leaves=9)
ROWS = (
    st.fixed_dictionaries({name: st.just(cell) | LEAVES for name, cell in GOLDEN[0].items()}, optional={"id": JUNK})
    | JUNK
)
QUESTIONS = st.one_of(
    st.fixed_dictionaries({"input": ROWS}),
    st.fixed_dictionaries({"inputs": st.lists(ROWS, max_size=3) | JUNK}),
    st.dictionaries(st.sampled_from(["input", "inputs"]) | TEXTS, ROWS, max_size=2),
    JUNK,
)
CELLS = {
    "FP64": st.none() | NUMBERS,
    "INT64": st.none() | NUMBERS,
    "BOOL": st.none() | st.booleans(),
    "BYTES": st.none() | TEXTS,
}
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(-1, 9) | JUNK
        for name in ("binary_data_size", "binary_data", "binary_data_output", "classification", "shared_memory_region")
    },
)


def _tensor(name, datatype):
    good = {
        "name": st.just(name),
        "datatype": st.just(datatype),
        "shape": st.just([2]),
        "data": st.lists(CELLS[datatype], min_size=2, max_size=2),
    }
    shapes = st.sampled_from([[2, 1], [0], [-1], [1, 2], [2**70], [True], [1.0], []]) | JUNK
    bad = {
        "name": st.sampled_from([*DATATYPES, "id"]) | TEXTS,
        "datatype": st.sampled_from(["FP16", "UINT64", "BF16"]) | JUNK,
        "shape": shapes,
        "data": st.lists(LEAVES, max_size=3) | JUNK,
        "parameters": PARAMETERS | JUNK,
    }
    one_bad = st.sampled_from([*bad]).flatmap(lambda key: st.fixed_dictionaries({**good, key: bad[key]}))
    return st.fixed_dictionaries(good) | one_bad


TENSORS = st.tuples(*[_tensor(*pair) for pair in DATATYPES.items()]).map(list) | st.lists(JUNK, max_size=2) | JUNK
OUTPUTS = (
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["prediction", "probabilities"]) | JUNK},
            optional={"parameters": PARAMETERS | JUNK},
        ),
        max_size=2,
    )
    | JUNK
)
INFERENCES = st.fixed_dictionaries(
    {"inputs": TENSORS}, optional={"id": JUNK, "parameters": PARAMETERS | JUNK, "outputs": OUTPUTS}
)


def _mangle(body: bytes, chance: random.Random) -> bytes:
    piece = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(piece))
        how = chance.randrange(3)
        if how == 0:
            piece[at] = chance.randrange(256)
        elif how == 1:
            del piece[at : at + chance.randint(1, 8)]
        else:
            piece[at:at] = bytes(chance.choices(b'[]{},:"\\-0ue\xff', k=chance.randint(1, 4)))
        piece = piece or bytearray(b"x")
    return bytes(piece)


def _binary() -> tuple[bytes, bytes]:
    raw = {
        "age": struct.pack("<d", 31.5),
        "hours": struct.pack("<q", 40),
        "married": b"\1",
        "city": struct.pack("<I", 5) + "Köln".encode(),
        "since": struct.pack("<I", 0),
    }
    inputs = [
        {"name": name, "datatype": DATATYPES[name], "shape": [1], "parameters": {"binary_data_size": len(data)}}
        for name, data in raw.items()
    ]
    return json.dumps({"inputs": inputs}).encode(), b"".join(raw.values())


def test_junk_is_never_our_fault(tmp_path):
    chance = random.Random(7)
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    statuses: Counter[int] = Counter()
    with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as ask:
        good = json.dumps({"input": GOLDEN[0]}).encode()
        head, tail = _binary()
        length = {"Inference-Header-Content-Length": str(len(head))}
        assert ask.post("/v2/models/people/infer", content=head + tail, headers=length).status_code == 200
        for _ in range(400):
            statuses[ask.post("/predict", content=_mangle(good, chance)).status_code] += 1
            body = _mangle(head + tail, chance)
            statuses[ask.post("/v2/models/people/infer", content=body, headers=length).status_code] += 1
        for column in GOLDEN[0]:
            for odd in ODD:
                body = json.dumps({"input": {**GOLDEN[0], column: odd}}).encode()
                answer = ask.post("/predict", content=body)
                assert answer.status_code in (200, 422), (column, odd, answer.text)
                statuses[answer.status_code] += 1
    assert sum(statuses.values()) == 800 + len(GOLDEN[0]) * len(ODD) == 910
    assert set(statuses) <= {200, 413, 422}, statuses
    assert statuses[200] > 20
    assert statuses[422] > 300


def test_dates_at_the_ends_of_the_calendar(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    dates = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "9999-12-31")
    with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as ask:
        statuses = [ask.post("/predict", json={"input": {**GOLDEN[0], "since": date}}).status_code for date in dates]
    assert len(statuses) == 4
    assert set(statuses) <= {200, 422}


@pytest.mark.parametrize(("path", "made"), [("/predict", QUESTIONS), ("/v2/models/people/infer", INFERENCES)])
def test_json_of_every_shape_is_answered_or_refused_in_four_parts(tmp_path, path, made):
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    statuses: Counter[int] = Counter()
    with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as ask:

        @settings(
            max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(made)
        def check(value):
            answer = ask.post(path, content=json.dumps(value))
            statuses[answer.status_code] += 1
            assert answer.status_code in (200, 413, 422), answer.text
            error = answer.json().get("error", "a; b; c")
            assert all(error.values()) if isinstance(error, dict) else error.count("; ") >= 2, error

        check()
    assert sum(statuses.values()) >= 250 and statuses[200] >= 1 and statuses[422] >= 100


def test_what_a_client_chooses_costs_little():
    start = perf_counter()
    with pytest.raises(DataError, match="key 'x' is given twice"):
        parse_json(b"{" + b",".join(b'"%d":1' % n for n in range(60_000)) + b',"x":1,"x":1}', 32)
    assert perf_counter() - start < 3.0  # about 0.05 s; counting every name again took a minute
    with pytest.raises(DataError, match="60 values") as refused:
        decode(Given("a", "BYTES", 60, None, b"\0" * 8_000_000), "BYTES")
    assert refused.value.seen == "more" and perf_counter() - start < 3.0


def test_odd_lengths_and_long_names_are_refused_shortly(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as ask:
        for length, status in ((b"\xb2", 200), (b"9" * 5000, 413), (b"-1", 200)):
            answer = ask.post(
                "/predict", content=json.dumps({"input": GOLDEN[0]}), headers=[(b"content-length", length)]
            )
            assert answer.status_code == status, length
        name = "x" * 100_000
        tensor = {"name": name, "datatype": "FP64", "shape": [1], "data": [1]}
        for path, question in (
            ("/predict", {"input": {name: 1}}),
            ("/predict", {name: 1}),
            ("/v2/models/people/infer", {"inputs": [tensor]}),
            ("/v2/models/people/infer", {"inputs": [{**tensor, "shape": name}]}),
            ("/v2/models/people/infer", {"inputs": [tensor, tensor]}),
        ):
            answer = ask.post(path, json=question)
            assert answer.status_code == 422 and len(answer.content) < 1000, path
