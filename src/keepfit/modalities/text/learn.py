"""Fits a text learner and returns a trained model: bytes and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from keepfit.core.catalog import load
from keepfit.core.options import Options
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table


def fit(
    options: Options,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Say,
) -> Trained:
    """The learner that the options name. There is one column, so that no rule is needed."""
    made: Trained
    if hasattr(options, "train_defaults"):
        made = load("keepfit.modalities.text.networks:fit")(options, train, valid, probe, classes, way, say)
    else:
        made = load(options.impl)(options, train, valid, probe, classes, way)
    return made
