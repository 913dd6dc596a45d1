"""Reads pictures as encoded bytes with their labels: folders, zips, annotated sets, tables of paths, idx, arrays."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, missing_extra, nearest
from keepfit.modalities.image.annotated import from_annotated, kind_of
from keepfit.modalities.image.archives import from_zip, zip_has_pictures
from keepfit.modalities.image.folders import from_folder, has_pictures, leads_out
from keepfit.modalities.image.found import (
    Found,
    Refused,
    bytes_of,
    has_picture_ending,
    printable,
    why_no_picture,
)
from keepfit.modalities.image.idx import from_idx, image_files
from keepfit.modalities.layout import Part
from keepfit.runtime import sources
from keepfit.runtime.table import Column, Table, to_text

__all__ = ["Found", "Part", "Refused", "from_arrays", "looks_like_pictures", "pictures"]

_NO_READ = sources.Read()


def pictures(
    source: str,
    folder: Path,
    *,
    image_column: str | None = None,
    target: str | None = None,
    read: sources.Read = _NO_READ,
    loose: bool = False,
) -> Iterator[Found | Refused]:
    """The pictures of a source in a fixed order, loaded one by one; what gives none is Refused and ends nothing.

    `image_column`, `target` and `read` are for tables. With `loose` a picture needs no class folder and may stand
    alone, and a table needs no target; its one column of paths is found. Raises DataError, at the call or while
    iterating, where the source as a whole cannot be used.
    """
    if source.startswith("sklearn:"):
        return _digits(source)
    if kind := kind_of(source):
        return from_annotated(kind, folder / sources.expand(source)[len(kind) :], loose=loose)
    place = folder / sources.expand(source)
    if files := image_files(place):
        return from_idx(files)
    if os.path.isdir(place):
        return from_folder(place, loose=loose)
    if place.suffix.lower() == ".zip" and os.path.isfile(place):
        return from_zip(place, loose=loose)
    if loose and has_picture_ending(place.name):
        return (_alone(path) for path in sources.files_of(source, folder))
    return _listed(sources.files_of(source, folder), source, image_column, target, read, loose)


def _alone(path: Path) -> Found | Refused:
    data = bytes_of(path.name, path)
    return data if isinstance(data, Refused) else Found(path.name, None, "", data)


def looks_like_pictures(source: str, folder: Path) -> bool:
    """Whether a source is an annotated set, folder, zip or idx files, by names alone. Tables and `sklearn:` are not."""
    if source.startswith("sklearn:"):
        return False
    if kind_of(source):
        return True
    place = folder / sources.expand(source)
    if os.path.isdir(place):
        return bool(image_files(place)) or has_pictures(place)
    if place.suffix.lower() == ".zip" and os.path.isfile(place):
        return zip_has_pictures(place)
    return bool(image_files(place))


def from_arrays(images: NDArray[Any], labels: Sequence[Any] | NDArray[Any] | None) -> Iterator[Found]:
    """Arrays [n, h, w] or [n, h, w, c] of 0..255 as pictures `000` to `n - 1`. Raises DataError for other shapes."""
    from keepfit.runtime.pictures import encode_array

    stack = np.asarray(images)
    if stack.ndim not in (3, 4) or not len(stack):
        raise DataError(
            "array_shape",
            "this is not a stack of pictures",
            seen=f"shape {stack.shape}",
            hint="give an array [n, height, width] or [n, height, width, channels]",
        )
    if labels is not None and len(labels) != len(stack):
        raise DataError(
            "array_labels",
            "pictures and labels disagree in number",
            seen=f"{len(stack)} pictures, {len(labels)} labels",
            hint="give one label for each picture",
        )
    said = [None] * len(stack) if labels is None else [to_text(label) for label in labels]
    width = len(str(len(stack) - 1))
    return (
        Found(f"{row:0{width}d}", label, "", encode_array(picture))
        for row, (picture, label) in enumerate(zip(stack, said, strict=True))
    )


def _digits(source: str) -> Iterator[Found]:
    if source != "sklearn:digits":
        raise DataError(
            "unknown_set",
            "the one set of pictures in scikit-learn is digits",
            where=source,
            seen=source,
            hint="source: sklearn:digits",
        )
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise missing_extra("tables", "sklearn") from None
    found = load_digits()
    return from_arrays(np.rint(found.images * 255 / 16).astype(np.uint8), found.target)


def _listed(
    files: list[Path], source: str, image_column: str | None, target: str | None, read: sources.Read, loose: bool
) -> Iterator[Found | Refused]:
    """The pictures whose paths stand in a table, relative to it; a path that comes again gets `~2` to its name."""
    used: Counter[str] = Counter()
    some = False
    for path in files:
        rejects = sources.Rejects()
        row = 0
        for table in sources.chunks(path, read, rejects):
            cells, labels = _columns(table, path, image_column, target, loose)
            for cell, label in zip(cells, labels, strict=True):
                row, some = row + 1, True
                yield _of_row(path, row, cell, label, used)
        for file, line, reason, _ in rejects.lines:
            yield Refused(f"{file}#line{line}", f"unreadable line: {reason}")
    if not some:
        raise DataError("no_rows", "the source has no rows", where=source, seen="an empty table", hint="check the file")


def _columns(
    table: Table, path: Path, image_column: str | None, target: str | None, loose: bool
) -> tuple[Column, Column | list[None]]:
    names = table.names
    if loose and target not in names:
        target = None
    if image_column is None:
        likely = [name for name in names if any(has_picture_ending(cell or "") for cell in table.columns[name][:20])]
        image_column = likely[0] if loose and len(likely) == 1 else None
    if image_column is None:
        raise DataError(
            "no_image_column",
            "the recipe does not say which column holds the paths of the pictures",
            where=str(path),
            seen=", ".join(names)[:300],
            hint=f"data.image: {likely[0] if likely else 'the column of paths'}",
        )
    for name, key in ((image_column, "data.image"), (target, "data.target")):
        if name is not None and name not in names:
            raise DataError(
                "no_column",
                f"the data has no column {name!r}",
                where=f"{key}, {path}",
                seen=", ".join(names)[:300],
                hint=nearest(name, names),
            )
    return table.columns[image_column], [None] * len(table) if target is None else table.columns[target]


def _of_row(table: Path, row: int, cell: str | None, label: str | None, used: Counter[str]) -> Found | Refused:
    said = (cell or "").strip().replace("\\", "/")
    if not said:
        return Refused(f"{table.name}#row{row}", "no path in this row")
    parts = [part for part in said.split("/") if part not in ("", ".")]
    name = printable("/".join(parts)) or said
    used[name] += 1
    name = name if used[name] == 1 else f"{name}~{used[name]}"
    if said.startswith("/") or re.match(r"[A-Za-z]:", said):
        return Refused(name, "a path from the root of a disk: write it relative to the table")
    if ".." in parts:
        return Refused(name, "a path that climbs out of the folder of the table")
    path = table.parent.joinpath(*parts)
    data = _inside(name, path, table.parent)
    if isinstance(data, Refused):
        return data
    reason = why_no_picture("/".join(parts), data)
    return Refused(name, reason) if reason else Found(name, label, "", data)


def _inside(name: str, path: Path, root: Path) -> bytes | Refused:
    try:
        if leads_out(path, root):
            return Refused(name, "a link out of the folder")
    except (OSError, RuntimeError, ValueError) as error:  # a link that ends in itself, a null character
        return Refused(name, f"cannot be read: {str(error)[:120]}")
    return bytes_of(name, path)
