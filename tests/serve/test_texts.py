"""A text sent in every way that there is gets one answer; what is no text gets its reason, and nothing heavy is loaded."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import tritonclient.http as triton
from inprocess import Client

import keepfit as kf
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.text_predictor import TextPredictor
from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings

TEXTS = ["the soup was lovely", "awful, really", "", "很好 🙂"]
INFER = "/v2/models/recipe/infer"


@pytest.fixture(scope="module")
def ask(finished_texts):
    bundle = Bundle.open(finished_texts.bundle)
    with Client(create_app(bundle, bundle.predictor(), ServeSettings(max_rows=50))) as client:
        yield client


@pytest.fixture(scope="module")
def wanted(finished_texts):
    return kf.load(finished_texts.bundle).predict(TEXTS)


def test_predict_takes_texts_and_objects(ask, wanted):
    many = ask.request("POST", "/predict", json={"inputs": TEXTS}).json()["predictions"]
    assert [one["prediction"] for one in many] == wanted.labels and len(many) == 4
    for text, answer in zip(TEXTS, many, strict=True):
        for value in (text, {"text": text}, {"text": text, "id": "x"}):
            said = ask.request("POST", "/predict", json={"input": value})
            assert said.status_code == 200 and said.json()["prediction"] == answer["prediction"]
            for name, share in said.json()["probabilities"].items():
                assert share == pytest.approx(answer["probabilities"][name], abs=1e-6)
    assert ask.request("POST", "/predict", json={"input": None}).json()["probabilities"] == many[2]["probabilities"]


@pytest.mark.parametrize("value", [5, True, ["a"], {}, {"txt": "a"}, {"text": 5}])
def test_what_is_no_text_is_refused(ask, value):
    said = ask.request("POST", "/predict", json={"input": value})
    assert said.status_code == 422 and said.json()["error"]["where"] == "row 0"


def test_open_inference_protocol(ask, wanted):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [4], "data": TEXTS}]}
    outputs = {one["name"]: one["data"] for one in ask.request("POST", INFER, json=body).json()["outputs"]}
    assert outputs["prediction"] == wanted.labels
    assert np.allclose(np.reshape(outputs["probabilities"], (4, 2)), wanted.probabilities, atol=1e-6)
    tensor = triton.InferInput("text", [4, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in TEXTS], object))
    raw, head = triton.InferenceServerClient.generate_request_body([tensor])
    said = ask.request("POST", INFER, content=raw, headers={"Inference-Header-Content-Length": str(head)})
    assert said.status_code == 200, said.text
    meta = ask.request("GET", "/v2/models/recipe").json()
    assert [(one["name"], one["datatype"]) for one in meta["inputs"]] == [("text", "BYTES")]


def test_openapi_says_text(ask):
    schema = ask.request("GET", "/openapi.json").json()["components"]["schemas"]["Row"]
    assert schema["oneOf"][0]["type"] == ["string", "null"] and isinstance(schema["example"], str)
    assert ask.request("GET", "/docs").status_code == 200


def test_the_service_loads_no_training_library(finished_texts):
    code = (
        "import sys; from pathlib import Path; from keepfit.runtime.bundle import Bundle; import keepfit.serve.app\n"
        "p = Bundle.open(Path(sys.argv[1])).predictor(); p.predict(p.check_rows(['a']))\n"
        "print(sorted({'sklearn', 'scipy', 'torch', 'transformers', 'onnx', 'pandas', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(finished_texts.bundle)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_tokenizing_is_done_beside_the_event_loop(ask, monkeypatch):
    seen = set()
    for name in ("check_rows", "predict"):
        before = getattr(TextPredictor, name)

        def watched(self, *said, before=before):
            seen.add(threading.current_thread().name)
            return before(self, *said)

        monkeypatch.setattr(TextPredictor, name, watched)
    for _ in range(3):  # however cheap the model proves to be
        assert ask.request("POST", "/predict", json={"input": TEXTS[0]}).status_code == 200
    assert seen and all(name.startswith("keepfit-") for name in seen), seen


def test_a_model_that_nobody_holds_is_gone_at_once(finished_texts):
    predictor = Bundle.open(finished_texts.bundle).predictor()
    predictor.predict(predictor.check_rows([TEXTS[0]]))
    gone = weakref.ref(predictor)
    gc.disable()
    try:
        del predictor
        assert gone() is None
    finally:
        gc.enable()
