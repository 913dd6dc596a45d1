"""Image models of the transformers library, from a local folder or, where the network is allowed, from the hub by name.

Only safetensors are read and no code that a folder brings along is run. Processors are not used: they want torchvision;
what they say about size, mean and deviation is read from their JSON file.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core import digest
from keepfit.core.errors import DataError, EnvironmentFault, missing_extra

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIGURATION, PROCESSOR = "config.json", "preprocessor_config.json"
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


def fetched(name: str) -> Path:
    """The folder of a hub model, fetched if it is not there yet; EnvironmentFault when it cannot be had."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing_extra("networks", "huggingface_hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            "hub_unreachable", f"the model {name!r} could not be fetched", seen=first_line(error),
            hint="check the name and the network, or give a local folder",
        ) from error  # fmt: skip


def load_folder(folder: Path) -> tuple[nn.Module, Intake, str]:
    """Module, intake and model type (such as "resnet") of a folder in the transformers layout; DataError if it does not fit."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("networks", "transformers") from None
    if not (folder / CONFIGURATION).is_file():
        raise _refused(
            "backbone_folder", f"the folder has no {CONFIGURATION}", folder, "give the folder of save_pretrained"
        )
    try:
        with quiet(transformers):
            model, report = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:
        hint = "only safetensors and models that transformers itself knows are read; save it again with save_pretrained"
        raise _refused("backbone_broken", "the model cannot be loaded", folder, hint, first_line(error)) from error
    if model.main_input_name != "pixel_values":
        raise _refused("backbone_not_for_images", f"a {model.config.model_type!r} model reads no pictures", folder, "")
    if getattr(model.config, "num_channels", 3) != 3:
        raise _refused("backbone_channels", f"it reads {model.config.num_channels} colours, not 3", folder, "")
    has_pooler = _check_complete(model, report, folder)
    return PooledModel(model, has_pooler), intake(folder), str(model.config.model_type)


def content_digest(folder: Path) -> str:
    """One digest of what `load_folder` reads."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])
    return digest.of_json({file.name: digest.of_file(file) for file in files})


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
        raise _refused("backbone_intake", "a deviation is not above zero", folder, f"correct {PROCESSOR}", str(std))
    return found


def _check_complete(model: Any, report: Any, folder: Path) -> bool:
    """Whether the file has the pooler's weights too. All others must be there, and none that the model has no place for."""
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    lacking = [key for key in missing if not key.startswith("pooler.")]
    # A file may still say encoder where the library calls the same layers by another name.
    own = {"encoder", model.base_model_prefix, *(name for name, _ in model.named_children())}
    # What stands beside the backbone (a classifier, a decoder) belongs to the head that was cut off.
    strange = [key for key in unexpected if key.partition(".")[0] in own and not key.startswith("pooler.")]
    if lacking or strange:
        seen = ", ".join([f"missing {key}" for key in lacking[:1]] + [f"unexpected {key}" for key in strange[:1]])
        raise _refused("weights_do_not_fit", "the weights are not those of the configuration", folder, "", seen)
    if missing and hasattr(model, "pooler"):
        model.pooler = None
    return not missing


def _side(size: Any, folder: Path) -> int:
    if isinstance(size, dict):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if key in size}
    else:
        sides = set(size) if isinstance(size, list | tuple) else {size}
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= LARGEST_SIDE for side in sides)
    if len(sides) != 1 or not whole:
        raise _refused("backbone_intake", "its picture size is not one side", folder, f"correct {PROCESSOR}", str(size))
    return int(sides.pop())


def _three(numbers: Any, factor: Any, folder: Path) -> tuple[float, ...]:
    listed = list(numbers) if isinstance(numbers, list | tuple) else [numbers] * 3
    try:
        told = tuple(float(number) / float(factor) for number in listed)
    except (TypeError, ValueError, ZeroDivisionError):
        told = ()
    if len(told) != 3 or not all(map(math.isfinite, told)):
        hint = f"correct {PROCESSOR}"
        raise _refused("backbone_intake", "mean and deviation are not three numbers", folder, hint, str(numbers))
    return told


def json_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is none. Raises DataError."""
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _refused("backbone_broken", f"{path.name} is not JSON", path, "", first_line(error)) from error
    if not isinstance(read, dict):
        raise _refused("backbone_broken", f"{path.name} is not an object", path, "")
    return read


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """No bars and no table of keys on the user's terminal: what matters of them is said as an error."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _refused(code: str, what: str, where: Path, hint: str, seen: str = "") -> DataError:
    return DataError(code, what, where=str(where), seen=seen, hint=hint)
