"""What a learner for texts hands to the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from keepfit.modalities.text.counting import Counts
from keepfit.runtime.tokens import TokenPreparation


@dataclass(frozen=True)
class Start:
    """An untrained network (int64 [n, m] to scores [n, k]), how texts are prepared for it, and its name.

    `settle` makes of the trained network the one that is exported; `blank` is the token of a hidden word.
    """

    network: nn.Module
    preparation: TokenPreparation
    counts: Counts
    name: str
    blank: str
    settle: Callable[[nn.Module], nn.Module] = lambda network: network
    notes: list[str] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
