"""The row ledger: what happened to every sample, and the check that none was lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import InternalFault
from keepfit.runtime.coded import objects
from keepfit.runtime.samples import Ids, Samples, places_of, repeated, repeated_in
from keepfit.runtime.table import Column

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
        """What the decision is about: a cell, or a row as a whole; a row that goes because of a cell is a row; a file."""
        if self.rule.startswith("unreadable file"):
            return "file"
        return "cell" if self.column and self.action != "dropped" else "row"

    def as_json(self) -> dict[str, Any]:
        """The entry as a stage keeps it."""
        said = {name: getattr(self, name) for name in COLUMNS[:-1]}
        return said if self.count == 1 else {**said, "count": self.count}

    def as_row(self) -> list[Any]:
        """The values of COLUMNS."""
        return [*(getattr(self, name) for name in COLUMNS[:-1]), self.key]


@dataclass(frozen=True)
class Block:
    """Entries of one rule about one column (empty: rows as a whole): a sample, and its cell before and after, each [n]."""

    ids: Samples
    column: str
    rule: str
    before: Column
    after: Column
    stage: str
    action: str
    count: ClassVar[int] = 1

    @property
    def unit(self) -> str:
        """What the decisions are about, as an entry says it."""
        return "cell" if self.column and self.action != "dropped" else "row"

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Entry]:
        cells = zip(self.ids.tolist(), self.before.tolist(), self.after.tolist(), strict=True)
        for sample, before, after in cells:
            said = (self.column, self.rule, before or "", after or "", self.stage, self.action)
            yield Entry(str(sample), *place_of(str(sample)), *said)


class Ledger(Sequence[Entry]):
    """Entries in their order. Many of one rule are held as a `Block`, and become entries where they are gone through."""

    def __init__(self, parts: Iterable[Entry | Block] = ()) -> None:
        self.parts = list(parts)

    @staticmethod
    def parts_of(entries: Iterable[Entry] | Ledger) -> Iterable[Entry | Block]:
        """What entries consist of."""
        return entries.parts if isinstance(entries, Ledger) else entries

    def __len__(self) -> int:
        return sum(len(part) if isinstance(part, Block) else 1 for part in self.parts)

    def __iter__(self) -> Iterator[Entry]:
        for part in self.parts:
            if isinstance(part, Block):
                yield from part
            else:
                yield part

    def __getitem__(self, at: Any) -> Any:
        return list(self)[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __iadd__(self, entries: Iterable[Entry] | Ledger) -> Ledger:
        self.parts += self.parts_of(entries)
        return self

    def __add__(self, entries: Iterable[Entry] | Ledger) -> Ledger:
        return Ledger([*self.parts, *self.parts_of(entries)])

    def samples(self, *actions: str) -> list[Samples]:
        """The ids of the entries with these actions, those of each block as they are."""
        alone = [part.id for part in self.parts if isinstance(part, Entry) and part.action in actions]
        blocks = [part.ids for part in self.parts if isinstance(part, Block) and part.action in actions]
        return [objects(alone), *blocks] if alone else blocks


def counted(count: int, unit: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {unit}{'s' * (count != 1)}"


def without(entries: Iterable[Entry], undo: Collection[str]) -> Ledger:
    """The entries with those decisions only noted whose keys are in `undo`; all others are the same as before."""
    if not undo:
        return Ledger(Ledger.parts_of(entries))
    return Ledger(
        replace(e, rule=f"{e.rule.partition(':')[0]}: {BACK}", action="noted") if e.is_undoable and e.key in undo else e
        for e in entries
    )


def place_of(sample: str) -> tuple[str, int]:
    """Source and row number of a sample id; -1 where it has none."""
    source, _, rest = sample.rpartition("#")
    return source, int(rest.partition(":")[0]) if rest.partition(":")[0].isdigit() else -1


def conserve(rows_in: int, rows_kept: int, entries: Iterable[Entry]) -> None:
    """Raise InternalFault unless in = kept + dropped, each dropped sample counted once."""
    ledger = Ledger(Ledger.parts_of(entries))
    dropped = ledger.samples("dropped")
    gone = sum(map(len, dropped))
    gone += sum(part.count - 1 for part in ledger.parts if isinstance(part, Entry) and part.action == "dropped")
    if rows_in != rows_kept + gone or repeated_in(dropped):
        raise _lost(f"{rows_in} in, {rows_kept} kept, {gone} dropped")


def conserve_samples(ids: Samples, kept: NDArray[np.bool_], unread: Sequence[str], entries: Iterable[Entry]) -> None:
    """Raise InternalFault unless every sample that came is either kept or dropped, and every change is about one that came.

    `kept` [n] says which of the `ids` stay; `unread` are the ids of what came and is no row.
    """
    beside, ledger = set(unread), Ledger(Ledger.parts_of(entries))
    out, strangers = np.zeros(len(ids), bool), 0
    for action in ("dropped", "changed"):  # a note may be about a line
        for samples in ledger.samples(action):
            about = samples if isinstance(samples, Ids) else [one for one in samples.tolist() if one not in beside]
            found = places_of(ids, about)
            strangers += int((found < 0).sum())
            if action == "dropped":
                out[found[found >= 0]] = True
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
