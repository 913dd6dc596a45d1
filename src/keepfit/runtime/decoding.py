"""Turns a text file of any usual encoding, gz or not, into plain UTF-8 a block at a time; refuses what is no text."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from keepfit.core.errors import DataError, from_os_error

_BLOCK = 1 << 20
HEAD = 65_536
_TRIED = ("utf-8-sig", "gb18030", "cp1252", "latin-1")


@contextmanager
def as_utf8(path: Path, encoding: str | None) -> Iterator[tuple[Path, str]]:
    """A temporary UTF-8 copy with `\\n` line ends, and 64 KiB of it as text. Memory does not grow with the file.

    The encoding is sniffed over the whole file when it is not said. Raises DataError.
    """
    handle, temp = tempfile.mkstemp(prefix="keepfit-", suffix=".csv")
    os.close(handle)
    try:
        yield Path(temp), _decoded(path, encoding, Path(temp))
    finally:
        os.unlink(temp)


def _decoded(path: Path, encoding: str | None, goal: Path) -> str:
    try:
        head = _copied(path, encoding or _encoding(path), goal)
    except (LookupError, UnicodeError) as error:
        raise DataError(
            "bad_encoding",
            f"the file is not {encoding or 'plain'} text",
            where=str(path),
            seen=str(error)[:200],
            hint="say data.read.encoding, for example latin-1 or gb18030",
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged_gzip(path, error) from None
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    _refuse_binary(head, path)
    return head


def damaged_gzip(path: Path, error: Exception) -> DataError:
    """The refusal of a gzip file that is none, or not whole."""
    return DataError(
        "damaged_gzip",
        "the file is not a whole gzip file",
        where=str(path),
        seen=str(error),
        hint=f"copy or download it again; gzip -t {path.name} tests it; a plain file must not end in .gz",
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=raw) as plain:
                yield io.BufferedReader(plain)
        else:
            yield raw


def _copied(path: Path, encoding: str, goal: Path) -> str:
    """Decode `path` into `goal`; returns its first 64 KiB or so after leading blanks. A byte order mark is left out."""
    with _opened(path) as raw, goal.open("w", encoding="utf-8", newline="") as file:
        text = io.TextIOWrapper(raw, encoding=encoding)
        head = text.read(HEAD).removeprefix("\ufeff")
        file.write(head)
        while len(head.lstrip()) < HEAD and (more := text.read(HEAD)):
            file.write(more)
            head = head.lstrip() + more
        shutil.copyfileobj(text, file, _BLOCK)
        text.detach()
    return head


def _encoding(path: Path) -> str:
    with _opened(path) as raw:
        start = raw.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for name in _TRIED:
        head = _head_where_it_fits(path, name)
        if head is not None and (name != "gb18030" or _reads_as_chinese(head)):
            return name
    return "latin-1"


def _head_where_it_fits(path: Path, name: str) -> str | None:
    """The first wide characters of the file, or None where some byte does not fit the encoding."""
    decoder = codecs.getincrementaldecoder(name)()
    wide = ""
    with _opened(path) as raw:
        try:
            while block := raw.read(_BLOCK):
                text = decoder.decode(block)
                if len(wide) < 10_000 and not text.isascii():
                    wide += "".join(c for c in text if c > "\x7f")[:10_000]
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
    return wide


def _reads_as_chinese(wide: str) -> bool:
    """Most wide characters are of the old core set, whose second byte is high too; an accent before a letter is not."""
    core = sum("\u4e00" <= c <= "\u9fff" and c.encode("gb18030")[1] >= 0xA1 for c in wide)
    return core > 0.5 * len(wide)


def _refuse_binary(head: str, path: Path) -> None:
    odd = sum(1 for c in head if (c < " " and c not in "\t\r\n\f\x1a") or c == "\ufffd")
    if "\x00" in head or odd > 0.02 * max(len(head), 1):
        raise DataError(
            "binary_file",
            "this is not a text file",
            where=str(path),
            seen=repr(head[:24]),
            hint="export the table as CSV, Parquet or JSON lines",
        )
    if not head.strip():
        raise DataError(
            "empty_file",
            "the file holds no rows",
            where=str(path),
            hint="write one line of column names, then the rows",
        )


def text_of(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text of a small file, and how it was read where that is not plain UTF-8. Raises UnicodeError, LookupError.

    Not said, the encoding is sniffed; UTF-8 with a few broken bytes stays UTF-8, with U+FFFD in their place.
    """
    if encoding is not None:
        return _plain(data.decode(encoding)), ""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _plain(data.decode("utf-16")), "read as utf-16"
    try:
        return _plain(data.decode("utf-8-sig")), ""
    except UnicodeDecodeError:
        mended = data.decode("utf-8-sig", "replace")
    broken, wide = mended.count("\ufffd"), sum(c > "\x7f" for c in mended)
    if broken <= 0.1 * wide:
        return _plain(mended), f"read as utf-8 with {broken} broken characters"
    for name in ("gb18030", "cp1252"):
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        if name != "gb18030" or _reads_as_chinese("".join(c for c in text if c > "\x7f")):
            return _plain(text), f"read as {name}"
    raise UnicodeError("of no known encoding")


def _plain(text: str) -> str:
    """The text with `\\n` line ends. Raises UnicodeError for what is binary."""
    odd = sum(1 for c in text if c < " " and c not in "\t\r\n\f\x1a")
    if "\x00" in text or odd > 0.02 * max(len(text), 1):
        raise UnicodeError("binary data")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
