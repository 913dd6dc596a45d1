"""Fits a network on features of a table with the shared trainer; the user's own network and `mlp` alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from keepfit.core import digest
from keepfit.modalities.fitting import learned
from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member, Scores
from keepfit.training.checkpoint import apart
from keepfit.training.exporting import Answering, to_onnx
from keepfit.training.job import Job, curve, for_rows
from keepfit.training.judging import scores_of
from keepfit.training.loading import Batch


class Rows:
    """Rows in memory as the trainer reads them; numbers to predict are standardized."""

    def __init__(self, fold: Fold, columns: list[int], classes: int, mean: float, scale: float) -> None:
        self.inputs = torch.from_numpy(np.ascontiguousarray(fold.features[:, columns]))
        if classes:
            self.answers = torch.from_numpy(fold.truth.astype(np.int64))
        else:
            self.answers = torch.from_numpy(((fold.truth - mean) / scale).astype(np.float32)[:, None])

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: NDArray[np.int64], epoch: int | None) -> Batch:
        """Inputs float32 [b, d] and answers; tables are not augmented."""
        place = torch.from_numpy(rows)
        return self.inputs[place], self.answers[place]


def learn(
    name: str,
    make: Callable[[], nn.Module],
    columns: list[int],
    folds: tuple[Fold, Fold | None],
    settings: Settings,
    params: dict[str, Any],
) -> Member:
    """Trains what `make` gives under the seed; it reads `columns` of the features and gives scores [n, k].

    `folds` are the rows to learn from and those that choose the epoch, which are needed: a network is not fitted again on
    all rows.
    """
    (train, valid), way = folds, settings.network
    if valid is None or way is None:
        raise ValueError(f"{name} needs validation rows and a train section")
    mean, scale = (0.0, 1.0) if settings.classes else (float(train.truth.mean()), float(train.truth.std() or 1.0))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = make()
    rows = [Rows(fold, columns, settings.classes, mean, scale) for fold in (train, valid)]
    job = Job(
        network,
        rows[0],
        rows[1],
        for_rows(way.options, len(train.truth)),
        settings.classes,
        settings.seed,
        threads=way.threads,
        identity={"params": params, "data": _identity(train, valid)},
        class_weights=_class_weights(train, settings.classes),
        folder=way.folder,
        budget_s=way.budget_s,
        stopped=way.stopped,
        say=way.say,
    )
    fitted, more = learned(job, way.warm, way.ids, train.truth)
    answering = Answering(fitted.network, settings.classes, mean, scale).eval()
    example = rows[0].batch(np.array([0, len(rows[0]) - 1]), None)[0]

    def predict(features: Any) -> Scores:
        blank = np.zeros(len(features))
        found = scores_of(
            fitted.network,
            Rows(Fold(features, blank, blank), columns, settings.classes, 0.0, 1.0),
            settings.classes,
            4096,
        )
        return found if settings.classes else found * scale + mean

    return Member(
        name,
        lambda: to_onnx(answering, example),
        columns,
        predict,
        {f"{name}.safetensors": save(apart(fitted.network.state_dict())), **more},
        curve(fitted),
    )


def _identity(train: Fold, valid: Fold) -> str:
    return digest.of_bytes(b"".join(part.tobytes() for f in (train, valid) for part in (f.features, f.truth)))


def _class_weights(train: Fold, classes: int) -> Tensor | None:
    """The weight of each class, where the rows carry weights by class."""
    if not classes or np.all(train.weights == 1):
        return None
    codes = train.truth.astype(int)
    found = [float(train.weights[codes == code][0]) if (codes == code).any() else 1.0 for code in range(classes)]
    return torch.tensor(found)
