"""Answers texts: counting or tokens, network, labels; the same object in training's gate and in serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, nearest
from keepfit.runtime.answers import Answers, answers_of
from keepfit.runtime.network import Network
from keepfit.runtime.table import Table, text_column
from keepfit.runtime.texts import TextPreparation
from keepfit.runtime.tokens import TokenPreparation

COLUMN = "text"
_SHAPE = 'send a text: {"input": "some words"}, or {"input": {"text": "some words"}}'


def renamed(table: Table, column: str | None) -> Table:
    """The table with its texts under the room's own name; another column of that name makes way."""
    if column is None or column == COLUMN or column not in table.columns:
        return table
    names = {column: COLUMN, COLUMN: f"{COLUMN}~2"}
    return Table({names.get(name, name): cells for name, cells in table.columns.items()}, table.ids)


@dataclass(frozen=True)
class TextPredictor:
    """A bundle's preparation and network for texts. Rows are tables with the column `text`; a missing text is answered."""

    preparation: TextPreparation | TokenPreparation
    network: Network
    task: str
    classes: list[Any]
    ignored: frozenset[str] = frozenset()

    def scores(self, table: Table) -> tuple[NDArray[np.float32], list[str], dict[str, int]]:
        """Scores [n, k], no errors, and no unseen categories. Raises DataError for an absent column."""
        if COLUMN not in table.columns:
            raise DataError(
                "column_missing",
                "the data has no texts",
                where=f"column {COLUMN!r}",
                seen=", ".join(table.names)[:300],
                hint=f"{nearest(COLUMN, table.names)}; give a table with the column of texts, a folder, or a .txt",
            )
        texts = list(table.columns[COLUMN])
        width = max(len(self.classes), 1)
        found = np.zeros((len(texts), width), np.float32)
        for rows, inputs in self.preparation.batches(texts, width):
            found[rows] = self.network.answers(inputs)
        return found, [""] * len(texts), {}

    def predict(self, table: Table) -> Answers:
        """Answers in the order of the rows."""
        return answers_of(*self.scores(table), self.task, self.classes)

    def check_rows(self, rows: Sequence[Any]) -> Table:
        """JSON inputs as a table: texts, or objects with `text`; null is a missing text. Raises DataError."""
        return Table({COLUMN: text_column([self._text(row, f"row {place}") for place, row in enumerate(rows)])})

    def _text(self, row: Any, where: str) -> str | None:
        if isinstance(row, Mapping):
            for name in row:
                if name != COLUMN and name not in self.ignored:
                    raise DataError("unknown_column", f"there is no input {str(name)[:80]!r}", where=where, hint=_SHAPE)
            if COLUMN not in row:
                raise DataError("column_missing", f"the input {COLUMN!r} is not given", where=where, hint=_SHAPE)
            row = row[COLUMN]
        if row is None or isinstance(row, str):
            return row
        raise DataError("wrong_type", "the input must be text", where=where, seen=type(row).__name__, hint=_SHAPE)

    def table_of(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Golden rows as a table."""
        return self.check_rows(rows)

    def check_fit(self) -> None:
        """Raises ValueError where network and preparation do not fit together."""
        self.preparation.check(self.network.inputs, self.network.said)
