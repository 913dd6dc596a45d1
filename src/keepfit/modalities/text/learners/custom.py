"""The user's own network for texts, on tokens of a vocabulary that is made from the training texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keepfit.modalities.room import Way
from keepfit.modalities.text.counting import fitted
from keepfit.modalities.text.learners.start import Start
from keepfit.modalities.text.vocabulary import PAD, made
from keepfit.training.custom import check_export, check_shapes, network_of


def start(options: Any, texts: Sequence[str | None], outputs: int, way: Way) -> Start:
    """Offers vocabulary size, classes, longest text and padding id to the constructor, and tries one batch."""
    prepared, counts = fitted(made(texts, options.vocabulary), options.max_length, texts)
    size, length = prepared.size, prepared.max_length
    offered = {
        "classes": outputs,
        "num_classes": outputs,
        "vocabulary_size": size,
        "vocab_size": size,
        "vocabulary": size,
        "num_embeddings": size,
        "max_length": length,
        "pad": PAD,
        "padding_idx": PAD,
    }
    network = network_of(options.class_, way.folder, options.args, offered)
    example = torch.arange(2 * length).reshape(2, length) % size
    check_shapes(network, example, outputs)
    check_export(network, example, longest=length)
    name = options.class_.rpartition(":")[2]
    return Start(network, prepared, counts, name, "[UNK]", notes=[f"The vocabulary has {size:,} words."])
