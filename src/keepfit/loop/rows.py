"""Labelled answers as the loop uses them: read once, kept in memory up to a bound, cut by time, turned into tables."""

from __future__ import annotations

import base64
import bisect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import atomic
from keepfit.runtime.table import Table, to_text
from keepfit.store.records import Records, Row

PICTURE = "image"
_OVERLAP_S = 10.0
"""Feedback may be on the disk before the record of its answer is: what was read lately is read again."""


@dataclass(frozen=True)
class Labelled:
    """One answered row whose truth is known. `at` and `labelled_at` are Unix seconds."""

    request_id: str
    row: int
    at: float
    labelled_at: float
    sha256: str
    inputs: dict[str, Any]
    prediction: Any
    label: Any

    @property
    def right(self) -> bool:
        """Whether the class that was answered is the true one."""
        return bool(self.prediction == self.label)


class Memory:
    """The newest labelled rows of a service, at most `most`, by the time of their answer.

    `place` keeps the time from which labels must be read to have those rows again, so that a loop that is restarted after
    years does not read all of them.
    """

    def __init__(self, most: int = 50_000, place: Path | None = None) -> None:
        self.rows: list[Labelled] = []
        self.most, self.place = most, place
        self._known: dict[tuple[str, int], float] = {}
        self._read_until = self._kept_since = _since(place)

    def take(self, records: Records, now: float) -> list[Labelled]:
        """Reads what was labelled since the last call; the rows that are new, by time of answer."""
        found = []
        for row in records.labelled(max(self._read_until - _OVERLAP_S, 0.0) or None, None):
            key = (row.request_id, row.row)
            if row.inputs is None or key in self._known:
                continue
            self._known[key] = float(row.labelled_at or now)
            found.append(_labelled(row, now))
        self._read_until = now
        found.sort(key=_when)
        for one in found:
            bisect.insort(self.rows, one, key=_when)
        if len(self.rows) > self.most:
            del self.rows[: len(self.rows) - self.most]
            oldest = now - 10 * _OVERLAP_S
            self._known = {key: at for key, at in self._known.items() if at >= oldest}
            self._keep(now)
        return found

    def _keep(self, now: float) -> None:
        """Writes from when on labels are needed, when that has moved by a tenth of what is remembered."""
        oldest = min(row.labelled_at for row in self.rows)
        if self.place is not None and oldest - self._kept_since > 0.1 * (now - oldest):
            atomic.write_text(self.place, json.dumps({"labelled_since": oldest}))
            self._kept_since = oldest

    def since(self, at: float) -> list[Labelled]:
        """Rows answered at that time or later."""
        return self.rows[bisect.bisect_left(self.rows, at, key=lambda row: row.at) :]


def _since(place: Path | None) -> float:
    """What `place` says; 0 where it says nothing that can be read: then all labels are read."""
    try:
        return float(json.loads(place.read_text("utf-8"))["labelled_since"]) if place is not None else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _when(row: Labelled) -> tuple[float, str, int]:
    return row.at, row.request_id, row.row


def _labelled(row: Row, now: float) -> Labelled:
    return Labelled(
        row.request_id,
        row.row,
        row.at,
        float(row.labelled_at or now),
        row.sha256,
        dict(row.inputs or {}),
        row.prediction,
        row.label,
    )


def table_of(rows: Sequence[Labelled], names: Iterable[str], modality: str, target: str | None = None) -> Table:
    """The inputs of rows as a table of text (pictures as the bytes of their files), with the label where `target` names it."""
    columns: dict[str, Any] = {}
    for name in names:
        column = np.empty(len(rows), object)
        column[:] = [cell_of(name, row.inputs.get(name), modality) for row in rows]
        columns[name] = column
    if target is not None:
        column = np.empty(len(rows), object)
        column[:] = [to_text(row.label) for row in rows]
        columns[target] = column
    return Table(columns)


def cell_of(name: str, value: Any, modality: str) -> Any:
    """A recorded cell as sources give it; a table may have a column called `image` that holds no pictures."""
    return base64.b64decode(value) if modality == "image" and name == PICTURE and isinstance(value, str) else value
