"""Records what a program does to the files below a folder, and gives every state that a crash could leave of it.

Between two hooked calls the folder is compared with what was known of it, so that writes by any way are seen. The model of the
disk is the strict one: data is safe after fsync of the file, a name after fsync of its folder, and of what is not safe any part may
be there. Source of the method: Pillai et al., All File Systems Are Not Created Equal, OSDI 2014.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from keepfit.core import atomic


@dataclass
class Disk:
    """Folders and files by number: what is there (`names`, `data`), and what is safe (`safe_names`, `safe_data`)."""

    names: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    data: dict[int, bytes] = field(default_factory=dict)
    safe_names: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    safe_data: dict[int, bytes] = field(default_factory=dict)

    def at(self, path: str) -> int:
        node = 0
        for part in Path(path).parts:
            node = self.names[node][part]
        return node

    def apply(self, op: tuple[Any, ...]) -> None:
        kind, *said = op
        if kind in ("mkdir", "create"):
            folder, name = os.path.split(said[0])
            self.names[self.at(folder)][name] = said[1]
            if kind == "mkdir":
                self.names[said[1]], self.safe_names[said[1]] = {}, {}
            else:
                self.data[said[1]], self.safe_data[said[1]] = b"", b""
        elif kind == "write":
            self.data[said[0]] = said[1]
        elif kind == "gone":
            folder, name = os.path.split(said[0])
            del self.names[self.at(folder)][name]
        elif kind == "rename":
            (old, source), (new, goal) = map(os.path.split, said)
            self.names[self.at(new)][goal] = self.names[self.at(old)].pop(source)
        elif kind == "exchange":
            (old, source), (new, goal) = map(os.path.split, said)
            one, two = self.names[self.at(old)], self.names[self.at(new)]
            one[source], two[goal] = two[goal], one[source]
        elif kind == "fsync":
            node = self.at(said[0])
            if node in self.names:
                self.safe_names[node] = dict(self.names[node])
            else:
                self.safe_data[node] = self.data[node]

    def tree(self, names: dict[int, dict[str, int]], data: dict[int, bytes]) -> dict[str, bytes | None]:
        """Path -> bytes, None for a folder."""
        found: dict[str, bytes | None] = {}

        def walk(node: int, path: str) -> None:
            for name, child in names[node].items():
                place = os.path.join(path, name)
                found[place] = None if child in self.names else data[child]
                if child in self.names:
                    walk(child, place)

        walk(0, "")
        return found


class Tape:
    """The operations below `root` while it is recording, with what was acknowledged in between."""

    def __init__(self, root: Path) -> None:
        self.root, self.ops, self._lock = root, [], threading.RLock()
        self._now, self._count = Disk(), itertools.count(1)

    def ack(self, what: Any) -> None:
        """The program told its user that something is done."""
        with self._lock:
            self._look()
            self.ops.append(("ack", what))

    def _add(self, *op: Any) -> None:
        self.ops.append(op)
        self._now.apply(op)

    def _look(self) -> None:
        """Log what changed since the last look."""
        known = self._now.tree(self._now.names, self._now.data)
        there: dict[str, bytes | None] = {}
        for folder, folders, files in os.walk(self.root):
            below = os.path.relpath(folder, self.root)
            for name in folders:
                there[os.path.normpath(os.path.join(below, name))] = None
            for name in files:
                place = Path(folder, name)
                there[os.path.normpath(os.path.join(below, name))] = place.read_bytes()
        for path in sorted(set(known) - set(there), reverse=True):
            self._add("gone", path)
        for path in sorted(there):
            if path not in known:
                self._add("mkdir" if there[path] is None else "create", path, next(self._count))
            if there[path] is not None and there[path] != known.get(path, b""):
                self._add("write", self._now.at(path), there[path])

    def _inside(self, path: Any) -> str | None:
        full = os.path.abspath(os.fspath(path))
        return (
            os.path.relpath(full, self.root)
            if full.startswith(str(self.root) + os.sep) or full == str(self.root)
            else None
        )

    def __enter__(self) -> Tape:
        real = {
            name: getattr(os, name)
            for name in ("open", "write", "close", "mkdir", "unlink", "rmdir", "fsync", "replace")
        }
        exchange = atomic._exchange

        def looked(name: str) -> Callable[..., Any]:
            def call(*said: Any, **more: Any) -> Any:
                with self._lock:
                    self._look()
                    done = real[name](*said, **more)
                    self._look()
                    return done

            return call

        def fsync(handle: int) -> None:
            path = self._inside(os.readlink(f"/proc/self/fd/{handle}"))
            with self._lock:
                self._look()
                if path is not None:
                    self._add("fsync", "" if path == "." else path)

        def moved(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def move(source: Any, goal: Any) -> Any:
                with self._lock:
                    self._look()
                    done = call(source, goal)
                    one, two = self._inside(source), self._inside(goal)
                    if one is not None and two is not None and done is not False:
                        self._add(kind, one, two)
                    return done

            return move

        self._patches = [
            mock.patch.object(os, name, looked(name)) for name in ("open", "write", "close", "mkdir", "unlink", "rmdir")
        ]
        self._patches += [
            mock.patch.object(os, "fsync", fsync),
            mock.patch.object(os, "replace", moved("rename", real["replace"])),
        ]
        self._patches += [mock.patch.object(atomic, "_exchange", moved("exchange", exchange))]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *gone: Any) -> None:
        for patch in self._patches:
            patch.stop()
        self._look()


def states(ops: list[tuple[Any, ...]]) -> Iterator[tuple[dict[str, bytes | None], list[Any]]]:
    """Every state after a crash, once, with what had been acknowledged by then.

    After each operation: all of it; only what is safe; the names without the data; the data without the names; and half of a write.
    """
    disk, acked, seen = Disk(), [], set()
    for op in [("begin",), *ops]:
        if op[0] == "ack":
            acked = [*acked, op[1]]
        before = copy.deepcopy(disk) if op[0] == "write" else disk
        if op[0] == "write":
            old, new = before.data[op[1]], op[2]
            kept = len(old) if new.startswith(old) else 0
            before.data[op[1]] = new[: kept + (len(new) - kept) // 2]
        torn = before.tree(before.names, before.data) if op[0] == "write" else None
        if op[0] not in ("begin", "ack"):
            disk.apply(op)
        found = [disk.tree(n, d) for n in (disk.names, disk.safe_names) for d in (disk.data, disk.safe_data)]
        for tree in [*found, *([torn] if torn is not None else [])]:
            name = hashlib.sha256(repr((sorted(tree.items()), len(acked))).encode()).digest()
            if name not in seen:
                seen.add(name)
                yield tree, acked


def lay(tree: dict[str, bytes | None], folder: Path) -> Path:
    """The state as files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
    return folder


def failures(
    ops: list[tuple[Any, ...]], folder: Path, check: Callable[[Path, list[Any]], object]
) -> tuple[int, list[str]]:
    """How many states there are, and what `check(root, acknowledged)` raised in those that it found wrong."""
    count, wrong = 0, []
    for tree, acked in states(ops):
        count += 1
        try:
            with mock.patch.object(
                os, "fsync", lambda handle: None
            ):  # the state is laid in memory's cache: no need to wait for a disk
                check(lay(tree, folder), acked)
        except Exception as error:
            wrong.append(f"{acked}: {type(error).__name__}: {str(error)[:200]}")
    return count, wrong
