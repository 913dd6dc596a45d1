"""A table model that exists already: its columns in order, as numbers with gaps left as they are, and its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.catalog import load
from keepfit.core.errors import DataError, nearest
from keepfit.modalities.brought import Fixed, fills, opened, result
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import coerced
from keepfit.runtime.preparation import opened as ready
from keepfit.runtime.table import Table
from keepfit.training.existing import graphs
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.kinds import kind_of, refused

_SAMPLE = 200


def fit(
    options: Any,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Say,
) -> Trained:
    """Nothing is learned: training rows tell what the scores look like."""
    path = (way.folder / options.source).expanduser()
    if kind_of(path) == "onnx":
        file = load("keepfit.training.existing.onnx_file:read")(path, options.output)
        if len(file.inputs) != 1:
            return load("keepfit.modalities.tabular.existing_columns:fit")(  # type: ignore[no-any-return]
                file, options, rules, (train, valid, probe), classes, way, path
            )
    names = [rule.name for rule in rules if rule.kind != "ignore"]
    columns = list(options.columns) if options.columns is not None else names
    width = len(columns)
    outputs = len(options.classes or ()) or max(classes, 1)
    offered = dict.fromkeys(("classes", "num_classes", "outputs"), outputs)
    offered |= dict.fromkeys(("features", "in_features", "num_features"), width)
    model = opened(options, way.folder, {**offered, "input_shape": (width,)})
    _check(model, columns, names, rules, path)
    seen = coerced(train.table, rules)
    middle = [float(np.nan_to_num(np.nanmean(seen.numbers[name]))) for name in columns]
    gaps = np.tile(np.array(middle, np.float32), (width, 1))
    np.fill_diagonal(gaps, np.nan)
    filled, notes = fills({name: seen.numbers[name] for name in columns}, way.numeric, model.raw(gaps))
    preparation = ready(
        [
            {"block": "trees", "op": "number", "column": name, "names": [name], "fill": filled.get(name)}
            for name in columns
        ],
        rules,
    )

    def fed(table: Table) -> Array:
        return preparation.apply(coerced(table, rules))

    sample = fed(train.table.take(np.arange(min(len(train.table), _SAMPLE))))
    fixed = Fixed(model, options, path, classes, list(way.names), model.raw(sample))
    native, held = (fixed.answers(fed(table)) for table in (probe, valid.table))
    onnx = fixed.graph(
        lambda element, name: graphs.front(last=False, swapped=False, element=element, name=name), [width], sample[:2]
    )
    ids = [str(i) for i in valid.table.ids]
    return result(
        preparation.to_bytes(),
        onnx,
        native,
        (ids, held),
        model,
        width,
        fixed.judged(held, valid.truth, list(way.names)) + notes,
    )


def _check(model: Opened, columns: list[str], names: list[str], rules: Sequence[ColumnRule], path: Path) -> None:
    """The columns are there, are numbers, and are as many as the model reads."""
    kinds = {rule.name: rule.kind for rule in rules}
    for name in columns:
        if name not in kinds:
            raise DataError(
                "column_missing", f"the data has no column {name!r}", where="model.columns", hint=nearest(name, names)
            )
        if kinds[name] != "numeric":
            raise DataError(
                "not_a_number",
                f"the model reads numbers, and the column {name!r} is {kinds[name]}",
                where=f"data.columns.{name}",
                hint=f"say model.columns without it, or data.columns: {{{name}: numeric}}",
            )
    width = (model.shape or (None,))[0] if len(model.shape or (None,)) == 1 else -1
    if width not in (None, len(columns)):
        seen = f"{len(columns)} columns: {', '.join(columns[:12])}; the model reads {model.shape}"
        hint = "say its columns in its order: --columns a,b,c"
        raise refused("wrong_width", "the model reads another number of columns", path, seen, hint)
