"""One attempt at a challenger: a folder with its rows and what is asked, and the low-priority process that makes it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import EnvironmentFault, from_os_error
from keepfit.loop.rows import Labelled

ROWS, ASKED, DONE, LOG = "rows.json", "asked.json", "done.json", "log.txt"


@dataclass(frozen=True)
class Asked:
    """What an attempt is to make. `kinds` compete on the hold-out; `champion` is the version that they are compared with."""

    recipe: str
    overrides: tuple[str, ...]
    workspace: str
    name: str
    champion: int
    kinds: tuple[str, ...]
    memory: int
    seed: int


@dataclass(frozen=True)
class Result:
    """How it ended: `version` is the challenger in the registry, 0 where there is none and `error` says why. `forgotten` has
    the shares of right answers of champion and challenger on rows from before that the challenger did not learn from."""

    version: int
    kind: str = ""
    scores: dict[str, float | None] | None = None
    error: str = ""
    forgotten: dict[str, Any] | None = None


class Attempt:
    """The folder of one attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def write(
        cls,
        folder: Path,
        asked: Asked,
        train: Sequence[Labelled],
        held_out: Sequence[Labelled],
        past: Sequence[Labelled],
    ) -> Attempt:
        """The rows and the question on the disk, whole or not at all."""
        rows = {
            part: [{"inputs": row.inputs, "label": row.label} for row in given]
            for part, given in (("train", train), ("holdout", held_out), ("past", past))
        }
        try:
            if not folder.exists():
                with atomic.new_folder(folder) as scratch:
                    (scratch / ROWS).write_text(json.dumps(rows, allow_nan=False), "utf-8")
                    (scratch / ASKED).write_text(json.dumps(asdict(asked)), "utf-8")
        except OSError as error:
            raise from_os_error(error, "writing the rows of a challenger") from None
        return cls(folder)

    @property
    def asked(self) -> Asked:
        """The question."""
        said = json.loads((self.folder / ASKED).read_text("utf-8"))
        return Asked(**{**said, "overrides": tuple(said["overrides"]), "kinds": tuple(said["kinds"])})

    def rows(self, part: str) -> list[dict[str, Any]]:
        """`train`, `holdout` or `past`: objects with `inputs` and `label`."""
        found: list[dict[str, Any]] = json.loads((self.folder / ROWS).read_text("utf-8"))[part]
        return found

    def result(self) -> Result | None:
        """How it ended, None while it has not."""
        try:
            return Result(**json.loads((self.folder / DONE).read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise EnvironmentFault(
                "damaged_attempt",
                "the end of a run cannot be read",
                where=str(self.folder / DONE),
                seen=str(error)[:200],
            ) from None

    def finish(self, result: Result) -> None:
        """Says how it ended, durably."""
        atomic.write_text(self.folder / DONE, json.dumps(asdict(result)))

    @property
    def running(self) -> bool:
        """Whether a process is at work on it, of whichever parent."""
        with self.held() as own:
            return not own

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether this process got the attempt for itself; the lock goes with the process, however it ends."""
        handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except (BlockingIOError, PermissionError):
            yield False
        finally:
            os.close(handle)

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the process, in a session of its own so that it outlives whoever asked; what is made in time is kept."""
        with (self.folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "keepfit.loop.training", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            )
