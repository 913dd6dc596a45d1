"""What a network's features of all rows so far add up to: enough for a head in closed form, without keeping a row.

The second moments of the features [d + 1, d + 1] and their sums by class [d + 1, k]. When the network below moves, they are
carried along by the linear map that fits best between old and new features of the rows at hand (as Yu et al. 2020,
"Semantic drift compensation", do for class means). The head is a ridge regression on the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

RIDGE = 10.0
"""Added to the diagonal, in rows."""
LARGEST = 2048
"""Features beyond which the moments would be larger than most networks."""


@dataclass(frozen=True)
class Statistics:
    """`moments` float64 [d + 1, d + 1] and `sums` float64 [d + 1, k]; the last feature is 1, so that sums count rows."""

    moments: Tensor
    sums: Tensor

    @classmethod
    def of(cls, rows: Iterable[tuple[Tensor, Tensor]], classes: int, weights: Tensor | None = None) -> Statistics:
        """Those of features [b, d + 1] and class codes [b]; a row counts by the weight of its class."""
        moments, sums = torch.zeros(()), torch.zeros(())
        for found, codes in rows:
            heavy = found if weights is None else found * weights.double()[codes][:, None]
            shown = torch.nn.functional.one_hot(codes, classes).double()
            moments, sums = moments + heavy.T @ found, sums + heavy.T @ shown
        return cls(moments, sums)

    def plus(self, other: Statistics) -> Statistics:
        """Of the rows of both."""
        return Statistics(self.moments + other.moments, self.sums + other.sums)

    def moved(self, old: Tensor, new: Tensor, weights: Tensor) -> Statistics:
        """As a network sees the rows that gives `new` where the one before gave `old`: both [n, d + 1], with weights [n]."""
        heavy = old * weights[:, None]
        ridge = RIDGE * torch.eye(old.shape[1], dtype=torch.float64)
        step = torch.linalg.solve(heavy.T @ old + ridge, heavy.T @ new + ridge)
        return Statistics(step.T @ self.moments @ step, step.T @ self.sums)

    def head(self) -> Tensor:
        """Weights float64 [d + 1, k] of the ridge regression on the classes; the last row is the bias."""
        ridge = RIDGE * torch.eye(len(self.moments), dtype=torch.float64)
        return torch.linalg.solve(self.moments + ridge, self.sums)

    def among(self, before: Sequence[str], classes: Sequence[str]) -> Statistics:
        """The same with the columns of other classes; those that were not there have no rows."""
        sums = torch.zeros(len(self.sums), len(classes), dtype=torch.float64)
        for place, one in enumerate(classes):
            if one in before:
                sums[:, place] = self.sums[:, before.index(one)]
        return Statistics(self.moments, sums)

    def to_bytes(self, **more: Tensor) -> bytes:
        """safetensors: the triangle of the moments in single precision, and the sums."""
        rows, columns = torch.triu_indices(*self.moments.shape)
        kept = {"moments": self.moments[rows, columns].float(), "sums": self.sums.float().contiguous()}
        made: bytes = save({**kept, **more})
        return made

    @classmethod
    def from_bytes(cls, raw: bytes) -> tuple[Statistics, Mapping[str, Tensor]]:
        """Inverse of `to_bytes`."""
        found = load(raw)
        sums = found.pop("sums").double()
        moments = torch.zeros(len(sums), len(sums), dtype=torch.float64)
        rows, columns = torch.triu_indices(*moments.shape)
        moments[rows, columns] = found.pop("moments").double()
        return cls(moments + moments.triu(1).T, sums), found
