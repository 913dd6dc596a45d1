"""The one form of an opened model, and how its scores become answers: in numpy as the source says it, in ONNX for the bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keepfit.training.existing.kinds import refused

Head = Literal["probabilities", "scores", "share", "logit", "number"]
Array = NDArray[Any]
IN, OUT = "keepfit_in", "keepfit_out"


@dataclass(frozen=True)
class Opened:
    """A model as it was opened. `raw` takes a batch in its own layout and gives its own scores; `graph` gives the same as an
    ONNX model with one input and one output, for a batch of two like the one given. `shape` is that of one row, None
    where any number goes; `classes` are the labels that the file names; `weights` are kept in the store."""

    kind: str
    library: str
    shape: tuple[int | None, ...] | None
    raw: Callable[[Array], Array]
    graph: Callable[[Array], Any]
    classes: list[Any] | None = None
    weights: dict[str, bytes] = field(default_factory=dict)


def squared(raw: Array, path: Path) -> Array:
    """float64 [n, k] of scores that may have further axes of one. Raises DataError for what is no row of scores."""
    values = np.asarray(raw, np.float64)
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 2:
        return values
    if values.ndim > 2 and sum(size > 1 for size in values.shape[1:]) <= 1:
        return values.reshape(len(values), -1)
    shape = "x".join(map(str, ("n", *values.shape[1:])))
    hint = "a classification gives [n, classes], a regression [n, 1]; sequences, masks and boxes are other tasks"
    raise refused("not_scores", "the model gives no row of scores for each input", path, shape, hint)


def head_of(raw: Array, classes: int, said: str, path: Path) -> Head:
    """What the scores [n, k] are: as said, else as they look. Raises DataError where their number does not fit."""
    width = raw.shape[1]
    if not classes:
        if width == 1:
            return "number"
        raise refused(
            "wrong_width", "the model gives several numbers", path, f"{width}, the target is one", "task: ..."
        )
    if width == 1 and classes == 2:
        inside = bool(((raw >= 0) & (raw <= 1)).all())
        return "share" if said == "probabilities" or (said == "auto" and inside) else "logit"
    if width != classes:
        hint = "say the classes in the order of the model's scores: --classes a,b,c, or a file with one a line"
        raise refused("class_count", "the model has another number of classes", path, f"{width}, data {classes}", hint)
    if said == "auto":
        summed = bool((np.abs(raw.sum(1) - 1) < 1e-3).all())
        said = "probabilities" if summed and bool((raw >= -1e-6).all()) else "scores"
    return "probabilities" if said == "probabilities" else "scores"


def answers(raw: Array, head: Head, order: list[int]) -> Array:
    """Probabilities float64 [n, k] in the order of the task's classes, or numbers [n, 1]."""
    if head == "number":
        return raw
    if head in ("share", "logit"):
        second = raw if head == "share" else 1 / (1 + np.exp(-raw))
        found = np.hstack([1 - second, second])
    elif head == "scores":
        grown = np.exp(raw - raw.max(1, keepdims=True))
        found = grown / grown.sum(1, keepdims=True)
    else:
        found = raw
    return np.asarray(found[:, order])


def order_of(names: list[str], model: list[str] | None, count: int, path: Path) -> tuple[list[int], list[str]]:
    """Which score belongs to each of the task's classes, and notes. Raises DataError where they do not fit."""
    if not names:
        return [], []
    if model is None:
        if count not in (len(names), 1):
            hint = "say the classes in the order of the model's scores: --classes a,b,c, or a file with one a line"
            seen = f"{count} scores; the data has {len(names)} classes: {', '.join(names[:8])}"
            raise refused("class_count", "the model has another number of classes", path, seen, hint)
        note = "The model does not name its classes: their order was taken to be " + ", ".join(names[:20]) + "."
        return list(range(len(names))), [note]
    unknown = [name for name in names if name not in model]
    if unknown or len(model) != len(names):
        seen = f"data: {', '.join(unknown[:5] or names[:5])}; model: {', '.join(model[:8])}"
        hint = "rename the labels of the data, or say --classes in the order of the model's scores"
        raise refused("unknown_label", "the data's classes are not the model's", path, seen, hint)
    return [model.index(name) for name in names], []


def better_order(found: Array, truth: Array, names: list[str]) -> str:
    """A warning where another order of the classes would fit the rows far better; else empty.

    `found` are probabilities [n, k], `truth` class codes [n]. The best order is sought class by class, greedily.
    """
    best = found.argmax(1)
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (best, np.asarray(truth, int)), 1)
    now, left, order = np.trace(counts) / max(len(truth), 1), counts.astype(float), [0] * len(names)
    for _ in names:
        row, column = np.unravel_index(left.argmax(), left.shape)
        order[row] = int(column)
        left[row], left[:, column] = -1, -1
    then = sum(counts[row, column] for row, column in enumerate(order)) / max(len(truth), 1)
    if len(truth) < 10 or then < now + 0.3:
        return ""
    said = ",".join(names[place] for place in order)
    return (
        f"Warning: {now:.0%} of the validation rows are answered right; with --classes {said} it would be {then:.0%}."
    )
