"""From names to classes and given splits: a folder per class, or `train/`, `validation/` and `test/` of such folders."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from keepfit.core.errors import DataError

Part = Literal["", "train", "validation", "test"]
PARTS: dict[str, Part] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
MOST_DEPTH = 64
MOST_NAME = 4096
TOO_LONG = "the path is too long or too deep"
_SHAPE = "put the {0} of each class in a folder of its own: cat/1.{1} dog/1.{1}, or train/cat/1.{1} test/cat/2.{1}"
_ENDING = {"pictures": "jpg", "texts": "txt"}


@dataclass(frozen=True)
class Member:
    """A file of the source by its path; `reason` is why it cannot be a picture, or empty."""

    name: str
    reason: str = ""


@dataclass(frozen=True)
class Placed:
    """A file with its label and part, or with the reason why it has none."""

    name: str
    label: str
    part: Part
    reason: str = ""


def is_hidden(parts: tuple[str, ...]) -> bool:
    """Whether some part of a path is of the kind that systems strew about: dot files and `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def placed(members: Sequence[Member], where: str, *, loose: bool = False, noun: str = "pictures") -> list[Placed]:
    """Label and part of each member, in the given order. `loose`: those outside class folders are taken, without a label.

    A single folder that holds everything is entered. Deeper folders belong to the class above them.
    Raises DataError where there are no class folders, or fewer than two classes with pictures.
    """
    paths = [tuple(member.name.split("/")) for member in members if not member.reason]
    top = _top(paths)
    inside = [path[len(top) :] for path in paths if path[: len(top)] == top]
    parted = _has_parts(inside)
    out = [_place(member, top, parted) for member in members]
    if loose:
        return [replace(item, reason=member.reason) for item, member in zip(out, members, strict=True)]
    _check_classes(out, where, noun)
    return out


def _top(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that hold all the others one after another, as a zip of a folder has."""
    top: tuple[str, ...] = ()
    while True:
        inside = [path[len(top) :] for path in paths if path[: len(top)] == top]
        heads = {path[0] for path in inside if len(path) > 1}
        if len(heads) != 1 or not any(len(path) > 2 for path in inside):
            return top
        head = heads.pop()
        if head.lower() in PARTS:
            return top
        top += (head,)


def _has_parts(inside: list[tuple[str, ...]]) -> bool:
    """Whether the first folders are splits; a class may be called `train`, but then its pictures lie right in it."""
    heads = {path[0].lower() for path in inside if len(path) > 1}
    if not any(len(path) > 2 and path[0].lower() in PARTS for path in inside):
        return False
    in_train = [len(path) > 2 for path in inside if path[0].lower() == "train" and len(path) > 1]
    return heads <= set(PARTS) or (bool(in_train) and all(in_train))


def _place(member: Member, top: tuple[str, ...], parted: bool) -> Placed:
    if member.reason:
        return Placed(member.name, "", "", member.reason)
    path = tuple(member.name.split("/"))
    rest = path[len(top) :] if path[: len(top)] == top else ()
    part: Part = ""
    if parted:
        if len(rest) > 1 and rest[0].lower() not in PARTS:
            return Placed(member.name, "", "", "not under train, validation or test")
        part, rest = PARTS[rest[0].lower()] if len(rest) > 1 else "", rest[1:]
    if len(rest) < 2:
        return Placed(member.name, "", "", "not in a class folder")
    return Placed(member.name, unicodedata.normalize("NFC", rest[0]), part)  # macOS writes accents as two characters


def _check_classes(found: list[Placed], where: str, noun: str) -> None:
    shape = _SHAPE.format(noun, _ENDING[noun])
    good = [item for item in found if not item.reason]
    if not good:
        reasons = Counter(item.reason for item in found).most_common(3)
        seen = "; ".join(f"{count} x {reason}" for reason, count in reasons) or "no files"
        raise DataError("no_classes", f"there are no class folders with {noun}", where=where, seen=seen, hint=shape)
    train = [item for item in good if item.part == "train"] or good
    classes = sorted({item.label for item in train})
    if len(classes) < 2:
        raise DataError(
            "one_class",
            f"fewer than two classes have {noun}",
            where=where,
            seen=f"{len(train)} {noun}, all in the folder {classes[0]!r}",
            hint=shape,
        )
