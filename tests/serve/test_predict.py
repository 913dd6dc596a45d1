"""`/predict`: answers, and every way in which a client can be wrong."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from time import perf_counter

import pytest
from serve_fake import Bundle

from keepfit.core.errors import DataError
from keepfit.runtime.answers import class_name
from keepfit.serve.body import unpack

PARTS = {"code", "message", "where", "hint"}


def test_one_row(client, row):
    answer = client().post("/predict", json={"input": row})
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ["request_id", "model", "prediction", "probabilities"]
    assert body["model"] == {"name": "mixed", "version": "3", "sha256": "ab" * 32}
    assert list(body["probabilities"]) == ["no", "yes", "vielleicht ü"]
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert body["prediction"] == max(body["probabilities"], key=body["probabilities"].get)


def test_many_rows_answer_in_order_as_one_by_one(client, row):
    rows = [{**row, "age": age, "city": city} for age in (1, None, 2.5) for city in ("Paris", None, "北京")]
    ask = client()
    together = ask.post("/predict", json={"inputs": rows}).json()
    alone = [ask.post("/predict", json={"input": one}).json() for one in rows]
    assert len(together["predictions"]) == len(alone) == 9
    for left, right in zip(together["predictions"], alone, strict=True):
        assert left == {name: right[name] for name in ("prediction", "probabilities")}
    assert len({answer["request_id"] for answer in alone}) == 9
    assert ask.post("/predict", json={"inputs": []}).json()["predictions"] == []


@pytest.mark.parametrize(
    ("classes", "kind"), [([False, True], bool), ([1, 2, 3], int), (["a", "b"], str), ([0.5, 1.5], float)]
)
def test_json_type_of_classes(client, row, classes, kind):
    body = client(Bundle(classes=classes)).post("/predict", json={"input": row}).json()
    assert type(body["prediction"]) is kind
    assert list(body["probabilities"]) == [class_name(item) for item in classes]


def test_regression_has_no_probabilities(client, row):
    body = client(Bundle(task="regression", classes=[])).post("/predict", json={"input": row}).json()
    assert isinstance(body["prediction"], float)
    assert "probabilities" not in body


def _wrong() -> dict[str, tuple[bytes, str]]:
    good = {"age": 1, "hours": 1, "married": True, "city": "a", "since": None}
    raw = json.dumps(good).encode()
    return {
        "empty": (b"", "not_json"),
        "not json": (b"age=3", "not_json"),
        "form": (b'--x\r\nContent-Disposition: form-data; name="file"\r\n', "not_json"),
        "not utf-8": (b'{"input": "\xff"}', "not_json"),
        "utf-16": ('{"input": {}}'.encode("utf-16"), "not_json"),
        "cut": (b'{"input": {"age": 1', "not_json"),
        "nan": (b'{"input": {"age": NaN}}', "not_finite"),
        "infinity": (b'{"input": {"age": Infinity}}', "not_finite"),
        "minus infinity": (b'{"input": {"age": -Infinity}}', "not_finite"),
        "1e999": (b'{"input": {"age": 1e999}}', "not_finite"),
        "long number": (b'{"input": {"age": 1' + b"0" * 5000 + b"}}", "not_finite"),
        "key twice": (b'{"input": {"age": 1, "age": 2}}', "key_twice"),
        "half character": (b'{"input": {"city": "\\ud800"}}', "not_text"),
        "list": (b"[1]", "body_type"),
        "null": (b"null", "body_type"),
        "nothing": (b"{}", "key_count"),
        "both": (b'{"input": ' + raw + b', "inputs": []}', "key_count"),
        "unknown key": (b'{"imput": ' + raw + b"}", "key_unknown"),
        "extra key": (b'{"input": ' + raw + b', "x": 1}', "key_unknown"),
        "inputs object": (b'{"inputs": ' + raw + b"}", "inputs_type"),
        "row a number": (b'{"input": 3}', "row_type"),
        "row null": (b'{"inputs": [' + raw + b", null]}", "row_type"),
        "column unknown": (b'{"input": {"agee": 3}}', "column_unknown"),
        "column absent": (b'{"input": {"age": 3}}', "column_absent"),
        "cell a list": (b'{"input": ' + raw.replace(b'"a"', b"[1]") + b"}", "cell_type"),
        "row unanswered": (b'{"input": ' + raw.replace(b"null", b'"never"') + b"}", "row_unanswered"),
        "deep": (b'{"input": ' + b"[" * 40 + b"]" * 40 + b"}", "too_deep"),
        "bomb": (b"[" * 200_000, "too_deep"),
        "objects bomb": (b'{"a":' * 50_000, "too_deep"),
    }


WRONG = _wrong()


def test_the_list_of_mistakes_is_long():
    assert len(WRONG) == 29


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_422_in_four_parts(client, name):
    body, code = WRONG[name]
    answer = client().post("/predict", content=body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert set(error) == PARTS
    assert error["code"] == code
    assert error["message"]


def test_where_names_row_and_column(client, row):
    answer = client().post("/predict", json={"inputs": [row, {**row, "hourz": 3}]})
    error = answer.json()["error"]
    assert answer.status_code == 422
    assert (error["where"], error["hint"]) == ("row 1, column 'hourz'", "did you mean 'hours'?")


def test_limits_are_413(client, row):
    ask = client(max_rows=3, max_body_bytes=5_000)
    assert ask.post("/predict", json={"inputs": [row] * 3}).status_code == 200
    for content, code in (
        (json.dumps({"inputs": [row] * 4}), "rows_too_many"),
        (b" " * 5_001, "body_too_large"),
        (iter([b" " * 4_000] * 2), "body_too_large"),
    ):
        answer = ask.post("/predict", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, code)


def test_compressed_bodies_and_their_bombs(client, row):
    ask = client(max_body_bytes=5_000)
    good = json.dumps({"input": row}).encode()
    cases = [
        (gzip.compress(good), "gzip", 200),
        (gzip.compress(b" " * 10_000_000)[:4_900], "gzip", 413),
        (gzip.compress(good)[:-9], "gzip", 422),
        (good, "gzip", 422),
        (good, "br", 415),
        (good, "identity", 200),
        (zlib.compress(good), "deflate", 200),
        (zlib.compress(good) + b"x", "deflate", 422),
        (b"", "gzip", 422),
    ]
    seen = [ask.post("/predict", content=body, headers={"Content-Encoding": how}).status_code for body, how, _ in cases]
    assert seen == [status for _, _, status in cases]


def test_every_member_of_a_gzip_body_is_read(client, row):
    ask = client(max_body_bytes=5_000)
    good = json.dumps({"input": row}).encode()
    first, second = gzip.compress(good[:20]), gzip.compress(good[20:])
    blank = gzip.compress(b" " * 3_000)
    cases = [
        (first + second, 200),
        (first, 422),
        (first + second + b"junk", 422),
        (first + second + b"\0", 422),
        (first + second[:-1], 422),
        (first + zlib.compress(good[20:]), 422),
        (blank + blank, 413),
    ]
    seen = [ask.post("/predict", content=body, headers={"Content-Encoding": "gzip"}) for body, _ in cases]
    assert [answer.status_code for answer in seen] == [status for _, status in cases]
    assert [answer.json()["error"]["code"] for answer in seen[2:6]] == ["body_damaged"] * 4


def test_a_body_of_tiny_members_takes_no_time():
    many = gzip.compress(b"") * 100_000
    start = perf_counter()
    assert unpack(many + gzip.compress(b"{}"), "gzip", 4_000_000) == b"{}"
    assert perf_counter() - start < 5.0  # about 0.2 s; copying the rest of the body for every member takes minutes


def test_a_compressed_bomb_is_never_held_whole():
    bomb = gzip.compress(b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(DataError) as refused:
        unpack(bomb, "gzip", 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.code == "body_too_large"
    assert peak < 2_000_000


def test_routes_and_methods_that_are_not_there(client):
    ask = client()
    for method, path, status in (
        ("GET", "/predict", 405),
        ("DELETE", "/healthz", 405),
        ("PUT", "/v2/models/mixed", 405),
        ("GET", "/nothing", 404),
        ("POST", "/feedback", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/mixed/versions/9", 404),
    ):
        answer = ask.request(method, path)
        assert answer.status_code == status, path
        error = answer.json()["error"]
        assert isinstance(error, str) if path.startswith("/v2") else set(error) == PARTS
        if path == "/feedback":
            assert error["code"] == "records_off" and "record: full" in error["hint"]


def test_our_own_fault_is_500_without_a_trace(client, row, caplog):
    answer = client().post("/predict", json={"input": {**row, "city": "fault"}})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "RuntimeError" not in answer.text
    assert "a fault of ours" in caplog.text
