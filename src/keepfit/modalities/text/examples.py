"""Texts in memory as the trainer reads them: tokens made once, augmented ones by (seed, epoch, index), padded to the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keepfit.modalities.randomness import generator
from keepfit.modalities.text.augment import varied
from keepfit.runtime.tokens import TokenPreparation
from keepfit.training.loading import Batch


class TextExamples:
    """Texts [n] and answers: class codes int64 [n], or numbers float32 [n] in the network's scale."""

    def __init__(
        self,
        texts: Sequence[str | None],
        truth: NDArray[Any],
        preparation: TokenPreparation,
        *,
        classes: int,
        augment: Sequence[Any] = (),
        seed: int = 0,
        blank: str = "",
    ) -> None:
        self.texts, self.truth, self.preparation = texts, truth, preparation
        self.classes, self.augment, self.seed, self.blank = classes, augment, seed, blank
        self.ids = [preparation.encoded(text).ids for text in texts]

    def __len__(self) -> int:
        return len(self.texts)

    def tokens(self, row: int, epoch: int | None) -> list[int]:
        """Token ids of one text, augmented where `epoch` is a number."""
        text = self.texts[row]
        if epoch is None or not self.augment or not text:
            return self.ids[row]
        changed = varied(text, self.augment, generator(self.seed, epoch, row), self.blank)
        return self.preparation.encoded(changed).ids

    def batch(self, rows: NDArray[np.int64], epoch: int | None) -> Batch:
        """Ids int64 [b, m], as wide as the longest of them, and answers."""
        ids = self.preparation.padded([self.tokens(int(row), epoch) for row in rows])
        truth = self.truth[rows]
        answers = truth.astype(np.int64) if self.classes else truth.astype(np.float32)[:, None]
        return torch.from_numpy(ids), torch.from_numpy(answers)
