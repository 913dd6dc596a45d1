"""What the loop has done and decided, one JSON line each, on the disk before it is acted upon; a torn last line is no line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import EnvironmentFault, from_os_error


@dataclass(frozen=True)
class Entry:
    """One line: its number from 1, Unix seconds, what happened, and the evidence."""

    number: int
    at: float
    what: str
    data: Mapping[str, Any] = field(default_factory=dict)


def _finite(value: Any) -> Any:
    """Evidence as JSON has it: a figure that is not finite is not known."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Journal:
    """The journal of one model's loop in a workspace; one writer, any number of readers."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.folder = Path(workspace) / ".keepfit" / "loop" / name
        self.path = self.folder / "journal.jsonl"
        self._entries = self._read()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def write(self, at: float, what: str, **data: Any) -> Entry:
        """Append a line and wait until it is on the disk."""
        entry = Entry(len(self._entries) + 1, at, what, data)
        line = json.dumps(_finite({"number": entry.number, "at": at, "what": what, **data}), allow_nan=False) + "\n"
        try:
            atomic.make_folder(self.folder)
            fresh = not self.path.exists()
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                atomic.sync_folder(self.folder)
        except OSError as error:
            raise from_os_error(error, "writing the loop's journal") from None
        self._entries.append(entry)
        return entry

    def _read(self) -> list[Entry]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, "reading the loop's journal") from None
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # a line that a crash cut short was never acknowledged
            with self.path.open("rb+") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        entries = []
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                said = json.loads(line)
                entries.append(Entry(int(said.pop("number")), float(said.pop("at")), str(said.pop("what")), said))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise EnvironmentFault(
                    "damaged_journal",
                    "the loop's journal cannot be read",
                    where=f"{self.path}:{number}",
                    seen=repr(line[:80]),
                    hint="move the file away: the loop starts with the present champion",
                ) from None
        return entries
