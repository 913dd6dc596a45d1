"""A pretrained encoder with a head of our own: tuned whole, in part, or by low-rank adapters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from keepfit.core.catalog import load
from keepfit.modalities.backbone import Backbone, Classifier
from keepfit.modalities.room import Way
from keepfit.modalities.text.adapters import merge
from keepfit.modalities.text.counting import fitted
from keepfit.modalities.text.encoders import layers_of, load_encoder
from keepfit.modalities.text.learners.start import Start


def start(options: Any, texts: Sequence[str | None], outputs: int, way: Way) -> Start:
    """The encoder with what learns of it; the length of texts follows from `texts`, the training split."""
    encoder = load_encoder(options.source, way.folder, pooling=options.pooling, online=options.online)
    prepared, counts = fitted(encoder.preparation, options.max_length, texts)
    if options.adapter is not None:
        encoder.module.model = load(options.adapter.impl)(encoder.module.model, options.adapter)
    held = {name: p.requires_grad for name, p in encoder.module.named_parameters()}
    backbone = Backbone(encoder.module, encoder.features, 0, (), (), encoder.name, layers_of(encoder.module), "")
    network = Classifier(backbone, outputs, dropout=0.1 if way.train.dropout is None else way.train.dropout)
    if options.adapter is None:
        network.freeze(options.freeze)
    else:
        for name, parameter in network.backbone.named_parameters():
            parameter.requires_grad_(held[name])
    learns, whole = (
        sum(p.numel() for p in network.parameters() if p.requires_grad or every) for every in (False, True)
    )
    return Start(
        network,
        prepared,
        counts,
        encoder.name,
        _blank(prepared.tokenizer),
        _settled if options.adapter is not None else _same,
        [f"{learns:,} of {whole:,} weights learned ({learns / whole:.2%})."],
        {"learns": learns, "of": whole},
    )


def _same(network: nn.Module) -> nn.Module:
    return network


def _settled(network: Any) -> nn.Module:
    """The network with its adapters merged."""
    network.backbone.model = merge(network.backbone.model)
    made: nn.Module = network.eval()
    return made


def _blank(tokenizer: bytes) -> str:
    """The token that stands for a hidden word: the mask, or what is unknown; empty where there is neither."""
    raw = json.loads(tokenizer)
    added = [str(token.get("content")) for token in raw.get("added_tokens", [])]
    unknown = raw.get("model", {}).get("unk_token")
    return next((token for token in ("[MASK]", "<mask>", unknown) if token in added), "")
