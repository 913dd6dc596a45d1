"""What a learner is given: features, answers, weights and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.modalities.tabular.encode import Encoded, answers, encode, means, out_of_fold


@dataclass(frozen=True)
class Fold:
    """Rows to learn from: features float32 [n, d], answers [n] (class codes or values), row weights [n].

    `encoded` says which features are target means: they are made again where some of the rows are held out.
    """

    features: NDArray[np.float32]
    truth: NDArray[Any]
    weights: NDArray[np.float64]
    encoded: tuple[Encoded, ...] = ()

    def take(self, rows: NDArray[Any]) -> Fold:
        """Some of the rows."""
        return Fold(
            self.features[rows], self.truth[rows], self.weights[rows], tuple(own.take(rows) for own in self.encoded)
        )

    def with_rows(self, other: Fold) -> Fold:
        """These rows and then the other's."""
        return Fold(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.weights, other.weights]),
            tuple(own.with_rows(more) for own, more in zip(self.encoded, other.encoded, strict=True)),
        )

    def held_out(self, folds: NDArray[np.int64], fold: int, classes: int) -> tuple[Fold, Fold]:
        """The rows outside a fold and those inside; no target mean of either has seen an answer from inside.

        Rows outside get means of the other outer folds, rows inside the means of everything outside.
        """
        inside = folds == fold
        around, held = self.take(~inside), self.take(inside)
        truth = answers(around.truth, classes)
        for own, more in zip(around.encoded, held.encoded, strict=True):
            around.features[:, own.columns] = out_of_fold(own.codes, truth, own.count, folds[~inside])
            held.features[:, own.columns] = encode(more.codes, means(own.codes, truth, own.count, least=2))
        return around, held


@dataclass(frozen=True)
class NetworkWay:
    """What a network needs besides: the train section, a folder for checkpoints, a budget, whom to tell, what paths of
    the recipe are relative to (`home`), and for a warm start what it starts from, with the ids of the training rows."""

    options: Any
    threads: int
    folder: Path | None
    budget_s: float | None
    stopped: Callable[[], bool]
    say: Callable[[str, dict[str, Any]], None]
    home: Path = field(default_factory=Path.cwd)
    warm: Any = None
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Settings:
    """Everything else that a fit depends on. `classes` is 0 for regression; `trees`, `linear`, `pairs` and `dense` are
    feature columns, `codes` columns of category numbers with how many categories each has."""

    classes: int
    seed: int
    threads: int
    trees: list[int]
    linear: list[int]
    pairs: list[int] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    dense: list[int] = field(default_factory=list)
    codes: list[tuple[int, int]] = field(default_factory=list)
    network: NetworkWay | None = None
    balance: str = "none"
