"""New rows beside remembered ones: as many of each in every step, the remembered ones evenly over the classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keepfit.training.loading import Batch, Examples

Rows = NDArray[np.int64]


class Some:
    """Some rows of examples, in the order of their numbers here."""

    def __init__(self, examples: Examples, rows: Rows) -> None:
        self.examples, self.rows = examples, rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Rows, epoch: int | None) -> Batch:
        """Those rows."""
        return self.examples.batch(self.rows[rows], epoch)


class Rehearsal:
    """The new rows, once an epoch; with every batch of them as many remembered ones behind, drawn by (seed, epoch, batch).

    A class that is remembered by no row is drawn from as many of its new rows as the others have on average, so that in
    what is rehearsed all classes have the same share.
    """

    def __init__(self, examples: Examples, new: Rows, remembered: Rows, codes: Rows, seed: int) -> None:
        self.examples, self.new, self.remembered, self.seed = examples, new, remembered, seed
        known = sorted(set(codes[remembered].tolist()))
        each = max(1, round(len(remembered) / max(len(known), 1)))
        draw = np.random.default_rng([seed, 0x706F6F6C])
        self.pools: list[Rows] = []
        for code in sorted(set(codes.tolist())):
            own = remembered[codes[remembered] == code]
            fresh = new[codes[new] == code]
            self.pools.append(own if len(own) else draw.permutation(fresh)[:each])

    def __len__(self) -> int:
        return len(self.new)

    def batch(self, rows: Rows, epoch: int | None) -> Batch:
        """New rows by number, then as many remembered ones; with `epoch` None the new ones alone."""
        if epoch is None:
            return self.examples.batch(self.new[rows], None)
        draw = np.random.default_rng([self.seed, epoch, int(rows[0]), len(rows)])
        pools = draw.integers(0, len(self.pools), len(rows))
        places = [int(self.pools[pool][draw.integers(len(self.pools[pool]))]) for pool in pools]
        return self.examples.batch(np.concatenate([self.new[rows], np.array(places, np.int64)]), epoch)

    def counts(self, codes: Rows, classes: int) -> Tensor:
        """The mix of classes of a step [k]."""
        even = np.zeros(classes)
        for pool in self.pools:
            even[codes[pool[0]]] += 1 / len(self.pools)
        return torch.from_numpy(np.bincount(codes[self.new], minlength=classes) / max(len(self.new), 1) + even)
