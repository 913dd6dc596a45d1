"""Logistic regression or ridge on the linear block of the features (scikit-learn)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import ABSENT, Member, Scores, widened
from keepfit.modalities.tabular.options import LinearParams


def fit(params: LinearParams, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """L2-penalized fit; `valid` is not used. Coefficients are kept as JSON."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    columns = settings.linear or [0]
    matrix = np.nan_to_num(train.features[:, columns].astype(np.float64))
    if settings.classes:
        model: Any = LogisticRegression(C=params.c, max_iter=400, random_state=settings.seed)
    else:
        model = Ridge(alpha=1.0 / params.c, random_state=settings.seed)
    with threadpool_limits(settings.threads):  # on a busy machine threads of BLAS wait for each other
        model.fit(matrix, train.truth, sample_weight=train.weights)
    weight = np.atleast_2d(model.coef_).T.astype(np.float32)
    bias = np.atleast_1d(model.intercept_).astype(np.float32)
    if settings.classes:
        if len(model.classes_) == 2:
            weight, bias = np.hstack([np.zeros_like(weight), weight]), np.array([0, bias[0]], np.float32)
        weight = widened(weight, model.classes_, settings.classes)
        bias = widened(bias, model.classes_, settings.classes, absent=ABSENT)

    def predict(features: Any) -> Scores:
        raw = np.nan_to_num(features[:, columns].astype(np.float64)) @ weight.astype(np.float64) + bias
        if not settings.classes:
            return np.asarray(raw)
        grown = np.exp(raw - raw.max(1, keepdims=True))
        return np.asarray(grown / grown.sum(1, keepdims=True))

    kept = json.dumps({"weight": weight.tolist(), "bias": bias.tolist(), "columns": columns}).encode()
    return Member(
        "linear", lambda: _onnx(weight, bias, bool(settings.classes)), columns, predict, {"linear.json": kept}
    )


def _onnx(weight: Any, bias: Any, classes: bool) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "zero", "x"], ["full"]),
        helper.make_node("Gemm", ["full", "weight", "bias"], ["raw"]),
        helper.make_node("Softmax" if classes else "Identity", ["raw"], ["out"], **({"axis": 1} if classes else {})),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weight.shape[0]])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, weight.shape[1]])],
        [zero, numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
