"""What a look at the data found: the one shape in which every check and every cleaning method says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

from numpy.typing import NDArray

from keepfit.runtime.samples import Ids, Samples
from keepfit.runtime.table import Column

Level = Literal["note", "warning", "stop"]
SHOWN = 50


@dataclass(frozen=True)
class Cell:
    """A cell that a finding is about: sample id, column, its text, and the text that is proposed (None: none is)."""

    id: str
    column: str
    before: str | None
    after: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The cell as JSON."""
        return {"id": self.id, "column": self.column, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class Cells(Sequence[Cell]):
    """Cells of one column, or whole rows where the column is empty, held as columns [n]."""

    ids: Samples
    column: str
    before: Column
    after: Column

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Cell: ...
    @overload
    def __getitem__(self, at: slice) -> Cells: ...
    def __getitem__(self, at: int | slice) -> Cell | Cells:
        if isinstance(at, slice):
            return Cells(self.ids[at], self.column, self.before[at], self.after[at])
        if at >= len(self):
            raise IndexError(at)
        return Cell(str(self.ids[at]), self.column, self.before[at], self.after[at])

    def take(self, rows: NDArray[Any]) -> Cells:
        """Some of the cells, under a mask or at places."""
        return Cells(self.ids[rows], self.column, self.before[rows], self.after[rows])


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    `rule` is its name, the same in ledger, report and check; `columns` and `ids` are what it is about (ids of samples,
    in the order of the table; empty where it is about whole columns). `message` says what was seen, `proposal` what
    keepfit does about it or would do, `override` is one line of recipe to paste that decides otherwise, or empty.
    `level` stop is for what ends a run. `cells` hold what would change, cell by cell. `groups` hold ids that belong
    together, such as a row and its copies. `share` is the share of the rows looked at. `scores` are errors before and after
    what is proposed, one per kind of model that judged it: judge, before, after, rows.
    """

    rule: str
    columns: tuple[str, ...]
    ids: Sequence[str] | Ids
    message: str
    proposal: str
    override: str = ""
    level: Level = "note"
    cells: Sequence[Cell] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    share: float = 0.0
    scores: tuple[dict[str, Any], ...] = ()

    def less(self, back: int) -> Finding:
        """The finding, which says that `back` of its decisions were taken back."""
        return replace(self, proposal=f"{self.proposal}; {back} taken back by clean.undo") if back else self

    def as_json(self, shown: int = SHOWN) -> dict[str, Any]:
        """The finding as JSON: counts whole, at most `shown` ids, cells and groups."""
        return {
            "rule": self.rule,
            "columns": list(self.columns),
            "count": len(self.ids),
            "share": round(self.share, 6),
            "message": self.message,
            "proposal": self.proposal,
            "override": self.override,
            "level": self.level,
            "ids": list(self.ids[:shown]),
            "changes": len(self.cells),
            "cells": [cell.as_json() for cell in self.cells[:shown]],
            "groups": [list(group) for group in self.groups[:shown]],
            "scores": list(self.scores),
        }
