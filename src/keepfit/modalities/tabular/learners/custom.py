"""The user's own network for tables: it reads the encoded features, numbers scaled and categories one-hot, none missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member
from keepfit.modalities.tabular.learners.network import learn
from keepfit.training.custom import check_export, check_shapes, network_of


class Filled(nn.Module):
    """The network on features without gaps: what could not be filled is 0, the middle."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """float32 [n, d] to scores [n, k]."""
        scores: Tensor = self.network(torch.nan_to_num(x))
        return scores


def opened(options: Any, features: int, settings: Settings) -> nn.Module:
    """The network of the recipe, tried with two rows. Offered by name: `features`, `classes` and their other spellings."""
    outputs = max(settings.classes, 1)
    offered = {
        "classes": outputs,
        "num_classes": outputs,
        "outputs": outputs,
        "features": features,
        "in_features": features,
        "num_features": features,
        "input_shape": (features,),
    }
    if settings.network is None:
        raise ValueError("custom needs a train section")
    network = network_of(options.class_, settings.network.home, options.args, offered)
    check_shapes(network, torch.zeros(2, features), outputs)
    return network


def fit(options: Any, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """Trains on `train`, stops by `valid`."""
    columns = settings.linear or [0]

    def make() -> nn.Module:
        network = Filled(opened(options, len(columns), settings))
        check_export(network, torch.zeros(2, len(columns)))
        return network

    return learn("custom", make, columns, (train, valid), settings, options.model_dump(mode="json"))
