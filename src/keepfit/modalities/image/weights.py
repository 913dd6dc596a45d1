"""Weight files of the networks defined here: found in installed packages or by path, told apart by their keys, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from keepfit.modalities.image import efficientnet, mobilenet
from keepfit.modalities.image.weight_files import LITE, MOBILENET
from keepfit.training.weight_file import load_strictly, read_tensors, refused

# The last layer scores the classes of the pictures it was trained on; it is cut off, whether the file has it or not.
HEADS = {MOBILENET: ("classifier.1.weight", "classifier.1.bias"), LITE: ("_fc.weight", "_fc.bias")}


def load_file(path: Path) -> tuple[nn.Module, str]:
    """The network of a weight file, with its weights, and its name; DataError when the file fits none of ours."""
    tensors = read_tensors(path)
    name, module = _network(tensors, path)
    load_strictly(module, name, tensors, path, HEADS[LITE if name.startswith(LITE) else name])
    return module, name


def size_of(name: str) -> int:
    """Side in pixels of the pictures that a known network was made for."""
    return efficientnet.SCALES[int(name[-1])][2] if name.startswith(LITE) else mobilenet.SIZE


def _network(tensors: Mapping[str, Tensor], path: Path) -> tuple[str, nn.Module]:
    if any(key.startswith("features.0.0.") for key in tensors):
        return MOBILENET, mobilenet.MobileNetV2()
    if "_conv_stem.weight" in tensors:
        blocks = {key.split(".")[1] for key in tensors if key.startswith("_blocks.")}
        head = tensors.get("_conv_head.weight")
        # Variants 1 and 2 are equally deep, 2 is wider.
        variant = 0 if len(blocks) <= 16 else 2 if head is not None and head.dim() > 1 and head.shape[1] > 320 else 1
        return f"{LITE}{variant}", efficientnet.EfficientNetLite(variant)
    raise refused(
        "weights_unknown", "the keys are those of no network known here", path, f"first key {next(iter(tensors))!r}",
        "MobileNetV2 with torchvision's keys, EfficientNet-Lite 0 to 2, or a folder of a transformers model",
    )  # fmt: skip
