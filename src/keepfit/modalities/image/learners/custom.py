"""The user's own network for pictures."""

from __future__ import annotations

from typing import Any

import torch

from keepfit.modalities.image.learners.start import Start
from keepfit.modalities.room import Way
from keepfit.training.custom import check_export, check_shapes, network_of

_LARGEST = 224


def start(options: Any, looked: Any, outputs: int, way: Way) -> Start:
    """Offers `channels`, `classes`, `height`, `width` and `input_shape` to the constructor, and tries one batch."""
    size = options.size if options.size != "auto" else max(8, min(_LARGEST, looked.side))
    channels = 1 if looked.grey else 3
    shape = (channels, size, size)
    offered = {
        "classes": outputs,
        "num_classes": outputs,
        "channels": channels,
        "in_channels": channels,
        "height": size,
        "width": size,
        "input_shape": shape,
    }
    network = network_of(options.class_, way.folder, options.args, offered)
    check_shapes(network, torch.zeros(2, *shape), outputs)
    check_export(network, torch.zeros(2, *shape))
    return Start(network, looked.preparation(size, channels), options.class_.rpartition(":")[2])
