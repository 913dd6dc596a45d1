"""Watches what is asked, labels or none: windows of recorded inputs against the champion's reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepfit.loop.rows import cell_of
from keepfit.monitor import MonitorOptions, Profile, Records, Report, check
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import Column, Table
from keepfit.store.records import Records as Store
from keepfit.store.records import Row

_LEAST = 50
_BEHIND_S = 3.0
"""Records of answers reach the disk within this time; what is younger is left for the next look."""


@dataclass(frozen=True)
class Seen:
    """One window: from the first to just after the last answer (Unix seconds), and what it showed."""

    since: float
    until: float
    report: Report

    def as_json(self) -> dict[str, Any]:
        """Evidence for the journal."""
        said = self.report.as_json()
        keys = ("kind", "features", "why", "estimated_accuracy", "quarantined")
        return {"rows": len(self.report.tallies) and said["to"] - said["from"], **{key: said[key] for key in keys}}


@dataclass
class Feed:
    """The windows of one champion; `reference` is None for bundles that carry none, of which nothing can be said."""

    bundle: Bundle
    sha256: str
    section: MonitorOptions
    since: float
    rows: list[Row] = field(default_factory=list)
    looked: int = 0
    _known: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raw = json.loads(self.bundle.files["profile.json"]).get("monitor")
        self.reference = Profile.from_json(raw) if raw is not None else None

    def look(self, store: Store, now: float) -> list[Seen]:
        """The windows that have become full."""
        if self.reference is None:
            return []
        seen, size = [], self.section.window
        again = max(self.since, now - _BEHIND_S - 1.0)
        known = {key: at for key, at in self._known.items() if at >= self.since}
        for row in store.rows(self.since, now - _BEHIND_S):
            key = (row.request_id, row.row)
            if row.sha256 != self.sha256 or row.inputs is None or key in known:
                continue
            if row.at >= again:
                known[key] = row.at
            self.rows.append(row)
            if len(self.rows) == size:  # judged at once: after a start this may be the traffic of weeks
                seen.append(self._judged(self.reference))
        self.since, self._known = again, known
        return seen

    def rest(self) -> Seen | None:
        """The window that is not full, before its rows are learned from; None where there are too few to say anything."""
        return self._judged(self.reference) if self.reference is not None and len(self.rows) >= _LEAST else None

    def _judged(self, reference: Profile) -> Seen:
        part, self.rows = self.rows, []
        report = check(reference, self._window(part), self.section)
        self.looked += len(part)
        return Seen(part[0].at, part[-1].at + 1e-3, report)

    def _window(self, rows: Sequence[Row]) -> Records:
        columns: dict[str, Column] = {}
        for one in self.bundle.inputs:
            column = np.empty(len(rows), object)
            column[:] = [cell_of(one.name, (row.inputs or {}).get(one.name), self.bundle.modality) for row in rows]
            columns[one.name] = column
        shares = [row.probabilities for row in rows]
        scores = np.array(shares, float) if all(share is not None for share in shares) else None
        return Records(Table(columns), scores, start=self.looked)
