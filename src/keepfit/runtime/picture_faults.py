"""Why a picture's file is refused: what the header promises, and what Pillow's errors mean to a user."""

from __future__ import annotations

from typing import Any, Literal

from keepfit.core.errors import DataError

_SCANS = 100  # of a progressive JPEG; each goes over all pixels, and real files have about ten
_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHERS = (
    (b"%pdf", "a PDF file"),
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML file, perhaps an SVG drawing"),
    (b"pk\x03\x04", "a zip file"),
    (b"\x1f\x8b", "a gzip file"),
)


def check_header(image: Any, data: bytes, most_pixels: int) -> None:
    """Refuses an opened Pillow image whose decoding would take too much memory or time. Raises DataError picture_bomb."""
    width, height = image.size
    if width * height > most_pixels:
        raise _bomb(f"{width} x {height} pixels", most_pixels)
    if image.format == "TIFF":
        across, down = (image.tag_v2.get(tag, 1) for tag in (322, 323))
        if not 1 <= across * down <= most_pixels:
            raise _bomb(f"tiles of {across} x {down} pixels", most_pixels)
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > _SCANS:
        raise DataError(
            "picture_bomb",
            "the picture would take too long to decode",
            seen=f"{data.count(bytes([255, 218]))} scans, at most {_SCANS} are read",
            hint="save it again, or leave it out",
        )


def refusal(error: Exception, data: bytes, where: str) -> DataError:
    """The DataError for what Pillow raised; its text is the same on every run."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | MemoryError):
        refused = _bomb(str(error)[:160] or "not enough memory", None)
        refused.where = where
        return refused
    if not _is_known(data) and data:
        return DataError(
            "picture_format",
            "the file is not a picture that can be read",
            where=where,
            seen=_looks_like(data),
            hint="JPEG, PNG, GIF, BMP, WebP, TIFF and PNM are read: convert it, or leave it out",
        )
    # Pillow puts the address of the buffer into this one message
    said = "its header cannot be read" if isinstance(error, UnidentifiedImageError) else str(error)[:160]
    if _is_cut(data, said.lower()):
        return DataError(
            "picture_truncated",
            "the picture ends too early",
            where=where,
            seen=f"{len(data)} bytes: {said}",
            hint="copy or download the file again, or leave it out",
        )
    return DataError(
        "picture_broken",
        "the picture is damaged" if data else "the picture's file is empty",
        where=where,
        seen=f"{len(data)} bytes: {said}" if data else "0 bytes",
        hint="get the file again, or leave it out",
    )


def _bomb(seen: str, most_pixels: int | None) -> DataError:
    limit = f", at most {most_pixels:,} are read" if most_pixels else ""
    hint = "make the picture smaller; if nobody made it so large on purpose, it is an attack"
    return DataError("picture_bomb", "the picture is too large to decode", seen=seen + limit, hint=hint)


def _is_known(data: bytes) -> bool:
    """Whether the file begins like a format that is read."""
    webp = data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"")
    pnm = data[:1] == b"P" and data[1:2] in b"1234567fF" and data[2:3].isspace()
    return webp or pnm or data.startswith(_STARTS)


def _looks_like(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    for start, what in _OTHERS:
        if head.startswith(start):
            return "an SVG drawing" if b"<svg" in head else what
    return f"it begins with the bytes {data[:8].hex(' ')}"


def _is_cut(data: bytes, said: str) -> bool:
    """Whether a file that could not be decoded lacks its end."""
    if any(word in said for word in ("truncat", "eof", "not enough", "incomplete", "unexpected end")):
        return True
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:2] == b"BM":
        return int.from_bytes(data[2:6], "little") > len(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        start = int.from_bytes(data[4:8], order)
        return start + 2 + 12 * int.from_bytes(data[start : start + 2], order) > len(data)
    if data[:2] == b"GI":
        return not data.rstrip(b"\0").endswith(b";")
    end = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}.get(data[:2])
    return end is not None and end not in data[-64:]
