"""The learning-rate finder: a short sweep on a copy of the network (Smith 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from keepfit.training import optimizers
from keepfit.training.loading import Examples, batches

_LOWEST, _HIGHEST, _STEPS = 1e-6, 1.0, 80


def find(
    network: nn.Module,
    said: Any,
    examples: Examples,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int,
    batch_size: int,
    device: str,
) -> tuple[float, list[tuple[float, float]]]:
    """A rate, and the (rate, smoothed loss) pairs of the sweep.

    The rate grows by a constant factor each step; the sweep ends when the smoothed loss is four times its least. The
    rate taken is a tenth of the one where the smoothed loss was least.
    """
    rows = batches(seed, 0, len(examples), batch_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trial = copy.deepcopy(network).train()
        optimizer = optimizers.make(said, trial, _LOWEST)
        curve = _sweep(trial, optimizer, examples, rows, loss, device)
    if len(curve) < 8:
        return 1e-3, curve
    rates, values = np.array([r for r, _ in curve]), np.array([v for _, v in curve])
    return float(f"{rates[int(values.argmin())] / 10:.2g}"), curve


def _sweep(
    trial: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    rows: list[Any],
    loss: Callable[[Tensor, Tensor], Tensor],
    device: str,
) -> list[tuple[float, float]]:
    factor = (_HIGHEST / _LOWEST) ** (1 / (_STEPS - 1))
    curve: list[tuple[float, float]] = []
    smooth, best = 0.0, math.inf
    for step in range(_STEPS):
        rate = _LOWEST * factor**step
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        inputs, answers = examples.batch(rows[step % len(rows)], 0)
        optimizer.zero_grad(set_to_none=True)
        value = loss(trial(inputs.to(device)).float(), answers.to(device))
        if not torch.isfinite(value):
            break
        value.backward()
        optimizer.step()
        smooth = 0.9 * smooth + 0.1 * float(value.detach())
        shown = smooth / (1 - 0.9 ** (step + 1))
        best = min(best, shown)
        curve.append((rate, shown))
        if step > 10 and shown > 4 * best:
            break
    return curve
