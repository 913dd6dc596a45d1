"""Gradient checkpointing (Chen et al. 2016): segments are run again in the backward pass instead of being remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import MethodType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from keepfit.core.errors import RecipeError


def recompute(network: nn.Module) -> None:
    """Make the longest chain of segments of a network recompute itself. Raises RecipeError where it has none.

    Running statistics of batch norm are held still while a segment is run again.
    """
    if hasattr(network, "gradient_checkpointing_enable"):
        network.gradient_checkpointing_enable()
        return
    chains = [module for module in network.modules() if isinstance(module, nn.Sequential | nn.ModuleList)]
    longest = max(chains, key=len, default=None)
    if longest is None or len(longest) < 2:
        raise RecipeError(
            "no_segments",
            "this network has no chain of segments that could be recomputed",
            where="train.gradient_checkpointing",
            seen=type(network).__name__,
            hint="take the key out, or build the network from an nn.Sequential or nn.ModuleList",
        )
    for segment in longest:
        _wrap(segment)


def _wrap(segment: nn.Module) -> None:
    # A bound method is rebound by deepcopy; a closure would let every copy (average, trials) run this network's weights.
    segment.forward = MethodType(_forward, segment)


def _forward(segment: nn.Module, *inputs: Any, **named: Any) -> Any:
    plain = type(segment).forward
    if not segment.training:
        return plain(segment, *inputs, **named)
    runs = 0

    def once(*again: Any, **names: Any) -> Any:
        nonlocal runs
        runs += 1
        with _still(segment) if runs > 1 else nullcontext():
            return plain(segment, *again, **names)

    return checkpoint(once, *inputs, use_reentrant=False, **named)


@contextmanager
def _still(segment: nn.Module) -> Iterator[None]:
    """Running statistics of batch norms are held."""
    norms = [m for m in segment.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counted = [None if count is None else count.clone() for _, _, count in kept]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for (norm, momentum, count), before in zip(kept, counted, strict=True):
            norm.momentum = momentum
            if count is not None:
                count.copy_(before)
