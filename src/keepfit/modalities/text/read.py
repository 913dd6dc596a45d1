"""Reads texts from files: a folder per class of .txt, such folders for each split, and files alone. Tables are not its work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keepfit.core.errors import DataError
from keepfit.modalities.archives import Kind, from_zip, zip_has
from keepfit.modalities.layout import MOST_DEPTH, Member, placed
from keepfit.runtime import sources
from keepfit.runtime.decoding import text_of

ENDING, ZIP = ".txt", ".zip"
MOST_BYTES = 16 << 20
_GLANCE = 20_000
NO_TEXT = "not a .txt file"


def _is_text(name: str) -> bool:
    return name.lower().endswith(ENDING)


TEXTS = Kind("texts", MOST_BYTES, 0, _is_text, lambda name, head: "" if _is_text(name) else NO_TEXT)


@dataclass(frozen=True)
class Found:
    """A text with its label and the split that it was given with; `note` says how odd bytes were read."""

    name: str
    label: str | None
    part: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that gives no text, and why."""

    name: str
    reason: str


def are_files(source: str, folder: Path) -> bool:
    """Whether a source is a folder or a zip, or names files that end in .txt: each of them is one text."""
    if ":" in source.partition("/")[0]:
        return False
    place = folder / sources.expand(source)
    return os.path.isdir(place) or place.name.lower().endswith((ENDING, ZIP))


def looks_like_texts(source: str, folder: Path) -> bool:
    """Whether a source is a folder or a zip with files that end in .txt below its own folders, by names alone."""
    place = folder / sources.expand(source)
    if ":" in source.partition("/")[0]:
        return False
    if place.name.lower().endswith(ZIP) and place.is_file():
        return zip_has(place, TEXTS)
    if not os.path.isdir(place):
        return False
    seen = 0
    for here, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(here) != place and any(name.lower().endswith(ENDING) for name in files):
            return True
        seen += len(files) + len(folders)
        if seen > _GLANCE:
            return False
    return False


def texts(source: str, folder: Path, encoding: str | None = None, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The texts of a source in a fixed order, read one by one; with `loose` they need no class folder.

    Raises DataError where there are no class folders, or no files.
    """
    place = folder / sources.expand(source)
    if os.path.isdir(place):
        members = _members(place)
        found = placed([Member(name, members[name]) for name in sorted(members)], source, loose=loose, noun="texts")
        return (
            Refused(one.name, one.reason)
            if one.reason
            else _read(place / one.name, one.name, one.label or None, one.part, encoding)
            for one in found
        )
    if place.name.lower().endswith(ZIP):
        return (
            Refused(one.name, one.reason)
            if one.reason
            else _decoded(one.name, data, one.label or None, one.part, encoding)
            for one, data in from_zip(place, TEXTS, loose=loose)
        )
    if not loose:
        raise DataError(
            "not_a_folder",
            "one text is no training data",
            where=source,
            hint="give a folder with one sub-folder per class, or a table with data.text",
        )
    return (_read(path, path.name, None, "", encoding) for path in sources.files_of(source, folder))


def _members(root: Path) -> dict[str, str]:
    """Name in the folder -> reason why it is no text, or empty. Links and hidden files are not followed."""
    out: dict[str, str] = {}
    for here, folders, files in os.walk(root):
        deep = here.count(os.sep) - str(root).count(os.sep) >= MOST_DEPTH - 1
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(here, name)
            reason = "a link" if path.is_symlink() else "" if name.lower().endswith(ENDING) else NO_TEXT
            out[path.relative_to(root).as_posix()] = reason
    return out


def _read(path: Path, name: str, label: str | None, part: str, encoding: str | None) -> Found | Refused:
    try:
        if not path.is_file():
            return Refused(name, "not a regular file")
        if path.stat().st_size > MOST_BYTES:
            return Refused(name, f"larger than {MOST_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        return Refused(name, f"cannot be read: {error.strerror or error}")
    return _decoded(name, data, label, part, encoding)


def _decoded(name: str, data: bytes, label: str | None, part: str, encoding: str | None) -> Found | Refused:
    try:
        text, note = text_of(data, encoding)
    except (UnicodeError, LookupError) as error:
        return Refused(name, f"not text: {error}"[:200])
    return Found(name, label, part, text, note)
