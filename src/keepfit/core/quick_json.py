"""JSON as fast as the installation allows: orjson where it is there (`keepfit[fast]`), the standard library otherwise.

Both give the same values; where orjson would say something else (NaN as null, half characters, long integers) the standard library
decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

try:
    import orjson
except ModuleNotFoundError:
    _fast_dumps: Callable[[Any], bytes] | None = None
    _fast_loads: Callable[[bytes], Any] | None = None
else:
    _fast_dumps, _fast_loads = orjson.dumps, orjson.loads


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
