"""Pictures as the features of a pretrained network, for checks that compare pictures by what they show."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import EnvironmentFault
from keepfit.modalities.image import weight_files
from keepfit.runtime.pictures import decode

SIDE = 96  # half of the side the network was made for costs a fifth of the time and tells flipped labels as well
_BATCH = 64


def embedded(pictures: Sequence[bytes]) -> NDArray[np.float32] | None:
    """[n, 1280] features of encoded pictures by MobileNetV2, in its own scale; None where torch or its weights are not
    installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        weight_files.installed(weight_files.MOBILENET)
    except EnvironmentFault:
        return None
    import torch

    from keepfit.modalities.image.backbones import load_backbone

    backbone = load_backbone(weight_files.MOBILENET, Path())
    mean, std = (np.array(some, np.float32) for some in (backbone.mean, backbone.std))
    found = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _BATCH):
            pixels = np.stack([_sized(decode(data)[0]) for data in pictures[start : start + _BATCH]])
            scaled = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
            found.append(backbone.module(torch.from_numpy(np.ascontiguousarray(scaled))).numpy())
    return np.concatenate(found) if found else np.zeros((0, backbone.features), np.float32)


def _sized(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
