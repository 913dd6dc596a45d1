"""A TensorFlow SavedModel becomes a bundle where TensorFlow and tf2onnx are installed; one that could do more than calculate is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from made_models import iris_csv

import keepfit as kf
from keepfit import adopt
from keepfit.core.errors import KeepfitError

COLUMNS = ["sepal_l", "sepal_w", "petal_l", "petal_w"]
there = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tf2onnx")),
    reason="tensorflow and tf2onnx are not installed (extra tensorflow)",
)
MAKE = """
    import numpy as np, tensorflow as tf

    ROWS = [tf.TensorSpec((None, 4), tf.float32, name="rows")]

    class Plain(tf.Module):
        def __init__(self):
            self.w = tf.Variable(np.linspace(-1, 1, 12).reshape(4, 3).astype("float32"))

        @tf.function(input_signature=ROWS)
        def __call__(self, rows):
            return {"scores": tf.nn.softmax(tf.nn.relu(rows) @ self.w)}

    class Writes(Plain):
        @tf.function(input_signature=ROWS)
        def __call__(self, rows):
            tf.io.write_file("written", "x")
            return {"scores": rows @ self.w}

    class Calls(Plain):
        @tf.function(input_signature=ROWS)
        def __call__(self, rows):
            return {"scores": tf.reshape(tf.numpy_function(lambda x: x, [rows], tf.float32), (-1, 4)) @ self.w}

    class Two(Plain):
        @tf.function(input_signature=ROWS + ROWS)
        def __call__(self, rows, more):
            return {"scores": (rows + more) @ self.w}

    class Pictures(Plain):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
        def __call__(self, pictures):
            return tf.reduce_mean(pictures, (1, 2)) @ self.w[:3]

    made = {"plain": Plain, "writes": Writes, "calls": Calls, "two": Two, "pictures": Pictures}
    for name, kind in made.items():
        model = kind()
        tf.saved_model.save(model, name, signatures=model.__call__.get_concrete_function())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    iris_csv(folder)
    subprocess.run([sys.executable, "-c", textwrap.dedent(MAKE)], cwd=folder, check=True, capture_output=True)
    return folder


@there
def test_a_table_model_answers_as_tensorflow_does(models, tmp_path):
    said = {"said": {"columns": COLUMNS}, "output": tmp_path / "out", "workspace": tmp_path}
    run = adopt.package(models / "plain", str(models / "iris.csv"), "species", **said)
    rows = np.array([[5.0, 3.4, 1.5, 0.2], [6.1, 2.9, 4.7, 1.4]], np.float32)
    raw = np.maximum(rows, 0) @ np.linspace(-1, 1, 12).reshape(4, 3).astype("float32")
    expected = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    answer = kf.load(run.bundle).predict([dict(zip(COLUMNS, map(float, row), strict=True)) for row in rows])
    assert np.abs(answer.probabilities - expected).max() < 1e-5
    assert "trained elsewhere" in (run.bundle / "card.md").read_text("utf-8")


@there
def test_a_picture_model_with_channels_last(models, tmp_path):
    pytest.importorskip("PIL", reason="pillow is not installed (extra image)")
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for count in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{count}.png")
    run = adopt.package(models / "pictures", str(tmp_path / "pictures"), output=tmp_path / "out", workspace=tmp_path)
    assert kf.load(run.bundle).bundle.classes == ["a", "b", "c"]


@there
@pytest.mark.parametrize(
    ("name", "code", "seen"),
    [
        ("writes", "foreign_code", "WriteFile"),
        ("calls", "foreign_code", "PyFunc"),
        ("two", "several_inputs", "rows_1"),
        ("broken", "model_broken", ""),
    ],
)
def test_what_is_refused(models, tmp_path, name, code, seen):
    if name == "broken":
        (models / name).mkdir(exist_ok=True)
        (models / name / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(KeepfitError) as error:
        adopt.package(models / name, str(models / "iris.csv"), "species", said={"columns": COLUMNS}, workspace=tmp_path)
    assert error.value.code == code and seen in str(error.value.seen)
    assert not list(models.rglob("written")) and not (tmp_path / "written").exists()


@there
def test_the_function_that_saves_may_not_be_called_elsewhere(models):
    code = """
        import sys
        from pathlib import Path
        from tensorflow.core.protobuf import saved_model_pb2
        from keepfit.training.existing.tensorflow_process import _KEEPING, _Refused, looked_through

        for way in ("node", "input", "start", "operator", "object", "address", "asset"):
            model = saved_model_pb2.SavedModel()
            model.ParseFromString(Path("plain/saved_model.pb").read_bytes())
            meta = model.meta_graphs[0]
            graph = meta.graph_def
            every = {node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
            known = (every | _KEEPING) - {"SaveV2", "MergeV2Checkpoints"}
            looked_through(model, known)
            saving = meta.saver_def.save_tensor_name.partition(":")[0]
            saver = next(node for node in graph.node if node.name == saving)
            if way == "node":
                graph.node.add().CopyFrom(saver)
                graph.node[-1].name = "again"
            elif way == "input":
                graph.node.add(name="first", op="NoOp").input.append("^" + saving)
            elif way == "start":
                meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = saving
            elif way == "operator":
                saver.op = "WriteFile"
            elif way == "object":
                meta.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saver.attr["f"].func.name
            elif way == "address":
                node = graph.node.add(name="far", op="Const")
                node.attr["value"].tensor.string_val.append(b"gs://somewhere/x")
            else:
                meta.asset_file_def.add(filename="../../x")
            try:
                looked_through(model, known)
            except _Refused as error:
                print(way, error.args[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=models, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        word
        for way in ("node", "input", "start", "operator", "object", "address", "asset")
        for word in (way, "foreign_code")
    ]


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="tensorflow is installed")
def test_without_tensorflow_the_extra_is_named(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (extra networks)")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"x")
    iris_csv(tmp_path)
    with pytest.raises(KeepfitError) as error:
        adopt.package(
            tmp_path / "model", str(tmp_path / "iris.csv"), "species", said={"columns": COLUMNS}, workspace=tmp_path
        )
    assert error.value.code == "missing_extra" and "keepfit[tensorflow]" in error.value.hint
