"""Finds the pretrained network that a recipe names and makes it one kind of thing: pictures to features."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from keepfit.core import digest
from keepfit.core.errors import DataError, EnvironmentFault, nearest
from keepfit.modalities.backbone import Backbone, layer_groups
from keepfit.modalities.hugging_face import content_digest, fetched
from keepfit.modalities.image import hugging_face, weight_files, weights

LITE_MEAN_STD = (0.5, 0.5, 0.5)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    return _from_folder(fetched(source), source)


def _from_file(path: Path) -> Backbone:
    module, name = weights.load_file(path)
    lite = name.startswith(weight_files.LITE)
    mean = LITE_MEAN_STD if lite else hugging_face.IMAGENET_MEAN
    std = LITE_MEAN_STD if lite else hugging_face.IMAGENET_STD
    return _made(module, hugging_face.Intake(weights.size_of(name), mean, std), name, digest.of_file(path), path)


def _from_folder(path: Path, name: str | None) -> Backbone:
    module, intake, kind = hugging_face.load_folder(path)
    return _made(module, intake, name or kind, content_digest(path), path)


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
