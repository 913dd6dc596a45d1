"""Balance of classes: sizes after, no held-out row involved, and the word for it in the run."""

from __future__ import annotations

import numpy as np
import pytest
from made_tables import csv_text

import keepfit as kf
from keepfit.modalities.room import evened, resampled
from keepfit.modalities.tabular.learners.balance import balanced
from keepfit.modalities.tabular.learners.data import Fold


def fold(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random(rows) < 0.15).astype(np.int64)
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    features[:, 2] = rng.integers(0, 3, rows)
    features[::17, 3] = np.nan
    features[:, 0] += 3 * truth
    return Fold(features, truth, np.ones(rows))


@pytest.mark.parametrize("way", ["oversample", "undersample", "smote", "noise"])
def test_classes_are_of_one_size_after(way):
    before = fold()
    after = balanced(before, way, 0)
    counts = np.bincount(after.truth)
    assert (
        counts[0]
        == counts[1]
        == (np.bincount(before.truth).min() if way == "undersample" else 0)
        + (np.bincount(before.truth).max() if way != "undersample" else 0)
    )
    again = balanced(before, way, 0)
    assert np.array_equal(after.features, again.features, equal_nan=True) and len(after.weights) == len(after.truth)
    assert balanced(before, "none", 0) is before


def test_made_rows_lie_between_rows_of_their_class():
    before = fold()
    made = balanced(before, "smote", 0).features[300:]
    rare = before.features[before.truth == 1]
    assert len(made) > 100 and set(np.unique(made[:, 2])) <= {0.0, 1.0, 2.0}
    assert (made[:, 0] >= rare[:, 0].min()).all() and (made[:, 0] <= rare[:, 0].max()).all()
    assert len(np.unique(made[:, 0])) > 0.9 * len(made)


def test_noise_shifts_numbers_a_little_and_leaves_categories_and_gaps():
    before = fold()
    made = balanced(before, "noise", 0).features[300:]
    rare = before.features[before.truth == 1]
    assert len(made) > 100 and set(np.unique(made[:, 2])) <= {0.0, 1.0, 2.0}
    nearest = np.abs(made[:, None, 0] - rare[None, :, 0]).min(1)
    assert 0 < nearest.max() < 0.5 * rare[:, 0].std() and len(np.unique(made[:, 0])) > 0.8 * len(made)
    assert made[:, 0].min() >= rare[:, 0].min() and made[:, 0].max() <= rare[:, 0].max()
    assert 0 < np.isnan(made[:, 3]).mean() < 0.3
    assert np.array_equal(balanced(before, "noise", 0).features[:300], before.features, equal_nan=True)


def test_a_class_of_one_row_is_repeated():
    few = Fold(np.eye(5, dtype=np.float32), np.array([0, 0, 0, 0, 1]), np.ones(5))
    assert np.bincount(balanced(few, "smote", 0).truth).tolist() == [4, 4]


def test_pictures_and_texts_are_repeated_or_left_out():
    truth = np.array([0] * 8 + [1] * 2)
    assert np.bincount(truth[resampled("oversample", truth, 0)]).tolist() == [8, 8]
    assert np.bincount(truth[resampled("undersample", truth, 0)]).tolist() == [2, 2]
    assert evened("none", truth, 2) == [] and "8, 2" in evened("smote", truth, 2)[0]


def test_a_run_says_what_it_did(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"a": round(float(rng.normal() + 2 * y), 3), "b": round(float(rng.normal()), 3), "answer": ("no", "yes")[y]}
        for y in (rng.random(400) < 0.15).astype(int)
    ]
    (tmp_path / "t.csv").write_text(csv_text(rows))
    run = kf.fit(
        str(tmp_path / "t.csv"), "answer", overrides=["model.use=linear", "data.balance=smote"], workspace=tmp_path
    )
    assert "data.balance: smote" in run.report.read_text() and run.metrics["test"]["balanced_accuracy"] > 0.75
