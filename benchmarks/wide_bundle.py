"""Bundles of a network on 784 numbers and ten classes, made at once: what is measured is serving, not training.

`dense` has three layers, 0.5 million weights and costs 0.02 ms a row in a batch; `costly` convolves the row as a picture and
costs about what MobileNetV2 does on a photograph, so that the model and not HTTP is what a service can do.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.runtime.bundle import Bundle

WIDTH, HIDDEN, CLASSES = 784, (512, 256), 10
NAMES = [f"pixel{place}" for place in range(WIDTH)]


def rows(count: int, seed: int = 1) -> list[list[float]]:
    """Rows of numbers from 0 to 1 with six digits."""
    return np.random.default_rng(seed).random((count, WIDTH)).round(6).tolist()


def wide_bundle(folder: Path, seed: int = 0, *, serve: str = "{}", costly: bool = False) -> Path:
    """Writes the bundle; its golden rows are answered by the network that it packages. `serve` is that section of its recipe."""
    import onnxruntime

    draw = np.random.default_rng(seed)
    model = _model(*(_convolved if costly else _dense)(draw))
    golden = rows(4, seed)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"x": np.array(golden, np.float32)})[0]
    files = {
        "model.onnx": model,
        "preparation.json": _preparation(),
        "profile.json": _profile(),
        "golden.jsonl": b"".join(
            digest.canonical({"input": dict(zip(NAMES, map(repr, row), strict=True)), "scores": said.tolist()}) + b"\n"
            for row, said in zip(golden, scores, strict=True)
        ),
        "recipe.yaml": f"version: 1\nname: wide\ndata: {{source: none.csv, target: digit}}\nserve: {serve}\n".encode(),
        "card.md": b"# wide\n\nA network of a benchmark; it knows nothing.\n",
        "bundle.json": _manifest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    (folder / "SHA256SUMS").write_text("".join(lines))
    Bundle.open(folder).predictor()
    return folder


def _dense(draw: np.random.Generator, last: str = "x", sizes: tuple[int, ...] = (WIDTH, *HIDDEN, CLASSES)) -> Any:
    """Nodes and weights of dense layers from the tensor `last`; the scores come out as `scores`."""
    from onnx import helper, numpy_helper

    nodes, weights = [], []
    for place, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        matrix = draw.normal(0, (2 / wide) ** 0.5, (wide, narrow)).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{place}"),
            numpy_helper.from_array(np.zeros(narrow, np.float32), f"b{place}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{place}", f"b{place}"], [f"y{place}"]))
        last = f"y{place}"
        if place < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"z{place}"]))
            last = f"z{place}"
    return [*nodes, helper.make_node("Softmax", [last], ["scores"], axis=1)], weights


def _convolved(draw: np.random.Generator) -> Any:
    from onnx import helper, numpy_helper

    weights = [numpy_helper.from_array(np.array([-1, 1, 28, 28]), "square")]
    nodes, last = [helper.make_node("Reshape", ["x", "square"], ["picture"])], "picture"
    for place, (deep, kernels) in enumerate(itertools.pairwise((1, 128, 128, 128))):
        kernel = draw.normal(0, (2 / (9 * deep)) ** 0.5, (kernels, deep, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"k{place}"))
        nodes.append(helper.make_node("Conv", [last, f"k{place}"], [f"c{place}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        last = f"r{place}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
    ]
    more, extra = _dense(draw, "flat", (128, CLASSES))
    return [*nodes, *more], [*weights, *extra]


def _model(nodes: list[Any], weights: list[Any]) -> bytes:
    from onnx import TensorProto, helper

    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size])
        for name, size in (("x", WIDTH), ("scores", CLASSES))
    )
    graph = helper.make_graph(nodes, "wide", [given], [made], weights)
    opset = [helper.make_opsetid("", 18)]
    model: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return model


def _preparation() -> bytes:
    rule: dict[str, Any] = {
        "kind": "numeric",
        "why": "",
        "missing": [],
        "number_like": False,
        "boolean": False,
        "month_first": False,
    }
    features = [{"op": "number", "column": n, "names": [n], "fill": 0.0, "mean": 0.0, "scale": 1.0} for n in NAMES]
    return digest.canonical({"version": 1, "columns": [{"name": n, **rule} for n in NAMES], "features": features})


def _profile() -> bytes:
    seen = {"kind": "numeric", "missing": 0.0, "quantiles": np.linspace(0, 1, 21).tolist()}
    return digest.canonical({"columns": dict.fromkeys(NAMES, seen), "rows": 1000})


def _manifest() -> bytes:
    return json.dumps(
        {
            "format": 1,
            "name": "wide",
            "task": "classification",
            "modality": "tabular",
            "target": "digit",
            "classes": list(range(CLASSES)),
            "ignored": [],
            "inputs": [{"name": name, "kind": "numeric", "datatype": "FP64"} for name in NAMES],
            "golden": "synthetic",
            "scale": 1.0,
            "metrics": {},
            "lineage": {"data": "d", "recipe": "r", "trained": "t"},
        }
    ).encode()
