"""Image models of the transformers library, from a local folder or, where the network is allowed, from the hub by name.

Processors are not used: they want torchvision; what they say about size, mean and deviation is read from their JSON file.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from keepfit.modalities.hugging_face import CONFIGURATION, check_complete, json_of, model_of, refused

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROCESSOR = "preprocessor_config.json"
LARGEST_SIDE = 2048


@dataclass(frozen=True)
class Intake:
    """The side of the pictures that a model was made for, and the mean and deviation of each colour on the scale 0..1."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class PooledModel(nn.Module):
    """A transformers image model as [n, 3, h, w] to [n, d]: its pooled output, or the mean over tokens or places."""

    def __init__(self, model: Any, has_pooler: bool) -> None:
        super().__init__()
        self.model, self.has_pooler = model, has_pooler
        # A vision transformer's places are for one size; others need the places in between, which it makes when asked.
        self.made_for = model.config.to_dict().get("image_size")
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters

    def forward(self, pictures: Tensor) -> Tensor:
        """[n, 3, h, w] to [n, d]."""
        as_made = self.made_for in (pictures.shape[2], [pictures.shape[2], pictures.shape[3]])
        further = {} if as_made or not self.interpolates else {"interpolate_pos_encoding": True}
        made = self.model(pixel_values=pictures, return_dict=True, **further)
        pooled = getattr(made, "pooler_output", None) if self.has_pooler else None
        if pooled is not None:
            return pooled.flatten(1)
        last = made.last_hidden_state
        return last.mean((2, 3)) if last.dim() == 4 else last.mean(1)


def load_folder(folder: Path) -> tuple[nn.Module, Intake, str]:
    """Module, intake and model type (such as "resnet") of a folder in the transformers layout; DataError if it does not fit."""
    model, report = model_of(folder)
    if model.main_input_name != "pixel_values":
        raise refused("backbone_not_for_images", f"a {model.config.model_type!r} model reads no pictures", folder, "")
    if getattr(model.config, "num_channels", 3) != 3:
        raise refused("backbone_channels", f"it reads {model.config.num_channels} colours, not 3", folder, "")
    has_pooler = check_complete(model, report, folder)
    return PooledModel(model, has_pooler), intake(folder), str(model.config.model_type)


def intake(folder: Path) -> Intake:
    """Size, mean and deviation as the folder's files say; ImageNet's where they are silent."""
    processor, configuration = (json_of(folder / name) for name in (PROCESSOR, CONFIGURATION))
    crops = processor.get("do_center_crop") and "crop_size" in processor
    size = processor.get("crop_size" if crops else "size") or configuration.get("image_size") or 224
    factor = 255.0 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.get("do_normalize", True):
        mean = processor.get("image_mean") or IMAGENET_MEAN
        std = processor.get("image_std") or IMAGENET_STD
    # A processor that leaves the pixels at 0..255, or scales them by a factor of its own, is told on our scale of 0..1.
    found = Intake(_side(size, folder), _three(mean, factor, folder), _three(std, factor, folder))
    if min(found.std) <= 0:
        raise refused("backbone_intake", "a deviation is not above zero", folder, f"correct {PROCESSOR}", str(std))
    return found


def _side(size: Any, folder: Path) -> int:
    if isinstance(size, dict):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if key in size}
    else:
        sides = set(size) if isinstance(size, list | tuple) else {size}
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= LARGEST_SIDE for side in sides)
    if len(sides) != 1 or not whole:
        raise refused("backbone_intake", "its picture size is not one side", folder, f"correct {PROCESSOR}", str(size))
    return int(sides.pop())


def _three(numbers: Any, factor: Any, folder: Path) -> tuple[float, ...]:
    listed = list(numbers) if isinstance(numbers, list | tuple) else [numbers] * 3
    try:
        told = tuple(float(number) / float(factor) for number in listed)
    except (TypeError, ValueError, ZeroDivisionError):
        told = ()
    if len(told) != 3 or not all(map(math.isfinite, told)):
        hint = f"correct {PROCESSOR}"
        raise refused("backbone_intake", "mean and deviation are not three numbers", folder, hint, str(numbers))
    return told
