"""Counts what hostile files want: unpickled names, code from text, processes and sockets, by Python's own audit events."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = {
    "pickle.find_class": "unpickle",
    "marshal.loads": "unpickle",
    "os.system": "process",
    "os.exec": "process",
    "os.fork": "process",
    "os.forkpty": "process",
    "os.posix_spawn": "process",
    "os.spawn": "process",
    "subprocess.Popen": "process",
    "socket.connect": "socket",
    "socket.bind": "socket",
    "socket.getaddrinfo": "socket",
    "socket.gethostbyname": "socket",
    "urllib.Request": "socket",
    "ctypes.dlopen": "library",
}
_seen: Counter[str] | None = None
_opened: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "exec":
        name = getattr(arguments[0], "co_filename", "")
        if not name.endswith(".py") and not name.startswith("<frozen"):
            _seen["exec"] += 1
    elif event == "marshal.loads":
        if sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):  # the import of a compiled module
            return
        _seen["unpickle"] += 1
    elif event in EVENTS:
        _seen[EVENTS[event]] += 1
    elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """What happens in the block, by kind; empty where nothing of it did."""
    global _seen
    _seen, counted = (made := Counter()), made
    _opened.clear()
    try:
        yield counted
    finally:
        _seen = None


def opened() -> list[str]:
    """The files opened in the last block, as they were named."""
    return list(_opened)


class Bomb:
    """Unpickling it makes the file `owned` in the working directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@dataclass(frozen=True)
class Attack:
    """One attack: what makes the file, a naive loader that falls for it, and the loader of Keepfit that must not."""

    name: str
    make: Callable[[Path], Path]
    load: Callable[[Path], Any]
    naive: Callable[[Path], Any] | None = None
    proof: Callable[[Any], bool] | None = None


def owned(_: Any = None) -> bool:
    """Whether a payload ran, once: the trace is removed."""
    place = Path("owned")
    there = place.exists()
    if there:
        place.unlink()
    return there
