"""The row ledger: what happened to every sample, and the check that none was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keepfit.core import digest
from keepfit.core.errors import InternalFault

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


def conserve_ids(came: Sequence[str], kept: Collection[str], entries: Sequence[Entry]) -> None:
    """Raise InternalFault unless every sample that came is either kept or dropped, and every change is about one that came."""
    there, stays = set(came), set(kept)
    gone = {entry.id for entry in entries if entry.action == "dropped"}
    strangers = {entry.id for entry in entries if entry.action != "noted"} - there  # a note may be about a line
    if len(there) != len(came) or stays & gone or stays | gone != there or strangers:
        raise _lost(
            f"{len(came)} in, {len(stays)} kept, {len(gone)} dropped, {len(stays & gone)} both, "
            f"{len(there - stays - gone)} neither, {len(strangers)} unknown, {len(came) - len(there)} ids twice"
        )


def _lost(seen: str) -> InternalFault:
    return InternalFault(
        "rows_lost",
        "the account of rows does not add up",
        where="the row ledger",
        seen=seen,
        hint="this is a fault of keepfit, not yours: please report it; keepfit run --fresh makes every stage again",
    )
