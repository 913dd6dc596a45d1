"""The whole way with a real bundle: `serve`, the real tritonclient, and the same answers as the predictor gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from serve_real import CLASSES, DATATYPES, GOLDEN, write_bundle

from keepfit.core.errors import EnvironmentFault, UsageError
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import from_rows
from keepfit.serve.follow import Source
from keepfit.serve.server import serve
from keepfit.serve.settings import ServeSettings

triton = pytest.importorskip("tritonclient.http")
DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}
ROWS = [
    {"age": age, "hours": hours, "married": married, "city": city, "since": since}
    for age, hours, married, city, since in zip(
        [31.5, None, 1e-7, 99, 20],
        [40, 0, -1, 2**40, 7],
        [True, False, True, False, True],
        ["Köln", None, "北京", "Atlantis", " Paris "],
        ["2020-01-31", None, "1999-12-31", "2024-02-29", "2000-01-01"],
        strict=True,
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("real") / "bundle")


@pytest.fixture(scope="module")
def server(folder, live_of) -> Iterator[object]:
    one = live_of("serve_real.py", str(folder))
    yield one
    one.process.terminate()
    out, err = one.process.communicate(timeout=30)
    assert (one.process.returncode, out, err) == (0, "stopped\n", "")


@pytest.fixture(scope="module")
def wanted(folder):
    return Bundle.open(folder).predictor().predict(from_rows(ROWS, list(DATATYPES)))


def _cell(value: object, datatype: str) -> object:
    if datatype == "BYTES":
        return ("" if value is None else str(value)).encode()
    return float("nan") if value is None else value


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_and_predict_agree_with_the_predictor(server, wanted, binary):
    client = triton.InferenceServerClient(server.host)
    assert client.is_model_ready("people", "0001")
    facts = client.get_model_metadata("people")
    assert facts["outputs"][1]["parameters"]["classes"] == CLASSES
    inputs = []
    for one in facts["inputs"]:
        array = np.array([_cell(row[one["name"]], one["datatype"]) for row in ROWS], DTYPES[one["datatype"]])
        tensor = triton.InferInput(one["name"], [5, 1], one["datatype"])
        tensor.set_data_from_numpy(array.reshape(5, 1), binary_data=binary)
        inputs.append(tensor)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("prediction", "probabilities")]
    result = client.infer("people", inputs, outputs=outputs)
    client.close()
    labels = [value.decode() if isinstance(value, bytes) else value for value in result.as_numpy("prediction")]
    assert len(inputs) == len(labels) == 5
    assert labels == wanted.labels
    assert np.array_equal(result.as_numpy("probabilities"), wanted.probabilities.astype(np.float64))
    answers = httpx.post(f"{server.url}/predict", json={"inputs": ROWS}).json()["predictions"]
    assert [one["prediction"] for one in answers] == wanted.labels
    assert [list(one["probabilities"].values()) for one in answers] == wanted.probabilities.tolist()
    assert len({tuple(row) for row in wanted.probabilities.tolist()}) == 5


def test_errors_name_row_and_column(server):
    good = GOLDEN[0]
    wrong = {
        "age": ["x", [1], True],
        "hours": ["many"],
        "city": [{}],
        "since": ["yesterday", 3],
        "agee": [1],
        "married": [[1]],
    }
    asked = 0
    for column, values in wrong.items():
        for value in values:
            answer = httpx.post(f"{server.url}/predict", json={"inputs": [good, {**good, column: value}]})
            assert answer.status_code == 422, (column, value)
            assert answer.json()["error"]["where"] == f"row 1, column {column!r}"
            asked += 1
    for column in good:
        rest = {name: value for name, value in good.items() if name != column}
        answer = httpx.post(f"{server.url}/predict", json={"input": rest})
        assert (answer.status_code, answer.json()["error"]["where"]) == (422, f"row 0, column {column!r}")
        asked += 1
    assert asked == 14
    assert httpx.post(f"{server.url}/predict", json={"input": {**good, "id": 3}}).status_code == 200


def test_the_example_of_openapi_is_answered_and_unseen_is_counted(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example == {"input": GOLDEN[0]}
    assert httpx.post(f"{server.url}/predict", json=example).status_code == 200
    before = httpx.get(f"{server.url}/metrics").text
    httpx.post(f"{server.url}/predict", json={"input": {**GOLDEN[0], "city": "Mu"}})
    assert httpx.get(f"{server.url}/metrics").text.count('unseen_categories_total{column="city"}') == 1
    assert before != httpx.get(f"{server.url}/metrics").text


def test_a_bundle_that_cannot_be_trusted_is_not_served(tmp_path):
    announced: list[str] = []
    settings = ServeSettings(port=0)
    with pytest.raises(UsageError):
        serve(Source(tmp_path), settings, announced.append)
    tampered = write_bundle(tmp_path / "tampered")
    (tampered / "card.md").write_text("better than it is")
    with pytest.raises(EnvironmentFault) as refused:
        serve(Source(tampered), settings, announced.append)
    assert refused.value.code == "tampered_bundle"
    assert announced == []
