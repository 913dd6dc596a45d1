"""A small convolutional network from scratch."""

from __future__ import annotations

from typing import Any

from keepfit.modalities.image.learners.start import Start
from keepfit.modalities.image.networks import SmallCnn
from keepfit.modalities.room import Way

_LARGEST = 96


def start(options: Any, looked: Any, outputs: int, way: Way) -> Start:
    """Size and colour follow the training pictures where the recipe does not say them."""
    size = options.size if options.size != "auto" else max(8, min(_LARGEST, looked.side - looked.side % 4))
    channels = 1 if looked.grey else 3
    dropout = 0.1 if way.train.dropout is None else way.train.dropout
    network = SmallCnn(channels, outputs, size, size, width_factor=options.width, dropout=dropout)
    return Start(network, looked.preparation(size, channels), "SmallCnn")
