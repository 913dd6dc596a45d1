"""A transformers folder of a picture classifier: model, its own processor, and the same preparation for the bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from keepfit.core.errors import missing_extra
from keepfit.modalities.hugging_face import first_line, json_of, quiet
from keepfit.modalities.image.hugging_face import PROCESSOR, intake
from keepfit.runtime.pictures import PicturePreparation
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.kinds import named_classes, refused
from keepfit.training.existing.torch_files import of_network

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


class Logits(nn.Module):
    """A classifier as [n, 3, h, w] to [n, k]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores [n, k]."""
        scores: Tensor = self.model(pixel_values=pictures).logits
        return scores


@dataclass(frozen=True)
class Folder:
    """A folder as it was opened; `processed` are pictures uint8 [h, w, 3] as its own processor feeds them, [n, 3, h, w]."""

    model: Opened
    preparation: PicturePreparation
    processed: Callable[[Sequence[Any]], Array]


def load_folder(path: Path) -> Folder:
    """Opens a folder of save_pretrained. Raises DataError for one without a head, and for what does not fit."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("networks", "transformers") from None
    model = _model(path, transformers)
    size = getattr(model.config, "num_channels", 3)
    if size != 3:
        raise refused("not_for_pictures", f"the model reads {size} channels", path, str(size), "three colours are read")
    preparation = prepared(path)
    opened = of_network(Logits(model), "hugging_face", "transformers", path, (3, preparation.height, preparation.width))
    opened = replace(opened, classes=named_classes(path))
    return Folder(opened, preparation, _processed(path, transformers, preparation))


def _model(path: Path, transformers: Any) -> Any:
    hint = "only safetensors and models that transformers itself knows are read; save it again with save_pretrained"
    try:
        with quiet(transformers):
            model, report = transformers.AutoModelForImageClassification.from_pretrained(
                str(path), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # transformers raises its own and others' classes
        raise refused(
            "model_broken", "the model cannot be loaded as a picture classifier", path, first_line(error), hint
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise refused(
            "no_head", "the folder has no trained head for classes", path, f"missing {', '.join(missing[:3])}",
            "train one on it: model: {use: pretrained, source: FOLDER} in a recipe, then keepfit run",
        )  # fmt: skip
    return model


def prepared(path: Path) -> PicturePreparation:
    """Size, cut, filter, mean and deviation as preprocessor_config.json says."""
    said, found = json_of(path / PROCESSOR), intake(path)
    number = said.get("resample", 2)
    name = _FILTERS[number] if isinstance(number, int) and 0 <= number < len(_FILTERS) else "bilinear"
    size = said.get("size")
    edge = None
    if said.get("do_resize", True) and isinstance(size, dict) and "shortest_edge" in size:
        edge = int(size["shortest_edge"])
        share = said.get("crop_pct")
        if share and edge < 384 and "crop_size" not in said:  # ConvNeXt: the size over its share, then cut to the size
            edge, crop = int(edge / share), edge
            return PicturePreparation(crop, crop, 3, "squash", found.mean, found.std, name, edge)
        if not said.get("do_center_crop"):
            edge = None  # without a cut only squares have one size
    return PicturePreparation(found.size, found.size, 3, "squash", found.mean, found.std, name, edge)


def _processed(path: Path, transformers: Any, preparation: PicturePreparation) -> Callable[[Sequence[Any]], Array]:
    """What the folder's own processor makes of pictures; ours where it has none."""
    if not (path / PROCESSOR).is_file():
        return lambda pictures: preparation.to_input(np.stack([preparation.fit_size(one) for one in pictures]))
    try:
        with quiet(transformers):
            processor = transformers.AutoImageProcessor.from_pretrained(
                str(path), local_files_only=True, trust_remote_code=False, backend="pil"
            )
    except Exception as error:  # transformers raises its own and others' classes
        hint = f"correct {PROCESSOR}"
        raise refused("model_broken", "the processor cannot be loaded", path, first_line(error), hint) from None

    def processed(pictures: Sequence[Any]) -> Array:
        from PIL import Image

        rows = [np.asarray(processor(Image.fromarray(one), return_tensors="np")["pixel_values"][0]) for one in pictures]
        return np.stack(rows).astype(np.float32)

    return processed
