"""The store: an artifact is a set of named files, kept under the hash of its content; a step key points to it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from keepfit.core import atomic, digest
from keepfit.core.errors import EnvironmentFault, from_os_error

Files = dict[str, bytes]
_ABANDONED_S = 86_400.0


class Store:
    """Everything under `.keepfit/`: `objects/` and `journal.sqlite`. Safe for several processes at once."""

    def __init__(self, workspace: Path) -> None:
        self.folder = workspace / ".keepfit"
        self._swept = False
        try:
            atomic.make_folder(self.folder / "objects")
            with self._journal() as journal:
                journal.execute(
                    "create table if not exists steps (key text primary key, artifact text not null,"
                    " stage text not null, seconds real not null)"
                )
                journal.execute(
                    "create table if not exists runs (path text primary key, recipe text not null,"
                    " plan text not null, state text not null)"
                )
        except OSError as error:
            raise from_os_error(error, "opening the workspace") from None

    @contextmanager
    def _journal(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.folder / "journal.sqlite", timeout=60)) as connection:
                connection.execute("pragma synchronous=full")
                with connection:
                    yield connection
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            raise EnvironmentFault(
                "disk_full" if full else "workspace",
                "the workspace's journal cannot be used",
                where=str(self.folder),
                seen=str(error),
                hint="free some space or choose another --workspace DIR",
            ) from None

    def put(self, files: Mapping[str, bytes]) -> str:
        """Keep files; the name of the artifact is the digest of its listing."""
        sums = {name: digest.of_bytes(data) for name, data in sorted(files.items())}
        name = digest.of_json(sums)
        place = self._place(name)
        with self._writing():
            self._sweep()
            if self._read(name) is None:
                with atomic.new_folder(place) as scratch:
                    for file, data in files.items():
                        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
                        (scratch / file).write_bytes(data)
                    (scratch / "files.json").write_bytes(digest.canonical(sums))
        return name

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time; the lock goes with its process, however that ends."""
        handle = os.open(self.folder / "objects" / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Remove what killed writers left, once per opened store; a day of grace for writers that know no lock."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - _ABANDONED_S
        for ending in ("part", "old"):
            for scratch in (self.folder / "objects").glob(f"*/.*.{ending}"):
                if scratch.stat().st_mtime < oldest:
                    shutil.rmtree(scratch, ignore_errors=True)

    def get(self, artifact: str) -> Files | None:
        """The files of an artifact, or None when it is absent or any byte of it is not what was kept."""
        return self._read(artifact)

    def record(self, key: str, artifact: str, stage: str, seconds: float) -> None:
        """A step was made."""
        with self._journal() as journal:
            journal.execute("insert or replace into steps values (?,?,?,?)", (key, artifact, stage, seconds))

    def made_by(self, key: str) -> tuple[str, Files] | None:
        """The artifact of a step, verified; a damaged one is thrown away so that it is made again."""
        with self._journal() as journal:
            row = journal.execute("select artifact from steps where key=?", (key,)).fetchone()
        if row is None:
            return None
        files = self._read(row[0])
        if files is None:
            with self._writing():
                files = self._read(row[0])  # another process may have made it again since
                if files is None:
                    shutil.rmtree(self._place(row[0]), ignore_errors=True)
                    with self._journal() as journal:
                        journal.execute("delete from steps where key=?", (key,))
        return None if files is None else (str(row[0]), files)

    def is_made(self, key: str) -> bool:
        """Whether a step is in the journal; does not verify."""
        with self._journal() as journal:
            row = journal.execute("select artifact from steps where key=?", (key,)).fetchone()
        return row is not None and self._place(row[0]).exists()

    def new_run(self, folder: Path, recipe: str, plan: list[str]) -> Path:
        """Claim the next numbered folder under `folder`, e.g. `0003`; two callers never get the same."""
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)
        while True:
            path = folder / f"{number:04d}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
        self.run_state(path, recipe, plan, "started")
        return path

    def run_state(self, path: Path, recipe: str, plan: list[str], state: str) -> None:
        """Write a run into the journal."""
        with self._journal() as journal:
            journal.execute(
                "insert or replace into runs values (?,?,?,?)", (str(path.resolve()), recipe, json.dumps(plan), state)
            )

    def unfinished(self, folder: Path, plan: list[str]) -> Path | None:
        """A run below `folder` of the same plan that was started and neither finished nor is held by a live process."""
        with self._journal() as journal:
            rows = journal.execute(
                "select path from runs where plan=? and state='started' order by path desc", (json.dumps(plan),)
            ).fetchall()
        found = [Path(row[0]) for row in rows]
        return next((p for p in found if p.parent == folder.resolve() and p.is_dir()), None)

    def _place(self, artifact: str) -> Path:
        return self.folder / "objects" / artifact[:2] / artifact

    def _read(self, artifact: str) -> Files | None:
        place = self._place(artifact)
        try:
            sums = json.loads((place / "files.json").read_bytes())
            files = {name: (place / name).read_bytes() for name in dict(sums)}
        except (OSError, ValueError, TypeError):
            return None
        whole = all(digest.of_bytes(files[name]) == wanted for name, wanted in sums.items())
        return files if whole and digest.of_json(sums) == artifact else None
