"""The one table of parts: kind -> name -> `module:Options`. A part is reached by name, never by import from below."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.core.errors import RecipeError, nearest
from keepfit.core.options import Options

_ROOM = "keepfit.modalities.tabular.options"
_IMAGE = "keepfit.modalities.image.options"
_TEXT = "keepfit.modalities.text.options"
_CLEANING = "keepfit.cleaning"
_TRAINING = "keepfit.training.options"

TABLE: dict[str, dict[str, str]] = {
    "tabular": {
        "auto": f"{_ROOM}:AutoOptions",
        "linear": f"{_ROOM}:LinearOptions",
        "gbdt": f"{_ROOM}:GbdtOptions",
        "forest": f"{_ROOM}:ForestOptions",
        "ensemble": f"{_ROOM}:EnsembleOptions",
        "mlp": f"{_ROOM}:MlpOptions",
        "custom": f"{_ROOM}:CustomOptions",
        "existing": f"{_ROOM}:ExistingOptions",
    },
    "image": {
        "auto": f"{_IMAGE}:AutoOptions",
        "cnn": f"{_IMAGE}:CnnOptions",
        "pretrained": f"{_IMAGE}:PretrainedOptions",
        "custom": f"{_IMAGE}:CustomOptions",
        "existing": f"{_IMAGE}:ExistingOptions",
    },
    "text": {
        "auto": f"{_TEXT}:AutoOptions",
        "tfidf": f"{_TEXT}:TfidfOptions",
        "existing": f"{_TEXT}:ExistingOptions",
        "pretrained": f"{_TEXT}:PretrainedOptions",
        "custom": f"{_TEXT}:CustomOptions",
    },
    "augment": {
        "rotate": f"{_IMAGE}:RotateOptions",
        "crop": f"{_IMAGE}:CropOptions",
        "flip": f"{_IMAGE}:FlipOptions",
        "scale": f"{_IMAGE}:ScaleOptions",
        "translate": f"{_IMAGE}:TranslateOptions",
        "colour": f"{_IMAGE}:ColourOptions",
        "blur": f"{_IMAGE}:BlurOptions",
        "noise": f"{_IMAGE}:NoiseOptions",
        "erase": f"{_IMAGE}:EraseOptions",
        "mixup": f"{_IMAGE}:MixupOptions",
        "cutmix": f"{_IMAGE}:CutmixOptions",
        "word_dropout": f"{_TEXT}:WordDropoutOptions",
        "word_delete": f"{_TEXT}:WordDeleteOptions",
        "word_swap": f"{_TEXT}:WordSwapOptions",
    },
    "adapter": {"lora": f"{_TEXT}:LoraOptions"},
    "clean": {
        "outliers": f"{_CLEANING}.outliers:OutlierOptions",
        "spellings": f"{_CLEANING}.spellings:SpellingOptions",
        "rare": f"{_CLEANING}.rare:RareOptions",
        "formats": f"{_CLEANING}.formats:FormatOptions",
        "dependencies": f"{_CLEANING}.dependencies:DependencyOptions",
    },
    "optimizer": {
        "adam": f"{_TRAINING}:AdamOptions",
        "adamw": f"{_TRAINING}:AdamWOptions",
        "sgd": f"{_TRAINING}:SgdOptions",
    },
    "schedule": {
        "plateau": f"{_TRAINING}:PlateauOptions",
        "cosine": f"{_TRAINING}:CosineOptions",
        "onecycle": f"{_TRAINING}:OneCycleOptions",
        "step": f"{_TRAINING}:StepOptions",
        "constant": f"{_TRAINING}:ConstantOptions",
    },
    "distributed": {
        "ddp": f"{_TRAINING}:DdpOptions",
        "fsdp": f"{_TRAINING}:FsdpOptions",
    },
    "launcher": {
        "torchrun": f"{_TRAINING}:TorchrunOptions",
    },
}


@dataclass(frozen=True)
class Where:
    """Where a part lives: its options class and the code that it names."""

    kind: str
    name: str
    options: str
    impl: str
    file: str
    line: int
    doc: str


def load(reference: str) -> Any:
    """The object behind `module:attribute`."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def options_of(kind: str, name: str) -> type[Options]:
    """The options class of a part. Raises RecipeError with the nearest name."""
    if kind not in TABLE:
        raise RecipeError(
            "unknown_kind", f"there is no kind of part {kind!r}", where=f"part {kind}", hint=nearest(kind, TABLE)
        )
    if name not in TABLE[kind]:
        raise RecipeError(
            "unknown_part",
            f"there is no {kind} part {name!r}",
            where=f"part {kind}.{name}",
            hint=nearest(name, TABLE[kind]),
        )
    found: type[Options] = load(TABLE[kind][name])
    return found


def find(kind: str, name: str) -> Where:
    """File, line and docstring of a part's code, without importing heavy libraries."""
    options = options_of(kind, name)
    path, line = inspect.getsourcefile(options) or "", inspect.getsourcelines(options)[1]
    module, _, _ = options.impl.partition(":")
    if module:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin:
            path, line = spec.origin, 1
    doc = inspect.getdoc(options) or ""
    return Where(kind, name, TABLE[kind][name], options.impl, str(Path(path)), line, doc)
