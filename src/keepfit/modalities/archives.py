"""Files of one kind in a zip, member by member; nothing is ever written, and no member can climb out, blow up or end the run."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keepfit.core.errors import DataError, from_os_error
from keepfit.modalities.layout import MOST_DEPTH, MOST_NAME, TOO_LONG, Member, Placed, is_hidden, placed

MOST_RATIO = 100
_SMALL = 1 << 20
# What `zipfile` raises for hostile bytes: bad offsets are ValueError or OverflowError, an unknown version NotImplementedError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class Kind:
    """What is looked for: its name in the plural, the most bytes of one, and why a file is none (empty: it is one).

    `why_not` is told a file's name and its first `head` bytes; where a name is enough, by `is_named`, they are not read.
    """

    noun: str
    most_bytes: int
    head: int
    is_named: Callable[[str], bool]
    why_not: Callable[[str, bytes], str]

    @property
    def too_large(self) -> str:
        """Why a larger one is refused."""
        return f"larger than {self.most_bytes >> 20} MiB"


def from_zip(path: Path, kind: Kind, *, loose: bool = False) -> Iterator[tuple[Placed, bytes]]:
    """The files of a zip with their bytes, sorted by name; what cannot be had has a reason and no bytes.

    Raises DataError at the call: no zip, an empty one, no classes.
    """
    listed = _listed(path, kind)
    members = [Member(name, reason) for name, (_, reason) in listed.items()]
    found = placed(members, str(path), loose=loose, noun=kind.noun)

    def items() -> Iterator[tuple[Placed, bytes]]:
        with _opened(path) as archive:
            for item in found:
                if item.reason:
                    yield item, b""
                    continue
                data = _content(archive, listed[item.name][0], kind)
                yield (item, data) if isinstance(data, bytes) else (Placed(item.name, "", "", data), b"")

    return items()


def zip_has(path: Path, kind: Kind) -> bool:
    """Whether some member is named as one. True for a damaged zip, so that reading it tells what is wrong."""
    try:
        with _opened(path) as archive:
            return any(kind.is_named(info.filename) for info in archive.infolist())
    except DataError:
        return True


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise DataError(
            "bad_zip",
            "the file is not a whole zip",
            where=str(path),
            seen=str(error)[:200],
            hint="download or make it again; `unzip -t` shows what is damaged",
        ) from None
    except OSError as error:
        raise from_os_error(error, "reading the data") from None


def _listed(path: Path, kind: Kind) -> dict[str, tuple[zipfile.ZipInfo, str]]:
    """Name -> (member, reason why it is not looked for, or empty), sorted by name. Of members with one name the first counts."""
    raw: list[tuple[str, zipfile.ZipInfo, str]] = []
    with _opened(path) as archive:
        infos = archive.infolist()
        _check_overlap(infos, path)
        used: dict[str, int] = {}
        for info in infos:
            name, reason = _named(info)
            if not name or (not reason and is_hidden(tuple(name.split("/")))):
                continue
            used[name] = used.get(name, 0) + 1
            if used[name] > 1:
                raw.append((f"{name}~{used[name]}", info, "the name stands in the zip before"))
            else:
                raw.append((name, info, reason or _refusal(info, kind) or _unfit(archive, name, info, kind)))
    if not raw:
        raise DataError(
            "empty_zip",
            "the zip holds no files",
            where=str(path),
            seen=f"{len(infos)} members" if infos else "nothing",
            hint=f"put the {kind.noun} of each class in a folder of its own and zip these folders",
        )
    return {name: (info, reason) for name, info, reason in sorted(raw, key=lambda item: item[0])}


def _check_overlap(infos: list[zipfile.ZipInfo], path: Path) -> None:
    """Members that share their bytes are how a small zip expands without end while every member looks harmless."""
    stored = sum(info.compress_size for info in infos)
    size = path.stat().st_size
    if stored > size:
        raise DataError(
            "bad_zip",
            "the members of the zip overlap",
            where=str(path),
            seen=f"{stored} bytes of members in a file of {size}",
            hint="this is how zip bombs are built: get the file from another place",
        )


def _named(info: zipfile.ZipInfo) -> tuple[str, str]:
    """The clean path of a member and the reason why it may not be used; an empty path for folders."""
    name = info.filename
    if not info.flag_bits & 0x800:  # the UTF-8 flag is often forgotten, and then `zipfile` reads the bytes as cp437
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    name = name.replace("\\", "/")  # some Windows tools
    shown = name.encode("utf-8", "backslashreplace").decode("utf-8")
    parts = tuple(part for part in shown.split("/") if part not in ("", "."))
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return shown, "a path from the root of a disk"
    if ".." in parts:
        return shown, "a path that climbs out of the zip"
    if len(name) > MOST_NAME or len(parts) > MOST_DEPTH:
        return shown[:200], TOO_LONG
    return ("", "") if name.endswith("/") else ("/".join(parts), "")


def _refusal(info: zipfile.ZipInfo, kind: Kind) -> str:
    """Why a member is not opened at all, or empty."""
    mode = stat.S_IFMT(info.external_attr >> 16)
    if info.create_system == 3 and mode not in (0, stat.S_IFREG):
        return "a link in a zip is not followed" if mode == stat.S_IFLNK else "not a regular file"
    if info.flag_bits & 0x41:
        return "encrypted"
    if info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # the others cannot be read in bounded memory
        return "packed in another way than deflate"
    if info.file_size > kind.most_bytes:
        return kind.too_large
    if info.file_size > _SMALL and info.file_size > MOST_RATIO * info.compress_size:
        return f"expands more than {MOST_RATIO} times, as zip bombs do"
    return ""


def _unfit(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, kind: Kind) -> str:
    if kind.is_named(name) or not kind.head:
        return kind.why_not(name, b"")
    try:
        with archive.open(info) as file:
            return kind.why_not(name, file.read(kind.head))
    except (*_DAMAGE, OSError):
        return kind.why_not(name, b"")


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, kind: Kind) -> bytes | str:
    """The bytes of a member, or why they cannot be had."""
    try:
        with archive.open(info) as file:
            data = file.read(min(info.file_size, kind.most_bytes) + 1)  # unpacked no further, whatever the size said
    except (*_DAMAGE, OSError) as error:
        return f"damaged in the zip: {str(error)[:120]}"
    return data if len(data) <= kind.most_bytes else kind.too_large
