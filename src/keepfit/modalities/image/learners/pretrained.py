"""A pretrained backbone with a head of our own, fine-tuned."""

from __future__ import annotations

from typing import Any

from keepfit.modalities.backbone import Classifier
from keepfit.modalities.image.backbones import load_backbone
from keepfit.modalities.image.learners.start import Start
from keepfit.modalities.room import Way
from keepfit.runtime.pictures import PicturePreparation


def start(options: Any, looked: Any, outputs: int, way: Way) -> Start:
    """The backbone's own size, mean and deviation; `size` in the recipe overrides the first."""
    backbone = load_backbone(options.source, way.folder, online=options.online)
    size = backbone.size if options.size == "auto" else options.size
    dropout = 0.2 if way.train.dropout is None else way.train.dropout
    network = Classifier(backbone, outputs, dropout=dropout)
    network.freeze(options.freeze)
    prepared = PicturePreparation(size, size, 3, "cover", tuple(backbone.mean), tuple(backbone.std))
    return Start(network, prepared, backbone.name)
