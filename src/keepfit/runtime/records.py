"""Reads JSON lines and JSON arrays of objects, gz too, one object at a time; knows nothing of tables."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.core.errors import DataError, from_os_error
from keepfit.runtime.decoding import damaged_gzip


@dataclass(frozen=True)
class Record:
    """An object and its line (or its place in the array, from 1), or the reason why it is none."""

    line: int
    value: dict[str, Any] | None
    reason: str = ""
    raw: str = ""


def records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    """The records of a file in order. Raises DataError where the whole file cannot be read."""
    try:
        with path.open("rb") as raw:
            plain = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            with io.TextIOWrapper(plain, encoding=encoding or "utf-8-sig") as text:
                yield from _records(text, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged_gzip(path, error) from None
    except (UnicodeError, LookupError) as error:
        raise DataError(
            "bad_encoding",
            "the file is not UTF-8 text",
            where=str(path),
            seen=str(error)[:200],
            hint="say data.read.encoding",
        ) from None
    except OSError as error:
        raise from_os_error(error, "reading the data") from None


def _records(file: io.TextIOWrapper, path: Path) -> Iterator[Record]:
    first, number = next(((line.lstrip(), place) for place, line in enumerate(file, 1) if line.strip()), ("", 0))
    if first.startswith("["):
        yield from _array(first + file.read(), path)
    elif first:
        yield _record(number, first)
        yield from (_record(place, line) for place, line in enumerate(file, number + 1) if line.strip())


def _record(line: int, text: str) -> Record:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Record(line, None, f"not JSON: {error}"[:200], text[:200].rstrip("\n"))
    return _checked(line, value)


def _checked(line: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(line, value)
    return Record(line, None, "not a JSON object", json.dumps(value)[:200])


def _array(text: str, path: Path) -> Iterator[Record]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "unreadable",
            "the file is not JSON",
            where=str(path),
            seen=str(error)[:200],
            hint='write an array of objects, [{"a": 1}, ...], or one object per line in a .jsonl file',
        ) from None
    yield from (_checked(place, value) for place, value in enumerate(values, 1))
