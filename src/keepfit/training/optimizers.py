"""Optimizers with parameter groups: no decay for norms and biases, lower rates for lower layers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from keepfit.core.options import Options
from keepfit.training.options import AdamOptions, AdamWOptions, SgdOptions

Groups = list[dict[str, Any]]


def adam(said: AdamOptions, groups: Groups, lr: float) -> torch.optim.Optimizer:
    """torch's Adam."""
    return torch.optim.Adam(groups, lr=lr, betas=said.betas)


def adamw(said: AdamWOptions, groups: Groups, lr: float) -> torch.optim.Optimizer:
    """torch's AdamW."""
    return torch.optim.AdamW(groups, lr=lr, betas=said.betas)


def sgd(said: SgdOptions, groups: Groups, lr: float) -> torch.optim.Optimizer:
    """torch's SGD."""
    return torch.optim.SGD(groups, lr=lr, momentum=said.momentum, nesterov=said.nesterov and said.momentum > 0)


def make(said: Any, network: nn.Module, lr: float, shares: Mapping[str, float] | None = None) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, over the parameters that learn; each group has `scale`, its share of the rate."""
    makers: dict[str, Any] = {"adam": adam, "adamw": adamw, "sgd": sgd}
    made: torch.optim.Optimizer = makers[said.use](said, groups_of(network, said, shares or {}), lr)
    return made


def groups_of(network: nn.Module, said: Options, shares: Mapping[str, float] = MappingProxyType({})) -> Groups:
    """Groups by layer, by whether decay applies, and by the share of the rate that a parameter is given.

    A network may have `layers`: lists of parameter names from input to output, the head last. The head learns at
    the full rate, each layer below at `layer_decay` times the one above (Clark et al. 2020).
    """
    decay, fall = float(said.weight_decay), float(said.layer_decay)  # type: ignore[attr-defined]
    spared = _spared(network)
    depth = _depths(network) if fall < 1 else {}
    groups: dict[tuple[int, bool, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (depth[name] if fall < 1 else 0, name in spared, shares.get(name, 1.0))
        group = groups.setdefault(
            key, {"params": [], "weight_decay": 0.0 if key[1] else decay, "scale": fall ** key[0] * key[2]}
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _depths(network: nn.Module) -> dict[str, int]:
    """How many layers lie above a parameter."""
    layers: Any = getattr(network, "layers", [])
    if not (isinstance(layers, list) and all(isinstance(names, list) for names in layers)):
        layers = []  # a network of the user's may call something else so
    found = {name: 0 for name, _ in network.named_parameters()}
    for above, names in enumerate(reversed(layers)):
        found.update(dict.fromkeys(names, above))
    return found


def _spared(network: nn.Module) -> set[str]:
    """Names of biases and of everything in norms and embeddings: parameters without decay."""
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    found = set()
    for place, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, norms) or parameter.ndim < 2:
                found.add(f"{place}.{name}" if place else name)
    return found
