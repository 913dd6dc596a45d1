"""What a picture source yields, and the rules by which a file counts as a picture; decodes nothing."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from keepfit.modalities.layout import Part

MOST_BYTES = 64 << 20
MOST_PIXELS = 40_000_000
_PNM_ENDINGS = (".ppm", ".pgm", ".pbm", ".pnm", ".pfm")
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff")
_OTHER_PICTURES = (".heic", ".heif", ".avif", ".svg", ".jp2", ".psd", ".ico", ".dng", ".cr2", ".nef")
SIGNATURE_BYTES = 16
NOT_A_PICTURE = "not a picture"
TOO_LARGE = f"larger than {MOST_BYTES >> 20} MiB"


@dataclass(frozen=True)
class Found:
    """A picture: the encoded bytes of its file, where it lies in the source, its label and the split it was given with."""

    name: str
    label: str | None
    part: Part
    data: bytes


@dataclass(frozen=True)
class Refused:
    """Something in the source that gives no picture, and why; `rule` is the family of the entry in the ledger."""

    name: str
    reason: str
    rule: str = "unreadable picture"


def has_picture_ending(name: str) -> bool:
    """Whether the ending of a file name is that of a format that is read."""
    return os.path.splitext(name)[1].lower() in ENDINGS + _PNM_ENDINGS


def why_no_picture(name: str, head: bytes) -> str:
    """The empty string for a picture, by its ending or its first SIGNATURE_BYTES bytes; else the reason."""
    if has_picture_ending(name) or _is_signed(head):
        return ""
    ending = os.path.splitext(name)[1].lower()
    if ending in _OTHER_PICTURES:
        return f"{NOT_A_PICTURE} that is read: convert {ending} to JPEG or PNG"
    return NOT_A_PICTURE


def _is_signed(head: bytes) -> bool:
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    return head[:2] == b"BM" and head[6:10] == bytes(4)  # two letters alone begin many a text


def printable(name: str) -> str:
    """A file name as text that can be written anywhere; bytes that are no UTF-8 are shown as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def why_file_is_no_picture(name: str, path: Path) -> str:
    """The empty string for a picture; else the reason. A file is opened only where its ending does not tell."""
    if has_picture_ending(name):
        return ""
    head = _read(path, SIGNATURE_BYTES)
    return why_no_picture(name, head) if isinstance(head, bytes) else head


def bytes_of(name: str, path: Path) -> bytes | Refused:
    """The content of a regular file of at most MOST_BYTES bytes; Refused under `name` where it cannot be had."""
    found = _read(path, MOST_BYTES + 1)
    return judged(name, found) if isinstance(found, bytes) else Refused(name, found)


def judged(name: str, data: bytes) -> bytes | Refused:
    """The data, or Refused where it is empty or over MOST_BYTES."""
    if not data:
        return Refused(name, "an empty file")
    return data if len(data) <= MOST_BYTES else Refused(name, TOO_LARGE)


def _read(path: Path, most: int) -> bytes | str:
    """Up to `most` bytes, or the reason. Opened without waiting: a pipe without a writer would block for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return "not a regular file"
            with open(handle, "rb", closefd=False) as file:
                return file.read(most)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
