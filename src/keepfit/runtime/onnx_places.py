"""Finds weights that an ONNX file keeps in other files, from its bytes alone: needs no onnx package, loads nothing.

onnxruntime made from bytes refuses such weights in the main graph, but reads those of subgraphs and sparse tensors from the
working directory; an ORT-format file is another way around. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

_ORT_FORMAT = b"ORTM"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DEEPEST = 100  # protobuf's own limit


def points_outside(model: bytes) -> str:
    """Why a file is not whole in itself; empty where it is. Raises ValueError for bytes that are no protobuf message."""
    if model[4:8] == _ORT_FORMAT:
        return "it is in ORT format, not ONNX"
    if b"location" not in model:  # the key without which no weight lies elsewhere; most files are done here
        return ""
    todo = [("model", 0, len(model), 0)]
    while todo:
        kind, start, end, depth = todo.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        for field, value, first, last in _fields(model, start, end):
            if kind == "tensor":
                if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value):
                    return "a weight of it lies in another file"
            elif field in _INSIDE[kind] and last > first:
                todo.append((_INSIDE[kind][field], first, last, depth + 1))
    return ""


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, varint value, and where its bytes begin and end, for every field of a message."""
    while at < end:
        tag, at = _varint(data, at, end)
        field, wire = tag >> 3, tag & 7
        value = first = last = 0
        if wire == 0:
            value, at = _varint(data, at, end)
        elif wire == 2:
            size, first = _varint(data, at, end)
            at = last = first + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("it ends too early")
        yield field, value, first, last


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number in it does not end")
