"""Pictures of a zip, member by member; nothing is ever written, and no member can climb out, blow up or end the run."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from keepfit.core.errors import DataError, from_os_error
from keepfit.modalities.image.found import (
    MOST_BYTES,
    SIGNATURE_BYTES,
    TOO_LARGE,
    Found,
    Refused,
    has_picture_ending,
    is_hidden,
    judged,
    why_no_picture,
)
from keepfit.modalities.layout import MOST_DEPTH, MOST_NAME, TOO_LONG, Member, placed

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


def from_zip(path: Path, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The pictures of a zip, sorted by name. Raises DataError at the call: no zip, an empty one, no classes."""
    listed = _listed(path)
    members = [Member(name, reason) for name, (_, reason) in listed.items()]
    found = placed(members, str(path), loose=loose)

    def items() -> Iterator[Found | Refused]:
        with _opened(path) as archive:
            for item in found:
                if item.reason:
                    yield Refused(item.name, item.reason)
                    continue
                data = _content(archive, item.name, listed[item.name][0])
                yield data if isinstance(data, Refused) else Found(item.name, item.label or None, item.part, data)

    return items()


def zip_has_pictures(path: Path) -> bool:
    """Whether some member has the ending of a picture. True for a damaged zip, so that reading it tells what is wrong."""
    try:
        with _opened(path) as archive:
            return any(has_picture_ending(info.filename) for info in archive.infolist())
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


def _listed(path: Path) -> dict[str, tuple[zipfile.ZipInfo, str]]:
    """Name -> (member, reason why it is no picture or empty), sorted by name. Of members with one name the first counts."""
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
                raw.append((name, info, reason or _refusal(info) or _kind(archive, name, info)))
    if not raw:
        raise DataError(
            "empty_zip",
            "the zip holds no files",
            where=str(path),
            seen=f"{len(infos)} members" if infos else "nothing",
            hint="put the pictures of each class in a folder of its own and zip these folders",
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


def _refusal(info: zipfile.ZipInfo) -> str:
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
    if info.file_size > MOST_BYTES:
        return TOO_LARGE
    if info.file_size > _SMALL and info.file_size > MOST_RATIO * info.compress_size:
        return f"expands more than {MOST_RATIO} times, as zip bombs do"
    return ""


def _kind(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> str:
    if has_picture_ending(name):
        return ""
    try:
        with archive.open(info) as file:
            return why_no_picture(name, file.read(SIGNATURE_BYTES))
    except (*_DAMAGE, OSError):
        return why_no_picture(name, b"")


def _content(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> bytes | Refused:
    try:
        with archive.open(info) as file:
            return judged(name, file.read(info.file_size + 1))  # what is asked for is unpacked, whatever the size said
    except (*_DAMAGE, OSError) as error:
        return Refused(name, f"damaged in the zip: {str(error)[:120]}")
