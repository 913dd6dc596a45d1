"""Fits a network on texts: tokens, examples, and the shared way from there to a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.modalities.fitting import Built, fit_network, scale_of
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.modalities.text.examples import TextExamples
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN


def fit(options: Any, train: Sample, valid: Sample, probe: Table, classes: int, way: Way, say: Say) -> Trained:
    """Everything fitted here sees `train` only, but for choosing the best epoch (`valid`)."""
    with torch.random.fork_rng():
        torch.manual_seed(way.seed)
        start = load(options.impl)(options, list(train.table.columns[COLUMN]), max(classes, 1), way)
    counts = start.counts
    say("tokens", {"cut": counts.cut, "of": counts.texts, "max_length": counts.max_length,
                   "unknown": round(counts.share_unknown, 4), "warnings": counts.warnings()})  # fmt: skip
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
        [*counts.sentences(), *(f"Warning: {said}." for said in counts.warnings()), *start.notes],
    )
    parts = examples(train, way.augment), examples(valid)
    probed = examples(Sample(probe, np.zeros(len(probe))))
    return fit_network(built, parts, (train, valid), probed, classes, options, way, say)
