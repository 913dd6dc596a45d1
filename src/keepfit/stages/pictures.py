"""The image chapters of ingest and clean: reads and checks every picture, and says what they are like."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.core.errors import DataError, RecipeError
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import decode, encode_array
from keepfit.runtime.table import Table, text_column
from keepfit.stages.ingest import reading
from keepfit.stages.packing import pack_column, pack_table
from keepfit.stages.results import as_json
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry

_GOLDEN = 8
_SIDES = (8, 64)  # made-up pictures are no smaller and no larger
_LOOKED_AT = 1000
_AT_ONCE = 64


def of_arrays(images: Any, labels: Any, target: str) -> Table:
    """Arrays [n, h, w] or [n, h, w, c] of 0..255 and their labels as a table of pictures. Raises DataError."""
    found = list(load("keepfit.modalities.image.read:from_arrays")(images, labels))
    pictures, ids = np.empty(len(found), object), np.empty(len(found), object)
    pictures[:] = [one.data for one in found]
    ids[:] = [one.name for one in found]
    return Table({COLUMN: pictures, target: text_column([one.label for one in found])}, ids)


def ingest_pictures(section: DataOptions, folder: Path, given: Table | None = None) -> Files:
    """`table`, `pictures` (all files in one), `pictures.json` (where each ends), `given` and `ledger.json`.

    `given` are pictures that Python hands in. Every picture is decoded once; one that cannot be is in the ledger with
    its reason.
    """
    if section.target == COLUMN:
        raise RecipeError(
            "bad_value",
            f"{COLUMN!r} is the name of the pictures themselves",
            where="data.target",
            seen=section.target,
            hint="give the labels another name",
        )
    names, labels, parts, data = [], [], [], []
    entries: list[Entry] = []
    for part, found in _found(section, folder, given):
        reason: str | None = getattr(found, "reason", None)
        rule: str = getattr(found, "rule", "unreadable picture")
        notes: list[str] = []
        if reason is None:
            try:
                _, notes = decode(found.data)
            except DataError as error:
                reason = error.what + (f" ({error.seen})" if error.seen else "")
        sample = f"{found.name}#0"
        if reason is not None:
            entries.append(Entry(sample, found.name, 0, COLUMN, f"{rule}: {reason}", "", "", "ingest"))
            continue
        sample += ":" + hashlib.blake2b(found.data, digest_size=8).hexdigest()
        for note in notes:
            entries.append(Entry(sample, found.name, 0, COLUMN, f"picture: {note}", "", "", "ingest", "noted"))
        names.append(sample)
        labels.append(found.label)
        parts.append(part or found.part)
        data.append(found.data)
    if not data:
        raise DataError(
            "no_rows",
            "the source has no picture that can be read",
            where=str(section.source or section.train),
            seen=f"{len(entries)} files; first: {entries[0].source}, {entries[0].rule}" if entries else "no file",
            hint="a folder with one sub-folder per class, or data.image for a table that lists pictures",
        )
    ids = np.empty(len(names), object)
    ids[:] = names
    plain = np.full(len(names), None, object)
    table = Table({COLUMN: plain, section.target: text_column(labels)}, ids)
    return {
        "table": pack_table(table),
        "pictures": b"".join(data),
        "pictures.json": as_json(np.cumsum([len(d) for d in data]).tolist()),
        "given": pack_column(text_column(parts)),
        "ledger.json": as_json([e.as_json() for e in entries]),
    }


def _found(section: DataOptions, folder: Path, given: Table | None) -> Iterable[tuple[str, Any]]:
    if given is not None:
        made = load("keepfit.modalities.image.read:Found")
        rows = zip(given.ids, given.columns[section.target], given.columns[COLUMN], strict=True)
        yield from (("", made(name, label, "", data)) for name, label, data in rows)
        return
    said = (("", section.source), ("train", section.train), ("validation", section.validation), ("test", section.test))
    for part, source in said:
        if source is not None:
            yield from ((part, found) for found in _of(source, section, folder))


def source_digest(source: str, section: DataOptions, folder: Path, given: Table | None = None) -> str:
    """The digest of everything that a source of pictures gives, or that Python hands in."""
    found = _of(source, section, folder) if given is None else (one for _, one in _found(section, folder, given))
    return digest.of_json(
        [
            [one.name, one.reason]
            if hasattr(one, "reason")
            else [one.name, one.label, one.part, hashlib.blake2b(one.data, digest_size=16).hexdigest()]
            for one in found
        ]
    )


def _of(source: str, section: DataOptions, folder: Path) -> Iterable[Any]:
    reader = load("keepfit.modalities.image.read:pictures")
    found: Iterable[Any] = reader(
        source, folder, image_column=section.image, target=section.target, read=reading(section.read)
    )
    return found


def tables(source: str, column: str | None, target: str, read: Any) -> Iterator[Table]:
    """Pictures to answer, in tables of a few; a file that is no picture is its reason in place of its bytes.

    `column` holds the paths where the source is a table; the target's column is there where labels are known.
    """
    reader = load("keepfit.modalities.image.read:pictures")
    found = iter(reader(source, Path.cwd(), image_column=column, target=target, read=read, loose=True))
    while some := list(itertools.islice(found, _AT_ONCE)):
        pictures, ids = np.empty(len(some), object), np.empty(len(some), object)
        pictures[:] = [one.reason if hasattr(one, "reason") else one.data for one in some]
        ids[:] = [one.name for one in some]
        labels = [getattr(one, "label", None) for one in some]
        yield Table({COLUMN: pictures, target: text_column(labels)}, ids)


def look(train: Table) -> tuple[list[ColumnRule], list[dict[str, Any]], dict[str, Any]]:
    """The rule of the pictures' column, its row in the report, and the reference profile: sizes and brightness."""
    rows = np.linspace(0, len(train) - 1, min(len(train), _LOOKED_AT), dtype=int)
    seen = [decode(train.columns[COLUMN][row])[0] for row in rows]
    heights, widths = [p.shape[0] for p in seen], [p.shape[1] for p in seen]
    sides = f"{min(widths)} x {min(heights)} to {max(widths)} x {max(heights)} pixels"
    grey = all((p[..., 0] == p[..., 1]).all() and (p[..., 1] == p[..., 2]).all() for p in seen)
    rule = ColumnRule(COLUMN, "image", "a picture")
    finding = {
        "name": COLUMN,
        "kind": "image",
        "why": "a picture, " + ("grey" if grey else "in colour"),
        "missing": 0.0,
        "distinct": len({str(i).rpartition(":")[2] for i in train.ids}),
        "example": sides,
        "used": True,
        "action": "decoded, brought to one size",
    }
    points = np.linspace(0, 1, 41)

    def spread(values: list[Any]) -> list[float]:
        return [float(f"{v:.6g}") for v in np.quantile(np.asarray(values, float), points)]

    profile = {
        "rows": len(train),
        "columns": {
            COLUMN: {
                "kind": "image",
                "missing": 0.0,
                "grey": grey,
                "height": spread(heights),
                "width": spread(widths),
                "brightness": spread([p.mean() / 255 for p in seen]),
                "contrast": spread([p.std() / 255 for p in seen]),
            }
        },
    }
    return [rule], [finding], profile


def synthetic(profile: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Made-up pictures of the usual size: soft noise of the usual brightness; nobody's picture is among them."""
    rng = np.random.default_rng(seed)
    column = profile["columns"][COLUMN]
    height, width = (int(np.clip(column[side][20], *_SIDES)) for side in ("height", "width"))
    shape = (height, width) if column["grey"] else (height, width, 3)
    rows = []
    for _ in range(_GOLDEN):
        level = np.interp(rng.random(), np.linspace(0, 1, 41), column["brightness"]) * 255
        noise = rng.normal(0, 1, shape)
        for axis in (0, 1):
            noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
        picture = np.clip(level + 60 * noise / max(float(noise.std()), 1e-6), 0, 255).astype(np.uint8)
        rows.append({COLUMN: base64.b64encode(encode_array(picture)).decode()})
    return rows
