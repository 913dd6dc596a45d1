"""Tests of a challenger against its champion that may be looked at after every label without losing their word.

Both see the same rows. For classes only the rows count where exactly one of the two is right (McNemar 1947): where the
challenger is no better, each such row is at best a fair coin. The test spends its error probability over the labels
(Lan and DeMets 1983), with a boundary computed exactly from the distribution of the coin's walk rather than from a normal
approximation or from Ville's inequality, which both give power away. For numbers the difference of losses is a bounded
variable whose mean is tested by betting (Waudby-Smith and Ramdas 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

EARLY = 50
"""Labels below which hardly any error probability is spent: a promotion on fewer would rest on luck."""


@dataclass
class PairedTest:
    """Is the first of two classifiers right more often? Looked at after every label, at most `horizon` of them.

    `alpha`: probability that an equal or worse one is ever called better. Give the labels in order to `add`; `decided_at`
    is the number of labels after which it was called better, or None.
    """

    alpha: float = 0.05
    horizon: int = 5000
    labels: int = 0
    wins: int = 0
    losses: int = 0
    decided_at: int | None = None
    _walk: NDArray[np.float64] = field(default_factory=lambda: np.ones(1), repr=False)
    _spent: float = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether every label that the error probability was planned for has come, without a decision."""
        return self.decided_at is None and self.labels >= self.horizon

    @property
    def better(self) -> bool:
        """Whether the first is called better."""
        return self.decided_at is not None

    def add(self, first_right: bool, second_right: bool) -> bool:
        """Takes the next label in; whether the first is called better so far."""
        if self.labels >= self.horizon:
            return self.better
        self.labels += 1
        if first_right == second_right:
            return self.better
        self.wins, self.losses = self.wins + int(first_right), self.losses + int(second_right)
        if self.wins - self.losses >= self._boundary() and self.decided_at is None:
            self.decided_at = self.labels
        return self.better

    def add_all(self, first_right: Iterable[bool], second_right: Iterable[bool]) -> bool:
        """Takes labels in one by one, as `add` does."""
        for one, other in zip(first_right, second_right, strict=True):
            self.add(bool(one), bool(other))
        return self.better

    def _boundary(self) -> int:
        """The smallest lead that would be rare enough, after one more coin; what crosses leaves the walk.

        `_walk[i]` is the probability that a fair coin's walk of `wins + losses` steps stands at a lead of 2 i - steps and
        has never crossed. The number of the label is known before the coin falls, so that spending by labels is fair.
        """
        stepped = np.zeros(len(self._walk) + 1)
        stepped[1:] += self._walk / 2
        stepped[:-1] += self._walk / 2
        tail = np.cumsum(stepped[::-1])[::-1]
        allowed = self.alpha * _spending(self.labels, self.horizon) - self._spent
        first = int(np.searchsorted(-tail, -allowed))
        steps = len(stepped) - 1
        first = max(first, steps // 2 + 1)
        if first <= steps:
            self._spent += float(tail[first])
            stepped[first:] = 0.0
        self._walk = stepped
        return 2 * first - steps


def _spending(labels: int, horizon: int) -> float:
    """Share of the error probability that may be spent after so many labels: slowly at first, evenly in the logarithm."""
    return math.log1p(labels / EARLY) / math.log1p(horizon / EARLY)


@dataclass
class LossTest:
    """Is the mean loss of the first of two models smaller? For losses of any size, cut at `scale`.

    `scale`: a difference of losses beyond which one row counts no more (a high quantile of the champion's losses, chosen
    before the first label). The wealth of a gambler who bets on the first being better is a test martingale where it is not:
    that it ever reaches 1 / alpha has probability at most alpha (Ville 1939).
    """

    scale: float
    alpha: float = 0.05
    labels: int = 0
    log_wealth: float = 0.0
    decided_at: int | None = None
    _sum: float = 0.0
    _squares: float = 0.0

    @property
    def better(self) -> bool:
        """Whether the first is called better."""
        return self.decided_at is not None

    def add(self, first_loss: float, second_loss: float) -> bool:
        """Takes the next label in; whether the first is called better so far."""
        gain = float(np.clip((second_loss - first_loss) / self.scale, -1.0, 1.0))
        mean = self._sum / (self.labels + 1)
        variance = (0.25 + self._squares) / (self.labels + 1)
        bet = min(max(mean / (variance + mean * mean), 0.0), 0.5)
        self.log_wealth += math.log1p(bet * gain)
        self.labels += 1
        self._sum += gain
        self._squares += (gain - self._sum / self.labels) ** 2
        if self.log_wealth >= -math.log(self.alpha) and self.decided_at is None:
            self.decided_at = self.labels
        return self.better
