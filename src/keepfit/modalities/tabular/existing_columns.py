"""An ONNX model with one input for each column, as pipelines of scikit-learn are exported: numbers, and categories as text.

The bundle feeds one matrix: a category goes in as its number, and the graph turns the number into the text again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import DataError, nearest
from keepfit.modalities.brought import Fixed, fills, result
from keepfit.modalities.room import Sample, Trained, Way
from keepfit.runtime.arrays import pack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import Coerced, coerced
from keepfit.runtime.preparation import opened as ready
from keepfit.runtime.table import Table
from keepfit.training.existing.form import IN, Array, Opened

_TEXT, _WHOLE = 8, (6, 7)  # ONNX element types
_SAMPLE = 200
_MISSING, _UNSEEN = "", "\ue000"  # no category of a model is called by a letter of private use


def fit(
    file: Any,
    options: Any,
    rules: Sequence[ColumnRule],
    parts: tuple[Sample, Sample, Table],
    classes: int,
    way: Way,
    path: Path,
) -> Trained:
    """The source is fed by column with the raw values; the bundle's graph must answer the same from the matrix."""
    train, valid, probe = parts
    _check(file, rules, path)
    known = _texts(file.model.graph)
    seen = coerced(train.table, rules)
    categories = {
        one.name: sorted(known | {text for text in seen.categories[one.name] if text is not None})
        for one in file.inputs
        if one.element == _TEXT
    }
    filled, notes = _fills(file, seen, way)
    preparation = ready([_feature(one, categories.get(one.name), filled) for one in file.inputs], rules)

    def fed(table: Table) -> dict[str, Array]:
        data = coerced(table, rules)
        return {one.name: _column(one, data, filled) for one in file.inputs}

    model = Opened("onnx", "onnx", None, file.run, lambda batch: file.model, file.classes)
    sample = file.run(fed(train.table.take(np.arange(min(len(train.table), _SAMPLE)))))
    fixed = Fixed(model, options, path, classes, list(way.names), sample)
    native, held = (fixed.of(file.run(fed(table))) for table in (probe, valid.table))
    width = len(file.inputs)
    graph = fixed.graph(
        lambda element, name: _front(file.inputs, categories), [width], np.zeros((2, width), np.float32)
    )
    ids = [str(i) for i in valid.table.ids]
    return result(
        preparation.to_bytes(),
        graph,
        native,
        (ids, held),
        model,
        width,
        fixed.judged(held, valid.truth, list(way.names)) + notes,
    )


def _check(file: Any, rules: Sequence[ColumnRule], path: Path) -> None:
    """Every input has its column, of its kind."""
    kinds = {rule.name: rule.kind for rule in rules if rule.kind != "ignore"}
    for one in file.inputs:
        if one.name not in kinds:
            raise DataError(
                "column_missing",
                f"the model reads {one.name!r}, which the data does not have",
                where=str(path),
                seen=", ".join(kinds)[:300],
                hint=nearest(one.name, kinds),
            )
        wanted = "categorical" if one.element == _TEXT else "numeric"
        if kinds[one.name] != wanted:
            raise DataError(
                "wrong_kind",
                f"the model reads {one.name!r} as {wanted}, and the column is {kinds[one.name]}",
                where=f"data.columns.{one.name}",
                hint=f"data.columns: {{{one.name}: {wanted}}}",
            )


def _fills(file: Any, seen: Coerced, way: Way) -> tuple[dict[str, float], list[str]]:
    """What stands for gaps in numbers, where the model does not take them; whole numbers have none."""
    numbers = {one.name: seen.numbers[one.name] for one in file.inputs if one.element != _TEXT}
    whole = {one.name for one in file.inputs if one.element in _WHOLE}
    count = max(len(numbers), 1)
    rows = Coerced()
    for place, (name, values) in enumerate(numbers.items()):
        rows.numbers[name] = np.full(count, float(np.nan_to_num(np.nanmean(values))))
        rows.numbers[name][place] = np.nan
    for name, cells in seen.categories.items():
        rows.categories[name] = np.array([cells[0]] * count, object)
    feeds = {one.name: _column(one, rows, {}) for one in file.inputs}
    found, notes = fills(numbers, way.numeric, file.run(feeds))
    if whole and not found:
        found, notes = fills({name: numbers[name] for name in whole}, way.numeric, np.array([np.nan]))
        found = {name: float(round(value)) for name, value in found.items()}
    return found, notes


def _feature(one: Any, categories: list[str] | None, filled: dict[str, float]) -> dict[str, Any]:
    """A number as it is (or filled), or the place of a category among the known texts."""
    plain = {"block": "trees", "column": one.name, "names": [one.name]}
    if categories is None:
        return {**plain, "op": "number", "fill": filled.get(one.name)}
    places = np.arange(len(categories) + 2, dtype=float)[:, None]
    return {**plain, "op": "lookup", "categories": categories, "vectors": pack(places)}


def _column(one: Any, data: Coerced, filled: dict[str, float]) -> Array:
    """What the source reads for one column, [n, 1] or [n]."""
    if one.element == _TEXT:
        found: Array = np.array([_MISSING if text is None else text for text in data.categories[one.name]], object)
    else:
        values = np.nan_to_num(data.numbers[one.name], nan=filled.get(one.name, np.nan))
        kind = {1: np.float32, 11: np.float64, 7: np.int64, 6: np.int32}.get(one.element, np.float32)
        found = (np.nan_to_num(values) if one.element in _WHOLE else values).astype(kind)
    return found[:, None] if one.shape else found


def _front(inputs: Sequence[Any], categories: dict[str, list[str]]) -> tuple[list[Any], list[Any]]:
    """Nodes from the matrix to each input."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []
    for place, one in enumerate(inputs):
        own = f"keepfit_column_{place}"
        weights.append(numpy_helper.from_array(np.array([place]), f"{own}_at"))
        nodes.append(helper.make_node("Gather", [IN, f"{own}_at"], [own], axis=1))
        if one.element == _TEXT:
            texts = [text.encode() for text in (*categories[one.name], _MISSING, _UNSEEN)]
            weights.append(helper.make_tensor(f"{own}_texts", TensorProto.STRING, [len(texts)], texts))
            nodes.append(helper.make_node("Cast", [own], [f"{own}_code"], to=TensorProto.INT64))
            nodes.append(helper.make_node("Gather", [f"{own}_texts", f"{own}_code"], [f"{own}_cell"], axis=0))
        else:
            nodes.append(helper.make_node("Cast", [own], [f"{own}_cell"], to=one.element))
        if one.shape:
            nodes.append(helper.make_node("Identity", [f"{own}_cell"], [one.name]))
        else:
            weights.append(numpy_helper.from_array(np.array([-1]), f"{own}_flat"))
            nodes.append(helper.make_node("Reshape", [f"{own}_cell", f"{own}_flat"], [one.name]))
    return nodes, weights


def _texts(graph: Any) -> set[str]:
    """Every text in a graph: the categories that a model knows are among them."""
    found = {text for node in graph.node for attribute in node.attribute for text in (*attribute.strings, attribute.s)}
    found |= {text for tensor in graph.initializer for text in tensor.string_data}
    return {text.decode("utf-8", "replace") for text in found if text}
