"""Joins fitted members into one ONNX graph: each reads its own columns of the features; scores are a weighted mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass
class Member:
    """A fitted learner. `onnx()` makes a model with one input [n, len(columns)] whose last output holds [n, k] scores.

    `predict` is the learner's own code; `files` keeps the weights as text, never a pickle.
    """

    name: str
    onnx: Callable[[], Any]
    columns: list[int]
    predict: Any
    files: dict[str, bytes] = field(default_factory=dict)
    curve: dict[str, Any] | None = None


ABSENT = -50.0  # the raw score of a class that the fitted rows do not have: exp(-50) is about 0


def constant(code: int, classes: int) -> Member:
    """A member that always says one class: what rows of that class alone can teach."""
    from onnx import TensorProto, helper

    row = np.eye(classes)[code]

    def onnx() -> Any:
        constants = [_constant("none", np.zeros((1, classes), np.float32)), _constant("row", row.astype(np.float32))]
        nodes = [
            helper.make_node("IsNaN", ["x"], ["gap"]),
            helper.make_node("Cast", ["gap"], ["gaps"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["gaps", "none"], ["zeros"]),
            helper.make_node("Add", ["zeros", "row"], ["out"]),
        ]
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
        wanted = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, classes])
        graph = helper.make_graph(nodes, "constant", [given], [wanted], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    return Member("constant", onnx, [0], lambda features: np.tile(row, (len(features), 1)))


def widen(onnx: Any, present: NDArray[Any], classes: int) -> None:
    """The same in a graph whose last output holds the scores."""
    from onnx import helper

    graph, spread = onnx.graph, np.zeros((len(present), classes), np.float32)
    spread[np.arange(len(present)), np.asarray(present, int)] = 1.0
    graph.initializer.append(_constant("keepfit_spread", spread))
    graph.node.append(helper.make_node("MatMul", [graph.output[-1].name, "keepfit_spread"], ["keepfit_widened"]))
    graph.output[-1].name = "keepfit_widened"


def widened(values: NDArray[Any], present: NDArray[Any], classes: int, absent: float = 0.0) -> NDArray[Any]:
    """Values [.., len(present)] of the classes that a model knows as [.., classes], with `absent` for the others."""
    out = np.full((*values.shape[:-1], classes), absent, values.dtype)
    out[..., np.asarray(present, int)] = values
    return out


def floor_thresholds(model: str) -> str:
    """A LightGBM model text whose thresholds are the largest float32 not above the double, so that float32 trees agree."""

    def floored(found: re.Match[str]) -> str:
        wide = np.array(found[1].split(), np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        narrow = np.where(narrow.astype(np.float64) > wide, np.nextafter(narrow, np.float32(-np.inf)), narrow)
        return "threshold=" + " ".join(repr(float(value)) for value in narrow)

    return re.sub(r"^tree_sizes=.*\n", "", re.sub(r"^threshold=(.*)$", floored, model, flags=re.M), flags=re.M)


def joined(members: Sequence[Member], weights: Sequence[float], width: int) -> bytes:
    """One model: input `features` [n, width], output `scores` [n, k]. Deterministic bytes."""
    from onnx import TensorProto, checker, helper

    nodes, constants, parts = [], [], []
    opsets = {"": 18, "ai.onnx.ml": 1}
    for place, (member, weight) in enumerate(zip(members, weights, strict=True)):
        prefix, made = f"m{place}_", member.onnx()
        constants.append(_constant(f"{prefix}own_columns", np.array(member.columns, np.int64)))
        nodes.append(helper.make_node("Gather", ["features", f"{prefix}own_columns"], [f"{prefix}in"], axis=1))
        end = _copied(made.graph, prefix, nodes, constants)
        constants.append(_constant(f"{prefix}share_of_mean", np.array(weight, np.float32)))
        nodes.append(helper.make_node("Mul", [end, f"{prefix}share_of_mean"], [f"{prefix}scaled_scores"]))
        parts.append(f"{prefix}scaled_scores")
        for opset in made.opset_import:
            opsets[opset.domain] = max(opsets.get(opset.domain, 1), opset.version)
    nodes.append(helper.make_node("Sum", parts, ["scores"]))
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])
    wanted = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", None])
    graph = helper.make_graph(_needed(nodes, {"scores"}), "keepfit", [given], [wanted], initializer=constants)
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())]
    model = helper.make_model(graph, opset_imports=imports, producer_name="keepfit", ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _constant(name: str, value: NDArray[Any]) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(value, name)


def _copied(graph: Any, prefix: str, nodes: list[Any], constants: list[Any]) -> str:
    """Nodes and constants of a member under a prefix; returns the name of its scores."""
    source = graph.input[0].name

    def renamed(name: str) -> str:
        return name if not name else f"{prefix}in" if name == source else prefix + name

    for node in graph.node:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = prefix + node.name if node.name else ""
        del copy.input[:], copy.output[:]
        copy.input.extend(renamed(name) for name in node.input)
        copy.output.extend(renamed(name) for name in node.output)
        nodes.append(copy)
    for constant in graph.initializer:
        copy = type(constant)()
        copy.CopyFrom(constant)
        copy.name = prefix + constant.name
        constants.append(copy)
    return renamed(graph.output[-1].name)


def _needed(nodes: list[Any], wanted: set[str]) -> list[Any]:
    """The nodes on the way to the wanted outputs, in order."""
    kept: list[Any] = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]
