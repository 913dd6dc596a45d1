"""Seeded junk at the two model routes of a real bundle: whatever a client sends, the status stays below 500."""

from __future__ import annotations

import json
import random
import struct
from collections import Counter

from inprocess import Client
from serve_real import DATATYPES, GOLDEN, write_bundle

from keepfit.runtime.bundle import Bundle
from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings

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
