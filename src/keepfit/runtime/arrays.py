"""Arrays inside JSON: little-endian base64 with dtype and shape, so that a preparation needs no second file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES: dict[str, np.dtype[Any]] = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "i4": np.dtype("<i4")}


def pack(array: NDArray[Any], dtype: str = "f4") -> dict[str, Any]:
    """An array as `{"dtype", "shape", "data"}`."""
    raw = np.ascontiguousarray(array, _DTYPES[dtype])
    return {"dtype": dtype, "shape": list(raw.shape), "data": base64.b64encode(raw.tobytes()).decode()}


def unpack(raw: Mapping[str, Any]) -> NDArray[Any]:
    """Inverse of `pack`; raises ValueError where size and shape disagree."""
    data = np.frombuffer(base64.b64decode(raw["data"]), _DTYPES[raw["dtype"]])
    return np.asarray(data.reshape([int(size) for size in raw["shape"]]))
