"""Pictures of a folder; links that lead out of it are refused, and folders behind links are not entered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from keepfit.modalities.image.found import (
    Found,
    Refused,
    bytes_of,
    has_picture_ending,
    printable,
    why_file_is_no_picture,
)
from keepfit.modalities.layout import MOST_DEPTH, MOST_NAME, TOO_LONG, Member, is_hidden, placed

_GLANCE = 20_000


def from_folder(root: Path, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The pictures of a folder, sorted by name, read one by one. Raises DataError at the call, see `layout.placed`."""
    inside = members(root)
    names = sorted(inside)
    found = placed([Member(name, inside[name][1]) for name in names], str(root), loose=loose)

    def items() -> Iterator[Found | Refused]:
        for item in found:
            if item.reason:
                yield Refused(item.name, item.reason)
                continue
            data = bytes_of(item.name, inside[item.name][0])
            yield data if isinstance(data, Refused) else Found(item.name, item.label or None, item.part, data)

    return items()


def leads_out(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies outside the folder `root`."""
    return not path.resolve().is_relative_to(root.resolve())


def has_pictures(root: Path) -> bool:
    """Whether one of the first files of a folder has the ending of a picture."""
    seen = 0
    for here, folders, files in os.walk(root):
        folders[:] = [] if _is_deep(here, root) else sorted(name for name in folders if not is_hidden((name,)))
        if any(has_picture_ending(name) and not is_hidden((name,)) for name in files):
            return True
        seen += len(files) + len(folders)
        if seen > _GLANCE:
            return False
    return False


def _is_deep(here: str, root: Path) -> bool:
    return here.count(os.sep) - str(root).count(os.sep) >= MOST_DEPTH - 1


def members(root: Path) -> dict[str, tuple[Path, str]]:
    """Name in the folder -> (path, reason why it is no picture or empty), hidden ones left out."""
    out: dict[str, tuple[Path, str]] = {}

    def shown(path: str) -> str:
        return printable(os.path.relpath(path, root).replace(os.sep, "/"))

    def unreadable(error: OSError) -> None:
        path = str(error.filename)
        out[shown(path)] = (Path(path), f"the folder cannot be opened: {error.strerror}")

    for here, folders, files in os.walk(root, onerror=unreadable):
        kept = []
        deep = _is_deep(here, root)
        for name in folders:
            path = os.path.join(here, name)
            if is_hidden((name,)):
                continue
            if os.path.islink(path):
                out[shown(path)] = (Path(path), _link_reason(Path(path), root) or "a link to a folder is not followed")
            elif deep:
                out[shown(path)] = (Path(path), TOO_LONG)
            else:
                kept.append(name)
        folders[:] = kept
        for name in files:
            if not is_hidden((name,)):
                path = os.path.join(here, name)
                out[shown(path)] = (Path(path), _reason(Path(path), shown(path), root))
    return out


def _reason(path: Path, name: str, root: Path) -> str:
    if len(name) > MOST_NAME:
        return TOO_LONG
    if path.is_symlink() and (reason := _link_reason(path, root)):
        return reason
    return why_file_is_no_picture(name, path)


def _link_reason(path: Path, root: Path) -> str:
    try:
        if leads_out(path, root):
            return "a link out of the folder"
    except (OSError, RuntimeError):  # RuntimeError: how Python 3.11 tells of a link that ends in itself
        return "a link that ends in itself"
    return "" if path.exists() else "a link to nothing"
