"""The registry: numbered versions of named models, and aliases that one atomic pointer file moves between them.

.keepfit/registry/NAME/versions/0003/bundle/        a copy of the bundle; with version.json it appears by one rename
.keepfit/registry/NAME/pointer.json                 the aliases, where each was before, and a log of moves
.keepfit/registry/NAME/moves.jsonl                  the moves that the pointer's log has no room for
.keepfit/registry/NAME/origin.json                  the URL whose registry this one follows: nothing is moved here by hand
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keepfit.core import atomic, digest
from keepfit.core.errors import EnvironmentFault, GateError, KeepfitError, UsageError, from_os_error, nearest
from keepfit.runtime.bundle import Bundle
from keepfit.store import moves
from keepfit.store.pointer import ALIAS, Move, Pointer, read_pointer

CHAMPION, CHALLENGER = "champion", "challenger"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Version:
    """One registered bundle. `lineage` has the digests of recipe, data and trained model; `parents` are earlier versions
    that it was trained from; `run` is the run folder it came from, empty where unknown; `registered` is UTC, ISO 8601."""

    name: str
    version: int
    sha256: str
    path: Path
    task: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[int, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    note: str = ""
    registered: str = ""

    @property
    def reference(self) -> str:
        """`NAME@VERSION`, which `resolve` reads back."""
        return f"{self.name}@{self.version}"

    def as_json(self) -> dict[str, Any]:
        """The version as JSON; `bundle` is its absolute path."""
        found = asdict(self)
        return {**found, "parents": list(self.parents), "bundle": str(found.pop("path").resolve())}

    def open(self) -> Bundle:
        """The bundle, every hash checked. Raises EnvironmentFault where it is not the one that was registered."""
        bundle = Bundle.open(self.path)
        if bundle.sha256 != self.sha256:
            raise EnvironmentFault(
                "tampered_bundle",
                "the registered bundle is not the one that was registered",
                where=str(self.path),
                seen=f"SHA-256 {bundle.sha256[:12]} where {self.sha256[:12]} was registered",
                hint=f"register the run's bundle again; keepfit models verify {self.name}",
            )
        return bundle


class Registry:
    """The registered models of a workspace. Safe for several processes; a crash leaves the old state or the new one."""

    def __init__(self, workspace: Path) -> None:
        self.folder = Path(workspace) / ".keepfit" / "registry"

    def names(self) -> list[str]:
        """The registered names, sorted."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return sorted(place.name for place in found if NAME.fullmatch(place.name) and numbers_of(place))

    def versions(self, name: str) -> list[Version]:
        """All versions of a name, oldest first. Raises UsageError for an unknown name."""
        return [self.get(name, number) for number in numbers_of(self._home(name))]

    def get(self, name: str, version: int) -> Version:
        """One version. Raises UsageError `version_unknown`, EnvironmentFault where its facts are damaged."""
        home = self._home(name)
        place = home / "versions" / f"{version:04d}"
        if version not in numbers_of(home):
            known = ", ".join(map(str, numbers_of(home)[-10:]))
            raise UsageError(
                "version_unknown", f"{name} has no version {version}", where=str(home), hint=f"versions: {known}"
            )
        facts = place / "version.json"
        try:
            data = facts.read_bytes()
        except OSError as error:
            raise _unreadable(str(facts), error) from None
        return version_from(data, name, version, place / "bundle", str(facts))

    def newest(self, name: str) -> Version:
        """The version with the highest number."""
        return self.get(name, numbers_of(self._home(name))[-1])

    def pointer(self, name: str) -> Pointer:
        """The aliases of a name; serial 0 and no alias where nothing was ever promoted."""
        return read_pointer(self.pointer_path(name))

    def pointer_path(self, name: str) -> Path:
        """The one file whose replacement moves aliases: watch its `stat` to follow them."""
        return self._home(name) / "pointer.json"

    def resolve(self, reference: str) -> Version:
        """The version that `NAME`, `NAME@ALIAS` or `NAME@NUMBER` names; a bare name is its champion. Raises UsageError."""
        name, _, which = reference.partition("@")
        which = which or CHAMPION
        if which.isascii() and which.isdigit() and len(which) < 10:
            return self.get(name, int(which))
        aliases = self.pointer(name).aliases
        if which not in aliases:
            raise UsageError(
                "alias_unknown",
                f"{name} has no {which}",
                where=reference,
                seen=", ".join(f"{alias} {number}" for alias, number in sorted(aliases.items())) or "no alias",
                hint=f"keepfit models promote {name}@NUMBER" if which == CHAMPION else nearest(which, aliases),
            )
        return self.get(name, aliases[which])

    def register(
        self, bundle: Path, name: str = "", *, parents: Sequence[int] = (), run: str = "", note: str = ""
    ) -> Version:
        """Copy a bundle in as the next version; the same bytes again are the version that they already are.

        The first version becomes the champion, as there is nothing to compare it with; a later one becomes the challenger.
        Its golden rows are replayed first. Raises what opening the bundle raises, UsageError for a bad name or parent.
        """
        opened = Bundle.open(Path(bundle))
        opened.predictor()
        name = name or opened.name
        home = self.folder / named(name)
        with self._writing(home):
            swept(home)
            numbers = numbers_of(home)
            absent = [number for number in parents if number not in numbers]
            if absent:
                raise UsageError(
                    "version_unknown", f"{name} has no version {absent[0]}", where="parents", hint="keepfit models list"
                )
            same = [one for one in (self.get(name, n) for n in numbers) if one.sha256 == opened.sha256]
            made = same[-1] if same else self._added(name, home, opened, tuple(parents), run, note)
            pointer = read_pointer(home / "pointer.json")
            alias = CHALLENGER if CHAMPION in pointer.aliases else CHAMPION
            if (not same or alias == CHAMPION) and pointer.aliases.get(CHAMPION) != made.version:
                self._write(home, pointer.moved(Move(alias, made.version, "register", note, _now())))
        return made

    def _added(self, name: str, home: Path, opened: Bundle, parents: tuple[int, ...], run: str, note: str) -> Version:
        number = 1 + max(numbers_of(home), default=0)
        place = home / "versions" / f"{number:04d}"
        lineage = opened.manifest.get("lineage", {})
        said = {
            "name": name,
            "version": number,
            "sha256": opened.sha256,
            "task": opened.task,
            "lineage": lineage if isinstance(lineage, dict) else {},
            "parents": list(parents),
            "metrics": opened.manifest.get("metrics", {}),
            "run": run,
            "note": note,
            "registered": _now(),
        }
        try:
            with atomic.new_folder(place) as scratch:
                (scratch / "bundle").mkdir()
                for file, data in opened.files.items():
                    (scratch / "bundle" / file).write_bytes(data)
                (scratch / "bundle" / "SHA256SUMS").write_bytes((opened.path / "SHA256SUMS").read_bytes())
                Version(name, number, opened.sha256, scratch / "bundle").open()
                (scratch / "version.json").write_bytes(digest.canonical({"version": said, "sum": digest.of_json(said)}))
        except OSError as error:
            raise from_os_error(error, "registering a model") from None
        return self.get(name, number)

    def promote(
        self, name: str, version: int, alias: str = CHAMPION, *, why: str = "", expect: int | None = None
    ) -> Pointer:
        """Move an alias to a version, by one rename; its golden rows are replayed first.

        `expect` is the version that the alias must have; GateError `alias_moved` when somebody was faster. A challenger
        that becomes champion is no challenger any more. Raises UsageError, EnvironmentFault for a damaged bundle.
        """
        if not ALIAS.fullmatch(alias):
            raise UsageError(
                "alias_wrong", "this cannot be an alias", where=alias[:80], hint="small letters, such as champion"
            )
        self.get(name, version).open().predictor()
        home = self._home(name)
        with self._writing(home):
            pointer = read_pointer(home / "pointer.json")
            if expect is not None and pointer.aliases.get(alias) != expect:
                raise GateError(
                    "alias_moved",
                    f"the {alias} of {name} is not the one that was compared with",
                    where=str(home / "pointer.json"),
                    seen=f"{pointer.aliases.get(alias)} where {expect} was expected",
                    hint="compare with the present one, then promote",
                )
            if pointer.aliases.get(alias) == version:
                return pointer
            moved = pointer.moved(Move(alias, version, "promote", why, _now()))
            if alias == CHAMPION and moved.aliases.get(CHALLENGER) == version:
                moved = moved.without(CHALLENGER)
            return self._write(home, moved)

    def rollback(self, name: str, alias: str = CHAMPION, *, why: str = "") -> Pointer:
        """Move an alias back to where it was before, by one rename; again, one further back. Raises UsageError, GateError."""
        home = self._home(name)
        with self._writing(home):
            pointer = read_pointer(home / "pointer.json")
            before = pointer.previous.get(alias, ())
            if not before:
                raise GateError(
                    "nothing_before",
                    f"the {alias} of {name} was never another version",
                    where=str(home / "pointer.json"),
                    hint=f"keepfit models promote {name}@NUMBER",
                )
            self.get(name, before[-1]).open().predictor()
            return self._write(home, pointer.back(Move(alias, before[-1], "rollback", why, _now())))

    def release(self, name: str, alias: str, *, why: str = "") -> Pointer:
        """Take an alias away, such as that of a challenger that was refused; the version stays."""
        home = self._home(name)
        with self._writing(home):
            pointer = read_pointer(home / "pointer.json")
            if alias not in pointer.aliases:
                return pointer
            return self._write(home, pointer.without(alias, Move(alias, 0, "release", why, _now())))

    def verify(self, name: str) -> list[dict[str, Any]]:
        """Open every version of a name, check all hashes and replay golden rows: JSON of each with `error`, empty when whole.

        Where an alias names a version that is not there, EnvironmentFault.
        """
        found = []
        for number in numbers_of(self._home(name)):
            try:
                version = self.get(name, number)
                facts, error = version.as_json(), ""
                version.open().predictor()
            except KeepfitError as fault:
                facts, error = {"name": name, "version": number}, f"[{fault.code}] {fault.what}: {fault.where}"
            found.append({**facts, "error": error})
        for alias, number in self.pointer(name).aliases.items():
            if number not in numbers_of(self._home(name)):
                raise EnvironmentFault(
                    "damaged_registry",
                    f"the {alias} of {name} is version {number}, which is not there",
                    where=str(self.pointer_path(name)),
                    hint=f"keepfit models promote {name}@NUMBER",
                )
        return found

    def _home(self, name: str) -> Path:
        home = self.folder / named(name)
        if not numbers_of(home):
            raise UsageError(
                "model_unknown",
                f"no model {name!r} is registered here",
                where=str(self.folder),
                hint=nearest(name, self.names())
                or "keepfit run RECIPE registers its model; keepfit models register BUNDLE",
            )
        return home

    def _write(self, home: Path, pointer: Pointer) -> Pointer:
        """Replace the pointer; the caller is `_writing`. Moves that its log has no room for are kept beside it first."""
        try:
            before, stays = read_pointer(home / "pointer.json").log, set(pointer.log)
            moves.keep(home / "moves.jsonl", [move for move in before if move not in stays])
            atomic.write_bytes(home / "pointer.json", pointer.as_bytes())
        except OSError as error:
            raise from_os_error(error, "moving an alias") from None
        return pointer

    @contextmanager
    def _writing(self, home: Path, origin: str = "") -> Iterator[None]:
        """One writer at a time; the lock goes with its process, however that ends.

        A name that follows another registry is written by that one alone.
        """
        try:
            atomic.make_folder(self.folder)
            handle = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise from_os_error(error, "opening the registry") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _check_origin(home, origin)
            yield
        finally:
            os.close(handle)


def version_from(data: bytes, name: str, number: int, bundle: Path, where: str) -> Version:
    """The version in the bytes of its version.json. Raises EnvironmentFault where they are damaged or of another one."""
    try:
        facts = json.loads(data)
        said = facts["version"]
        if digest.of_json(said) != facts["sum"] or (said["name"], said["version"]) != (name, number):
            raise ValueError("another sum, name or number")
        return Version(path=bundle, **{**said, "parents": tuple(said["parents"])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        "damaged_registry",
        "the facts of a version cannot be read",
        where=where,
        seen=repr(error)[:200],
        hint="take the file from a backup, or register the bundle again",
    )


def origin_of(home: Path) -> str:
    """The URL whose registry the name in this folder follows, empty where its versions are made here."""
    place = home / "origin.json"
    return str(json.loads(place.read_bytes())["url"]) if place.is_file() else ""


def _check_origin(home: Path, origin: str) -> None:
    """A name has one master: versions made here, or the registry at a URL. Writes that URL down the first time."""
    known = origin_of(home)
    if known == origin:
        return
    if known or numbers_of(home):
        raise GateError(
            "registry_follows" if known else "registry_own",
            "this name follows another registry" if known else "this name has versions of its own here",
            where=str(home),
            seen=f"it follows {known}" if known else f"versions {', '.join(map(str, numbers_of(home)[-5:]))}",
            hint="move aliases where the models are made; to follow a URL use a workspace of its own: --workspace DIR",
        )
    atomic.write_text(home / "origin.json", json.dumps({"url": origin}))


def named(name: str) -> str:
    """The name itself. Raises UsageError where it cannot be one."""
    if not NAME.fullmatch(name):
        raise UsageError(
            "name_wrong",
            "this cannot be the name of a model",
            where=name[:80],
            hint="small letters, digits, - and _, at most 64, such as churn",
        )
    return name


def numbers_of(home: Path) -> list[int]:
    """The numbers of the versions in a name's folder, in order."""
    place = home / "versions"
    return sorted(int(one.name) for one in place.iterdir() if one.name.isdigit()) if place.is_dir() else []


def swept(home: Path) -> None:
    """Remove what killed writers left; the caller holds the lock, so nobody else writes here."""
    for scratch in [*home.glob("versions/.*.part"), *home.glob(".pointer.json.*.part")]:
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
