"""Moves of aliases that a pointer's log has no room for any more: one JSON line each, oldest first, appended before they go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from keepfit.core import atomic
from keepfit.store.pointer import Move


def keep(path: Path, moves: Sequence[Move]) -> None:
    """Append moves, durable when it returns. A move may stand twice where a crash came before the pointer was written."""
    if not moves:
        return
    atomic.make_folder(path.parent)
    lines = "".join(json.dumps(asdict(move), ensure_ascii=False) + "\n" for move in moves)
    fresh = not path.exists()
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            lines = ("" if file.read(1) == b"\n" else "\n") + lines  # a line that a crash tore is no part of the next
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        atomic.sync_folder(path.parent)


def kept(path: Path) -> Iterator[Move]:
    """The moves that were kept, line by line, so that there may be any number; a torn line is none."""
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield Move(**json.loads(line))
                except (ValueError, TypeError):
                    continue
    except FileNotFoundError:
        return
