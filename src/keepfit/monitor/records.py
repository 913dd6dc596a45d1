"""A window of records: raw inputs and whatever else is known of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.table import Column, Table


@dataclass(frozen=True)
class Records:
    """`table` [n] as sources give it; `scores` [n, k] of the model (or [n, 1] values); `labels` [n] the truth as text, None
    where it is not known; `times` [n] as text; `latency_s` [n]; `start` is the place of the first row in the whole stream.
    """

    table: Table
    scores: NDArray[Any] | None = None
    labels: Column | None = None
    times: Column | None = None
    latency_s: NDArray[np.float64] | None = None
    start: int = 0
    errors: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: slice) -> Records:
        """The records of a slice."""

        def cut(part: Any) -> Any:
            return None if part is None else part[rows]

        table = Table({name: column[rows] for name, column in self.table.columns.items()}, cut(self.table.ids))
        begun = self.start + (rows.start or 0)
        return Records(
            table, cut(self.scores), cut(self.labels), cut(self.times), cut(self.latency_s), begun, cut(self.errors)
        )
