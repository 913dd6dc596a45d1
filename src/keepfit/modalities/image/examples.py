"""Pictures in memory as the trainer reads them: decoded once, augmented by (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keepfit.modalities.image.augment import augmented, mixed
from keepfit.modalities.randomness import generator
from keepfit.runtime.pictures import PicturePreparation, decode
from keepfit.training.loading import Batch

_MOST_BYTES = 1_500_000_000  # above this pictures are decoded anew for each batch


class PictureExamples:
    """Encoded pictures [n] and answers: class codes int64 [n], or numbers float32 [n] in the network's scale."""

    def __init__(
        self,
        pictures: Sequence[bytes],
        truth: NDArray[Any],
        preparation: PicturePreparation,
        *,
        classes: int,
        augment: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        self.pictures, self.truth, self.preparation = pictures, truth, preparation
        self.classes, self.seed = classes, seed
        self.single = [part for part in augment if part.of == "picture"]
        self.mixing = [part for part in augment if part.of == "batch"]
        size = len(pictures) * preparation.height * preparation.width * preparation.channels
        self.cache = self._sized(range(len(pictures))) if size <= _MOST_BYTES else None

    def _sized(self, rows: Any) -> NDArray[np.uint8]:
        if not len(rows):
            return np.zeros((0, self.preparation.height, self.preparation.width, self.preparation.channels), np.uint8)
        return np.stack([self.preparation.fit_size(decode(self.pictures[row])[0]) for row in rows])

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, rows: NDArray[np.int64], epoch: int | None) -> NDArray[np.uint8]:
        """uint8 [b, h, w, c], augmented where `epoch` is a number."""
        found = self.cache[rows] if self.cache is not None else self._sized(rows)
        if epoch is None or not self.single:
            return found
        return np.stack(
            [
                augmented(picture, self.single, generator(self.seed, epoch, int(row)))
                for picture, row in zip(found, rows, strict=True)
            ]
        )

    def batch(self, rows: NDArray[np.int64], epoch: int | None) -> Batch:
        """Inputs float32 [b, c, h, w] and answers; shares float32 [b, k] where pictures are mixed."""
        inputs = self.preparation.to_input(self.pixels(rows, epoch))
        if not self.classes:
            return torch.from_numpy(inputs), torch.from_numpy(self.truth[rows].astype(np.float32)[:, None])
        codes = self.truth[rows].astype(np.int64)
        if epoch is None or not self.mixing:
            return torch.from_numpy(inputs), torch.from_numpy(codes)
        shares = np.eye(self.classes, dtype=np.float32)[codes]
        inputs, shares = mixed(inputs, shares, self.mixing, generator(self.seed, epoch, int(rows[0]), stream=1))
        return torch.from_numpy(inputs), torch.from_numpy(shares)
