"""What a learner is given: features, answers, weights and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fold:
    """Rows to learn from: features float32 [n, d], answers [n] (class codes or values), row weights [n]."""

    features: NDArray[np.float32]
    truth: NDArray[Any]
    weights: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> Fold:
        """Some of the rows."""
        return Fold(self.features[rows], self.truth[rows], self.weights[rows])

    def with_rows(self, other: Fold) -> Fold:
        """These rows and then the other's."""
        return Fold(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.weights, other.weights]),
        )


@dataclass(frozen=True)
class Settings:
    """Everything else that a fit depends on. `classes` is 0 for regression; `trees`, `linear` and `pairs` are
    feature columns."""

    classes: int
    seed: int
    threads: int
    trees: list[int]
    linear: list[int]
    pairs: list[int] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
