"""A registry at a URL: what one host registers and promotes, others follow. Any URL of fsspec: s3, gs, file; http(s) to read.

URL/NAME/versions/0003/bundle/...       files of the bundle, then
URL/NAME/versions/0003/version.json     what makes them a version, then
URL/NAME/pointer.json                   the aliases: one object, whose replacement moves them

Written in that order, so that a pointer names only what is there. A reader checks the sum of the pointer and every hash, and
keeps what it has where they do not hold: a copy that was cut short is never served.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keepfit.core import atomic
from keepfit.core.errors import DataError, EnvironmentFault, GateError, KeepfitError, UsageError, from_os_error
from keepfit.core.events import Emit, Event
from keepfit.runtime.reading import redacted
from keepfit.runtime.remote import faults, file_system
from keepfit.store import moves
from keepfit.store.pointer import ALIAS, Move, Pointer, pointer_from, read_pointer
from keepfit.store.registry import CHAMPION, Registry, Version, named, numbers_of, origin_of, swept, version_from

_MOST_POINTER, _MOST_FILE, _MOST_FILES = 4 << 20, 2 << 30, 64
_BLOCK = 1 << 20


class Mirror:
    """The registry at a URL. `url` may hold credentials; what is shown and written down does not."""

    def __init__(self, url: str) -> None:
        url = url.rstrip("/") if "://" in url else f"file://{Path(url).resolve()}"
        if "?" in url:
            raise UsageError(
                "url_wrong",
                "the URL of a registry is a folder, and cannot have a query",
                where=redacted(url),
                hint="s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH, https://HOST/PATH; credentials by the storage's own files",
            )
        self.shown = redacted(url)
        self._system, self._root = file_system(url)
        self._local = url.lower().startswith("file:")

    def push(self, registry: Registry, name: str) -> bool:
        """Bring the URL to the state of a registry: versions that aliases name, then the pointer; whether anything moved.

        Raises GateError `mirror_moved` where another registry has written there, EnvironmentFault where it cannot be written.
        """
        pointer = registry.pointer(name)
        far = self.pointer(name)
        if far == pointer:
            return False
        if far.log and not _has_made(registry, name, far.log[-1]):
            raise GateError(
                "mirror_moved",
                "another registry writes to this URL",
                where=f"{self.shown}/{name}",
                seen=f"its last move: {far.log[-1].how} of {far.log[-1].alias} at {far.log[-1].at}",
                hint="give every workspace that makes models a URL of its own",
            )
        for number in sorted(set(pointer.aliases.values())):
            self._put_version(registry.get(name, number))
        self._put(f"{name}/pointer.json", pointer.as_bytes())
        return True

    def pull(self, registry: Registry, name: str) -> bool:
        """Bring a registry that follows to the state of the URL; whether its aliases moved. Raises KeepfitError."""
        far = self.pointer(name)
        if CHAMPION not in far.aliases:
            raise DataError(
                "no_champion",
                f"the registry has no champion of {name}",
                where=f"{self.shown}/{name}",
                hint="keepfit models push NAME --to URL, or serve.publish in the recipe of keepfit up",
            )
        if (
            origin_of(registry.folder / name) == self.shown
            and name in registry.names()
            and registry.pointer(name) == far
        ):
            return False
        receive(registry, name, self)
        return True

    def pointer(self, name: str) -> Pointer:
        """The aliases at the URL; the empty pointer where nothing was pushed. Raises DataError, EnvironmentFault."""
        where = f"{self.shown}/{name}/pointer.json"
        try:
            found = pointer_from(self._get(f"{name}/pointer.json", _MOST_POINTER), where)
        except DataError as error:
            if error.code != "no_file":
                raise
            return Pointer()
        wrong = [
            alias
            for alias, number in found.aliases.items()
            if not ALIAS.fullmatch(alias) or type(number) is not int or not 0 < number < 10**9
        ]
        if wrong:
            raise EnvironmentFault(
                "damaged_registry",
                "the pointer names no version",
                where=where,
                seen=repr(wrong[0])[:100],
                hint="push it again from the workspace that makes the models",
            )
        return found

    def _put_version(self, version: Version) -> None:
        place = f"{version.name}/versions/{version.version:04d}"
        facts = (version.path.parent / "version.json").read_bytes()
        try:
            if self._get(f"{place}/version.json", _MOST_POINTER) == facts:
                return
        except DataError as error:
            if error.code != "no_file":
                raise
        else:
            raise GateError(
                "mirror_moved",
                f"another version {version.version} of {version.name} is at this URL",
                where=f"{self.shown}/{place}",
                hint="give every workspace that makes models a URL of its own",
            )
        bundle = version.open()
        for file, data in bundle.files.items():
            self._put(f"{place}/bundle/{file}", data)
        self._put(f"{place}/bundle/SHA256SUMS", (version.path / "SHA256SUMS").read_bytes())
        self._put(f"{place}/version.json", facts)

    def is_here(self, registry: Registry, name: str, number: int) -> bool:
        """Whether a version of the registry is whole, and the one that is at the URL."""
        try:
            version = registry.get(name, number)
            version.open()
            here = (version.path.parent / "version.json").read_bytes()
        except (KeepfitError, OSError):
            return False
        return here == self._get(f"{name}/versions/{number:04d}/version.json", _MOST_POINTER)

    def take_version(self, name: str, number: int, folder: Path) -> bytes:
        """The files of a bundle into a folder, and the bytes of its version.json. Raises DataError, EnvironmentFault."""
        place = f"{name}/versions/{number:04d}"
        sums = self._get(f"{place}/bundle/SHA256SUMS", 1 << 20)
        names = [line.partition("  ")[2] for line in sums.decode("utf-8", "replace").splitlines()]
        if len(names) > _MOST_FILES or any(
            not one or "/" in one or "\\" in one or one.startswith(".") for one in names
        ):
            raise EnvironmentFault(
                "damaged_bundle",
                "SHA256SUMS names what cannot be a file of a bundle",
                where=f"{self.shown}/{place}/bundle",
                seen=repr(names)[:200],
                hint="push it again from the workspace that makes the models",
            )
        (folder / "SHA256SUMS").write_bytes(sums)
        for file in names:
            with (folder / file).open("xb") as near:
                for block in self._blocks(f"{place}/bundle/{file}", _MOST_FILE):
                    near.write(block)
        return self._get(f"{place}/version.json", _MOST_POINTER)

    def _get(self, name: str, most: int) -> bytes:
        return b"".join(self._blocks(name, most))

    def _blocks(self, name: str, most: int) -> Iterator[bytes]:
        """The bytes of one object. Raises DataError `no_file` or `unreachable`, EnvironmentFault for one over `most` bytes."""
        size = 0
        self._system.invalidate_cache()
        with faults(f"{self.shown}/{name}"), self._system.open(f"{self._root}/{name}", "rb") as far:
            while block := far.read(_BLOCK):
                size += len(block)
                if size > most:
                    raise EnvironmentFault(
                        "too_large",
                        "a file of the registry is too large",
                        where=f"{self.shown}/{name}",
                        seen=f"more than {most} bytes",
                        hint="is this the right URL?",
                    )
                yield block

    def _put(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"
        with faults(f"{self.shown}/{name}"):
            if self._local:
                atomic.write_bytes(Path(path), data)
            else:
                self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._system.pipe_file(path, data)


def _has_made(registry: Registry, name: str, move: Move) -> bool:
    """Whether a registry made a move, however long ago."""
    return move in registry.pointer(name).log or move in moves.kept(registry.folder / name / "moves.jsonl")


def receive(registry: Registry, name: str, source: Mirror) -> None:
    """Become as the registry at a URL is: the versions that its aliases name, then its pointer, by one rename.

    What is new is downloaded beside the versions, and every hash is checked, before the registry is locked: whoever registers
    or promotes meanwhile waits for renames and never for the network. Versions that no alias names, and that the champion was
    not just before, are removed. Raises GateError `registry_own` where the name has versions made here.
    """
    home = registry.folder / named(name)
    with _receiving(registry, name) as incoming:
        with registry._writing(home, source.shown):
            swept(home)
        try:
            pointer = source.pointer(name)  # one who received at the same time may have brought a later one
            wanted = set(pointer.aliases.values())
            for number in sorted(wanted):
                if number not in numbers_of(home) or not source.is_here(registry, name, number):
                    _download(source, name, number, incoming / f"{number:04d}")
            with registry._writing(home, source.shown):
                for place in sorted(incoming.iterdir()):
                    atomic.put_folder(place, home / "versions" / place.name)
                if pointer != read_pointer(home / "pointer.json"):
                    registry._write(home, pointer)
                for number in set(numbers_of(home)) - wanted - set(pointer.previous.get(CHAMPION, ())[-1:]):
                    shutil.rmtree(home / "versions" / f"{number:04d}", ignore_errors=True)
        finally:
            with registry._writing(home, source.shown):
                if not numbers_of(home):  # nothing came: the name is free for another master
                    (home / "origin.json").unlink(missing_ok=True)


def _download(source: Mirror, name: str, number: int, goal: Path) -> None:
    """A version into a folder, checked. Raises DataError, EnvironmentFault."""
    (goal / "bundle").mkdir(parents=True)
    facts = source.take_version(name, number, goal / "bundle")
    version_from(facts, name, number, goal / "bundle", source.shown).open()
    (goal / "version.json").write_bytes(facts)
    atomic.sync_tree(goal)


@contextmanager
def _receiving(registry: Registry, name: str) -> Iterator[Path]:
    """A folder for what comes, for one receiver of a name at a time; what a killed one left is removed first."""
    place = registry.folder / f".{name}.incoming"
    try:
        atomic.make_folder(registry.folder)
        handle = os.open(registry.folder / f".{name}.receiving", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise from_os_error(error, "opening the registry") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(handle)


class Keeping:
    """A thread that pushes to, or pulls from, a URL every `every_s` seconds while it is entered.

    What fails is told once, and tried again after up to 60 s; a model that answers goes on answering. `emit` hears `pushed`,
    `pulled` and `fault`.
    """

    def __init__(
        self, mirror: Mirror, registry: Registry, name: str, emit: Emit, every_s: float, *, push: bool
    ) -> None:
        self._mirror, self._registry, self._name, self._emit = mirror, registry, name, emit
        self._every_s, self._what = every_s, "pushed" if push else "pulled"
        self._act = mirror.push if push else mirror.pull
        self._fault = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keepfit-{self._what}", daemon=True)

    def __enter__(self) -> Keeping:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ending.set()
        self._thread.join(timeout=5.0)  # one that waits for the network ends with the process

    def _keep(self) -> None:
        pause = self._every_s
        while not self._ending.wait(pause):
            pause = self._every_s if self.look() else min(max(1.0, 2 * pause), 60.0)

    def look(self) -> bool:
        """Once; whether it did not fail."""
        try:
            if self._act(self._registry, self._name):
                self._emit(Event("registry", self._what, {"model": self._name, "url": self._mirror.shown}))
            self._fault = ""
        except (KeepfitError, OSError, MemoryError, ValueError, TypeError) as error:  # what is far away may be damaged
            if str(error) != self._fault:
                self._fault = str(error)
                facts = error.as_json() if isinstance(error, KeepfitError) else {"what": repr(error)[:300]}
                self._emit(Event("registry", "fault", {"model": self._name, **facts}))
        return not self._fault
