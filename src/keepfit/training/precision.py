"""Which number format a run computes in; `auto` measures whether bf16 is faster for this network on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

_GAIN = 0.9  # bf16 is taken when a step takes less than this share of the fp32 time
_PAIRS = 5


def context(precision: str, device: str) -> AbstractContextManager[Any]:
    """The autocast context of a precision."""
    if precision == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    made: AbstractContextManager[Any] = torch.autocast(device.split(":")[0], dtype=dtype)
    return made


def choose(
    asked: str,
    network: nn.Module,
    batch: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    device: str,
    steps: int,
) -> tuple[str, dict[str, float]]:
    """The precision and, where it was measured, seconds of a step in each.

    Short runs stay in fp32: measuring would cost more than it could gain. On CUDA bf16 is taken where the card has it,
    else fp16 with a scaler.
    """
    if asked != "auto":
        return asked, {}
    if device.startswith("cuda"):
        return ("bf16" if torch.cuda.is_bf16_supported() else "fp16"), {}
    if device != "cpu" or steps < 20 * _PAIRS:
        return "fp32", {}
    inputs, answers = batch
    with torch.random.fork_rng():
        trial = copy.deepcopy(network).train()
        times: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for _ in range(_PAIRS + 1):
            for precision, found in times.items():
                start = time.process_time()
                with context(precision, device):
                    value = loss(trial(inputs).float(), answers)
                value.backward()
                found.append(time.process_time() - start)
    taken = {precision: median(found[1:]) for precision, found in times.items()}
    return ("bf16" if taken["bf16"] < _GAIN * taken["fp32"] else "fp32"), taken
