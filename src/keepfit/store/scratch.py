"""A folder of its own for a step that may be killed: what is left in it lets the same step go on."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Scratch:
    """The folder, made when `path` is first asked for; `done` says that nothing in it is needed any more."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_done = folder, False

    def path(self) -> Path:
        """The folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def done(self) -> None:
        """The step has been recorded."""
        self.is_done = True


@contextmanager
def scratch(root: Path, key: str, *, fresh: bool = False) -> Iterator[Scratch]:
    """The scratch of a step key, emptied first when `fresh`. A second process on the same step gets one that is thrown away."""
    parent = root / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    # A POSIX lock: processes that are forked to prepare batches do not inherit it, so it goes when this process does.
    handle = os.open(parent / f"{key[:24]}.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        own = True
    except (BlockingIOError, PermissionError):  # which of the two POSIX leaves open
        own = False
    place = Scratch(parent / (key[:24] if own else f"{key[:24]}-{os.getpid()}"))
    try:
        if fresh or not own:
            shutil.rmtree(place.folder, ignore_errors=True)
        yield place
    finally:
        if place.is_done or not own:
            shutil.rmtree(place.folder, ignore_errors=True)
        os.close(handle)
