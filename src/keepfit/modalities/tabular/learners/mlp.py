"""A network for tables on the shared trainer: embeddings for categories, periodic embeddings for numbers, dropout.

Periodic embeddings after Gorishniy et al. 2022 ("On embeddings for numerical features"), the variant that shares one
linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member
from keepfit.modalities.tabular.learners.network import learn
from keepfit.modalities.tabular.options import MlpParams

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


def fit(params: MlpParams, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """Trains on `train`, stops by `valid` (which is needed: this learner is not fitted again on all rows)."""
    columns = [*settings.dense, *(column for column, _ in settings.codes)] or [0]
    said = settings.network.options.dropout if settings.network is not None else None

    def make() -> nn.Module:
        return TableNetwork(
            len(columns) - len(settings.codes),
            [count for _, count in settings.codes],
            max(settings.classes, 1),
            params,
            params.dropout if said is None else said,
        )

    return learn("mlp", make, columns, (train, valid), settings, params.model_dump())
