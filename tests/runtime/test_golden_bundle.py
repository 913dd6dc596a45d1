"""The golden bundle of format 1 opens and gives the answers that were recorded with it, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import keepfit as kf

DATA = Path(__file__).parents[1] / "data"


def test_the_golden_bundle_opens_for_ever():
    model = kf.load(DATA / "golden_bundle")
    recorded = json.loads((DATA / "golden_bundle_answers.json").read_text("utf-8"))
    kinds = {column.name: column.kind for column in model.bundle.inputs}
    assert (
        set(kinds.values()) == {"numeric", "categorical", "datetime", "text"} and model.bundle.manifest["format"] == 1
    )
    answers = model.predict([line["input"] for line in recorded])
    assert len(recorded) == 12 and answers.errors == [""] * 12 and answers.unseen == {"city": 1}
    for found, line in zip(answers.rows(), recorded, strict=True):
        assert found["prediction"] == line["prediction"]
        assert found["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
    assert {line["prediction"] for line in recorded} == {"no", "yes"}
