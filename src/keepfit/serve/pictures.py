"""Pictures in requests: multipart files, and tensors of the Open Inference Protocol."""

from __future__ import annotations

import math
from email.message import Message
from typing import Any

import numpy as np

from keepfit.core.errors import DataError
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import encode_array
from keepfit.runtime.table import Table
from keepfit.serve.tensors import Given, pieces

_HINT = "send BYTES [n] with the bytes of files, or UINT8 [n, height, width, 3]"


def files_of(body: bytes, content_type: str) -> list[bytes]:
    """The parts named `file` of a multipart/form-data body (RFC 7578), in order. Raises DataError where there is none."""
    form = Message()
    form["Content-Type"] = content_type.encode("ascii", "replace").decode()
    boundary = form.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 70:
        raise _no_file("a Content-Type without a boundary")
    found, parts = [], (b"\r\n" + body).split(b"\r\n--" + boundary.encode("ascii", "replace"))[1:]
    for part in parts:
        head, gap, content = part.partition(b"\r\n\r\n")
        if gap and not part.startswith(b"--") and _name(head) == "file":
            found.append(content)
    if not found:
        raise _no_file(f"{max(len(parts) - 1, 0)} parts")
    return found


def _name(head: bytes) -> str | None:
    """The name in the Content-Disposition of a part."""
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            said = Message()
            said["Content-Disposition"] = value.strip().decode("latin-1")
            name = said.get_param("name", header="content-disposition")
            return name if isinstance(name, str) else None
    return None


def _no_file(seen: str) -> DataError:
    return DataError(
        "no_file_part",
        "the form has no part named file",
        where="body",
        seen=seen,
        hint="curl -F file=@picture.jpg http://.../predict",
    )


def table_of(pictures: list[bytes]) -> Table:
    """Bytes of files as rows."""
    column = np.empty(len(pictures), object)
    column[:] = pictures
    return Table({COLUMN: column})


def count_of(given: dict[str, Given]) -> int:
    """How many pictures the shapes promise, before any is made."""
    tensor = given.get(COLUMN)
    if tensor is None:
        return 0
    return math.prod(tensor.shape) if tensor.datatype == "BYTES" else _shape(tensor)[0]


def from_tensors(given: dict[str, Given]) -> Table:
    """The one input `image` as rows. Raises DataError for anything else."""
    if set(given) != {COLUMN}:
        raise DataError(
            "input_unknown",
            f"the model has one input, {COLUMN!r}",
            where="inputs",
            seen=", ".join(given)[:80],
            hint=_HINT,
        )
    tensor = given[COLUMN]
    if tensor.datatype == "BYTES":
        return table_of(_files(tensor))
    if tensor.datatype == "UINT8":
        return table_of(_pixels(tensor))
    raise DataError(
        "tensor_datatype", "the datatype must be BYTES or UINT8", where=COLUMN, seen=tensor.datatype[:40], hint=_HINT
    )


def _files(tensor: Given) -> list[bytes]:
    count = math.prod(tensor.shape)
    if tensor.raw is None:
        raise DataError(
            "tensor_type",
            "files can only be sent as binary data",
            where=COLUMN,
            seen="JSON data",
            hint="use the binary tensor extension, or POST /predict with base64",
        )
    found = pieces(tensor.raw, count, COLUMN)
    if len(found) != count or not found:
        raise DataError(
            "tensor_length", f"the shape says {count} values", where=COLUMN, seen=f"{len(found)} values", hint=_HINT
        )
    return found


def _shape(tensor: Given) -> list[int]:
    """[n, h, w] or [n, h, w, c]; a single picture [h, w] or [h, w, c] is one of them."""
    single = len(tensor.shape) == 2 or (len(tensor.shape) == 3 and tensor.shape[2] in (1, 3, 4))
    return [1, *tensor.shape] if single else list(tensor.shape)


def _pixels(tensor: Given) -> list[bytes]:
    shape = _shape(tensor)
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(
            "tensor_shape",
            "the shape must be [n, height, width, channels]",
            where=COLUMN,
            seen=str(tensor.shape)[:60],
            hint=_HINT,
        )
    if tensor.raw is not None:
        values: Any = np.frombuffer(tensor.raw, np.uint8)
    else:
        values = _numbers(tensor.data)
    if values.size != math.prod(shape):
        raise DataError(
            "tensor_length",
            f"the shape says {math.prod(shape)} values",
            where=COLUMN,
            seen=f"{values.size} values",
            hint=_HINT,
        )
    return [encode_array(picture) for picture in values.reshape(shape)]


def _numbers(data: Any) -> Any:
    try:
        values = np.asarray(data).ravel()
    except ValueError:
        values = np.array([-1.0])
    if values.dtype.kind not in "uif" or not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise DataError(
            "tensor_value", "the values must be whole numbers from 0 to 255", where=COLUMN, seen="others", hint=_HINT
        )
    return values.astype(np.uint8)
