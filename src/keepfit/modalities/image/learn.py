"""Fits a network on pictures and returns a trained model: safetensors, ONNX and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.core.options import Options
from keepfit.modalities.image.augment import contact_sheet
from keepfit.modalities.image.examples import PictureExamples
from keepfit.modalities.room import Sample, Say, Trained, Way, class_weights
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.pictures import PicturePreparation, decode
from keepfit.runtime.table import Table
from keepfit.training.checkpoint import apart
from keepfit.training.exporting import Answering, to_onnx
from keepfit.training.job import Fitted, Job, curve, for_rows
from keepfit.training.judging import scores_of
from keepfit.training.trainer import train as train_network

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
    with torch.random.fork_rng():
        torch.manual_seed(way.seed)
        start = load(options.impl)(options, Looked(list(train.table.columns[column])), max(classes, 1), way)
    mean, scale = (0.0, 1.0) if classes else (float(train.truth.mean()), float(train.truth.std() or 1.0))
    parts = [
        PictureExamples(
            list(sample.table.columns[column]),
            sample.truth if classes else (sample.truth - mean) / scale,
            start.preparation,
            classes=classes,
            augment=way.augment,
            seed=way.seed,
        )
        for sample in (train, valid)
    ]
    weigh = class_weights(train.truth, classes, way)
    fitted = train_network(
        Job(
            start.network,
            parts[0],
            parts[1],
            for_rows(way.train, len(train.truth)),
            classes,
            way.seed,
            threads=way.threads,
            identity={
                "model": options.model_dump(mode="json"),
                "augment": [part.model_dump(mode="json") for part in way.augment],
                "data": digest.of_json([[str(i) for i in s.table.ids] for s in (train, valid)]),
            },
            class_weights=None if weigh is None else torch.tensor(weigh, dtype=torch.float32),
            folder=way.scratch,
            budget_s=way.budget_s,
            stopped=way.stopped,
            say=say,
        )
    )
    return _kept(fitted, start, parts, list(probe.columns[column]), valid, options, mean, scale, weigh)


def rehearse(options: Any, rules: Sequence[ColumnRule], train: Sample, classes: int, way: Way) -> dict[str, Any]:
    """What would be trained: the network is made and fed once. Raises as training would."""
    column = next(rule.name for rule in rules if rule.kind == "image")
    with torch.random.fork_rng():
        torch.manual_seed(way.seed)
        start = load(options.impl)(options, Looked(list(train.table.columns[column])), max(classes, 1), way)
    prepared = start.preparation
    return {
        "name": start.name,
        "input": [prepared.channels, prepared.height, prepared.width],
        "outputs": max(classes, 1),
        "parameters": sum(p.numel() for p in start.network.parameters() if p.requires_grad),
    }


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


def _kept(
    fitted: Fitted,
    start: Any,
    parts: list[PictureExamples],
    probe: Sequence[bytes],
    valid: Sample,
    options: Any,
    mean: float,
    scale: float,
    weigh: NDArray[np.float64] | None,
) -> Trained:
    classes = parts[0].classes
    probed = PictureExamples(probe, np.zeros(len(probe)), start.preparation, classes=classes)
    answering = Answering(fitted.network, classes, mean, scale).eval()
    example = parts[0].batch(np.array([0, len(parts[0]) - 1]), None)[0]
    onnx = to_onnx(answering, example).SerializeToString(deterministic=True)
    native, held = (_answers(fitted.network, rows, mean, scale) for rows in (probed, parts[1]))
    weights = save(apart(fitted.network.state_dict()))
    facts = {
        "weights": {options.use: 1.0},
        "rounds": {options.use: fitted.best_epoch},
        "copies": {options.use: 1},
        "scored_by": "the validation rows",
        "tried": [options.use],
        "chosen": options.use,
        "members": [{"name": options.use, "weight": 1.0}],
        "trials": [
            {
                "name": options.use,
                "params": {"network": start.name, "lr": fitted.lr, "precision": fitted.precision},
                "rounds": fitted.best_epoch,
                "size_bytes": len(weights),
                "scores_at": 0,
            }
        ],
        "ended": [],
        "curve": curve(fitted),
        "features": start.preparation.height * start.preparation.width * start.preparation.channels,
        "onnx_bytes": len(onnx),
        "class_weights": None if weigh is None else [round(float(w), 6) for w in weigh],
        "epochs": fitted.history,
        "stopped_by": fitted.stopped_by,
        "precision": fitted.precision,
    }
    sheet = {"augmented.png": _sheet(parts[0])} if parts[0].single else {}
    ids = [str(i) for i in valid.table.ids]
    return Trained(
        digest.canonical(start.preparation.to_json()),
        onnx,
        {"network.safetensors": weights},
        native,
        facts,
        ids,
        np.stack([held, held]),
        sheet,
    )


def _answers(network: nn.Module, rows: PictureExamples, mean: float, scale: float) -> NDArray[np.float64]:
    found = scores_of(network, rows, rows.classes, 64)
    return found if rows.classes else found * scale + mean


def _sheet(examples: PictureExamples) -> bytes:
    """Pictures of the training split as the first two epochs show them, the plain one first in each row."""
    rows = np.linspace(0, len(examples) - 1, min(len(examples), _SHEET // 4), dtype=np.int64)
    columns = [examples.pixels(rows, epoch) for epoch in (None, 0, 1, 2)]
    sheet: bytes = contact_sheet([pixels[row] for row in range(len(rows)) for pixels in columns], 4)
    return sheet
