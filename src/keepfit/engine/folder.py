"""The folder of a run: which one a walk may write, the lock on it, and what becomes of it when the walk fails."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault, KeepfitError, UsageError
from keepfit.runtime.bundle import Bundle
from keepfit.store.artifacts import Store

_MARK = b"keepfit\n"
_WORKSPACE = ".keepfit"  # may lie in the goal itself, as in `fit -o .`
_OURS = [
    *("bundle", "plots", "leaderboard.csv", "ledger.parquet", "metrics.json", "predictions.parquet", "report.html"),
    *("recipe.yaml", "events.jsonl", ".events.part", "plan.json", ".lock"),
]


@dataclass
class RunFolder:
    """Where one walk writes. A numbered folder is taken when there is first something to write, so that a finished run is
    never written over; `goal` is taken at once. `plan.json` is the last file written and the first one gone."""

    store: Store
    parent: Path
    name: str
    keys: list[str]
    goal: Path | None = None
    fresh: bool = False
    path: Path | None = None
    _lock: int | None = None
    _made: list[Path] = field(default_factory=list)
    _logged: bool = False

    def claim_goal(self) -> None:
        """Make and lock `goal`. Raises UsageError where it holds somebody's files, EnvironmentFault where it is in use."""
        goal = self.goal
        if goal is None:
            return
        there = sorted(path.name for path in goal.iterdir() if path.name != _WORKSPACE) if goal.is_dir() else []
        if there and not _is_ours(goal):
            raise UsageError(
                "folder_not_empty",
                "the folder holds files and is not the folder of a run",
                where=str(goal),
                seen=", ".join(there[:5]),
                hint="choose a folder that is empty or not there yet: -o DIR",
            )
        made = [place for place in (goal, *goal.parents) if not place.exists()]
        goal.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(goal)
        if self._lock is None:
            raise EnvironmentFault(
                "folder_in_use",
                "another process writes this folder",
                where=str(goal),
                hint="wait for it to end, or choose another -o DIR",
            )
        self.path, self._made = goal, made

    def take(self) -> Path:
        """The locked folder to write: `goal`, an unfinished run of the same plan, or a number that nobody has."""
        if self.path is not None:
            return self.path
        found = None if self.fresh else self.store.unfinished(self.parent, self.keys)
        lock = _locked(found) if found is not None else None
        while found is None or lock is None:  # another process may lock a new folder before its maker does
            found = self.store.new_run(self.parent, self.name, self.keys)
            lock = _locked(found)
        self.path, self._lock = found, lock
        return found

    def log(self, line: str) -> None:
        """One more line of events.jsonl; aside while the finished run that lies there still counts."""
        folder = self.take()
        part = folder / ".events.part"
        live = not (folder / "plan.json").exists()
        if not self._logged and (self.goal is not None or not live):
            (folder / "events.jsonl" if live else part).unlink(missing_ok=True)
        self._logged = True
        with (folder / "events.jsonl" if live else part).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def whole(self, files: Mapping[str, Mapping[str, bytes]], recipe: Callable[[Path], str]) -> Path | None:
        """A folder that already holds this very result, written to its end and undamaged: `goal`, or the latest run.

        `recipe` gives the text that recipe.yaml must have in a folder.
        """
        folder = self.goal or _latest(self.parent)
        if folder is None:
            return None
        try:
            same = json.loads((folder / "plan.json").read_bytes())["keys"] == self.keys
            same &= Bundle.open(folder / "bundle").sha256 == digest.of_bytes(files["package"]["SHA256SUMS"])
            same &= (folder / "metrics.json").read_bytes() == files["evaluate"]["metrics.json"]
            same &= (folder / "recipe.yaml").read_text("utf-8") == recipe(folder)
        except (OSError, ValueError, KeyError, TypeError, KeepfitError):
            return None
        return folder if same else None

    def begin(self) -> Path:
        """The folder, with nothing left in it that could vouch for other files than those to come."""
        folder = self.take()
        (folder / "plan.json").unlink(missing_ok=True)
        (folder / "leaderboard.csv").unlink(missing_ok=True)
        for picture in folder.glob("plots/*.png"):
            picture.unlink()
        _remove(*_scratch(folder))
        part = folder / ".events.part"
        if part.exists():
            os.replace(part, folder / "events.jsonl")
        elif self.goal is not None and not self._logged:
            (folder / "events.jsonl").unlink(missing_ok=True)
        return folder

    def fail(self) -> None:
        """Nothing half-written stays; a finished run that lay there does."""
        folder = self.path
        if folder is None:
            return
        (folder / ".events.part").unlink(missing_ok=True)
        if (folder / "plan.json").exists():
            return
        if self.goal is None:
            self.store.run_state(folder, self.name, self.keys, "failed")
            shutil.rmtree(folder, ignore_errors=True)
            return
        _remove(*_scratch(folder), *(folder / name for name in _OURS))
        with suppress(OSError):  # somebody else put a file there
            for place in self._made:
                place.rmdir()

    def release(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _scratch(folder: Path) -> Iterator[Path]:
    """What a killed writer left of our files."""
    for name in _OURS:
        for ending in ("part", "old"):
            yield from folder.glob(f".{name}.*.{ending}")


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _latest(parent: Path) -> Path | None:
    try:
        return (parent / "latest").resolve(strict=True)
    except OSError:
        return None


def _is_ours(folder: Path) -> bool:
    """Whether a walk wrote this folder: to its end (plan.json), or until it was killed (the lock's mark)."""
    try:
        return isinstance(json.loads((folder / "plan.json").read_bytes())["keys"], list)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return not (folder / "plan.json").exists() and (folder / ".lock").read_bytes() == _MARK
    except OSError:
        return False


def _locked(folder: Path) -> int | None:
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if not os.fstat(handle).st_size:
        os.write(handle, _MARK)
    return handle
