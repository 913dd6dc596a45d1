"""Parameter groups: who is spared from decay, and the rates of lower layers."""

from __future__ import annotations

import pytest
import torch
from made_jobs import options
from torch import nn

from keepfit.training import optimizers


class Layered(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.body = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.norm, self.group, self.batch = nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 2)
        self.layers = [["table.weight"], ["body.weight", "body.bias"], ["head.weight", "head.bias"]]


def groups(network, **said):
    made = optimizers.groups_of(network, options(optimizer=said).optimizer)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [({names[id(p)] for p in group["params"]}, group["weight_decay"], group["scale"]) for group in made]


@pytest.mark.parametrize("use", ["adam", "adamw", "sgd"])
def test_norms_biases_and_embeddings_are_spared(use):
    network = Layered()
    found = groups(network, use=use, weight_decay=0.3)
    assert [(names, decay) for names, decay, _ in found if decay] == [({"body.weight", "head.weight"}, 0.3)]
    assert {name for names, _, _ in found for name in names} == set(dict(network.named_parameters()))
    assert {scale for _, _, scale in found} == {1.0}


def test_rates_fall_with_the_layers():
    found = groups(Layered(), use="adamw", layer_decay=0.5)
    scale = {name: scale for names, _, scale in found for name in names}
    assert (scale["head.weight"], scale["body.weight"], scale["body.bias"], scale["table.weight"]) == (
        1,
        0.5,
        0.5,
        0.25,
    )


def test_what_is_frozen_is_left_out():
    network = Layered()
    network.table.requires_grad_(False)
    assert "table.weight" not in {name for names, _, _ in groups(network, use="adam") for name in names}


def test_options_reach_torch():
    network = nn.Linear(3, 2)
    made = optimizers.make(options(optimizer={"use": "adam", "betas": [0.8, 0.9]}).optimizer, network, 0.1)
    assert type(made) is torch.optim.Adam and made.defaults["betas"] == (0.8, 0.9)
    made = optimizers.make(options(optimizer={"use": "sgd", "momentum": 0.0, "nesterov": True}).optimizer, network, 0.1)
    assert type(made) is torch.optim.SGD and not made.defaults["nesterov"]
