"""What the rooms share about models that exist already: opening by kind, and the result that stands for a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.catalog import load
from keepfit.core.errors import RecipeError
from keepfit.modalities.room import Trained
from keepfit.runtime.network import Network
from keepfit.tasks.task import class_name
from keepfit.training.existing import graphs
from keepfit.training.existing.form import Array, Head, Opened, answers, better_order, head_of, order_of, squared
from keepfit.training.existing.kinds import kind_of, refused

_FOREIGN = "keepfit.training.existing"


def opened(options: Any, folder: Path, offered: Mapping[str, Any]) -> Opened:
    """The model of a recipe as the common form; `offered` goes to the constructor of a class. Raises DataError."""
    path = (folder / options.source).expanduser()
    kind = kind_of(path)
    if kind == "onnx":
        file = load(f"{_FOREIGN}.onnx_file:read")(path, options.output)
        if len(file.inputs) != 1:
            seen = ", ".join(one.name for one in file.inputs)
            raise refused("several_inputs", "the model reads several inputs", path, seen, "one tensor of rows")
        return load(f"{_FOREIGN}.onnx_file:opened")(file)  # type: ignore[no-any-return]
    if kind == "state_dict":
        made: Opened = load(f"{_FOREIGN}.torch_files:state_dict")(path, options.class_, folder, options.args, offered)
        return made
    if kind == "hugging_face":
        raise refused(
            "wrong_room",
            "a folder of transformers reads pictures or texts",
            path,
            "a table",
            "data.image, or data.text",
        )
    name = {"program": "torch_files:program", "keras": "keras_file:load", "saved_model": "saved_model:load"}[kind]
    found: Opened = load(f"{_FOREIGN}.{name}")(path)
    return found


class Fixed:
    """An opened model with what turns its scores into answers; decided on rows that are not test rows."""

    def __init__(self, model: Opened, options: Any, path: Path, classes: int, names: list[str], sample: Array) -> None:
        """`sample` are scores as the model gives them."""
        self.model, self.path = model, path
        raw = squared(sample, path)
        said = options.classes if options.classes is not None else model.classes
        known = None if said is None else [class_name(one) for one in said]
        self.order, self.notes = order_of(names if classes else [], known, raw.shape[1], path)
        self.head: Head = head_of(raw, classes, options.gives, path)

    def answers(self, fed: Array) -> NDArray[np.float64]:
        """Answers [n, k] of the source itself to a batch in its layout."""
        return self.of(np.concatenate([self.model.raw(fed[at : at + 256]) for at in range(0, len(fed), 256)]))

    def of(self, raw: Array) -> NDArray[np.float64]:
        """Answers [n, k] that its scores stand for."""
        found = answers(squared(raw, self.path), self.head, self.order)
        if not np.isfinite(found).all():
            bad = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
            hint = "is it fed as it was trained? mean, std, scale, columns"
            raise refused("not_finite", "the model gives an answer that is no number", self.path, f"row {bad}", hint)
        return found

    def judged(self, held: Array, truth: Array, names: list[str]) -> list[str]:
        """The notes, and a warning where the classes seem to be in another order than was taken."""
        found = better_order(held, truth, names) if self.order and self.notes and len(names) <= 50 else ""
        return [*self.notes, *([found] if found else [])]

    def graph(self, before: Any, shape: list[Any], sample: Array) -> bytes:
        """The ONNX model of the bundle; `before` are the nodes in front, `shape` what the bundle feeds by row."""
        import copy

        source = copy.deepcopy(self.model.graph(sample))
        element = source.graph.input[0].type.tensor_type.elem_type
        nodes = before(element, source.graph.input[0].name)
        after = graphs.head(source.graph.output[0].name, self.head, self.order)
        made = graphs.closed(source, nodes, after, graphs.row_input(shape), max(len(self.order), 1))
        try:
            Network(made).scores(np.zeros((3, *shape), np.float32))
        except Exception as error:  # onnxruntime raises its own classes
            seen = (str(error).strip().splitlines() or [""])[0][:200]
            hint = "export it with a dynamic number of rows"
            raise refused("fixed_batch", "the model does not take three rows at once", self.path, seen, hint) from None
        return made


def fills(
    columns: Mapping[str, NDArray[np.float64]], how: str, answered: NDArray[np.float64]
) -> tuple[dict[str, float], list[str]]:
    """What stands for a gap in each column of numbers, and a note; nothing where the model answers rows with gaps.

    `answered` are its scores for such rows; `how` is the recipe's `clean.missing.numeric`.
    """
    if np.isfinite(np.asarray(answered, np.float64)).all():
        return {}, []
    if how == "none":
        raise RecipeError(
            "gaps",
            "the model gives no number for a row with a missing cell",
            where="clean.missing.numeric",
            seen="none",
            hint="clean.missing.numeric: mean, median or constant",
        )
    known = {name: values[~np.isnan(values)] for name, values in columns.items()}
    middle = np.median if how == "median" else np.mean
    found = {
        name: float(middle(values)) if len(values) and how != "constant" else 0.0 for name, values in known.items()
    }
    said = "mean" if how == "auto" else how
    return found, [
        f"The model gives no number for a row with a missing cell: gaps are filled ({said} of the training rows)."
    ]


def result(
    preparation: bytes,
    onnx: bytes,
    native: Array,
    held: tuple[list[str], Array],
    model: Opened,
    features: int,
    notes: list[str],
    files: dict[str, bytes] | None = None,
) -> Trained:
    """What stands for a training: nothing was learned, and the report says so. `files` go into the bundle too."""
    said = {
        "weights": {"existing": 1.0},
        "rounds": {"existing": 0},
        "copies": {"existing": 1},
        "scored_by": "the validation rows",
        "tried": ["existing"],
        "chosen": "existing",
        "members": [{"name": "existing", "weight": 1.0}],
        "trials": [
            {"name": "existing", "params": {"source": model.kind}, "rounds": 0, "size_bytes": len(onnx), "scores_at": 0}
        ],
        "ended": [],
        "curve": None,
        "features": features,
        "onnx_bytes": len(onnx),
        "class_weights": None,
        "libraries": [model.library],
        "notes": [
            f"The model was trained elsewhere ({model.kind.replace('_', ' ')}) and is packaged as it is: whether it has seen "
            "the test rows is not known here.",
            *notes,
        ],
    }
    ids, scores = held
    return Trained(preparation, onnx, model.weights, native, said, ids, np.stack([scores, scores]), files=files or {})
