"""What every room is given and what it gives back; knows nothing of any one kind of input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.options import Options
from keepfit.runtime.table import Table

Say = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Sample:
    """Rows and their answers: class codes int64 [n], or float64 [n]."""

    table: Table
    truth: NDArray[Any]


@dataclass(frozen=True)
class Way:
    """How to fit: missing values, balance, seed, budget; for networks the train section, augmentation and a place to
    keep checkpoints. `budget_s` None is no limit; `folder` is what paths of the recipe are relative to; `names` are the
    classes as the recipe spells them. `constant` and `indicator` are of `clean.missing`; `spared` (column -> sample ids) are
    cells of training rows that cleaning leaves as they came. `warm` has the `preparation` that a champion's weights were learned
    for, and makes of a trainer's job one that starts from them (`job`).
    """

    numeric: str
    categorical: str
    balance: str
    seed: int
    budget_s: float | None
    preset: str
    threads: int = 1  # two OpenMP threads on a busy machine wait for each other: measured 2 s against 3 to 10 s
    stopped: Callable[[], bool] = lambda: False
    train: Any = None
    augment: Sequence[Options] = ()
    scratch: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    names: Sequence[str] = ()
    constant: float = 0.0
    indicator: str | bool = "auto"
    spared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warm: Any = None


@dataclass(frozen=True)
class Trained:
    """A trained model; `native` answers the rows of `probe` with the learner's own code. `files` go into the bundle as they are."""

    preparation: bytes
    onnx: bytes
    weights: dict[str, bytes]
    native: NDArray[np.float64]
    facts: dict[str, Any]
    held: list[str]
    held_scores: NDArray[np.float64]
    pictures: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def class_weights(truth: NDArray[Any], classes: int, way: Way) -> NDArray[np.float64] | None:
    """Weights [k]: those that the recipe gives, or those by which all classes count the same; None for no weights."""
    said = "auto" if way.train is None else way.train.class_weight
    if not classes:
        return None
    if isinstance(said, Mapping):
        return np.array([said.get(name, 1.0) for name in way.names], np.float64)
    if said != "balanced" and (said, way.balance) != ("auto", "class_weight"):
        return None
    counts = np.bincount(truth.astype(int), minlength=classes)
    return np.asarray(len(truth) / (classes * np.maximum(counts, 1)))


def evened(balance: str, truth: NDArray[Any], classes: int) -> list[str]:
    """What report and card say of classes that were evened out, in numbers of training rows."""
    if not classes or balance not in ("oversample", "undersample", "smote", "noise"):
        return []
    counts = np.bincount(truth.astype(int), minlength=classes)
    size = int(counts[counts > 0].min() if balance == "undersample" else counts.max())
    how = {
        "oversample": "rare ones repeated",
        "undersample": "rows left out",
        "smote": "rows made between neighbours",
        "noise": "rows repeated with noise",
    }
    said = ", ".join(str(int(count)) for count in counts)
    return [
        f"Classes were evened out to {size} rows each in what was learned from (data.balance: {balance}, {how[balance]}); "
        f"before: {said}, in the order of the classes."
    ]


def resampled(balance: str, truth: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Rows to learn from, ascending: all of them, with rare classes repeated, or as many of each as the rarest has."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(truth.astype(int))
    found = []
    for label in np.flatnonzero(counts):
        rows = np.flatnonzero(truth == label)
        if balance == "undersample":
            found.append(rng.choice(rows, counts[counts > 0].min(), replace=False))
        else:
            found += [rows, rng.choice(rows, counts.max() - len(rows))]
    return np.sort(np.concatenate(found))
