"""The pointer of a registered model: which version each alias names, where it was before, and why it moved. Pure values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault

FORMAT = 1
ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")
KEPT_MOVES, KEPT_STEPS = 1000, 100


@dataclass(frozen=True)
class Move:
    """One move of an alias to `version` (0: taken away); `how` is register, promote, rollback or release; `at` is UTC."""

    alias: str
    version: int
    how: str
    why: str
    at: str
    serial: int = 0
    before: int | None = None


@dataclass(frozen=True)
class Pointer:
    """`aliases` name versions; `previous` holds where each was, oldest first; `serial` grows with every change."""

    serial: int = 0
    aliases: Mapping[str, int] = field(default_factory=dict)
    previous: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    log: tuple[Move, ...] = ()

    def moved(self, move: Move) -> Pointer:
        """The alias at `move.version`; where it was is remembered."""
        before = self.aliases.get(move.alias)
        steps = self.previous.get(move.alias, ())
        steps = (*steps, before)[-KEPT_STEPS:] if before is not None and before != move.version else steps
        return self._next({**self.aliases, move.alias: move.version}, {**self.previous, move.alias: steps}, move)

    def back(self, move: Move) -> Pointer:
        """The alias at `move.version`, the last one that it had; that step is used up."""
        steps = self.previous[move.alias][:-1]
        return self._next({**self.aliases, move.alias: move.version}, {**self.previous, move.alias: steps}, move)

    def without(self, alias: str, move: Move | None = None) -> Pointer:
        """The alias taken away; without `move` as a part of the change just made."""
        aliases = {name: number for name, number in self.aliases.items() if name != alias}
        previous = {name: steps for name, steps in self.previous.items() if name != alias}
        return self._next(aliases, previous, move) if move else Pointer(self.serial, aliases, previous, self.log)

    def _next(self, aliases: dict[str, int], previous: dict[str, tuple[int, ...]], move: Move) -> Pointer:
        said = {**asdict(move), "serial": self.serial + 1, "before": self.aliases.get(move.alias)}
        return Pointer(self.serial + 1, aliases, previous, (*self.log, Move(**said))[-KEPT_MOVES:])

    def as_json(self) -> dict[str, Any]:
        """The pointer as JSON."""
        return {
            "format": FORMAT,
            "serial": self.serial,
            "aliases": dict(self.aliases),
            "previous": {alias: list(steps) for alias, steps in self.previous.items()},
            "log": [asdict(move) for move in self.log],
        }

    def as_bytes(self) -> bytes:
        """The file: the pointer and its sum."""
        said = self.as_json()
        return json.dumps({"pointer": said, "sum": digest.of_json(said)}, indent=1, ensure_ascii=False).encode()


def read_pointer(path: Path) -> Pointer:
    """The pointer in a file; the empty one where there is none. Raises EnvironmentFault where it is damaged."""
    try:
        return pointer_from(path.read_bytes(), str(path))
    except FileNotFoundError:
        return Pointer()
    except OSError as error:
        raise _damaged(str(path), error) from None


def pointer_from(data: bytes, where: str) -> Pointer:
    """The pointer in the bytes of its file. Raises EnvironmentFault where they are damaged, naming `where`."""
    try:
        raw = json.loads(data)
        said = raw["pointer"]
        if said["format"] != FORMAT or digest.of_json(said) != raw["sum"]:
            raise ValueError("another format or sum")
        return Pointer(
            int(said["serial"]),
            dict(said["aliases"]),
            {alias: tuple(steps) for alias, steps in said["previous"].items()},
            tuple(Move(**move) for move in said["log"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        "damaged_registry",
        "the pointer of a model cannot be read",
        where=where,
        seen=repr(error)[:200],
        hint="take it from a backup; or remove it, and keepfit models promote NAME@NUMBER",
    )
