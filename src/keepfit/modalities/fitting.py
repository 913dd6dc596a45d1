"""Fits a network of any room by the shared trainer, and makes of it the trained model that stages keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from keepfit.core import digest
from keepfit.modalities.room import Sample, Say, Trained, Way, class_weights
from keepfit.training.checkpoint import apart
from keepfit.training.exporting import Answering, to_onnx
from keepfit.training.job import Fitted, Job, curve, for_rows
from keepfit.training.judging import scores_of
from keepfit.training.loading import Examples
from keepfit.training.trainer import train as train_network


@dataclass(frozen=True)
class Built:
    """An untrained network and what is kept beside it. `longest` is the most of a second axis of any length, else 0.

    `settle` makes of the trained network the one that is exported, such as by merging adapters; what it answers is
    compared with the answers from before. `said` goes into the ONNX file, `files` into the bundle.
    """

    network: nn.Module
    name: str
    preparation: bytes
    features: int
    longest: int = 0
    settle: Callable[[nn.Module], nn.Module] = lambda network: network
    said: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def scale_of(train: Sample, classes: int) -> tuple[float, float]:
    """Mean and deviation of a numeric target, 0 and 1 for classes."""
    return (0.0, 1.0) if classes else (float(train.truth.mean()), float(train.truth.std() or 1.0))


def learned(job: Job, warm: Any, ids: Sequence[str], codes: NDArray[Any]) -> tuple[Fitted, dict[str, bytes]]:
    """The trained network, and files to keep beside its weights. `warm` has what it starts from, None for nothing; `ids` and
    `codes` are of the training rows."""
    if warm is not None:
        job = warm.job(job, ids, codes.astype(np.int64))
    fitted = train_network(job)
    return fitted, job.method.settle(fitted.network) if job.method is not None else {}


def fit_network(
    built: Built,
    parts: tuple[Examples, Examples],
    samples: tuple[Sample, Sample],
    probe: Examples,
    classes: int,
    options: Any,
    way: Way,
    say: Say,
) -> Trained:
    """Training and validation examples to a trained model that answered the rows of `probe`."""
    train, valid = samples
    weigh = class_weights(train.truth, classes, way)
    mean, scale = scale_of(train, classes)
    job = Job(
        built.network,
        *parts,
        for_rows(way.train, len(train.truth)),
        classes,
        way.seed,
        threads=way.threads,
        identity={
            "model": options.model_dump(mode="json"),
            "augment": [part.model_dump(mode="json") for part in way.augment],
            "data": digest.of_json([[str(i) for i in s.table.ids] for s in samples]),
        },
        class_weights=None if weigh is None else torch.tensor(weigh, dtype=torch.float32),
        folder=way.scratch,
        budget_s=way.budget_s,
        stopped=way.stopped,
        say=say,
    )
    fitted, more = learned(job, way.warm, [str(i) for i in train.table.ids], train.truth)
    native, held = (_answers(fitted.network, rows, classes, mean, scale) for rows in (probe, parts[1]))
    network = built.settle(fitted.network)
    example = parts[0].batch(np.array([0, len(parts[0]) - 1]), None)[0]
    if built.longest:
        example = example.repeat(1, -(-4 // example.shape[1]))[:, : max(4, min(example.shape[1], built.longest))]
    model = to_onnx(Answering(network, classes, mean, scale).eval(), example, longest=built.longest)
    for key, value in sorted(built.said.items()):
        model.metadata_props.add(key=key, value=value)
    onnx = model.SerializeToString(deterministic=True)
    weights = save(apart(network.state_dict()))
    ids = [str(i) for i in valid.table.ids]
    return Trained(
        built.preparation,
        onnx,
        {"network.safetensors": weights, **more},
        native,
        _facts(fitted, built, options.use, weigh, len(weights), len(onnx)),
        ids,
        np.stack([held, held]),
        files=built.files,
    )


def _answers(network: nn.Module, rows: Examples, classes: int, mean: float, scale: float) -> NDArray[np.float64]:
    found = scores_of(network, rows, classes, 64)
    return found if classes else found * scale + mean


def _facts(
    fitted: Fitted, built: Built, use: str, weigh: NDArray[np.float64] | None, size: int, onnx_bytes: int
) -> dict[str, Any]:
    params = {"network": built.name, "lr": fitted.lr, "precision": fitted.precision, **built.params}
    trial = {"name": use, "params": params, "rounds": fitted.best_epoch, "size_bytes": size, "scores_at": 0}
    return {
        "weights": {use: 1.0},
        "rounds": {use: fitted.best_epoch},
        "copies": {use: 1},
        "scored_by": "the validation rows",
        "tried": [use],
        "chosen": use,
        "members": [{"name": use, "weight": 1.0}],
        "trials": [trial],
        "ended": [],
        "curve": curve(fitted),
        "features": built.features,
        "onnx_bytes": onnx_bytes,
        "class_weights": None if weigh is None else [round(float(w), 6) for w in weigh],
        "epochs": fitted.history,
        "stopped_by": fitted.stopped_by,
        "precision": fitted.precision,
        "notes": built.notes,
    }
