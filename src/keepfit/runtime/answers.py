"""Answers: what a predictor says of rows, and the shape of one answer for people and programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.task import class_name

__all__ = ["Answers", "answers_of", "class_name"]


@dataclass(frozen=True)
class Answers:
    """`labels` [n] in the target's JSON type, None where `errors` [n] is not empty; `probabilities` float32 [n, k] or None."""

    labels: list[Any]
    probabilities: NDArray[np.float32] | None
    classes: list[Any]
    errors: list[str]
    unseen: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Answers:
        """The answers of rows `start` to `stop`; unseen categories are counted for the whole only."""
        shares = None if self.probabilities is None else self.probabilities[start:stop]
        return Answers(self.labels[start:stop], shares, self.classes, self.errors[start:stop])

    def rows(self) -> list[dict[str, Any]]:
        """`prediction` and, for classes, `probabilities` keyed by the class's name, of every row."""
        if self.probabilities is None:
            return [{"prediction": label} for label in self.labels]
        names = [class_name(label) for label in self.classes]
        return [
            {"prediction": label, "probabilities": dict(zip(names, shares, strict=True))}
            for label, shares in zip(self.labels, self.probabilities.tolist(), strict=True)
        ]


def answers_of(
    scores: NDArray[np.float32], errors: list[str], unseen: dict[str, int], task: str, classes: list[Any]
) -> Answers:
    """Scores [n, k] as answers; a row with an error has no label."""
    good = [not error for error in errors]
    if task == "regression":
        labels = [float(value) if ok else None for value, ok in zip(scores[:, 0], good, strict=True)]
        return Answers(labels, None, [], errors, unseen)
    labels = [classes[place] if ok else None for place, ok in zip(scores.argmax(1), good, strict=True)]
    return Answers(labels, scores, classes, errors, unseen)
