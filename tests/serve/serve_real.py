"""Writes a small real bundle by hand (mixed columns, three classes); as a script, serves the bundle of its argument."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.runtime.arrays import pack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.network import Network
from keepfit.runtime.predictor import Predictor
from keepfit.runtime.preparation import opened
from keepfit.runtime.table import from_rows

RULES = [
    ColumnRule("age", "numeric"),
    ColumnRule("hours", "numeric"),
    ColumnRule("married", "categorical", boolean=True),
    ColumnRule("city", "categorical"),
    ColumnRule("since", "datetime"),
    ColumnRule("id", "ignore"),
]
DATATYPES = {"age": "FP64", "hours": "INT64", "married": "BOOL", "city": "BYTES", "since": "BYTES"}
CITIES = ["Köln", "Paris", "北京"]
CLASSES = ["no", "yes", "vielleicht ü"]
GOLDEN = [
    {"age": 31.5, "hours": 40, "married": True, "city": "Köln", "since": "2020-01-31"},
    {"age": None, "hours": -2, "married": None, "city": None, "since": None},
]


def _lookup(column: str, names: list[str]) -> dict[str, Any]:
    vectors = np.eye(len(names) + 2, dtype=np.float32)
    return {
        "op": "lookup",
        "column": column,
        "categories": names,
        "vectors": pack(vectors),
        "names": [f"{column}_{i}" for i in range(len(names) + 2)],
    }


def _network(width: int) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(0, 1, (width, len(CLASSES))).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=1)]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_bundle(folder: Path) -> Path:
    """A bundle folder with hashes and golden rows, as `package` would leave it."""
    features: list[dict[str, Any]] = [
        {"op": "number", "column": "age", "fill": 40.0, "mean": 40.0, "scale": 20.0, "names": ["age"]},
        {"op": "number", "column": "hours", "fill": 0.0, "mean": 30.0, "scale": 15.0, "names": ["hours"]},
        _lookup("married", ["false", "true"]),
        _lookup("city", CITIES),
        {
            "op": "date",
            "column": "since",
            "parts": [1],
            "fills": pack(np.array([2010.0])),
            "mean": [2010.0],
            "scale": [10.0],
            "names": ["since_year"],
        },
    ]
    preparation = opened(features, RULES)
    network = _network(len(preparation.feature_names()))
    names = list(DATATYPES)
    predictor = Predictor(preparation, Network(network), "classification", CLASSES)
    scores = predictor.scores(from_rows(GOLDEN, names))[0].tolist()
    kinds = {rule.name: rule.kind for rule in RULES}
    manifest = {
        "format": 1,
        "name": "people",
        "version": "0001",
        "task": "classification",
        "modality": "tabular",
        "target": "answer",
        "classes": CLASSES,
        "ignored": ["id"],
        "golden": "synthetic",
        "inputs": [{"name": n, "kind": kinds[n], "datatype": d} for n, d in DATATYPES.items()],
    }
    golden = "\n".join(json.dumps({"input": row, "scores": s}) for row, s in zip(GOLDEN, scores, strict=True))
    files = {
        "bundle.json": json.dumps(manifest).encode(),
        "model.onnx": network,
        "golden.jsonl": golden.encode(),
        "preparation.json": preparation.to_bytes(),
        "profile.json": b"{}",
        "recipe.yaml": b"",
        "card.md": b"",
    }
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sums = "".join(f"{digest.of_bytes(data)}  {name}\n" for name, data in sorted(files.items()))
    (folder / "SHA256SUMS").write_text(sums)
    return folder


if __name__ == "__main__":
    from keepfit.serve.follow import Source
    from keepfit.serve.server import serve
    from keepfit.serve.settings import ServeSettings

    place = Path(sys.argv[1])
    serve(Source(place, "", place.parent), ServeSettings(port=0), lambda line: print(line, flush=True))
    print("stopped", flush=True)
