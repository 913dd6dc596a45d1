"""Bundles of a regression that always gives the same number, so that an answer shows which model gave it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from keepfit.core import digest

PARTS = ("bundle.json", "model.onnx", "preparation.json", "profile.json", "golden.jsonl", "recipe.yaml", "card.md")


def constant_bundle(folder: Path, value: float, name: str = "constant") -> Path:
    """A bundle in `folder` whose model answers `value` for any row of one number `x`."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    zero = numpy_helper.from_array(np.zeros((1, 1), "float32"), "zero")
    shift = numpy_helper.from_array(np.array([value], "float32"), "shift")
    nodes = [helper.make_node("MatMul", ["x", "zero"], ["y"]), helper.make_node("Add", ["y", "shift"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
        [zero, shift],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    rule = {
        "name": "x",
        "kind": "numeric",
        "why": "",
        "missing": [],
        "number_like": False,
        "boolean": False,
        "month_first": False,
    }
    feature = {"op": "number", "column": "x", "names": ["x"], "fill": 0.0, "mean": 0.0, "scale": 1.0}
    files = {
        "model.onnx": model.SerializeToString(),
        "preparation.json": digest.canonical({"version": 1, "columns": [rule], "features": [feature]}),
        "profile.json": digest.canonical({"columns": {"x": {"kind": "numeric", "missing": 0.0, "quantiles": [0.0, 1.0, 2.0]}}, "rows": 3}),
        "golden.jsonl": "".join(json.dumps({"input": {"x": str(n)}, "scores": [value]}) + "\n" for n in range(3)).encode(),
        "recipe.yaml": f"version: 1\nname: {name}\ndata:\n  source: t.csv\n  target: y\n".encode(),
        "card.md": f"always {value:g}\n".encode(),
        "bundle.json": digest.canonical(
            {"format": 1, "name": name, "task": "regression", "modality": "tabular", "target": "y", "classes": [], "ignored": [],
             "inputs": [{"name": "x", "kind": "numeric", "datatype": "FP64"}], "golden": "synthetic", "scale": 1.0,
             "metrics": {}, "lineage": {"data": "d", "recipe": "r", "trained": "t"}}
        ),
    }  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in PARTS:
        (folder / file).write_bytes(files[file])
    lines = [f"{hashlib.sha256(files[file]).hexdigest()}  {file}\n" for file in sorted(PARTS)]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder
