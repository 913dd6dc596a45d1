"""Class shares of what is learned from, and a loss that learns from one mix of classes for answers to another.

Logit adjustment after Menon et al. 2021 and Ren et al. 2020 (balanced softmax): the scores are moved by the log of the
shares while learning, so that what they say does not depend on how often a class was shown.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-6
"""Share of a class that is not shown at all: its scores are left alone, and a smoothed label stays finite."""


def adjustment(shown: Tensor, expected: Tensor) -> Tensor:
    """What is added to scores [b, k] while learning from a mix of classes `shown` [k], for answers in the mix `expected`."""
    return (_fair(shown).log() - _fair(expected).log()).float()


def expected_shares(before: Tensor, new: Tensor) -> Tensor:
    """The mix to be answered: that of the new rows where they have every class, else that of all rows so far. Counts [k]."""
    return new if bool((new > 0).all()) else before + new


def _fair(counts: Tensor) -> Tensor:
    shares = counts.double() / counts.double().sum().clamp_min(1)
    return shares.clamp_min(_LEAST)


def counts_of(answers: Tensor, classes: int) -> Tensor:
    """Rows of each class, [k], of class codes."""
    return torch.bincount(answers, minlength=classes).double()
