"""The row ledger: what happened to every sample, and the check that none was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import InternalFault
from keepfit.runtime.samples import Samples, places_of, repeated

COLUMNS = ("id", "source", "row", "column", "rule", "before", "after", "stage", "action", "entry")
KINDS = ("VARCHAR", "VARCHAR", "BIGINT", *["VARCHAR"] * 7)
_UNDOABLE = ("clean",)
_READ = ("unreadable", "written otherwise")  # how a column is read is a matter of the column
BACK = "taken back"


@dataclass(frozen=True)
class Entry:
    """One decision about one sample; `action` is dropped, changed or noted. A rule is `family: detail`.

    `count` is the number of rows where one entry stands for many: rows that a budget of memory leaves out.
    """

    id: str
    source: str
    row: int
    column: str
    rule: str
    before: str
    after: str
    stage: str
    action: str = "dropped"
    count: int = 1

    @property
    def key(self) -> str:
        """The entry's own name, 12 hexadecimal digits: of sample, column, stage and the family of the rule."""
        return digest.of_json([self.stage, self.id, self.column, self.rule.partition(":")[0]])[:12]

    @property
    def is_undoable(self) -> bool:
        """Whether the next run can do without this decision: a row without an answer cannot be learned from."""
        return self.action != "noted" and self.stage in _UNDOABLE and not self.rule.startswith(_READ)

    @property
    def unit(self) -> str:
        """What the decision is about: a cell, or a row as a whole; a row that goes because of a cell is a row."""
        return "cell" if self.column and self.action != "dropped" else "row"

    def as_json(self) -> dict[str, Any]:
        """The entry as a stage keeps it."""
        said = {name: getattr(self, name) for name in COLUMNS[:-1]}
        return said if self.count == 1 else {**said, "count": self.count}

    def as_row(self) -> list[Any]:
        """The values of COLUMNS."""
        return [*(getattr(self, name) for name in COLUMNS[:-1]), self.key]


def counted(count: int, unit: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {unit}{'s' * (count != 1)}"


def without(entries: Sequence[Entry], undo: Collection[str]) -> list[Entry]:
    """The entries with those decisions only noted whose keys are in `undo`; all others are the same as before."""
    if not undo:
        return list(entries)
    return [
        replace(e, rule=f"{e.rule.partition(':')[0]}: {BACK}", action="noted") if e.is_undoable and e.key in undo else e
        for e in entries
    ]


def place_of(sample: str) -> tuple[str, int]:
    """Source and row number of a sample id; -1 where it has none."""
    source, _, rest = sample.rpartition("#")
    return source, int(rest.partition(":")[0]) if rest.partition(":")[0].isdigit() else -1


def conserve(rows_in: int, rows_kept: int, entries: Sequence[Entry]) -> None:
    """Raise InternalFault unless in = kept + dropped, each dropped sample counted once."""
    dropped = Counter(entry.id for entry in entries if entry.action == "dropped")
    gone = sum(entry.count for entry in entries if entry.action == "dropped")
    if rows_in != rows_kept + gone or any(times > 1 for times in dropped.values()):
        raise _lost(f"{rows_in} in, {rows_kept} kept, {gone} dropped")


def conserve_samples(ids: Samples, kept: NDArray[np.bool_], unread: Sequence[str], entries: Sequence[Entry]) -> None:
    """Raise InternalFault unless every sample that came is either kept or dropped, and every change is about one that came.

    `kept` [n] says which of the `ids` stay; `unread` are the ids of what came and is no row.
    """
    beside = set(unread)
    gone = [entry.id for entry in entries if entry.action == "dropped" and entry.id not in beside]
    changed = [
        entry.id for entry in entries if entry.action == "changed" and entry.id not in beside
    ]  # a note may be about a line
    dropped, touched = places_of(ids, gone), places_of(ids, changed)
    out = np.zeros(len(ids), bool)
    out[dropped[dropped >= 0]] = True
    strangers = int((dropped < 0).sum() + (touched < 0).sum())
    both, neither, twice = int((kept & out).sum()), int((~kept & ~out).sum()), repeated(ids) + len(unread) - len(beside)
    if both or neither or strangers or twice:
        raise _lost(
            f"{len(ids) + len(unread)} in, {int(kept.sum())} kept, {int(out.sum()) + len(beside)} dropped, {both} both, "
            f"{neither} neither, {strangers} unknown, {twice} ids twice"
        )


def _lost(seen: str) -> InternalFault:
    return InternalFault(
        "rows_lost",
        "the account of rows does not add up",
        where="the row ledger",
        seen=seen,
        hint="this is a fault of keepfit, not yours: please report it; keepfit run --fresh makes every stage again",
    )
