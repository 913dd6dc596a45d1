"""Reads a request body within its limits and parses JSON strictly; knows nothing of models."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections import Counter
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from keepfit.core.errors import DataError
from keepfit.serve.settings import ServeSettings
from keepfit.serve.turns import Shares, overloaded
from keepfit.serve.wire import WHOLE

_EITHER, _GZIP = 47, 31  # window bits: gzip or zlib by the first bytes; gzip only
_SLICE = 4096  # zlib copies what follows a member: small slices keep a body of tiny members linear
_DIGITS = 18
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def header(request: Request, name: bytes) -> str:
    """A header by its name in small letters; empty where it is not there."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


async def read_body(request: Request, settings: ServeSettings, heard: Shares) -> bytes:
    """The raw bytes. Raises DataError `body_too_large` before the excess is held, `body_slow` after the time limit,
    EnvironmentFault `overloaded` where `heard`, the bytes of all bodies that are not whole yet, would become too many."""
    limit = settings.max_body_bytes
    declared = header(request, b"content-length")
    if declared.isascii() and declared.isdigit() and (len(declared) > _DIGITS or int(declared) > limit):
        raise _too_large(limit)
    if request.scope.get(WHOLE):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message["body"]
        if len(body) > limit:
            raise _too_large(limit)
        return body
    pieces, size, taken, more = [], 0, 0, True
    client = request.client.host if request.client else ""
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > limit:
                    raise _too_large(limit)
                more = message.get("more_body", False)
                if more:
                    if not heard.take(client, size - taken):
                        raise overloaded()
                    taken = size
    except TimeoutError:
        raise DataError(
            "body_slow",
            f"the body did not arrive within {settings.body_timeout_s:g} s",
            where="body",
            seen=f"{size} bytes",
            hint="send fewer rows per request, or ask from nearer by",
        ) from None
    finally:
        heard.give(client, taken)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo `Content-Encoding` (gzip, deflate, identity) without ever holding more than `limit` bytes."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise DataError(
            "encoding_unknown",
            "this Content-Encoding is not supported",
            where="header Content-Encoding",
            seen=encoding[:40],
            hint="send gzip, deflate or plain bytes",
        )
    try:
        return _inflated(body, limit)
    except (zlib.error, EOFError) as error:
        raise DataError(
            "body_damaged",
            f"the body is not whole {encoding}",
            where="body",
            seen=str(error),
            hint=f"compress the whole body as {encoding} and add nothing after it, or send it plain",
        ) from None


def _inflated(body: bytes, limit: int) -> bytes:
    """All members of a gzip body, or the one zlib stream. Raises zlib.error, EOFError where the body ends too early."""
    is_gzip = body.startswith(b"\x1f\x8b")
    opener = zlib.decompressobj(_EITHER)
    pieces, size, at = [], 0, 0
    while at < len(body):
        if opener.eof:
            if not is_gzip:
                raise zlib.error(f"{len(body) - at} bytes follow its end")
            opener = zlib.decompressobj(_GZIP)
        piece = body[at : at + _SLICE]
        pieces.append(opener.decompress(piece, limit + 1 - size))
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
        at += len(piece) - len(opener.unused_data)
    if not opener.eof:
        raise EOFError("it ends too early")
    return b"".join(pieces)


def parse_json(body: bytes, max_depth: int, *, nan_is_missing: bool = False) -> Any:
    """A JSON value. Raises DataError for anything JSON does not know, doubled keys and nesting over `max_depth`.

    `nan_is_missing` reads a bare NaN as null: clients of the Open Inference Protocol write missing numbers so.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            parse_constant=_nan_only if nan_is_missing else _no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError as error:
        raise _not_json(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    _check_depth(text, value, max_depth)
    if _HALF_CHARACTER.search(text):
        _check_characters(value)
    return value


def _check_depth(text: str, value: Any, max_depth: int) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        if depth > max_depth:
            raise _too_deep(max_depth)
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            "not_text",
            "a text holds half of a character (a lone surrogate)",
            where="body",
            hint="send the text as UTF-8",
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise DataError(
            "key_twice", f"the key {twice[:80]!r} is given twice", where="body", hint="give every key of an object once"
        )
    return found


def _no_constant(name: str) -> NoReturn:
    raise DataError("not_finite", f"{name} is not JSON", where="body", seen=name, hint="send null for a missing value")


def _nan_only(name: str) -> None:
    if name != "NaN":
        _no_constant(name)


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise _too_long(text[:40])
    return value


def _whole(text: str) -> int:
    if len(text) > 308:  # the digits of the largest float64
        raise _too_long(text[:40] + "...")
    return int(text)


def _too_long(seen: str) -> DataError:
    return DataError(
        "not_finite",
        "a number is too large",
        where="body",
        seen=seen,
        hint="at most 1.7e308; send null for a missing value, a string for an identifier",
    )


def _too_large(limit: int) -> DataError:
    return DataError(
        "body_too_large",
        f"the body is over the limit of {limit} bytes",
        where="body",
        hint="send fewer rows per request",
    )


def _too_deep(max_depth: int) -> DataError:
    return DataError(
        "too_deep",
        f"the JSON is nested over {max_depth} levels",
        where="body",
        hint='a row is flat: {"input": {"COLUMN": VALUE, ...}}',
    )


def _not_json(seen: str) -> DataError:
    return DataError(
        "not_json",
        "the body is not JSON",
        where="body",
        seen=seen,
        hint='send {"input": {...}} with Content-Type: application/json',
    )
