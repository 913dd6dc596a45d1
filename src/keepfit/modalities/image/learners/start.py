"""What a learner for pictures hands to the trainer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from keepfit.runtime.pictures import PicturePreparation


@dataclass(frozen=True)
class Start:
    """An untrained network (float32 [n, c, h, w] to scores [n, k]), how pictures are prepared for it, and its name."""

    network: nn.Module
    preparation: PicturePreparation
    name: str
