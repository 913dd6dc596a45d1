"""What a model is asked for: a class or a number; knows nothing of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[Any]
Scores = NDArray[Any]


@dataclass(frozen=True)
class Task:
    """The question. `classes` keep their JSON type and their order is the order of the columns of the scores.

    `aliases` are other spellings of classes in the held-out rows: pairs of a label and its class, both as text.
    """

    kind: Literal["classification", "regression"]
    target: str
    classes: tuple[bool | int | float | str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def binary(self) -> bool:
        """Two classes; the second one is the positive one."""
        return self.kind == "classification" and len(self.classes) == 2

    @property
    def names(self) -> list[str]:
        """The classes as text, as they key `probabilities`."""
        return [class_name(item) for item in self.classes]


def class_name(label: Any) -> str:
    """The one text of a class, in answers, reports and metrics: `str(class)`, with booleans as JSON spells them."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


def decide(scores: Scores) -> Codes:
    """Scores [n, k] to class codes int64 [n]: the largest wins, the first of equals."""
    return np.asarray(np.argmax(scores, axis=1), np.int64)
