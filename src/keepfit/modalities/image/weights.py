"""Weight files of the networks defined here: found in installed packages or by path, told apart by their keys, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import DataError, EnvironmentFault, missing_extra
from keepfit.modalities.image import efficientnet, mobilenet
from keepfit.modalities.image.weight_files import LITE, MOBILENET

# The last layer scores the classes of the pictures it was trained on; it is cut off, whether the file has it or not.
HEADS = {MOBILENET: ("classifier.1.weight", "classifier.1.bias"), LITE: ("_fc.weight", "_fc.bias")}
COUNTER = "num_batches_tracked"


def load_file(path: Path) -> tuple[nn.Module, str]:
    """The network of a weight file, with its weights, and its name; DataError when the file fits none of ours."""
    tensors = read_tensors(path)
    name, module = _network(tensors, path)
    _load_strictly(module, name, tensors, path)
    return module, name


def size_of(name: str) -> int:
    """Side in pixels of the pictures that a known network was made for."""
    return efficientnet.SCALES[int(name[-1])][2] if name.startswith(LITE) else mobilenet.SIZE


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name to tensor of a .safetensors file or a torch state dict; objects of any other kind in it are refused unread."""
    try:
        if path.suffix == ".safetensors":
            return _safe_tensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except EnvironmentFault:
        raise
    except Exception as error:
        hint = "give a .safetensors file, or a .pth file of a state dict: torch.save(model.state_dict(), ...)"
        seen = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise _refused("weights_broken", "the weight file cannot be read", path, seen, hint) from error
    return _unwrapped(content, path)


def _safe_tensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file as read
    except ImportError:
        raise missing_extra("networks", "safetensors") from None
    return dict(read(path))


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint that holds it under a key, or with the prefix of a parallel wrapper."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not named or not content or not all(isinstance(value, Tensor) for value in content.values()):
        seen = f"a {type(content).__name__}"
        raise _refused("weights_broken", "the file holds no names with tensors", path, seen, "save the state dict")
    return {key.removeprefix("module."): value.detach() for key, value in content.items()}


def _network(tensors: Mapping[str, Tensor], path: Path) -> tuple[str, nn.Module]:
    if any(key.startswith("features.0.0.") for key in tensors):
        return MOBILENET, mobilenet.MobileNetV2()
    if "_conv_stem.weight" in tensors:
        blocks = {key.split(".")[1] for key in tensors if key.startswith("_blocks.")}
        head = tensors.get("_conv_head.weight")
        # Variants 1 and 2 are equally deep, 2 is wider.
        variant = 0 if len(blocks) <= 16 else 2 if head is not None and head.dim() > 1 and head.shape[1] > 320 else 1
        return f"{LITE}{variant}", efficientnet.EfficientNetLite(variant)
    raise _refused(
        "weights_unknown", "the keys are those of no network known here", path, f"first key {next(iter(tensors))!r}",
        "MobileNetV2 with torchvision's keys, EfficientNet-Lite 0 to 2, or a folder of a transformers model",
    )  # fmt: skip


def _load_strictly(module: nn.Module, name: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = module.state_dict()
    heads = HEADS[LITE if name.startswith(LITE) else name]
    given = {key: value for key, value in tensors.items() if key not in heads}
    # A counter that inference never reads; files from before it existed lack it.
    given = {key: value for key, value in wanted.items() if key.endswith(COUNTER)} | given
    missing = [f"missing {key}" for key in wanted if key not in given][:1]
    unexpected = [f"unexpected {key}" for key in given if key not in wanted][:1]
    shapes = [
        f"{key} is {list(given[key].shape)}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ][:1]
    if missing or unexpected or shapes:
        seen = ", ".join(missing + unexpected + shapes)
        raise _refused("weights_do_not_fit", f"the weights are not those of {name}", path, seen, "check the file")
    strange = [key for key, value in given.items() if not _finite(value)]
    if strange:
        raise _refused("weights_not_finite", "a weight is not a finite number", path, strange[0], "train it again")
    module.load_state_dict(given)


def _finite(value: Tensor) -> bool:
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_complex()
    return plain and bool(torch.isfinite(value).all())


def _refused(code: str, what: str, path: Path, seen: str, hint: str) -> DataError:
    return DataError(code, what, where=str(path), seen=seen, hint=hint)
