"""A picture model that exists already: how pictures are fed to it, its answers as the source gives them, and its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.modalities.brought import Fixed, opened, result
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.pictures import PicturePreparation, decode
from keepfit.runtime.table import Table
from keepfit.training.existing import graphs
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.kinds import kind_of, refused

_SAMPLE = 32


def fit(
    options: Any,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Say,
) -> Trained:
    """Nothing is learned: training pictures tell the size where nothing else does, and what the scores look like."""
    column = next(rule.name for rule in rules if rule.kind == "image")
    path = (way.folder / options.source).expanduser()
    some = [decode(data)[0] for data in train.table.columns[column][:_SAMPLE]]
    if kind_of(path) == "hugging_face":
        folder = load("keepfit.modalities.image.hugging_face_head:load_folder")(path)
        return _of_folder(options, folder, column, (train, valid, probe), classes, way, path)
    model, prepared, last = _opened(options, some, len(options.classes or ()) or max(classes, 1), way, path)
    swapped = options.colour == "bgr"

    def fed(pictures: Sequence[Any]) -> Array:
        pixels = np.stack([prepared.fit_size(picture) for picture in pictures])
        x = prepared.to_input(pixels)
        x = x[:, [2, 1, 0]] if swapped else x
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if last else x)

    fixed = Fixed(model, options, path, classes, list(way.names), model.raw(fed(some)))
    native, held = (
        np.concatenate(
            [fixed.answers(fed([decode(data)[0] for data in part])) for part in _parts(list(rows.columns[column]))]
        )
        for rows in (probe, valid.table)
    )
    shape: list[Any] = [prepared.channels, prepared.height, prepared.width]
    onnx = fixed.graph(
        lambda element, name: graphs.front(last=last, swapped=swapped, element=element, name=name),
        shape,
        fed(some[:2] * 2)[:2],
    )
    notes = fixed.judged(held, valid.truth, list(way.names)) + _fed(options, prepared)
    ids = [str(i) for i in valid.table.ids]
    return result(digest.canonical(prepared.to_json()), onnx, native, (ids, held), model, int(np.prod(shape)), notes)


def _parts(cells: list[bytes]) -> list[list[bytes]]:
    return [cells[start : start + 64] for start in range(0, len(cells), 64)]


def _fed(options: Any, prepared: PicturePreparation) -> list[str]:
    """How pictures are fed, where the recipe is silent."""
    if options.mean is not None or options.scale != 1:
        return []
    return [
        f"Pictures are fed as {prepared.width} x {prepared.height} pixels of 0 to 1: neither model nor recipe says mean and "
        "deviation (model.mean, model.std)."
    ]


def _opened(
    options: Any, some: list[Any], outputs: int, way: Way, path: Path
) -> tuple[Opened, PicturePreparation, bool]:
    """The model, how pictures are prepared, and whether it reads channels last."""
    grey = options.colour == "grey" or (
        options.colour == "auto"
        and all((p[..., 0] == p[..., 1]).all() and (p[..., 1] == p[..., 2]).all() for p in some)
    )
    side = int(np.median([min(p.shape[:2]) for p in some])) if options.size == "auto" else options.size
    channels = 1 if grey else 3
    shape = (channels, side, side)
    offered = {
        "classes": outputs,
        "num_classes": outputs,
        "channels": channels,
        "in_channels": channels,
        "height": side,
        "width": side,
        "input_shape": shape,
    }
    model = opened(options, way.folder, offered)
    own = model.shape or shape
    if len(own) != 3:
        raise refused(
            "not_for_pictures", "the model does not read pictures", path, f"[n, {', '.join(map(str, own))}]", ""
        )
    last = options.layout == "nhwc" or (options.layout == "auto" and own[0] not in (1, 3) and own[2] in (1, 3))
    c, h, w = (own[2], own[0], own[1]) if last else own
    if c not in (1, 3, None):
        hint = "model.layout: nchw or nhwc; grey or three colours are read"
        raise refused("not_for_pictures", f"the model reads {c} channels", path, str(own), hint)
    c, h, w = c or channels, h or side, w or side
    if options.size != "auto" and (h, w) != (side, side):
        raise refused(
            "wrong_size", "the model reads pictures of one size", path, f"{w} x {h}", f"leave model.size: {side} out"
        )
    mean, std = _numbers(options.mean, 0.0, c), _numbers(options.std, 1.0, c)
    if options.colour == "bgr":  # said in the order of the model, kept in that of the picture
        mean, std = mean[::-1], std[::-1]
    scale = float(options.scale)
    mean, std = tuple(m / scale for m in mean), tuple(s / scale for s in std)
    return model, PicturePreparation(h, w, c, options.resize, mean, std), last


def _numbers(said: Any, plain: float, count: int) -> tuple[float, ...]:
    values = [plain] if said is None else list(said)
    return tuple(values * count if len(values) == 1 else values)


def _of_folder(
    options: Any, folder: Any, column: str, parts: tuple[Sample, Sample, Table], classes: int, way: Way, path: Path
) -> Trained:
    """A Hugging Face folder: its own processor feeds the source, our preparation the bundle; both must agree."""
    train, valid, probe = parts
    prepared = folder.preparation
    some = [decode(data)[0] for data in train.table.columns[column][:_SAMPLE]]
    fixed = Fixed(folder.model, options, path, classes, list(way.names), folder.model.raw(folder.processed(some)))
    native, held = (
        np.concatenate(
            [
                fixed.answers(folder.processed([decode(data)[0] for data in part]))
                for part in _parts(list(rows.columns[column]))
            ]
        )
        for rows in (probe, valid.table)
    )
    shape: list[Any] = [prepared.channels, prepared.height, prepared.width]
    onnx = fixed.graph(
        lambda element, name: graphs.front(last=False, swapped=False, element=element, name=name),
        shape,
        folder.processed(some[:2] * 2)[:2],
    )
    ids = [str(i) for i in valid.table.ids]
    return result(
        digest.canonical(prepared.to_json()),
        onnx,
        native,
        (ids, held),
        folder.model,
        int(np.prod(shape)),
        fixed.judged(held, valid.truth, list(way.names)),
    )
