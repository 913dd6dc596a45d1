"""A network for tables on the shared trainer: embeddings for categories, periodic embeddings for numbers, dropout.

Periodic embeddings after Gorishniy et al. 2022 ("On embeddings for numerical features"), the variant that shares one
linear layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from keepfit.core import digest
from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member, Scores
from keepfit.modalities.tabular.options import MlpParams
from keepfit.training.checkpoint import apart
from keepfit.training.exporting import Answering, to_onnx
from keepfit.training.job import Job, curve, for_rows
from keepfit.training.judging import scores_of
from keepfit.training.loading import Batch
from keepfit.training.trainer import train as train_network

_CLIP = 8.0


class TableNetwork(nn.Module):
    """float32 [n, dense + codes] to scores [n, k]. Codes are category numbers, NaN where missing."""

    def __init__(self, dense: int, cardinalities: list[int], outputs: int, params: MlpParams, dropout: float) -> None:
        super().__init__()
        self.dense = dense
        self.embeddings = nn.ModuleList(
            nn.Embedding(count + 2, min(params.embedding, 2 + round(count**0.56))) for count in cardinalities
        )
        self.cardinalities = cardinalities
        width = dense + sum(table.embedding_dim for table in self.embeddings)
        self.frequencies: nn.Parameter | None = None
        if params.periodic and dense:
            self.frequencies = nn.Parameter(torch.randn(dense, params.periodic) * params.sigma)
            self.mix = nn.Linear(2 * params.periodic, params.periodic)
            width += dense * params.periodic
        layers: list[nn.Module] = []
        for size in params.hidden:
            layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, k]."""
        numbers = torch.nan_to_num(x[:, : self.dense]).clamp(-_CLIP, _CLIP)
        parts = [numbers]
        if self.frequencies is not None:
            angles = 2 * torch.pi * numbers.unsqueeze(2) * self.frequencies
            waves = torch.relu(self.mix(torch.cat([angles.sin(), angles.cos()], 2)))
            parts.append(waves.flatten(1))
        for place, (table, count) in enumerate(zip(self.embeddings, self.cardinalities, strict=True)):
            code = x[:, self.dense + place]
            known = torch.where(torch.isnan(code), torch.full_like(code, float(count + 1)), code)
            parts.append(table(known.clamp(0, count + 1).long()))
        scores: Tensor = self.head(self.trunk(torch.cat(parts, 1)))
        return scores


class _Rows:
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


def fit(params: MlpParams, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """Trains on `train`, stops by `valid` (which is needed: this learner is not fitted again on all rows)."""
    way = settings.network
    if valid is None or way is None:
        raise ValueError("mlp needs validation rows and a train section")
    columns = [*settings.dense, *(column for column, _ in settings.codes)] or [0]
    mean, scale = (0.0, 1.0) if settings.classes else (float(train.truth.mean()), float(train.truth.std() or 1.0))
    dropout = params.dropout if way.options.dropout is None else way.options.dropout
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = TableNetwork(
            len(columns) - len(settings.codes),
            [count for _, count in settings.codes],
            max(settings.classes, 1),
            params,
            dropout,
        )
    rows = [_Rows(fold, columns, settings.classes, mean, scale) for fold in (train, valid)]
    fitted = train_network(
        Job(
            network,
            rows[0],
            rows[1],
            for_rows(way.options, len(train.truth)),
            settings.classes,
            settings.seed,
            threads=way.threads,
            identity={"params": params.model_dump(), "data": _identity(train, valid)},
            class_weights=_class_weights(train, settings.classes),
            folder=way.folder,
            budget_s=way.budget_s,
            stopped=way.stopped,
            say=way.say,
        )
    )
    answering = Answering(fitted.network, settings.classes, mean, scale).eval()
    example = rows[0].batch(np.array([0, len(rows[0]) - 1]), None)[0]

    def predict(features: Any) -> Scores:
        whole = _Rows(
            Fold(features, np.zeros(len(features)), np.ones(len(features))), columns, settings.classes, 0.0, 1.0
        )
        found = scores_of(fitted.network, whole, settings.classes, 4096)
        return found if settings.classes else found * scale + mean

    return Member(
        "mlp",
        lambda: to_onnx(answering, example),
        columns,
        predict,
        {"mlp.safetensors": save(apart(fitted.network.state_dict()))},
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
