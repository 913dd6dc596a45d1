"""A stream of made rows with a rule that changes, answered by the registered champion and labelled late, without HTTP."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from keepfit import recipe as recipes
from keepfit.loop.turn import Loop
from keepfit.runtime.table import from_rows
from keepfit.store.record_files import FileRecords
from keepfit.store.records import records_folder
from keepfit.store.registry import Registry
from keepfit.store.request_ids import RequestIds

RECIPE = """version: 1
name: stream
data: {source: first.csv, target: y}
model: {use: linear}
retrain: {rows: 120, cool_down: 0.001, strategy: fresh, gate: {probation: 400}}
"""


def rows_of(count: int, flipped: bool, seed: int) -> list[dict[str, Any]]:
    """Rows with a label that follows from `a`; flipped, the label is the other one. One in twenty is wrong."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, 2)).round(4)
    wrong = generator.random(count) < 0.05
    return [
        {"a": float(a), "b": float(b), "y": "yes" if ((a > 0) != flipped) != w else "no"}
        for (a, b), w in zip(values, wrong, strict=True)
    ]


class Stream:
    """Answers rows 20 at a time as a service would and gives the loop one look after each; a training is waited for."""

    def __init__(self, home: Path, recipe: str = RECIPE, late: int = 100) -> None:
        self.home, self.late = home, late
        (home / "recipe.yaml").write_text(recipe)
        lines = ["a,b,y", *(f"{r['a']},{r['b']},{r['y']}" for r in rows_of(400, False, 99))]
        (home / "first.csv").write_text("\n".join(lines) + "\n")
        self.store = FileRecords(records_folder(home) / "stream")
        self.ids = RequestIds(self.store.key())
        self.waiting: deque[tuple[str, list[str]]] = deque()
        self.clock = time.time()
        self.right: list[bool] = []
        self.loop = self.opened()

    def opened(self) -> Loop:
        """A loop as it is after a start: all that it knows it reads."""
        path = self.home / "recipe.yaml"
        return Loop(recipes.load(path), path, (), self.home, mean_labels=100_000.0)

    def send(self, rows: list[dict[str, Any]], batch: int = 20) -> None:
        """Answers the rows, labels those that are due, and lets the loop look."""
        for start in range(0, len(rows), batch):
            given = rows[start : start + batch]
            self.clock += 0.02
            version = Registry(self.home).resolve("stream")
            inputs = [{"a": row["a"], "b": row["b"]} for row in given]
            answers = version.open().predictor().predict(from_rows(inputs, ["a", "b"]))
            name = self.ids.new(len(given), self.clock)
            entry = {
                "id": name,
                "t": self.clock,
                "model": ["stream", str(version.version), version.sha256],
                "predictions": answers.labels,
                "inputs": {key: [str(row[key]) for row in inputs] for key in ("a", "b")},
            }
            self.store.write("answers", [entry], durable=True)
            truth = [row["y"] for row in given]
            self.right += [one == true for one, true in zip(answers.labels, truth, strict=True)]
            self.waiting.append((name, truth))
            while len(self.waiting) * batch > self.late:
                due, labels = self.waiting.popleft()
                self.store.write("feedback", [{"id": due, "t": self.clock, "labels": labels}], durable=True)
            self.look()

    def look(self) -> None:
        """One turn; where a challenger is being made, until it is."""
        self.loop.turn(self.clock)
        until = time.monotonic() + 120
        while self.loop.state.phase == "training" and time.monotonic() < until:
            time.sleep(0.1)
            self.loop.turn(self.clock)

    def told(self) -> list[str]:
        """What the journal says happened, in order."""
        return [entry.what for entry in self.loop.journal]
