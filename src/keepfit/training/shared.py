"""Batch norm and dropout over a step that several processes share, so that it is the step one process would take.

torch's SyncBatchNorm runs on accelerators only; this one runs on gloo too, and knows shares of unequal size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from keepfit.training.ranks import SumOfAll


@dataclass
class Share:
    """Which rows of the step are this process's: `count` from `start` on, of `total`; with `count` 0 its row counts for nothing."""

    rank: int
    world: int
    start: int = 0
    count: int = 0
    total: int = 0


def share_layers(network: nn.Module, share: Share) -> None:
    """Make the batch norms and dropouts of a network look at the whole step. Their classes change, their states do not."""
    for module in network.modules():
        found = _SHARED.get(type(module))
        if found is not None:
            module.__class__ = found
            object.__setattr__(module, "share", share)


def unshare_layers(network: nn.Module) -> None:
    """Inverse of `share_layers`."""
    plain = {shared: kind for kind, shared in _SHARED.items()}
    for module in network.modules():
        if type(module) in plain:
            module.__class__ = plain[type(module)]
            module.__dict__.pop("share", None)


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    share: Share

    def forward(self, inputs: Tensor) -> Tensor:
        """As torch's batch norm, with mean and variance of the rows of all processes (Chan et al. 1979 for their union)."""
        if not self.training:
            return super().forward(inputs)
        self._check_input_dim(inputs)
        values = inputs.float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shape = [1, -1, *[1] * (values.ndim - 2)]
        mean, variance, count = self._moments(values, axes, shape)
        self._follow(mean.detach(), variance.detach(), count)
        found = (values - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(inputs.dtype)

    def _moments(self, values: Tensor, axes: list[int], shape: list[int]) -> tuple[Tensor, Tensor, float]:
        """Mean [c] and variance [c] of the step, and how many values each is of. One collective: every process fills its row."""
        share, channels = self.share, values.shape[1]
        count = values.numel() / channels if share.count else 0.0
        mean = values.mean(axes)
        spread = ((values - mean.view(shape)) ** 2).sum(axes)
        own = torch.cat([mean, spread, values.new_full((1,), count)])
        slots = own.new_zeros(share.world, len(own)).index_copy(
            0, torch.tensor([share.rank], device=own.device), own[None]
        )
        means, spreads, counts = SumOfAll.apply(slots).split([channels, channels, 1], 1)
        part = counts / counts.sum()
        whole = (means * part).sum(0)
        live = (counts > 0).to(values.dtype)
        variance = (spreads * live + counts * (means - whole) ** 2).sum(0) / counts.sum()
        return whole, variance, float(counts.detach().sum())

    def _follow(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            step = 1.0 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
            self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var.dtype), step)


class SharedBatchNorm1d(_SharedNorm, nn.BatchNorm1d):
    """BatchNorm1d over all processes."""


class SharedBatchNorm2d(_SharedNorm, nn.BatchNorm2d):
    """BatchNorm2d over all processes."""


class SharedBatchNorm3d(_SharedNorm, nn.BatchNorm3d):
    """BatchNorm3d over all processes."""


class SharedDropout(nn.Dropout):
    """Draws the mask of the whole step, as one process would, and takes its own rows."""

    share: Share

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs [rows of this process, ...]; other shapes get torch's own dropout."""
        share = self.share
        rows = max(share.count, 1)
        if not self.training or not self.p or not inputs.ndim or len(inputs) != rows:
            return functional.dropout(inputs, self.p, self.training)
        last = inputs.ndim == 4 and not inputs.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format
        noise = torch.empty(
            (share.total, *inputs.shape[1:]), dtype=inputs.dtype, device=inputs.device, memory_format=layout
        )
        start = share.start if share.count else 0
        mask = noise.bernoulli_(1 - self.p).div_(1 - self.p)[start : start + rows]
        return inputs * mask


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SharedBatchNorm1d,
    nn.BatchNorm2d: SharedBatchNorm2d,
    nn.BatchNorm3d: SharedBatchNorm3d,
    nn.Dropout: SharedDropout,
}
