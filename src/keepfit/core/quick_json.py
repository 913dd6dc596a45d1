"""JSON as fast as the installation allows: orjson where it is there (`keepfit[fast]`), the standard library otherwise.

Both give the same values; where orjson would say something else (NaN as null, half characters, long integers) the standard library
decides. Rows of nothing but numbers are read by msgspec where that is there, which makes no text of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

try:
    import orjson
except ModuleNotFoundError:
    _fast_dumps: Callable[[Any], bytes] | None = None
    _fast_loads: Callable[[bytes], Any] | None = None
else:
    _fast_dumps, _fast_loads = orjson.dumps, orjson.loads

try:
    import msgspec
except ModuleNotFoundError:
    _has_msgspec = False
else:
    _has_msgspec = True
_MOST_NAMES = 4096
NumberRows = Callable[[bytes], tuple[list[tuple[float, ...]], bool] | None]


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises ValueError for NaN and infinity; half characters leave as escapes."""
    made = quick(value)
    if made is not None:
        return made
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def quick(value: Any) -> bytes | None:
    """Compact UTF-8 JSON, or None where the standard library has to say what it is."""
    if _fast_dumps is None:
        return None
    try:
        made = _fast_dumps(value)
    except TypeError:  # half characters, integers over 64 bits, keys that are no text
        return None
    return None if b"null" in made else made  # as which it writes NaN


def rows_of(body: bytes) -> tuple[list[dict[str, Any]], bool] | None:
    """The objects of `{"input": {...}}` or `{"inputs": [{...}, ...]}`, and whether they are many; None for anything else.

    A key that came twice is there once, and integers over 64 bits may have become floats: see `is_flat`.
    """
    try:
        value = _fast_loads(body) if _fast_loads is not None else _standard(body)
    except (ValueError, RecursionError):
        return None
    if type(value) is not dict or len(value) != 1:
        return None
    many = "inputs" in value
    rows = value["inputs"] if many else [value.get("input")]
    return (rows, many) if type(rows) is list and all(type(row) is dict for row in rows) else None


@lru_cache(8)
def number_rows(names: tuple[str, ...]) -> NumberRows | None:
    """A reader of bodies as `rows_of` reads them whose rows have just these keys and a number under each: the numbers of every
    row in the order of `names`, and whether they are many; it gives None for anything else. None where msgspec is not there.

    Of a key that comes twice the last number counts.
    """
    if not _has_msgspec or not 0 < len(names) <= _MOST_NAMES:
        return None
    fields = [f"f{place}" for place in range(len(names))]
    said: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
    renamed = dict(zip(fields, names, strict=True))
    try:
        row = msgspec.defstruct("Row", [(field, float) for field in fields], rename=renamed, **said)
    except ValueError:  # quotes, backslashes and what else has to be written as an escape
        return None
    one = msgspec.defstruct("One", [("input", row)], **said)
    many = msgspec.defstruct("Many", [("inputs", list[row])], **said)  # type: ignore[valid-type]
    read_one: Callable[[bytes], Any] = msgspec.json.Decoder(one).decode
    read_many: Callable[[bytes], Any] = msgspec.json.Decoder(many).decode
    numbers = msgspec.structs.astuple

    def read(body: bytes) -> tuple[list[tuple[float, ...]], bool] | None:
        is_many = b'"inputs"' in body[:32]
        try:
            if is_many:
                return [numbers(found) for found in read_many(body).inputs], True
            return [numbers(read_one(body).input)], False
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None

    return read


def is_flat(body: bytes, rows: list[dict[str, Any]], many: bool) -> bool:
    """Whether no key of these rows came twice and nothing is nested in them; False also where a text holds a colon or a bracket."""
    pairs = 1 + sum(map(len, rows))
    return body.count(b":") == pairs and body.count(b"{") == 1 + len(rows) and body.count(b"[") == many


def _standard(body: bytes) -> Any:
    if b"\\u" in body:  # it may be half a character
        raise ValueError
    return json.loads(body.decode("utf-8"), parse_constant=_refused)


def _refused(name: str) -> NoReturn:
    raise ValueError(name)
