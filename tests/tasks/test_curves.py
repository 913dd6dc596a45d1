"""Curves equal scikit-learn's before thinning and keep their shape after it."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from keepfit.tasks import curves
from keepfit.tasks.task import Task
from keepfit.tasks.wording import headline, metric_text, number, percent

TWO = Task("classification", "y", ("no", "yes"))


def drawn(rows, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    positive = np.clip(0.5 + 0.2 * (truth - 0.5) + rng.normal(0, 0.15, rows), 0, 1)
    return truth, np.c_[1 - positive, positive]


def test_small_curves_equal_sklearn():
    truth, scores = drawn(120)
    found = curves.roc_and_pr(truth == 1, scores[:, 1])
    false, true, _ = reference.roc_curve(truth, scores[:, 1], drop_intermediate=False)
    assert found["roc"]["false_positive_rate"] == pytest.approx(false)
    assert found["roc"]["true_positive_rate"] == pytest.approx(true)
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(truth, scores[:, 1]))


def test_large_curves_are_thinned_but_keep_the_area():
    truth, scores = drawn(20_000)
    found = curves.roc_and_pr(truth == 1, scores[:, 1])
    assert len(found["roc"]["true_positive_rate"]) <= curves.POINTS and len(found["pr"]["recall"]) <= curves.POINTS
    area = np.trapezoid(found["roc"]["true_positive_rate"], found["roc"]["false_positive_rate"])
    assert area == pytest.approx(reference.roc_auc_score(truth, scores[:, 1]), abs=1e-3)
    assert found["roc"]["true_positive_rate"][-1] == found["pr"]["recall"][-1] == 1.0
    assert curves.roc_and_pr(np.zeros(5, bool), np.ones(5)) is None


def test_confusion_and_classes_equal_sklearn():
    truth, scores = drawn(500)
    counts = curves.confusion(TWO, truth, scores)
    answers = scores.argmax(axis=1)
    assert (counts == reference.confusion_matrix(truth, answers)).all()
    rows = curves.per_class(TWO, counts)
    wanted = reference.precision_recall_fscore_support(truth, answers)
    for place, name in enumerate(("precision", "recall", "f1", "support")):
        assert [row[name] for row in rows] == pytest.approx(list(wanted[place]))
    never = curves.per_class(TWO, np.array([[3, 0], [0, 0]]))[1]
    assert (never["precision"], never["recall"], never["f1"]) == (None, None, None)


def test_calibration_equals_sklearn():
    truth, scores = drawn(3000)
    found = curves.calibration(TWO, truth, scores)
    observed, predicted = calibration_curve(truth, scores[:, 1], n_bins=10)
    assert [row["observed"] for row in found["bins"]] == pytest.approx(list(observed))
    assert [row["predicted"] for row in found["bins"]] == pytest.approx(list(predicted))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(truth, scores[:, 1]))
    assert sum(row["count"] for row in found["bins"]) == 3000


def test_histogram_counts_every_row():
    found = curves.histogram(np.r_[np.random.default_rng(0).normal(size=999), 1e9])
    assert sum(found["counts"]) == 1000 and found["edges"][-1] < 10
    assert sum(curves.histogram(np.full(7, 3.0))["counts"]) == 7
    assert curves.histogram(np.full(3, np.nan))["counts"] == [0]


def test_numbers_for_people():
    shown = [number(value) for value in (0, 12345.678, 0.00123456, 1.5, -2.25, 1e20, None, float("nan"))]
    assert shown == ["0", "12,346", "0.001235", "1.5", "-2.25", "1e+20", "–", "–"]
    assert (percent(0.8744), percent(-0.0001), metric_text("r2", -1e-9)) == ("87.4 %", "0.0 %", "0.000")


def test_headline_admits_a_model_that_is_no_better_than_guessing():
    facts = {"kind": "classification", "n": 100, "accuracy": {"model": 0.76, "baseline": 0.75, "interval": [0.7, 0.82]}}
    assert "not shown to be better" in headline(facts)[1]
    facts["accuracy"]["interval"] = [0.755, 0.8]
    assert "not shown" not in " ".join(headline(facts))
