"""A table as bytes: a line of JSON that says what follows, the distinct texts of the columns, and arrays of codes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import InternalFault
from keepfit.runtime.coded import Coded, in_order, objects
from keepfit.runtime.samples import Ids
from keepfit.runtime.table import Column, Table, coded_column

_TYPES = ("|u1", "<u2", "<i4", "<i8", "<u8")
_AT_ONCE = 1 << 16
_STEP = 16  # arrays begin at multiples of it
_held: list[tuple[bytes, Table]] = []


def pack_table(table: Table, hold: bool = False) -> bytes:
    """A table as bytes, the same for the same table however its cells are held; with `hold`, for the next who unpacks it."""
    columns = {name: in_order(coded_column(column)) for name, column in table.columns.items()}
    texts: list[Any] = [column.values.tolist() for column in columns.values()]
    arrays: list[NDArray[Any]] = [column.codes for column in columns.values()]
    ids = table.ids
    if isinstance(ids, Ids):
        texts.append(list(ids.sources))
        arrays += [_in_few(ids.source), _in_few(ids.rows), ids.contents]
    else:
        texts.append(ids.tolist())
    words = zlib.compress(json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode(), 1)
    head = {
        "columns": list(columns),
        "by_rows": isinstance(ids, Ids),
        "words": len(words),
        "arrays": [[array.dtype.newbyteorder("<").str, len(array)] for array in arrays],
    }
    line = json.dumps(head, ensure_ascii=False).encode() + b"\n"
    parts: list[bytes | memoryview] = [line, words, bytes(-(len(line) + len(words)) % _STEP)]
    for array in arrays:
        made = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).view(np.uint8).data
        parts += [made, bytes(-len(made) % _STEP)]
    data = b"".join(parts)
    if hold:
        _held[:] = [(data, Table({**columns}, ids))]
    return data


def unpack_table(data: bytes, hold: bool = True) -> Table:
    """Inverse of `pack_table`; the arrays are parts of `data`, and the last table is held for the next one who asks."""
    for known, table in _held:
        if known is data:
            return table
    table = _unpacked(data)
    if hold:
        _held[:] = [(data, table)]
    return table


def let_go() -> None:
    """Hold no table any more."""
    _held.clear()


def pack_column(column: Column) -> bytes:
    """One column as bytes."""
    return pack_table(Table({"": column}))


def unpack_column(data: bytes) -> Coded:
    """Inverse of `pack_column`."""
    return coded_column(_unpacked(data).columns[""])


def _unpacked(data: bytes) -> Table:
    try:
        return _read(data)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
        raise InternalFault("bad_table", "a table of the store is damaged", seen=str(error)[:80]) from None


def _read(data: bytes) -> Table:
    line = data.index(b"\n") + 1
    head = json.loads(data[:line])
    at = line + head["words"]
    texts = json.loads(zlib.decompress(data[line:at]))
    arrays: list[NDArray[Any]] = []
    for kind, count in head["arrays"]:
        if kind not in _TYPES or count < 0:
            raise ValueError(f"{count} of {kind}")
        dtype = np.dtype(kind)
        at += -at % _STEP
        arrays.append(np.frombuffer(data, dtype, count, at))
        at += count * dtype.itemsize
    width = len(head["columns"])
    if len({len(codes) for codes in arrays[:width]}) > 1 or at + -at % _STEP != len(data):
        raise ValueError("columns of several lengths, or too many bytes")
    columns: dict[str, Column] = {
        name: Coded(codes, objects(values))
        for name, codes, values in zip(head["columns"], arrays[:width], texts[:width], strict=True)
    }
    if head["by_rows"]:
        count = len(arrays[width + 2])
        source, rows = (_whole(array, count) for array in arrays[width : width + 2])
        return Table(columns, Ids(texts[width], source.astype(np.int32, copy=False), rows, arrays[width + 2]))
    return Table(columns, objects(texts[width]))


def _in_few(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers [n]; of those that go up by the same step, the first two and how many they are."""
    if len(numbers) < 4:
        return numbers
    first, second, last = (int(numbers[at]) for at in (0, 1, -1))
    step = second - first
    if last - first != step * (len(numbers) - 1):
        return numbers
    for at in range(0, len(numbers) - 1, _AT_ONCE):
        some = numbers[at : at + _AT_ONCE + 1]
        if (some[1:] - some[:-1] != step).any():
            return numbers
    return np.array([numbers[0], numbers[1], len(numbers)], np.int64)


def _whole(numbers: NDArray[Any], count: int) -> NDArray[Any]:
    """Inverse of `_in_few`."""
    if len(numbers) == count:
        return numbers
    first, second, _ = numbers.tolist()
    return np.asarray(first + (second - first) * np.arange(count))


def named(names: Sequence[str], codes: NDArray[Any]) -> Coded:
    """A column of few names from their places [n]."""
    return Coded(codes.astype(np.uint8, copy=False), objects(list(names)))
