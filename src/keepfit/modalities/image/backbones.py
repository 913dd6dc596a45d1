"""Pretrained networks as one kind of thing, pictures to features, and the classifier that stands on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from keepfit.core import digest
from keepfit.core.errors import DataError, EnvironmentFault, RecipeError, nearest
from keepfit.modalities.image import hugging_face, weight_files, weights

LITE_MEAN_STD = (0.5, 0.5, 0.5)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A block is named by the first number in a parameter's name, or by the first two where stages have layers.
BLOCK = re.compile(r"(.*?\.\d+(?:\.(?:layers|blocks)\.\d+)?)\.")
INSIDE = "backbone."


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer, with what must be known to feed it, to freeze it and to tell it from others.

    `module` takes float32 [n, 3, h, w], normalised by `mean` and `std` (scale 0..1), and gives [n, features]. `size` is
    the side it was made for; other sizes work as well. `layers` are the names of its parameters in groups from input to
    output. `digest` is that of the files it was read from.
    """

    module: nn.Module
    features: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    layers: list[list[str]]
    digest: str


def load_backbone(source: str, folder: Path, *, online: bool = False) -> Backbone:
    """The backbone that a known name, a file, a folder (both relative to `folder`) or a hub name stands for, in eval mode.

    DataError for files that do not fit, EnvironmentFault for weights that are not there.
    """
    if source in weight_files.PACKAGED:
        return _from_file(weight_files.installed(source))
    path = folder / Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, None)
    if path.is_file():
        return _from_file(path)
    if not HUB_NAME.fullmatch(source) or path.suffix in (".pth", ".pt", ".safetensors"):
        hint = (
            f"{nearest(source, weight_files.PACKAGED)}; or give a weight file, a model folder or a hub name owner/name"
        )
        raise DataError(
            "backbone_unknown", "there is no such backbone", where=source, seen=f"no file {path}", hint=hint
        )
    if not online:
        raise EnvironmentFault(
            "offline", f"{source!r} is no folder here, and hub models are fetched only when that is allowed",
            seen=f"no folder {path}", hint="model.online=true, or give a local folder",
        )  # fmt: skip
    return _from_folder(hugging_face.fetched(source), source)


def _from_file(path: Path) -> Backbone:
    module, name = weights.load_file(path)
    lite = name.startswith(weight_files.LITE)
    mean = LITE_MEAN_STD if lite else hugging_face.IMAGENET_MEAN
    std = LITE_MEAN_STD if lite else hugging_face.IMAGENET_STD
    return _made(module, hugging_face.Intake(weights.size_of(name), mean, std), name, digest.of_file(path), path)


def _from_folder(path: Path, name: str | None) -> Backbone:
    module, intake, kind = hugging_face.load_folder(path)
    return _made(module, intake, name or kind, hugging_face.content_digest(path), path)


def _made(module: nn.Module, intake: hugging_face.Intake, name: str, content: str, path: Path) -> Backbone:
    """Tries the module on one grey picture: what it gives says how many features there are, and that it can be fed at all."""
    module.eval()
    try:
        with torch.no_grad():
            given = module(torch.zeros(1, 3, intake.size, intake.size))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        seen = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise _useless(name, intake.size, path, seen) from error
    if given.dim() != 2 or not bool(torch.isfinite(given).all()):
        raise _useless(name, intake.size, path, f"{list(given.shape)}, or numbers that are not finite")
    layers = layer_groups(module)
    return Backbone(module, given.shape[1], intake.size, intake.mean, intake.std, name, layers, content)


def _useless(name: str, size: int, path: Path, seen: str) -> DataError:
    what = f"{name} makes no features of a picture of {size} x {size}"
    return DataError("backbone_broken", what, where=str(path), seen=seen, hint="choose another backbone")


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
    """A backbone, dropout and one linear layer: [n, 3, h, w] to scores [n, outputs]; outputs is 1 for a number."""

    def __init__(self, backbone: Backbone, outputs: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone, self.dropout = backbone.module, nn.Dropout(dropout)
        self.head = nn.Linear(backbone.features, outputs)
        self.layers = [[INSIDE + name for name in group] for group in backbone.layers] + [["head.weight", "head.bias"]]
        self._resting: list[nn.Module] = []
        self.train()

    def forward(self, pictures: Tensor) -> Tensor:
        """[n, 3, h, w] to [n, outputs]."""
        return self.head(self.dropout(self.backbone(pictures)))

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
