"""Numerical trouble, said in words: what was seen, and what to try."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from keepfit.core.errors import DataError
from keepfit.training.loading import Examples, plain

_LONG, _EXPLODED = 50, 1e4
_NOTHING = 0.995  # a loss above this share of guessing's loss has learned nothing


class Watch:
    """Sees every loss and gradient norm of a run."""

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=_LONG)
        self.wild = 0

    def loss(self, value: float, step: int, lr: float, network: nn.Module, inputs: Tensor) -> None:
        """Raises DataError `loss_not_finite` with the likely cause."""
        if not math.isfinite(value):
            raise _not_finite(value, f"step {step}", lr, network, inputs)

    def judged(self, value: float, epoch: int, lr: float, network: nn.Module, examples: Examples) -> None:
        """As `loss`, for the loss of the rows that judge an epoch."""
        sick = (inputs for inputs, _ in plain(examples, 128) if not bool(inputs.isfinite().all()))
        inputs = next(sick, torch.zeros(1))
        raise _not_finite(value, f"validation after epoch {epoch}", lr, network, inputs)

    def norm(self, value: float, step: int, lr: float) -> None:
        """Raises DataError `gradient_exploded` when the norm is not finite, or 10,000 times its median three times in a row."""
        if self.norms and value <= _EXPLODED * min(self.norms):  # the usual case, without the cost of a median
            self.wild = 0
            self.norms.append(value)
            return
        usual = float(np.median(self.norms)) if len(self.norms) >= 10 else math.inf
        self.wild = self.wild + 1 if value > _EXPLODED * max(usual, 1e-8) else 0
        if math.isfinite(value) and self.wild < 3:
            self.norms.append(value)
            return
        raise DataError(
            "gradient_exploded",
            "the gradient has exploded",
            where=f"step {step}",
            seen=f"norm {value:g}, usual {usual:g}",
            hint=f"train.optimizer.lr={lr / 10:g}, or train.schedule.warmup=1",
        )


def _not_finite(value: float, where: str, lr: float, network: nn.Module, inputs: Tensor) -> DataError:
    if not bool(inputs.isfinite().all()):
        seen, hint = "the inputs of this batch hold NaN or infinity", "keepfit check RECIPE shows the column"
    elif not all(bool(p.isfinite().all()) for p in network.parameters()):
        seen, hint = "weights have become NaN", f"a lower rate: train.optimizer.lr={lr / 10:g}"
    else:
        seen = f"loss {value} with finite inputs and weights"
        hint = f"train.optimizer.lr={lr / 10:g}, train.clip_norm=1.0 or train.precision=fp32"
    return DataError("loss_not_finite", "the loss is no number any more", where=where, seen=seen, hint=hint)


def nothing_learned(
    history: list[dict[str, Any]],
    shares: NDArray[np.float64],
    answered: NDArray[np.int64],
    epochs: int,
    lr: float,
    *,
    ended: bool = False,
) -> None:
    """Raises DataError when every row gets one class and the loss is that of guessing.

    It is asked after half of at least six epochs, and where a run of three or more ended early for standing still.
    `shares` [k] are the class shares of the judged rows, `answered` the classes given to them.
    """
    done = len(history)
    is_late = ended or (epochs >= 6 and done >= epochs // 2)
    if done < 3 or not is_late or len(np.unique(answered)) > 1 or (shares > 0).sum() < 2:
        return
    guessing = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    if min(min(entry["loss"], entry["train_loss"]) for entry in history) < _NOTHING * guessing:
        return
    raise DataError(
        "nothing_learned",
        "the network has learned nothing: it gives one class to every row",
        where=f"epoch {done}",
        seen=f"validation loss {history[-1]['loss']:.4f}, guessing has {guessing:.4f}",
        hint=f"train.optimizer.lr={lr / 10:g} or lr: auto; are the labels right? Do they depend on the inputs at all?",
    )
