"""A pretrained network that gives features, in groups of layers, and the classifier that stands on it; for every room."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor, nn

from keepfit.core.errors import RecipeError

# A block is named by the first number in a parameter's name, or by the first two where stages have layers.
BLOCK = re.compile(r"(.*?\.\d+(?:\.(?:layers|blocks)\.\d+)?)\.")
INSIDE = "backbone."


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer, with what must be known to feed it, to freeze it and to tell it from others.

    `module` gives [n, features]. For pictures it takes float32 [n, 3, h, w], normalised by `mean` and `std` (scale
    0..1); `size` is the side it was made for, and other sizes work as well. `layers` are the names of its parameters in
    groups from input to output. `digest` is that of the files it was read from.
    """

    module: nn.Module
    features: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    layers: list[list[str]]
    digest: str


def layer_groups(module: nn.Module) -> list[list[str]]:
    """Names of the parameters, by block, in the order in which the module defines them; a lone norm goes with what it norms."""
    groups: dict[str, list[str]] = {}
    shapes = {name: parameter.dim() for name, parameter in module.named_parameters()}
    for name in shapes:
        block = BLOCK.match(name)
        groups.setdefault(block[1] if block else name.rpartition(".")[0], []).append(name)
    joined: list[list[str]] = []
    for names in groups.values():
        if joined and all(shapes[name] <= 1 for name in names):
            joined[-1] += names
        else:
            joined.append(names)
    return joined


class Classifier(nn.Module):
    """A backbone, dropout and one linear layer: inputs [n, ...] to scores [n, outputs]; outputs is 1 for a number."""

    def __init__(self, backbone: Backbone, outputs: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone, self.dropout = backbone.module, nn.Dropout(dropout)
        self.head = nn.Linear(backbone.features, outputs)
        self.layers = [[INSIDE + name for name in group] for group in backbone.layers] + [["head.weight", "head.bias"]]
        self._resting: list[nn.Module] = []
        self.train()

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, ...] to [n, outputs]."""
        return self.head(self.dropout(self.backbone(inputs)))

    def freeze(self, n: bool | int) -> None:
        """Keeps the whole backbone (True), its first n groups of layers, or nothing (False) as it is; all else learns.

        What is frozen stays in eval mode too: the statistics of its batch norms keep still, its dropout is off.
        """
        groups = self.layers[:-1]
        count = len(groups) if n is True else int(n)
        if not 0 <= count <= len(groups):
            raise RecipeError(
                "freeze_too_many", f"this backbone has {len(groups)} groups of layers", where="model.freeze",
                seen=str(n), hint=f"freeze: true, false, or 0 to {len(groups)}",
            )  # fmt: skip
        frozen = {name for group in groups[:count] for name in group}
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in frozen)
        self._resting = [self.backbone] if count == len(groups) else _wholly_within(self, frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """As torch's, but what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._resting:
            module.eval()
        return self


def _wholly_within(module: nn.Module, names: set[str]) -> list[nn.Module]:
    """The modules that have parameters, all of them among the names."""
    own = {place: [f"{place}.{name}" for name, _ in part.named_parameters()] for place, part in module.named_modules()}
    return [part for place, part in module.named_modules() if own[place] and names.issuperset(own[place])]
