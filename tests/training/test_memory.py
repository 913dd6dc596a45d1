"""Recomputed segments: the same gradients and statistics, and copies that run their own weights."""

from __future__ import annotations

import copy

import pytest
import torch
from made_jobs import digest, fitted, network, options
from torch import nn

from keepfit.core.errors import RecipeError
from keepfit.training.memory import recompute


def blocks():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, momentum=m), nn.Dropout(0.3)) for m in (0.1, None, 0.3))
    )


def after_two_steps(net):
    torch.manual_seed(1)
    for _ in range(2):
        net(torch.randn(8, 6)).square().sum().backward()
    return [p.grad for p in net.parameters()], list(net.buffers())


def test_gradients_and_statistics_are_the_same():
    plain, again = blocks(), blocks()
    recompute(again)
    for one, other in zip(after_two_steps(plain), after_two_steps(again), strict=True):
        assert len(one) >= 9 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert [block[1].momentum for block in again] == [0.1, None, 0.3]


@pytest.mark.parametrize("training", [True, False])
def test_a_copy_runs_its_own_weights(training):
    net = blocks()
    recompute(net)
    copied = copy.deepcopy(net).train(training)
    before = digest(net.state_dict())
    with torch.no_grad():
        copied[0][0].weight.zero_()
    copied(torch.randn(8, 6)).sum().backward()
    assert all(p.grad is None for p in net.parameters()) and digest(net.state_dict()) == before
    assert copied[0][0].weight.grad is not None


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Keyed() for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, factor=2.0)
        return x


class Keyed(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, factor):
        return x * factor * self.scale


def test_segments_may_be_called_with_names():
    net = Named()
    recompute(net)
    net(torch.ones(1)).backward()
    assert [layer.scale.grad.item() for layer in net.layers] == [8.0] * 3


def test_the_trainer_ends_with_the_same_weights():
    found = [fitted(options(gradient_checkpointing=on, ema=0.9), net=network()) for on in (False, True)]
    assert found[0].history == found[1].history
    assert digest(found[0].network.state_dict()) == digest(found[1].network.state_dict())


def test_a_network_without_a_chain_is_refused():
    with pytest.raises(RecipeError) as caught:
        recompute(nn.Linear(2, 2))
    assert caught.value.code == "no_segments" and caught.value.where == "train.gradient_checkpointing"
