"""A class has one text wherever it is named."""

from __future__ import annotations

import numpy as np

from keepfit.runtime.answers import Answers
from keepfit.tasks.task import Task


def test_booleans_are_spelled_as_in_json_everywhere():
    task = Task("classification", "y", (False, True))
    row = Answers([True], np.array([[0.25, 0.75]], np.float32), [False, True], [""]).rows()[0]
    assert task.names == list(row["probabilities"]) == ["false", "true"] and row["prediction"] is True
    assert Task("classification", "y", (1, 1.5)).names == ["1", "1.5"]
