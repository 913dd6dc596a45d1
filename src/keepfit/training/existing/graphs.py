"""Changes to ONNX graphs: what stands before a model and after it, and only what its answer needs in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from keepfit.training.existing.form import IN, OUT, Head
from keepfit.training.exporting import bare


def pruned(model: Any, output: str) -> None:
    """Only the nodes and weights on the way to one output."""
    graph = model.graph
    wanted, kept = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input) | _inside(node)
    del graph.node[:]
    graph.node.extend(kept[::-1])
    weights = [one for one in graph.initializer if one.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _inside(node: Any) -> set[str]:
    """Names that the subgraphs of a node read from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                found |= set(inner.input) | _inside(inner)
    return found


def front(*, last: bool, swapped: bool, element: int, name: str) -> tuple[list[Any], list[Any]]:
    """Nodes from float32 `keepfit_in` (tables as they are, pictures [n, c, h, w]) to what the model reads as `name`."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, at = [], [], IN
    if swapped:
        weights.append(numpy_helper.from_array(np.array([2, 1, 0]), "keepfit_channels"))
        nodes.append(helper.make_node("Gather", [at, "keepfit_channels"], ["keepfit_swapped"], axis=1))
        at = "keepfit_swapped"
    if last:
        nodes.append(helper.make_node("Transpose", [at], ["keepfit_turned"], perm=[0, 2, 3, 1]))
        at = "keepfit_turned"
    kind = TensorProto.FLOAT if element == 0 else element
    nodes.append(helper.make_node("Cast", [at], [name], to=kind))
    return nodes, weights


def head(output: str, kind: Head, order: list[int]) -> tuple[list[Any], list[Any]]:
    """Nodes from the model's scores to `keepfit_out`: probabilities in the task's order, or numbers [n, 1]."""
    from onnx import TensorProto, helper, numpy_helper

    count = {"number": 1, "share": 1, "logit": 1}.get(kind, len(order))
    weights = [numpy_helper.from_array(np.array([-1, count]), "keepfit_shape")]
    nodes = [
        helper.make_node("Cast", [output], ["keepfit_float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["keepfit_float", "keepfit_shape"], ["keepfit_rows"]),
    ]
    at = "keepfit_rows"
    if kind == "number":
        return [*nodes, helper.make_node("Identity", [at], [OUT])], weights
    if kind == "logit":
        nodes.append(helper.make_node("Sigmoid", [at], ["keepfit_share"]))
        at = "keepfit_share"
    if kind in ("share", "logit"):
        weights.append(numpy_helper.from_array(np.ones(1, np.float32), "keepfit_one"))
        nodes.append(helper.make_node("Sub", ["keepfit_one", at], ["keepfit_rest"]))
        nodes.append(helper.make_node("Concat", ["keepfit_rest", at], ["keepfit_both"], axis=1))
        at = "keepfit_both"
    if kind == "scores":
        nodes.append(helper.make_node("Softmax", [at], ["keepfit_soft"], axis=1))
        at = "keepfit_soft"
    weights.append(numpy_helper.from_array(np.array(order, np.int64), "keepfit_order"))
    return [*nodes, helper.make_node("Gather", [at, "keepfit_order"], [OUT], axis=1)], weights


def row_input(shape: list[Any]) -> Any:
    """float32 `keepfit_in` [n, *shape]."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(IN, TensorProto.FLOAT, ["n", *shape])


def closed(
    model: Any, before: tuple[list[Any], list[Any]], after: tuple[list[Any], list[Any]], read: Any, width: int
) -> bytes:
    """The whole graph with the input `read` and output float32 [n, width], bare of names of machines and clocks."""
    from onnx import TensorProto, checker, helper

    graph = model.graph
    nodes = [*before[0], *graph.node, *after[0]]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before[1], *after[1]])
    graph.input.append(read)
    graph.output.append(helper.make_tensor_value_info(OUT, TensorProto.FLOAT, ["n", width]))
    if not any(one.domain in ("", "ai.onnx") for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 18))
    bare(graph)
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string, graph.name = "keepfit", "", "", "keepfit"
    data: bytes = model.SerializeToString(deterministic=True)
    checker.check_model(data)
    return data
