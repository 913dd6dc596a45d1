"""A picture sent in every way that there is gets one answer; what is no picture gets its reason, and nothing heavy is loaded."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
import threading
import weakref

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from inprocess import Client
from made_pictures import KINDS, pixels, png
from odd_pictures import pictures as odd_pictures

import keepfit as kf
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.picture_predictor import PicturePredictor
from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings

STACK = np.stack([pixels(200 + n, KINDS[n % 2]) for n in range(4)])
FILES = [png(picture) for picture in STACK]
INFER = "/v2/models/shapes/infer"


def base64_of(data):
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def ask(finished_pictures):
    bundle = Bundle.open(finished_pictures.bundle)
    with Client(create_app(bundle, bundle.predictor(), ServeSettings(max_rows=50))) as client:
        yield client


@pytest.fixture(scope="module")
def wanted(finished_pictures):
    """Labels, and probabilities [4, 2], as the library answers."""
    found = kf.load(finished_pictures.bundle).predict(STACK)
    assert len({tuple(row) for row in found.probabilities.tolist()}) == 4
    return found.labels, found.probabilities.tolist()


def check(reply, wanted, rows):
    """One reply of /predict holds the answers of `rows`."""
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert len(said["request_id"]) == 32 and said["model"]["name"] == "shapes"
    answers = said.get("predictions", [said])
    assert [one["prediction"] for one in answers] == [wanted[0][row] for row in rows]
    assert [[one["probabilities"][kind] for kind in KINDS] for one in answers] == [wanted[1][row] for row in rows]
    assert ("predictions" in said) == (len(rows) > 1)


def test_base64_nested_arrays_and_many_at_once(ask, wanted):
    for row, (picture, data) in enumerate(zip(STACK, FILES, strict=True)):
        for value in (
            {"image": base64_of(data)},
            {"image": "data:image/png;base64," + base64_of(data)},
            {"image": picture.tolist()},
            picture.tolist(),
            base64_of(data),
            {"image": np.dstack([picture, np.full((16, 16), 255)]).tolist()},
        ):
            check(ask.post("/predict", json={"input": value}), wanted, [row])
    many = [{"image": base64_of(FILES[0])}, STACK[1].tolist(), {"image": STACK[2].tolist()}, base64_of(FILES[3])]
    check(ask.post("/predict", json={"inputs": many}), wanted, range(4))
    assert ask.post("/predict", json={"inputs": []}).json()["predictions"] == []


def test_grey_arrays_are_grey_files(ask, finished_pictures):
    grey = STACK[0][..., 0]
    label = kf.load(finished_pictures.bundle).predict([png(grey)])
    for value in (grey.tolist(), grey[..., None].tolist(), {"image": base64_of(png(grey))}):
        check(ask.post("/predict", json={"input": value}), (label.labels, label.probabilities.tolist()), [0])


def multipart(parts, boundary="xYz"):
    """A form by hand: (head, content) of each part."""
    body = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), head, content) for head, content in parts)
    return body + b"--%s--\r\n" % boundary.encode()


def send(ask, body, kind="multipart/form-data; boundary=xYz"):
    return ask.post("/predict", content=body, headers={"content-type": kind})


def test_forms_with_one_file_and_several(ask, wanted):
    check(ask.post("/predict", files={"file": ("a.png", FILES[0], "image/png")}), wanted, [0])
    check(ask.post("/predict", files=[("file", (f"{n}.png", FILES[n])) for n in range(4)]), wanted, range(4))
    mixed = {"data": {"note": "hello"}, "files": {"file": ("ü; name=.png", FILES[1])}}
    check(ask.post("/predict", **mixed), wanted, [1])


def test_forms_whose_content_looks_like_a_form(ask, wanted):
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'
    tail = b'\r\n\r\n--xY\r\n--\r\nContent-Disposition: form-data; name="file"\r\n\r\n\0\r\n'
    check(send(ask, multipart([(head, FILES[2] + tail)])), wanted, [2])
    other = b"content-disposition:form-data;filename=b.png;name=file"
    check(send(ask, multipart([(b'Content-Disposition: form-data; name="x"', b"1"), (other, FILES[3])])), wanted, [3])
    quoted = 'Multipart/Form-Data; charset=utf-8; boundary="x Y=z"'
    check(send(ask, b"preamble\r\n" + multipart([(head, FILES[0])], "x Y=z") + b"end", quoted), wanted, [0])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (multipart([(b'Content-Disposition: form-data; name="picture"', FILES[0])]), None),
        (multipart([]), None),
        (b"", None),
        (b"\xff" * 100, None),
        (multipart([(b"X: y", FILES[0])]), None),
        (multipart([(b'Content-Disposition: form-data; name="file"', FILES[0])]), "multipart/form-data"),
        (multipart([(b'Content-Disposition: form-data; name="file"', FILES[0])]), "multipart/form-data; boundary="),
        (
            multipart([(b'Content-Disposition: form-data; name="file"', FILES[0])]),
            "multipart/form-data; boundary=other",
        ),
        (b"--\r\n\r\n", "multipart/form-data; boundary=" + "x" * 71),
        (b"--a--", "multipart/form-data; boundary*=utf-8''a"),
        (b"x", b"multipart/form-data; boundary=\xff\xfe"),
        (b"--xYz\r\n" * 3000, None),
    ],
)
def test_forms_without_a_file_are_told_so(ask, body, kind):
    reply = send(ask, body, kind or "multipart/form-data; boundary=xYz")
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "no_file_part"), reply.text
    assert "curl -F file=@" in reply.json()["error"]["hint"]


def test_broken_pictures_and_bombs_are_refused_with_their_reason(ask):
    refused = 0
    for name, (data, came_to) in odd_pictures().items():
        value = {"input": {"image": base64_of(data)}}
        for reply in (ask.post("/predict", json=value), ask.post("/predict", files={"file": (name, data)})):
            if came_to == "ok":
                assert reply.status_code == 200, name
                continue
            said = reply.json()["error"]
            assert (reply.status_code, said["code"], said["where"]) == (422, "row_unanswered", "row 0"), name
            assert ("too large" in said["message"] or "too long" in said["message"]) == (came_to == "picture_bomb"), (
                name
            )
            refused += 1
    assert refused == 62
    second = ask.post("/predict", json={"inputs": [base64_of(FILES[0]), base64_of(FILES[0][:90])]})
    assert (second.status_code, second.json()["error"]["where"]) == (422, "row 1")
    assert "ends too early" in second.json()["error"]["message"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        True,
        {},
        [],
        [[]],
        [[[]]],
        [1, 2, 3],
        [[1, 2], [3]],
        [[1, "a"]],
        [[None, 1]],
        [[-1, 2]],
        [[256, 2]],
        [[0.5, 0.25]],
        [[1e308, 1]],
        [[10**30, 1]],
        [["1", "2"]],
        [[True, False]],
        [[[1, 2]]],
        [[[[1]]]],
        "not base64!",
        "ü",
        "data:image/png;base64",
        {"image": None},
        {"image": {"b64": "x"}},
        {"picture": "x"},
        {"image": "", "more": 1},
        [{"image": 1}],
    ],
)
def test_what_is_no_picture_is_refused(ask, value):
    for question in ({"input": value}, {"inputs": [base64_of(FILES[0]), value]}):
        reply = ask.post("/predict", json=question)
        error = reply.json()["error"]
        assert reply.status_code == 422 and set(error) == {"code", "message", "where", "hint"}
        assert error["where"] == ("row 1" if "inputs" in question else "row 0") and error["hint"], error


def test_too_many_and_too_large(ask):
    assert ask.post("/predict", files=[("file", FILES[0])] * 51).status_code in (413, 422)
    grey = STACK[:1].repeat(51, 0).tolist()
    tensor = {"name": "image", "datatype": "UINT8", "shape": [51, 16, 16, 3], "data": grey}
    assert ask.post(INFER, json={"inputs": [tensor]}).status_code in (413, 422)
    assert ask.post("/predict", files={"file": bytes(17 << 20)}).status_code == 413


@pytest.fixture(scope="module")
def server(finished_pictures, live_of):
    one = live_of("serve_real.py", str(finished_pictures.bundle))
    yield one
    one.close()


def tensors():
    """Each way to send the four pictures as tensors: name, datatype, array, whether binary, and the rows it is about."""
    files = np.array(FILES, object)
    yield "files [n]", "BYTES", files, True, range(4)
    yield "files [n, 1]", "BYTES", files.reshape(4, 1), True, range(4)
    yield "one file", "BYTES", files[:1], True, [0]
    for binary in (True, False):
        yield "pixels [n, h, w, c]", "UINT8", STACK, binary, range(4)
        yield "pixels [h, w, c]", "UINT8", STACK[2], binary, [2]


def test_the_real_client_gets_the_same_answers(server, wanted):
    client = triton.InferenceServerClient(server.host)
    facts = client.get_model_metadata("shapes")
    assert facts["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert facts["outputs"][1]["parameters"]["classes"] == list(KINDS)
    asked = 0
    for name, datatype, array, binary, rows in tensors():
        tensor = triton.InferInput("image", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        for wants_binary in (True, False):
            outputs = [
                triton.InferRequestedOutput(n, binary_data=wants_binary) for n in ("prediction", "probabilities")
            ]
            result = client.infer("shapes", [tensor], outputs=outputs)
            labels = [v.decode() if isinstance(v, bytes) else v for v in result.as_numpy("prediction")]
            assert labels == [wanted[0][row] for row in rows], name
            assert result.as_numpy("probabilities").tolist() == [wanted[1][row] for row in rows], name
            asked += 1
    assert asked == 14
    broken = triton.InferInput("image", [1], "BYTES")
    broken.set_data_from_numpy(np.array([FILES[0][:99]], object))
    with pytest.raises(triton.InferenceServerException, match="ends too early"):
        client.infer("shapes", [broken])
    client.close()
    check(httpx.post(f"{server.url}/predict", files={"file": FILES[1]}), wanted, [1])
    example = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert "multipart/form-data" in example
    assert httpx.post(f"{server.url}/predict", json=example["application/json"]["example"]).status_code == 200


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["x"]},
        {"name": "picture", "datatype": "UINT8", "shape": [1, 1], "data": [1]},
        {"name": "image", "datatype": "FP32", "shape": [1, 1], "data": [1.0]},
        {"name": "image", "datatype": "UINT8", "shape": [1], "data": [1]},
        {"name": "image", "datatype": "UINT8", "shape": [0, 4], "data": []},
        {"name": "image", "datatype": "UINT8", "shape": [2, 2], "data": [1]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 1], "data": [300]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 1], "data": [0.5]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 2], "data": ["a", None]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 2], "data": [[1], [1, 2]]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 2], "data": [1] * 8},
        {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 2, 3], "data": [1] * 24},
        {"name": "image", "datatype": "UINT8", "shape": [10**9, 10**9, 3], "data": [1]},
        {"name": "image", "datatype": "UINT8", "shape": [2, 2], "data": ["1", "2", "3", "4"]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 2], "data": [True, False]},
        {"name": "image", "datatype": "UINT8", "shape": [1, 1], "data": [10**400]},
    ],
)
def test_tensors_that_are_no_pictures_are_refused(ask, tensor):
    reply = ask.post(INFER, json={"inputs": [tensor]})
    assert reply.status_code == 422 and "error" in reply.json(), reply.text


BARE = """
import sys
BLOCKED = {"sklearn", "lightgbm", "pandas", "polars", "torch", "torchvision", "transformers", "safetensors", "onnx",
           "onnxscript", "matplotlib", "scipy", "duckdb"}
ROOMS = ("keepfit.engine", "keepfit.stages", "keepfit.modalities", "keepfit.training", "keepfit.recipe")
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED or name.startswith(ROOMS):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Wall())
import base64, json
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from inprocess import Client
import keepfit.serve.server
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.picture_predictor import PicturePredictor
from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings
bundle = Bundle.open(Path(sys.argv[2]))
with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as ask:
    data = Path(sys.argv[3]).read_bytes()
    replies = [ask.post("/predict", json={"input": {"image": base64.b64encode(data).decode()}}),
               ask.post("/predict", files={"file": data})]
print(json.dumps([reply.json() for reply in replies]))
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
"""


def test_the_service_answers_pictures_without_any_training_library(finished_pictures, tmp_path, wanted):
    (tmp_path / "bare.py").write_text(BARE)
    (tmp_path / "one.png").write_bytes(FILES[3])
    here = __file__.rpartition("/")[0]
    command = [sys.executable, tmp_path / "bare.py", here, finished_pictures.bundle, tmp_path / "one.png"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    answers = json.loads(done.stdout)
    assert [one["prediction"] for one in answers] == [wanted[0][3]] * 2
    assert [list(one["probabilities"].values()) for one in answers] == [wanted[1][3]] * 2


def test_decoding_is_done_beside_the_event_loop(ask, monkeypatch):
    seen = set()
    for name in ("check_rows", "predict"):
        before = getattr(PicturePredictor, name)

        def watched(self, *said, before=before):
            seen.add(threading.current_thread().name)
            return before(self, *said)

        monkeypatch.setattr(PicturePredictor, name, watched)
    for _ in range(3):  # however cheap the model proves to be
        assert ask.request("POST", "/predict", json={"input": {"image": base64_of(FILES[0])}}).status_code == 200
    assert seen and all(name.startswith("keepfit-") for name in seen), seen


def test_a_model_that_nobody_holds_is_gone_at_once(finished_pictures):
    predictor = Bundle.open(finished_pictures.bundle).predictor()
    predictor.predict(predictor.check_rows([{"image": base64_of(FILES[0])}]))
    gone = weakref.ref(predictor)
    gc.disable()
    try:
        del predictor
        assert gone() is None
    finally:
        gc.enable()
