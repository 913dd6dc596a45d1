"""A small real model of mixed columns, in the shape of the runtime's Bundle and Predictor; also a live server of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import DataError, nearest
from keepfit.runtime.answers import Answers
from keepfit.runtime.bundle import InputColumn
from keepfit.runtime.table import Table, from_rows

CITIES = ("Paris", "Köln", "北京")


COLUMNS = [
    InputColumn("age", "numeric", "FP64"),
    InputColumn("hours", "numeric", "INT64"),
    InputColumn("married", "categorical", "BOOL"),
    InputColumn("city", "categorical", "BYTES"),
    InputColumn("since", "datetime", "BYTES"),
]
NEEDED = [column.name for column in COLUMNS]


@dataclass
class Bundle:
    task: str = "classification"
    classes: list[Any] = field(default_factory=lambda: ["no", "yes", "vielleicht ü"])
    wait_s: float = 0.0
    name: str = "mixed"
    version: str = "3"
    sha256: str = "ab" * 32
    modality: str = "tabular"
    path: Path = Path("nowhere")
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    inputs: list[InputColumn] = field(default_factory=lambda: list(COLUMNS))

    def predictor(self) -> Predictor:
        return Predictor(self)


class Predictor:
    """Scores are a sum over the text of every cell, so that any difference in coercion changes the answer."""

    ignored = frozenset({"id"})

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, table: Table) -> Answers:
        time.sleep(self.bundle.wait_s)
        rows = list(zip(*(table.columns[name] for name in NEEDED), strict=True))
        if any(row[3] == "fault" for row in rows):
            raise RuntimeError("a fault of ours")
        errors = ["column 'since': not a date" if row[4] == "never" else "" for row in rows]
        scores = np.array(
            [
                sum((i + 1) * len(cell or "~~") + sum(map(ord, cell or "")) for i, cell in enumerate(row))
                for row in rows
            ],
            float,
        )
        unseen = sum(row[3] is not None and row[3] not in CITIES for row in rows)
        if self.bundle.task == "regression":
            return Answers((scores / 7).tolist(), None, [], errors, {"city": unseen})
        k = len(self.bundle.classes)
        weights = 1 + (scores[:, None] * (np.arange(k) + 3)) % 11
        shares = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        labels = [self.bundle.classes[i] for i in shares.argmax(1)]
        return Answers(labels, shares, self.bundle.classes, errors, {"city": unseen})

    def check_rows(self, rows: Sequence[Any]) -> Table:
        for at, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError("row_type", "a row must be an object of columns", where=f"row {at}")
            names = [*NEEDED, *self.ignored]
            for name in row:
                if name not in names:
                    raise DataError(
                        "column_unknown",
                        f"unknown column {name!r}",
                        where=f"row {at}, column {name!r}",
                        hint=nearest(name, names),
                    )
            for name in NEEDED:
                where = f"row {at}, column {name!r}"
                if name not in row:
                    raise DataError("column_absent", f"the column {name!r} is not given", where=where)
                if isinstance(row[name], list | dict):
                    raise DataError("cell_type", "wrong type", where=where)
        return from_rows(rows, NEEDED)


if __name__ == "__main__":
    from keepfit.serve.server import answer_on, take_socket
    from keepfit.serve.settings import ServeSettings

    chosen = ServeSettings(port=0, token=sys.argv[2] or None, max_body_bytes=200_000)
    bundle = Bundle(wait_s=float(sys.argv[1]))
    answer_on(
        take_socket(chosen),
        bundle,
        bundle.predictor(),
        chosen,  # type: ignore[arg-type]
        lambda line: print(line, flush=True),
    )
    print("stopped", flush=True)
