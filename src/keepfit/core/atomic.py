"""Atomic writes: temp file beside the goal, fsync, rename, fsync of the folder."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and the flag of linux/fs.h


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it durable: a folder whose own name was not synced takes its files along in a crash."""
    absent = [folder, *folder.parents]
    absent = absent[: next((place for place, one in enumerate(absent) if one.is_dir()), len(absent))]
    for one in reversed(absent):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing; readers see the old or the new content."""
    make_folder(path.parent)
    temp = _beside(path, "part")
    handle = os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less what the user's umask takes away
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    sync_folder(path.parent)


def _beside(goal: Path, ending: str) -> Path:
    """A name that nothing has, in the folder of `goal`: `.<name>.<random>.<ending>`."""
    return goal.with_name(f".{goal.name}.{secrets.token_hex(6)}.{ending}")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`."""
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(root))


def _exchange(one: Path, two: Path) -> bool:
    """Exchange two names in one step (Linux's renameat2); False where that is not known."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(two), _RENAME_EXCHANGE) == 0)


def _put(scratch: Path, goal: Path) -> Path | None:
    """Give `scratch` the name `goal`; where what had that name is."""
    if not goal.exists():
        os.replace(scratch, goal)
        return None
    if _exchange(scratch, goal):
        return scratch
    old = _beside(goal, "old")
    os.replace(goal, old)
    os.replace(scratch, goal)
    return old


def put_folder(scratch: Path, goal: Path) -> None:
    """Give a folder whose content is durable (`sync_tree`) the name `goal`, on the same disk, as `new_folder` does."""
    make_folder(goal.parent)
    old = _put(scratch, goal)
    sync_folder(goal.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_folder(goal: Path) -> Iterator[Path]:
    """A scratch folder that becomes `goal` by one rename on success and vanishes on failure.

    An existing `goal` changes places with it and is then removed; where the system cannot exchange names, it is put aside
    first, and a crash in between leaves neither.
    """
    make_folder(goal.parent)
    scratch = _beside(goal, "part")
    scratch.mkdir()
    try:
        yield scratch
        sync_tree(scratch)
        put_folder(scratch, goal)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
