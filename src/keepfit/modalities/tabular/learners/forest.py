"""Extremely randomized trees (Geurts et al. 2006, scikit-learn); missing values have their own way in each tree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member, Scores, widen, widened
from keepfit.modalities.tabular.options import ForestParams

_GAP = np.float32(-1e30)


def fit(params: ForestParams, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """`valid` is not used. Missing values become a number below all others."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    columns = settings.trees
    common = {
        "n_estimators": params.trees,
        "min_samples_leaf": params.min_leaf,
        "max_depth": params.max_depth,
        "random_state": settings.seed,
        "n_jobs": settings.threads,
        "max_features": 0.5,
    }
    model: Any = ExtraTreesClassifier(**common) if settings.classes else ExtraTreesRegressor(**common)
    model.fit(_full(train.features[:, columns]), train.truth, sample_weight=train.weights)

    partial = bool(settings.classes) and len(model.classes_) < settings.classes

    def onnx() -> Any:
        options = {id(model): {"zipmap": False}} if settings.classes else None
        made = to_onnx(
            model,
            initial_types=[("x", FloatTensorType([None, len(columns)]))],
            options=options,
            target_opset=18,
            name="forest",
        )
        _fill_gaps(made)
        if partial:
            widen(made, model.classes_, settings.classes)
        return made

    def predict(features: Any) -> Scores:
        full = _full(features[:, columns])
        if not settings.classes:
            return np.asarray(model.predict(full)[:, None])
        return widened(np.asarray(model.predict_proba(full)), model.classes_, settings.classes)

    trees = [_tree(estimator.tree_) for estimator in model.estimators_]
    return Member(
        "forest", onnx, columns, predict, {"forest.json": json.dumps({"gap": -1e30, "trees": trees}).encode()}
    )


def _full(features: Any) -> Any:
    return np.where(np.isnan(features), _GAP, features)


def _fill_gaps(onnx: Any) -> None:
    """Puts NaN -> the gap value before the trees, in the graph too."""
    from onnx import helper, numpy_helper

    graph = onnx.graph
    source = graph.input[0].name
    for node in graph.node:
        names = ["keepfit_full" if name == source else name for name in node.input]
        del node.input[:]
        node.input.extend(names)
    nodes = [
        helper.make_node("IsNaN", [source], ["keepfit_gaps"]),
        helper.make_node("Where", ["keepfit_gaps", "keepfit_gap", source], ["keepfit_full"]),
        *graph.node,
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([_GAP], np.float32), "keepfit_gap"))
    del graph.node[:]
    graph.node.extend(nodes)


def _tree(tree: Any) -> dict[str, Any]:
    return {
        "left": tree.children_left.tolist(),
        "right": tree.children_right.tolist(),
        "feature": tree.feature.tolist(),
        "threshold": tree.threshold.tolist(),
        "value": tree.value[:, 0].tolist(),
    }
