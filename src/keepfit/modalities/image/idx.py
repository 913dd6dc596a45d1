"""Pictures of idx files, the form of MNIST and its kin (http://yann.lecun.com/exdb/mnist), gz or plain."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from keepfit.core.errors import DataError, from_os_error
from keepfit.modalities.image.found import MOST_PIXELS, Found
from keepfit.modalities.layout import Part

_NAME = re.compile(
    r"(?P<stem>.*?)(?P<part>train|t10k|test|validation|valid|val)-images(?P<mark>[-.])idx[34]-ubyte(\.gz)?"
)
_PARTS: dict[str, Part] = {
    "train": "train",
    "t10k": "test",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
_MOST_LABELS = 100_000_000


@dataclass(frozen=True)
class _Pair:
    part: Part
    images: Path
    labels: Path


def image_files(place: Path) -> list[Path]:
    """The idx files of pictures that a folder holds, or whose names begin with the last part of `place`; sorted."""
    folder, start = (place, "") if os.path.isdir(place) else (place.parent, place.name)
    if not os.path.isdir(folder):  # unlike `is_dir`, no error for a name that is too long
        return []
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    found = [name for name in names if name.startswith(start) and _NAME.fullmatch(name)]
    return [
        folder / name for name in found if name.removesuffix(".gz") == name or name.removesuffix(".gz") not in found
    ]


def from_idx(files: list[Path]) -> Iterator[Found]:
    """The pictures of `image_files` as PNM bytes, labels `0` to `255`; sizes are checked strictly.

    Raises DataError: at the call for headers and labels, while iterating where the pictures end early or late.
    """
    pairs = _pairs(files)
    labels = {pair.part: _labels(pair) for pair in pairs}
    seen = set(labels.get("train") or b"".join(labels.values()))
    if len(seen) < 2:
        raise DataError(
            "one_class",
            "fewer than two classes have pictures",
            where=str(pairs[0].labels),
            seen=f"labels: {sorted(seen)}",
            hint="a classifier needs pictures of at least two classes",
        )
    return (item for pair in pairs for item in _pictures(pair, labels[pair.part]))


def _pairs(files: list[Path]) -> list[_Pair]:
    pairs: dict[Part, _Pair] = {}
    for path in files:
        named = _NAME.fullmatch(path.name)
        part = _PARTS[named["part"]] if named else ""
        if part in pairs:
            raise DataError(
                "idx_ambiguous",
                "two idx files hold the same split",
                where=str(path.parent),
                seen=f"{pairs[part].images.name}, {path.name}",
                hint="name one set by how its file names begin, such as folder/emnist-letters",
            )
        pairs[part] = _Pair(part, path, _labels_beside(path))
    return [pairs[part] for part in sorted(pairs)]


def _labels_beside(images: Path) -> Path:
    plain = re.sub(r"idx[34]", "idx1", images.name.replace("-images", "-labels")).removesuffix(".gz")
    for name in (plain, plain + ".gz"):
        if (images.parent / name).is_file():
            return images.parent / name
    raise DataError(
        "idx_labels",
        "the idx file of labels is missing",
        where=str(images),
        seen="pictures without labels",
        hint=f"put {plain}.gz beside it",
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw) as plain:
                    yield io.BufferedReader(plain, 1 << 20)
            else:
                yield raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            "damaged_gzip",
            "the file is not a whole gzip file",
            where=str(path),
            seen=str(error)[:200],
            hint="download it again",
        ) from None
    except OSError as error:
        raise from_os_error(error, "reading the data") from None


def _sizes(file: IO[bytes], path: Path, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes in the header of an idx file of unsigned bytes. Raises DataError."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != 8 or head[3] not in axes:
        raise DataError(
            "idx_header",
            "this is not an idx file of bytes with the right number of axes",
            where=str(path),
            seen=f"first bytes {head.hex(' ') or 'none'}",
            hint=f"it must begin with 00 00 08 0{axes[0]}",
        )
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise _wrong_size(path, f"the header ends after {4 + len(sizes)} bytes")
    return struct.unpack(f">{head[3]}I", sizes)


def _wrong_size(path: Path, seen: str) -> DataError:
    return DataError(
        "idx_size",
        "the size of the idx file is not what its header says",
        where=str(path),
        seen=seen,
        hint="the file was cut or mixed up with another: download it again",
    )


def _labels(pair: _Pair) -> bytes:
    """One byte per picture. Raises DataError where labels and pictures disagree in number."""
    with _opened(pair.labels) as file:
        (count,) = _sizes(file, pair.labels, (1,))
        if count > _MOST_LABELS:
            raise _wrong_size(pair.labels, f"{count} labels")
        data = file.read(count + 1)
        if len(data) != count:
            more = "more than " if len(data) > count else f"{len(data)} of "
            raise _wrong_size(pair.labels, f"{more}{count} labels")
    with _opened(pair.images) as file:
        pictures, *shape = _sizes(file, pair.images, (3, 4))
    if pictures != count or not count:
        raise DataError(
            "idx_count",
            "the idx files disagree in number" if count or pictures else "the idx files are empty",
            where=str(pair.images),
            seen=f"{pictures} pictures, {count} labels",
            hint="take the pictures and the labels from one set",
        )
    if not 0 < math.prod(shape) <= MOST_PIXELS or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise DataError(
            "idx_shape",
            "pictures of this shape are not read",
            where=str(pair.images),
            seen=" x ".join(map(str, shape)),
            hint=f"height x width, or height x width x 1 or 3, at most {MOST_PIXELS} values",
        )
    return data


def _pictures(pair: _Pair, labels: bytes) -> Iterator[Found]:
    from keepfit.runtime.pictures import encode_array

    width = len(str(len(labels) - 1))
    with _opened(pair.images) as file:
        _, *shape = _sizes(file, pair.images, (3, 4))
        size = math.prod(shape)
        for place, label in enumerate(labels):
            data = file.read(size)
            if len(data) < size:
                raise _wrong_size(pair.images, f"it ends in picture {place} of {len(labels)}")
            picture = encode_array(np.frombuffer(data, np.uint8).reshape(shape))
            yield Found(f"{pair.part}/{place:0{width}d}", str(label), pair.part, picture)
        if file.read(1):
            raise _wrong_size(pair.images, f"more bytes than {len(labels)} pictures of {size}")
