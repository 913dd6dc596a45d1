"""Losses on raw scores: cross entropy with weights and smoothing, focal, squared, absolute and Huber."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
_GAMMA = 2.0


def make(name: str, *, classes: int, weights: Tensor | None = None, smoothing: float = 0.0) -> Loss:
    """A loss of scores [b, k] and answers: codes int64 [b] or shares float32 [b, k] for classes, [b, 1] for numbers.

    The mean over the batch; with class weights the weighted mean. Focal after Lin et al. 2017 with gamma 2.
    """
    if not classes:
        found: dict[str, Loss] = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "huber": functional.smooth_l1_loss,
        }
        return found["mse" if name == "auto" else name]
    if name in ("auto", "cross_entropy"):
        return lambda scores, answers: functional.cross_entropy(
            scores, answers, weight=_on(weights, scores), label_smoothing=smoothing
        )
    return lambda scores, answers: _focal(scores, answers, _on(weights, scores), smoothing)


def mass(name: str, answers: Tensor, weights: Tensor | None) -> float:
    """What the mean of `make` divides by: rows, or their weights; means of parts add up to that of the whole by it."""
    if weights is None:
        return float(len(answers))
    if answers.ndim == 1:
        return float(weights[answers].sum())
    return float((answers * weights).sum()) if name == "focal" else float(len(answers))


def _on(weights: Tensor | None, scores: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(scores.device, torch.float32)


def _focal(scores: Tensor, answers: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    logs = functional.log_softmax(scores.float(), 1)
    shares = functional.one_hot(answers, scores.shape[1]).float() if answers.ndim == 1 else answers
    if smoothing:
        shares = shares * (1 - smoothing) + smoothing / scores.shape[1]
    each = -shares * (1 - logs.exp()) ** _GAMMA * logs
    if weights is None:
        return each.sum(1).mean()
    return (each * weights).sum() / (shares * weights).sum()
