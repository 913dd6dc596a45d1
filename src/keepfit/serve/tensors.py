"""Tensors of the Open Inference Protocol: JSON or binary bytes to columns of text, answers to JSON or binary bytes.

Source: the binary tensor data extension, kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.runtime.table import Column, text_column

DTYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
NUMBERS = tuple(name for name in DTYPES if name != "BOOL")
ACCEPTED = {"FP64": NUMBERS, "INT64": NUMBERS, "BOOL": ("BOOL", "BYTES"), "BYTES": ("BYTES",)}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Given:
    """One input tensor as it came: `data` is JSON, or `raw` holds its bytes."""

    name: str
    datatype: str
    rows: int
    data: list[Any] | None
    raw: bytes | None
    shape: tuple[int, ...] = ()


def decode(given: Given, wanted: str) -> Column:
    """The cells of a tensor as text, missing as None. Raises DataError for another datatype or damaged data."""
    where = f"input {given.name!r}"
    accepted = ACCEPTED[wanted]
    if given.datatype not in accepted:
        raise DataError(
            "tensor_datatype",
            f"the datatype must be {wanted}",
            where=where,
            seen=given.datatype[:40],
            hint=f"accepted here: {', '.join(accepted)}",
        )
    cells = _from_raw(given, where) if given.raw is not None else _from_json(given, where)
    if len(cells) != given.rows:
        raise DataError(
            "tensor_length",
            f"the shape says {given.rows} values",
            where=where,
            seen="more" if len(cells) > given.rows else f"{len(cells)} values",
            hint='make "shape" the number of values, or give all of them',
        )
    return text_column(cells)


def _from_raw(given: Given, where: str) -> list[Any]:
    raw = given.raw or b""
    if given.datatype == "BYTES":
        return _texts(raw, given.rows, where)
    dtype = np.dtype(DTYPES[given.datatype])
    size = given.rows * dtype.itemsize
    if len(raw) != size:
        raise DataError(
            "tensor_length",
            f"{given.rows} values of {given.datatype} take {size} bytes",
            where=where,
            seen=f"{len(raw)} bytes",
            hint=f"little-endian, {dtype.itemsize} per value; binary_data_size says how many bytes",
        )
    values = np.frombuffer(raw, dtype)
    if dtype.kind == "f" and np.isinf(values).any():
        raise _infinite(where, int(np.isinf(values).argmax()))
    return list(values.tolist())


def _texts(raw: bytes, rows: int, where: str) -> list[str | None]:
    return [_text(piece, where, row) for row, piece in enumerate(pieces(raw, rows, where))]


def pieces(raw: bytes, rows: int, where: str) -> list[bytes]:
    """The values of BYTES data, each with its length in front; at most one more than `rows`, which is enough to refuse.

    Raises DataError where the data ends within a value.
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) <= rows:  # one over is enough to refuse
        start = at + _LENGTH.size
        end = start + (_LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else 0)
        if start > len(raw) or end > len(raw):
            raise DataError(
                "tensor_length",
                "the BYTES data ends within a value",
                where=f"{where}, row {len(found)}",
                hint="each value is its length as 4 bytes, little-endian, and then its bytes",
            )
        found.append(raw[start:end])
        at = end
    return found


def _text(piece: bytes, where: str, row: int) -> str | None:
    try:
        return piece.decode("utf-8") or None
    except UnicodeDecodeError as error:
        raise DataError(
            "not_text",
            "the value is not UTF-8",
            where=f"{where}, row {row}",
            seen=error.reason,
            hint="encode the text as UTF-8",
        ) from None


def _from_json(given: Given, where: str) -> list[Any]:
    data = given.data or []
    flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in data]
    check = _CHECKS.get(given.datatype[:2], _is_whole)
    for row, value in enumerate(flat):
        if value is not None and not check(value):
            raise DataError(
                "tensor_value",
                f"the value is not {given.datatype[:40]}",
                where=f"{where}, row {row}",
                seen=repr(value)[:40],
                hint=f"for example {_EXAMPLES.get(given.datatype[:2], '1')}; null where it is missing",
            )
    return [value or None for value in flat] if given.datatype == "BYTES" else flat


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


def _is_float(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_EXAMPLES = {"BY": '"a"', "BO": "true", "FP": "1.5"}
_CHECKS = {"BY": _is_text, "BO": _is_bool, "FP": _is_float}


def _infinite(where: str, row: int) -> DataError:
    return DataError("not_finite", "the value is infinite", where=f"{where}, row {row}", hint="NaN means missing")


def class_datatype(task: str, classes: Sequence[Any]) -> str:
    """The datatype of `prediction`: as narrow as the classes allow; FP64 for regression."""
    if task == "regression":
        return "FP64"
    kinds = {type(item) for item in classes}
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        return "INT64"
    return "FP64" if kinds and kinds <= {int, float} else "BYTES"


def label_array(labels: Sequence[Any], datatype: str) -> NDArray[Any]:
    """Labels [n] as an array of the datatype (object array of str for BYTES)."""
    if datatype == "BYTES":
        return np.array([str(label) for label in labels], object)
    return np.array(labels, DTYPES[datatype])


def encode(values: NDArray[Any], datatype: str) -> bytes:
    """Binary tensor data, row-major, little-endian; BYTES with their lengths in front."""
    if datatype != "BYTES":
        return np.ascontiguousarray(values, DTYPES[datatype]).tobytes()
    pieces = [str(value).encode() for value in values.ravel()]
    return b"".join(part for piece in pieces for part in (_LENGTH.pack(len(piece)), piece))
