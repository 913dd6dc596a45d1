"""The Open Inference Protocol, asked by the real tritonclient over a live server, and broken by hand."""

from __future__ import annotations

import json
import struct

import httpx
import numpy as np
import pytest
from serve_fake import Bundle

triton = pytest.importorskip("tritonclient.http")

AGES = [31.5, float("nan"), 20.0, 1e-7]
HOURS = [40, -1, 0, 2**40]
MARRIED = [True, False, True, False]
CITIES = ["Köln", "", "北京", "Atlantis"]
SINCE = ["2020-01-31", "", "1999-12-31", "2024-02-29"]
ROWS = [
    {"age": None if a != a else a, "hours": h, "married": m, "city": c or None, "since": s or None}
    for a, h, m, c, s in zip(AGES, HOURS, MARRIED, CITIES, SINCE, strict=True)
]


def _inputs(binary: bool, flat: bool = False) -> list[object]:
    columns = {
        "age": (AGES, np.float64, "FP64"),
        "hours": (HOURS, np.int64, "INT64"),
        "married": (MARRIED, np.bool_, "BOOL"),
        "city": ([c.encode() for c in CITIES], object, "BYTES"),
        "since": ([s.encode() for s in SINCE], object, "BYTES"),
    }
    made = []
    for name, (values, dtype, datatype) in columns.items():
        array = np.array(values, dtype) if flat else np.array(values, dtype).reshape(-1, 1)
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("squeeze", [None, "gzip", "deflate"])
def test_tritonclient_gets_what_predict_says(live, binary_in, binary_out, squeeze):
    wanted = httpx.post(f"{live.url}/predict", json={"inputs": ROWS}).json()["predictions"]
    client = triton.InferenceServerClient(live.host)
    outputs = (
        None
        if binary_out is None
        else [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("prediction", "probabilities")]
    )
    result = client.infer(
        "mixed",
        _inputs(binary_in, flat=squeeze is None),
        outputs=outputs,
        request_id="q1",
        request_compression_algorithm=squeeze,
    )
    client.close()
    labels = [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy("prediction")]
    assert labels == [one["prediction"] for one in wanted]
    assert len(labels) == 4
    assert len(set(labels)) > 1
    shares = result.as_numpy("probabilities")
    assert shares.shape == (4, 3)
    assert np.allclose(shares, [list(one["probabilities"].values()) for one in wanted], atol=0)
    assert result.get_response()["id"] == "q1"


def test_tritonclient_metadata_health_and_subset(live):
    client = triton.InferenceServerClient(live.host)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mixed")
    assert client.is_model_ready("mixed", "3")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    facts = client.get_model_metadata("mixed", "3")
    assert [(one["name"], one["datatype"]) for one in facts["inputs"]] == [
        ("age", "FP64"),
        ("hours", "INT64"),
        ("married", "BOOL"),
        ("city", "BYTES"),
        ("since", "BYTES"),
    ]
    assert facts["outputs"][1]["shape"] == [-1, 3]
    assert facts["outputs"][1]["parameters"]["classes"] == ["no", "yes", "vielleicht ü"]
    result = client.infer(
        "mixed",
        _inputs(True),
        model_version="3",
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=False)],
    )
    assert result.as_numpy("prediction") is None
    assert result.as_numpy("probabilities").shape == (4, 3)
    client.close()


def test_tritonclient_is_told_what_is_wrong(live):
    client = triton.InferenceServerClient(live.host)
    with pytest.raises(triton.InferenceServerException, match="'since' is not given"):
        client.infer("mixed", _inputs(True)[:-1])
    with pytest.raises(triton.InferenceServerException, match="no such model"):
        client.infer("other", _inputs(True))
    client.close()


@pytest.mark.parametrize(
    ("bundle", "datatype", "kind"),
    [
        (Bundle(classes=[False, True]), "BOOL", bool),
        (Bundle(classes=[3, 5]), "INT64", int),
        (Bundle(classes=[0.5, 2]), "FP64", float),
        (Bundle(classes=["a", 1]), "BYTES", str),
        (Bundle(task="regression", classes=[]), "FP64", float),
    ],
)
def test_output_datatype_follows_the_classes(client, bundle, datatype, kind):
    ask = client(bundle)
    outputs = ask.post("/v2/models/mixed/infer", json=_request()).json()["outputs"]
    facts = ask.get("/v2/models/mixed").json()["outputs"]
    assert [(one["name"], one["datatype"]) for one in outputs] == [(one["name"], one["datatype"]) for one in facts]
    assert outputs[0]["datatype"] == datatype
    assert type(outputs[0]["data"][0]) is kind
    assert len(outputs) == (1 if bundle.task == "regression" else 2)


def _request(**change: object) -> dict[str, object]:
    """Two rows as JSON; a keyword replaces (or with None takes away) an input by name."""
    tensors = {
        "age": ("FP64", [1.5, 2]),
        "hours": ("INT64", [1, 2]),
        "married": ("BOOL", [True, False]),
        "city": ("BYTES", ["Paris", ""]),
        "since": ("BYTES", ["2020-01-31", ""]),
    }
    made = {
        name: {"name": name, "datatype": datatype, "shape": [2], "data": data}
        for name, (datatype, data) in tensors.items()
    }
    for name, value in change.items():
        made[name] = {**made.get(name, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    return {"inputs": [value for value in made.values() if value is not None]}


LENIENT = [
    _request(age={"datatype": "FP32"}),
    _request(age={"datatype": "INT32", "data": [1, 2]}),
    _request(hours={"datatype": "FP64", "data": [1.0, None]}),
    _request(hours={"datatype": "UINT8"}),
    _request(married={"datatype": "BYTES", "data": ["true", ""]}),
    _request(city={"shape": [2, 1], "data": [["Paris"], ["a"]]}),
    _request(id={"name": "id", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}),
    _request(age={"data": [None, 2]}),
    {**_request(), "parameters": {"sequence_id": 3}},
    {**_request(), "outputs": [{"name": "prediction"}]},
]


def test_lenient_requests(client):
    ask = client()
    statuses = [ask.post("/v2/models/mixed/infer", json=one).status_code for one in LENIENT]
    assert statuses == [200] * 10


WRONG = [
    [],
    {},
    {"inputs": []},
    {"inputs": {}},
    {"inputs": [3]},
    {"inputs": [{"name": 3}]},
    {**_request(), "id": 3},
    _request(age=None),
    _request(age={"datatype": "BYTES", "data": ["1", "2"]}),
    _request(age={"datatype": "FP65"}),
    _request(age={"datatype": None}),
    _request(city={"datatype": "FP64", "data": [1, 2]}),
    _request(age={"shape": [3]}),
    _request(age={"shape": [3], "data": [1, 2, 3]}),
    _request(age={"shape": [1, 2]}),
    _request(age={"shape": [2, 1, 1]}),
    _request(age={"shape": [-2]}),
    _request(age={"shape": "2"}),
    _request(age={"shape": [True]}),
    _request(age={"shape": []}),
    _request(age={"shape": [0], "data": []}),
    _request(age={"data": [1, "x"]}),
    _request(age={"data": [1, True]}),
    _request(age={"data": [[1, 2], [3, 4]]}),
    _request(age={"data": "12"}),
    _request(age={"data": [1, {}]}),
    _request(hours={"data": [1, 2.5]}),
    _request(hours={"data": [1, 2**70]}),
    _request(married={"data": [0, 1]}),
    _request(city={"data": ["a", 3]}),
    _request(since={"data": ["never", ""]}),
    _request(x={"name": "x"}),
    _request(agee={"name": "agee", "datatype": "FP64", "shape": [2], "data": [1, 2]}),
    {"inputs": [*_request()["inputs"], _request()["inputs"][0]]},  # type: ignore[index,misc]
    _request(age={"parameters": {"shared_memory_region": "r"}}),
    _request(age={"parameters": 3}),
    _request(age={"data": None, "parameters": {"binary_data_size": 16}}),
    _request(age={"parameters": {"binary_data_size": 0}}),
    _request(age={"data": None, "parameters": {"binary_data_size": -1}}),
    _request(age={"data": None, "parameters": {"binary_data_size": "8"}}),
    {**_request(), "outputs": [{"name": "x"}]},
    {**_request(), "outputs": ["prediction"]},
    {**_request(), "outputs": {"a": 1}},
    {**_request(), "outputs": [{"name": ["a"]}]},
    {**_request(), "outputs": [{"name": "prediction"}, {"name": "prediction"}]},
    {**_request(), "parameters": [1]},
    {**_request(), "outputs": [{"name": "prediction", "parameters": {"classification": 3}}]},
    {**_request(), "outputs": [{"name": "prediction", "parameters": {"binary_data": 1}}]},
    {**_request(), "parameters": {"binary_data_output": "yes"}},
]


def test_wrong_requests_are_422_with_a_string(client):
    ask = client()
    for number, request in enumerate(WRONG):
        answer = ask.post("/v2/models/mixed/infer", json=request)
        assert answer.status_code == 422, (number, request, answer.text)
        assert isinstance(answer.json()["error"], str), request
    assert len(WRONG) == 49


def _binary(raw: dict[str, bytes], sizes: dict[str, int] | None = None, tail: bytes = b"") -> tuple[bytes, bytes]:
    size = {**{name: len(data) for name, data in raw.items()}, **(sizes or {})}
    change = {name: {"data": None, "parameters": {"binary_data_size": size[name]}} for name in raw}
    head = json.dumps(_request(**change)).encode()
    return head, b"".join(raw[one["name"]] for one in json.loads(head)["inputs"] if one["name"] in raw) + tail


def _texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


GOOD = {"age": struct.pack("<2d", 1.5, float("nan")), "city": _texts("Köln".encode(), b"")}
BROKEN = [
    _binary({**GOOD, "age": struct.pack("<d", 1.5)}),
    _binary({**GOOD, "age": struct.pack("<3d", 1, 2, 3)}),
    _binary({**GOOD, "age": b"\0" * 15}),
    _binary({**GOOD, "age": struct.pack("<2d", 1, float("inf"))}),
    _binary(GOOD, tail=b"\0"),
    _binary(GOOD, {"city": 400}),
    _binary({**GOOD, "city": _texts(b"a")}),
    _binary({**GOOD, "city": _texts(b"a", b"b")[:-1]}),
    _binary({**GOOD, "city": b"\xff\xff\xff\xff"}),
    _binary({**GOOD, "city": b"\1\0"}),
    _binary({**GOOD, "city": _texts(b"\xff", b"")}),
    _binary({**GOOD, "city": b""}),
]


def test_broken_binary_is_422(client):
    ask = client()

    def status(head: bytes, tail: bytes, length: str | None = None) -> int:
        headers = {"Inference-Header-Content-Length": length or str(len(head))}
        return ask.post("/v2/models/mixed/infer", content=head + tail, headers=headers).status_code

    head, tail = _binary(GOOD)
    assert status(head, tail) == 200
    assert [status(*one) for one in BROKEN] == [422] * 12
    lengths = ("0", "-1", "x", "1e3", "٣", str(len(head) - 1), str(len(head) + 1), "9" * 30, str(len(head + tail)))
    assert [status(head, tail, length) for length in lengths if length.isascii()] == [422] * 8
