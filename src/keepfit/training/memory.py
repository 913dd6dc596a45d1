"""Gradient checkpointing (Chen et al. 2016): segments are run again in the backward pass instead of being remembered."""

from __future__ import annotations

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
    plain = segment.forward
    norms = [m for m in segment.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    seen: list[int] = [0]

    def forward(*inputs: Any) -> Any:
        if not segment.training:
            return plain(*inputs)
        seen[0] = 0

        def once(*again: Any) -> Any:
            seen[0] += 1
            if seen[0] == 1:
                return plain(*again)
            kept = [(norm, norm.momentum) for norm in norms]
            counted = [norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None]
            try:
                for norm in norms:
                    norm.momentum = 0.0
                return plain(*again)
            finally:
                for norm, momentum in kept:
                    norm.momentum = momentum
                tracked = (norm for norm in norms if norm.num_batches_tracked is not None)
                for norm, count in zip(tracked, counted, strict=True):
                    norm.num_batches_tracked.copy_(count)

        return checkpoint(once, *inputs, use_reentrant=False)

    segment.forward = forward
