"""Turns a text file of any usual encoding, gz or not, into plain UTF-8 a block at a time; refuses what is no text."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from keepfit.core.errors import DataError, from_os_error

_BLOCK = 1 << 20
HEAD = 65_536
_MIXED = "mixed"
Notes = list[tuple[int, str, str, str]]  # line from 1, what was mended, before, after
_TRIED = ("utf-8-sig", "gb18030", "cp1252", "latin-1")


@contextmanager
def as_utf8(path: Path, encoding: str | None, notes: Notes | None = None) -> Iterator[tuple[Path, str]]:
    """The file itself where it is plain UTF-8 with `\n` line ends, else a temporary copy that is; and 64 KiB of its text.

    Memory does not grow with the file. The encoding is sniffed over the whole file when it is not said. What is mended
    goes into `notes`: a line in another encoding than the rest, NUL characters left out. Raises DataError.
    """
    if (
        encoding is None and not set("*?[") & set(str(path)) and _is_plain(path)
    ):  # DuckDB reads a name with these as a glob
        yield path, _head_of(path)
        return
    handle, temp = tempfile.mkstemp(prefix="keepfit-", suffix=".csv")
    os.close(handle)
    try:
        yield Path(temp), _decoded(path, encoding, Path(temp), [] if notes is None else notes)
    finally:
        os.unlink(temp)


def _is_plain(path: Path) -> bool:
    """Whether a copy would be equal byte by byte: valid UTF-8, no byte order mark, no NUL, no carriage return.

    Names in which DuckDB would see a pattern of several files, and gz, do not count as plain.
    """
    if path.suffix.lower() == ".gz" or any(sign in str(path) for sign in "*?[]{}"):
        return False
    decoder = codecs.getincrementaldecoder("utf-8")()
    wide = False
    try:
        with path.open("rb") as raw:
            if raw.read(3) == codecs.BOM_UTF8:
                return False
            raw.seek(0)
            while block := raw.read(_BLOCK):
                if b"\r" in block or b"\x00" in block:
                    return False
                if wide or not block.isascii():
                    decoder.decode(block)
                    wide = bool(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    return True


def _head_of(path: Path) -> str:
    """The first 64 KiB or so after leading blanks of a plain file. Raises DataError for what is no text."""
    with path.open(encoding="utf-8", newline="") as file:
        head = file.read(HEAD)
        while len(head.lstrip()) < HEAD and (more := file.read(HEAD)):
            head = head.lstrip() + more
    _refuse_binary(head, path)
    return head[: 2 * HEAD]


def _decoded(path: Path, encoding: str | None, goal: Path, notes: Notes) -> str:
    try:
        head = _copied(path, encoding or _encoding(path), goal, notes)
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


def _copied(path: Path, encoding: str, goal: Path, notes: Notes) -> str:
    """Decode `path` into `goal`; returns its first 64 KiB or so after leading blanks. A byte order mark is left out."""
    with _opened(path) as raw, goal.open("w", encoding="utf-8", newline="") as file:
        blocks = _mixed(raw, notes) if encoding == _MIXED else _blocks(raw, encoding)
        blocks = _without_nul(blocks, notes)
        head = next(blocks, "").removeprefix("\ufeff")
        file.write(head)
        while len(head.lstrip()) < HEAD and (more := next(blocks, "")):
            file.write(more)
            head = head.lstrip() + more
        for block in blocks:
            file.write(block)
    return head[: 2 * HEAD]


def _blocks(raw: IO[bytes], encoding: str) -> Iterator[str]:
    text = io.TextIOWrapper(raw, encoding=encoding)
    while block := text.read(HEAD):
        yield block
    text.detach()


def _mixed(raw: IO[bytes], notes: Notes) -> Iterator[str]:
    """Blocks of a UTF-8 file in which some lines are of another encoding: those are read by themselves."""
    lines: list[str] = []
    size = 0
    for number, line in enumerate(raw, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            text, name = _alone(line)
            notes.append(
                (
                    number,
                    f"a line of another encoding: read as {name}",
                    repr(line.strip())[2:-1][:200],
                    text.strip()[:200],
                )
            )
        lines.append(text.replace("\r\n", "\n"))
        size += len(text)
        if size >= HEAD:
            yield "".join(lines)
            lines, size = [], 0
    yield "".join(lines)


def _alone(line: bytes) -> tuple[str, str]:
    for name in ("gb18030", "cp1252"):
        try:
            text = line.decode(name)
        except UnicodeDecodeError:
            continue
        if name != "gb18030" or _reads_as_chinese("".join(c for c in text if c > "\x7f")):
            return text, name
    return line.decode("latin-1"), "latin-1"


def _without_nul(blocks: Iterator[str], notes: Notes) -> Iterator[str]:
    """The blocks less a few NUL characters; where there are many the file is no text, and they stay."""
    line = 1
    for block in blocks:
        if "\x00" in block and block.count("\x00") <= 4 + len(block) // 200:
            for place, text in enumerate(block.split("\n"), line):
                if "\x00" in text:
                    notes.append(
                        (place, "NUL characters left out", repr(text)[1:-1][:200], text.replace("\x00", "")[:200])
                    )
            line += block.count("\n")
            yield block.replace("\x00", "")
        else:
            line += block.count("\n")
            yield block


def _is_utf8_but_for_some_lines(path: Path) -> bool:
    """As many lines hold whole wide characters as hold broken ones; a quarter is enough where the file is not Chinese.

    A line of another encoding is hardly ever whole, but for one of a single Chinese character: about every seventh is.
    """
    whole = broken = 0
    with _opened(path) as raw:
        for line in iter(lambda: raw.readline(_BLOCK), b""):
            if not line.isascii():
                try:
                    line.decode("utf-8")
                    whole += 1
                except UnicodeDecodeError:
                    broken += 1
    if whole >= broken or not broken:
        return broken > 0
    return 4 * whole >= broken and not _of_china(path, _head_where_it_fits(path, "gb18030"))


def _encoding(path: Path) -> str:
    with _opened(path) as raw:
        start = raw.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if wide := _wide_without_mark(path):
        return wide
    if _head_where_it_fits(path, "utf-8-sig") is None and _is_utf8_but_for_some_lines(path):
        return _MIXED
    for name in _TRIED:
        head = _head_where_it_fits(path, name)
        if name == "gb18030":
            chinese = _of_china(path, head)
            if chinese:
                return chinese
        elif head is not None:
            return name
    return "latin-1"


def _wide_without_mark(path: Path) -> str:
    """UTF-16 without a byte order mark: every second byte of digits, commas and line ends is zero, and no other."""
    with _opened(path) as raw:
        head = raw.read(HEAD)
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > 0.05 * len(head) / 2 and even * 4 < odd:
        return "utf-16-le"
    return "utf-16-be" if even > 0.05 * len(head) / 2 and odd * 4 < even else ""


def _of_china(path: Path, head: str | None) -> str:
    """GB 18030, Big5 or none: they take most of each other's bytes, so the one whose common characters are more."""
    other = _head_where_it_fits(path, "big5hkscs")
    mainland = _share(head, "gb18030", 0xB0, 0xD7) if head and _reads_as_chinese(head) else 0.0
    island = _share(other, "big5hkscs", 0xA4, 0xC6) if other else 0.0
    if island > max(mainland, 0.8):
        return "big5hkscs"
    return "gb18030" if mainland else ""


def _share(wide: str, encoding: str, first: int, last: int) -> float:
    """Share of characters of the first level of an encoding, by first byte; it holds nearly all that is written."""
    level = sum(first <= c.encode(encoding)[0] <= last for c in wide if "\u4e00" <= c <= "\u9fff")
    return level / max(sum(c > "\u2fff" for c in wide) or len(wide), 1)


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
