"""Fits a network on pictures and returns a trained model: safetensors, ONNX and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.core.options import Options
from keepfit.modalities.fitting import Built, fit_network, scale_of
from keepfit.modalities.image.augment import contact_sheet
from keepfit.modalities.image.examples import PictureExamples
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.pictures import PicturePreparation, decode
from keepfit.runtime.table import Table

_LOOKED_AT = 500  # pictures that decide size, colour, mean and deviation
_SHEET = 24


def fit(
    options: Options,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Say,
) -> Trained:
    """Everything fitted here sees `train` only, but for choosing the best epoch (`valid`)."""
    column = next(rule.name for rule in rules if rule.kind == "image")
    start = _started(options, list(train.table.columns[column]), classes, way)
    mean, scale = scale_of(train, classes)

    def examples(sample: Sample, augment: Sequence[Any] = ()) -> PictureExamples:
        truth = sample.truth if classes else (sample.truth - mean) / scale
        pictures = list(sample.table.columns[column])
        return PictureExamples(pictures, truth, start.preparation, classes=classes, augment=augment, seed=way.seed)

    prepared = start.preparation
    built = Built(
        start.network,
        start.name,
        digest.canonical(prepared.to_json()),
        prepared.height * prepared.width * prepared.channels,
    )
    parts = examples(train, way.augment), examples(valid)
    probed = examples(Sample(probe, np.zeros(len(probe))))
    made = fit_network(built, parts, (train, valid), probed, classes, options, way, say)
    return replace(made, pictures={"augmented.png": _sheet(parts[0])} if parts[0].single else {})


def rehearse(options: Any, rules: Sequence[ColumnRule], train: Sample, classes: int, way: Way) -> dict[str, Any]:
    """What would be trained: the network is made and fed once. Raises as training would."""
    column = next(rule.name for rule in rules if rule.kind == "image")
    start = _started(options, list(train.table.columns[column]), classes, way)
    prepared = start.preparation
    return {
        "name": start.name,
        "input": [prepared.channels, prepared.height, prepared.width],
        "outputs": max(classes, 1),
        "parameters": sum(p.numel() for p in start.network.parameters() if p.requires_grad),
    }


def _started(options: Any, pictures: Sequence[bytes], classes: int, way: Way) -> Any:
    """The network as it starts; one that learns on is fed as its champion was."""
    looked: Any = Looked(pictures)
    if way.warm is not None and way.warm.preparation is not None:
        known = PicturePreparation.from_json(json.loads(way.warm.preparation))
        looked = Known(known)
        options = options.model_copy(update={"size": known.height})
    with torch.random.fork_rng():
        torch.manual_seed(way.seed)
        start = load(options.impl)(options, looked, max(classes, 1), way)
    return replace(start, preparation=looked.known) if isinstance(looked, Known) else start


class Known:
    """What a champion's preparation says of the pictures that it was made for, in place of a look at them."""

    def __init__(self, known: PicturePreparation) -> None:
        self.known, self.side, self.grey = known, min(known.height, known.width), known.channels == 1

    def preparation(self, size: int, channels: int) -> PicturePreparation:
        """The champion's."""
        return self.known


class Looked:
    """What the first training pictures are like: sizes, whether grey, and their pixels where asked."""

    def __init__(self, pictures: Sequence[bytes]) -> None:
        some = [
            decode(pictures[n])[0] for n in np.linspace(0, len(pictures) - 1, min(len(pictures), _LOOKED_AT), dtype=int)
        ]
        self.pictures = some
        self.side = int(np.median([min(picture.shape[:2]) for picture in some]))
        self.grey = all((p[..., 0] == p[..., 1]).all() and (p[..., 1] == p[..., 2]).all() for p in some)

    def preparation(self, size: int, channels: int) -> PicturePreparation:
        """Squashed to size x size, with the mean and deviation of these pictures."""
        plain = PicturePreparation(size, size, channels, "squash", (0.0,) * channels, (1.0,) * channels)
        pixels = np.stack([plain.fit_size(picture) for picture in self.pictures]).astype(np.float64) / 255
        mean, deviation = pixels.mean((0, 1, 2)), np.maximum(pixels.std((0, 1, 2)), 1e-3)
        rounded = [tuple(float(f"{value:.6g}") for value in values) for values in (mean, deviation)]
        return PicturePreparation(size, size, channels, "squash", rounded[0], rounded[1])


def _sheet(examples: PictureExamples) -> bytes:
    """Pictures of the training split as the first two epochs show them, the plain one first in each row."""
    rows = np.linspace(0, len(examples) - 1, min(len(examples), _SHEET // 4), dtype=np.int64)
    columns = [examples.pixels(rows, epoch) for epoch in (None, 0, 1, 2)]
    sheet: bytes = contact_sheet([pixels[row] for row in range(len(rows)) for pixels in columns], 4)
    return sheet
