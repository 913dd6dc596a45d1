"""The row ledger: what happened to every sample, and the check that none was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keepfit.core.errors import InternalFault

COLUMNS = ("id", "source", "row", "column", "rule", "before", "after", "stage", "action")


@dataclass(frozen=True)
class Entry:
    """One decision about one sample; `action` is dropped, changed or noted."""

    id: str
    source: str
    row: int
    column: str
    rule: str
    before: str
    after: str
    stage: str
    action: str = "dropped"

    def as_json(self) -> dict[str, Any]:
        """The entry as JSON, keys in COLUMNS."""
        return asdict(self)


def conserve(rows_in: int, rows_kept: int, entries: Sequence[Entry]) -> None:
    """Raise InternalFault unless in = kept + dropped, each dropped sample counted once."""
    dropped = Counter(entry.id for entry in entries if entry.action == "dropped")
    if rows_in != rows_kept + len(dropped) or any(times > 1 for times in dropped.values()):
        raise InternalFault(
            "rows_lost",
            "the account of rows does not add up",
            where="the row ledger",
            seen=f"{rows_in} in, {rows_kept} kept, {len(dropped)} dropped",
            hint="this is a fault of keepfit, not yours: please report it; keepfit run --fresh makes every stage again",
        )
