"""Append-only segments: lines of JSON, each with its checksum, in files of one writer each; knows nothing of what they say.

A writer never touches another's file and begins one of its own, so that a line torn by a crash is the last of its file, and readers
pass over it. Names begin with the time: `answers-0001764000000000-4711-9f3a.jsonl`.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.quick_json import quick

ENDING = ".jsonl"
SEGMENT_BYTES, SEGMENT_S = 16 << 20, 3600.0
Entry = dict[str, Any]  # `t` is its time, Unix seconds


def packed(entry: Entry) -> bytes:
    """A line: JSON, a tab (which JSON cannot hold), the CRC-32 of the JSON, a line feed."""
    text = quick(entry)
    if text is None:
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"%s\t%08x\n" % (text, zlib.crc32(text))


def unpacked(line: bytes) -> Entry | None:
    """The entry of a line, None where the line is torn or damaged."""
    text, _, check = line.rstrip(b"\n").rpartition(b"\t")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    entry = json.loads(text.decode("utf-8", "surrogatepass"))
    return entry if isinstance(entry, dict) else None


class Segment:
    """The writer of one kind of entries. The file is made with the first entry, and another one
    begun when it is `max_bytes` large or `max_s` seconds old, or when a write failed."""

    def __init__(self, folder: Path, kind: str, max_bytes: int = SEGMENT_BYTES, max_s: float = SEGMENT_S) -> None:
        self.folder, self.kind, self.max_bytes, self.max_s = folder, kind, max_bytes, max_s
        self._handle: int | None = None
        self._size, self._begun, self._named = 0, 0.0, 0
        self._lock = threading.RLock()  # one thread writes; the one that prunes may close

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries. Raises OSError where that fails; they may then be there in part."""
        data = b"".join(map(packed, entries))
        with self._lock:
            handle = self._file()
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(handle, left) :]
            except OSError:
                self.close()
                raise
            self._size += len(data)

    def sync(self) -> None:
        """Make all that was appended durable. Raises OSError; what was appended before may then be lost."""
        with self._lock:
            if self._handle is None:
                return
            try:
                os.fsync(self._handle)
            except OSError:
                self.close()  # after a failed fsync the kernel may call the same pages clean: never trust this file again
                raise
            self.roll()

    def roll(self) -> None:
        """Close the file when it is full or old; what was appended is made durable first."""
        with self._lock:
            is_old = time.time() - self._begun >= self.max_s
            if self._handle is not None and (self._size >= self.max_bytes or is_old):
                os.fsync(self._handle)
                self.close()

    def close(self) -> None:
        """Close the file; the next entry begins another."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
            self._handle = None

    def _file(self) -> int:
        if self._handle is None:
            atomic.make_folder(self.folder)
            self._begun, self._size = time.time(), 0
            self._named = max(int(self._begun * 1000), self._named + 1)  # two in one millisecond keep their order
            name = f"{self.kind}-{self._named:016d}-{os.getpid()}-{secrets.token_hex(4)}{ENDING}"
            handle = os.open(self.folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)  # says that it is being written: `prune` leaves it alone
            atomic.sync_folder(self.folder)
            self._handle = handle
        return self._handle


@dataclass(frozen=True)
class _File:
    path: Path
    begun: float

    def entries(self) -> Iterator[Entry]:
        try:
            with self.path.open("rb") as file:
                for line in file:
                    entry = unpacked(line)
                    if entry is not None:
                        yield entry
        except FileNotFoundError:  # pruned meanwhile
            return


def _files(folder: Path, kind: str) -> list[_File]:
    found = []
    for path in folder.glob(f"{kind}-*{ENDING}") if folder.is_dir() else []:
        begun = path.name.removeprefix(f"{kind}-").partition("-")[0]
        if begun.isdigit():
            found.append(_File(path, int(begun) / 1000))
    return sorted(found, key=lambda file: (file.begun, file.path.name))


def read(folder: Path, kind: str, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
    """Entries with since <= t < until of all writers, merged by time; a file is opened when its time has come.

    Entries of one file are taken in their order, which is that of time but for what threads did in the same moment.
    """
    low, high = since if since is not None else float("-inf"), until if until is not None else float("inf")
    waiting = [file for file in _files(folder, kind) if file.begun - 60.0 < high and _touched(file) >= low]
    waiting.reverse()
    heads: list[tuple[float, int, Entry, Iterator[Entry]]] = []
    count = 0

    def push(entries: Iterator[Entry]) -> None:
        nonlocal count
        entry = next(entries, None)
        if entry is not None:
            count += 1
            heapq.heappush(heads, (float(entry["t"]), count, entry, entries))

    while waiting or heads:
        # An answer may wait a little before it is written: its time can be before that of its file.
        while waiting and (not heads or waiting[-1].begun - 60.0 <= heads[0][0]):
            push(waiting.pop().entries())
        if heads:
            at, _, entry, entries = heapq.heappop(heads)
            if low <= at < high:
                yield entry
            push(entries)


def _touched(file: _File) -> float:
    try:
        return file.path.stat().st_mtime + 1.0
    except FileNotFoundError:
        return float("-inf")


def prune(folder: Path, kinds: Sequence[str], now: float, max_age_s: float, max_bytes: int) -> int:
    """Remove files whose last entry is older than `max_age_s`, then the oldest until all are at most `max_bytes` together.

    Files that are being written stay. Returns how many went.
    """
    files = sorted((file for kind in kinds for file in _files(folder, kind)), key=lambda file: file.begun)
    sizes, gone = {}, 0
    for file in files:
        with suppress(FileNotFoundError):
            sizes[file.path] = file.path.stat()
    total = sum(stat.st_size for stat in sizes.values())
    for file in files:
        stat = sizes.get(file.path)
        if stat is None or (total <= max_bytes and stat.st_mtime >= now - max_age_s):
            continue
        if _removed(file.path):
            total -= stat.st_size
            gone += 1
    return gone


def _removed(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
