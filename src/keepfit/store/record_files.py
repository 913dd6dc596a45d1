"""Where records are kept: what a backend must offer, and the one of files; `sql_records` is the other."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from keepfit.core import atomic, digest
from keepfit.core.errors import from_os_error
from keepfit.store import segments
from keepfit.store.segments import Entry, Segment

Kind = Literal["answers", "feedback", "sketches"]
KINDS: tuple[Kind, ...] = ("answers", "feedback", "sketches")
KEY_BYTES = 32


class Backend(Protocol):
    """Where entries are kept. An entry is JSON with its time `t` (Unix seconds); answers and feedback have an `id`."""

    def key(self) -> bytes:
        """The secret that all processes of the service share, made once."""
        ...

    def describe(self, model: Entry) -> None:
        """Keep what a model is, by its `sha256`, so that its answers can be read without the bundle."""
        ...

    def models(self) -> dict[str, Entry]:
        """The models described, by SHA-256."""
        ...

    def write(self, kind: Kind, entries: Sequence[Entry], durable: bool = False) -> None:
        """Add entries; on return they survive a crash when `durable`. Raises KeepfitError. One thread per kind."""
        ...

    def read(self, kind: Kind, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Entries with since <= t < until in the order of time."""
        ...

    def prune(self, now: float, max_age_s: float, max_bytes: int) -> int:
        """Remove what is too old or too much; returns how many files or rows went."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class FileRecords:
    """Segments in a folder; several processes may write and read at once."""

    def __init__(self, folder: Path, segment_bytes: int = segments.SEGMENT_BYTES) -> None:
        self.folder = folder
        self._writers = {kind: Segment(folder, kind, segment_bytes) for kind in KINDS}

    def key(self) -> bytes:
        """See Backend; a file that only its owner may read."""
        path = self.folder / "key"
        with self._locked():
            if not path.is_file() or path.stat().st_size != KEY_BYTES:
                atomic.write_bytes(path, secrets.token_bytes(KEY_BYTES))
                path.chmod(0o600)
            return path.read_bytes()

    def describe(self, model: Entry) -> None:
        """See Backend."""
        path = self.folder / "models" / f"{model['sha256'][:64]}.json"
        data = digest.canonical(model)
        with self._locked():
            if not path.is_file() or path.read_bytes() != data:
                atomic.write_bytes(path, data)

    def models(self) -> dict[str, Entry]:
        """See Backend."""
        found = (json.loads(path.read_bytes()) for path in sorted((self.folder / "models").glob("[0-9a-f]*.json")))
        return {model["sha256"]: model for model in found}

    def write(self, kind: Kind, entries: Sequence[Entry], durable: bool = False) -> None:
        """See Backend."""
        try:
            if entries:
                self._writers[kind].append(entries)
            if durable:
                self._writers[kind].sync()
        except OSError as error:
            raise from_os_error(error, "writing a record") from None

    def read(self, kind: Kind, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """See Backend."""
        return segments.read(self.folder, kind, since, until)

    def prune(self, now: float, max_age_s: float, max_bytes: int) -> int:
        """See Backend."""
        for writer in self._writers.values():
            writer.roll()
        return segments.prune(self.folder, KINDS, now, max_age_s, max_bytes)

    def close(self) -> None:
        """See Backend."""
        for writer in self._writers.values():
            writer.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            if not self.folder.is_dir():
                atomic.make_folder(self.folder)
                self.folder.chmod(0o700)  # people's data: for nobody else on this machine
            handle = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise from_os_error(error, "opening the records") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise from_os_error(error, "writing the records") from None
        finally:
            os.close(handle)
