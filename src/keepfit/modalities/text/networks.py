"""Fits a network on texts: tokens, examples, and the shared way from there to a trained model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.modalities.fitting import Built, fit_network, scale_of
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.modalities.text.examples import TextExamples
from keepfit.modalities.text.learners.start import Start
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN


def fit(options: Any, train: Sample, valid: Sample, probe: Table, classes: int, way: Way, say: Say) -> Trained:
    """Everything fitted here sees `train` only, but for choosing the best epoch (`valid`)."""
    start = _started(options, train, classes, way)
    say("tokens", _told(start))
    mean, scale = scale_of(train, classes)

    def examples(sample: Sample, augment: Any = ()) -> TextExamples:
        truth = sample.truth if classes else (sample.truth - mean) / scale
        texts = list(sample.table.columns[COLUMN])
        more = {"augment": augment, "seed": way.seed, "blank": start.blank}
        return TextExamples(texts, truth, start.preparation, classes=classes, **more)

    built = Built(
        start.network,
        start.name,
        digest.canonical(start.preparation.to_json()),
        start.preparation.max_length,
        start.preparation.max_length,
        start.settle,
        {"tokens": str(start.preparation.size)},
        {"tokenizer.json": start.preparation.tokenizer},
        start.params,
        [*start.counts.sentences(), *(f"Warning: {one}." for one in start.counts.warnings()), *start.notes],
    )
    parts = examples(train, way.augment), examples(valid)
    probed = examples(Sample(probe, np.zeros(len(probe))))
    return fit_network(built, parts, (train, valid), probed, classes, options, way, say)


def rehearse(options: Any, rules: Any, train: Sample, classes: int, way: Way) -> dict[str, Any]:
    """What would be trained, and what the tokenizer makes of the training texts. Raises as training would."""
    start = _started(options, train, classes, way)
    return {
        "name": start.name,
        "input": [start.preparation.max_length],
        "outputs": max(classes, 1),
        "parameters": sum(p.numel() for p in start.network.parameters() if p.requires_grad),
        "tokens": _told(start),
    }


def _started(options: Any, train: Sample, classes: int, way: Way) -> Start:
    if way.warm is not None and way.warm.preparation is not None:  # as long as what the champion was given
        options = options.model_copy(update={"max_length": json.loads(way.warm.preparation)["max_length"]})
    with torch.random.fork_rng():
        torch.manual_seed(way.seed)
        made: Start = load(options.impl)(options, list(train.table.columns[COLUMN]), max(classes, 1), way)
    return made


def _told(start: Start) -> dict[str, Any]:
    counts = start.counts
    return {
        "cut": counts.cut,
        "of": counts.texts,
        "max_length": counts.max_length,
        "unknown": round(counts.share_unknown, 4),
        "warnings": counts.warnings(),
    }
