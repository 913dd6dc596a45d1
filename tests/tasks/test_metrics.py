"""Metrics equal scikit-learn's, also on edge cases; intervals cover and are quick."""

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from keepfit.tasks.metrics import METRICS, bootstrap, default_primary, higher_is_better, score
from keepfit.tasks.task import Task, decide


def task_of(width):
    return Task("classification", "y", tuple(range(width)))


NUMBER = Task("regression", "y")


def drawn(width, rows, seed, ties=False, dtype=np.float64):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, width, rows)
    raw = rng.random((rows, width)) + 0.6 * np.eye(width)[truth]
    if ties:
        raw = np.round(raw, 1) + 0.05
    return truth, (raw / raw.sum(axis=1, keepdims=True)).astype(dtype)


def expected(truth, scores):
    answers, labels = scores.argmax(axis=1), list(range(scores.shape[1]))
    area = (
        reference.roc_auc_score(truth, scores[:, 1])
        if len(labels) == 2
        else reference.roc_auc_score(truth, scores, multi_class="ovr", average="macro", labels=labels)
    )
    return {
        "accuracy": reference.accuracy_score(truth, answers),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, answers),
        "f1_macro": reference.f1_score(truth, answers, average="macro"),
        "roc_auc": area,
        "log_loss": reference.log_loss(truth, scores, labels=labels),
        "mcc": reference.matthews_corrcoef(truth, answers),
    }


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_classification_equals_sklearn():
    looked = 0
    for width in (2, 3, 5, 12):
        for seed in range(6):
            for ties in (False, True):
                for dtype in (np.float64, np.float32):
                    truth, scores = drawn(width, 300, seed, ties, dtype)
                    found = score(task_of(width), truth, scores, METRICS["classification"])
                    for name, value in expected(truth, scores).items():
                        tight = 1e-12 if dtype is np.float64 else 2e-6
                        assert found[name] == pytest.approx(value, rel=tight, abs=tight), (name, width, seed)
                        looked += 1
    assert looked == 4 * 6 * 2 * 2 * 6


def test_regression_equals_sklearn():
    looked = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.normal(1e5 if seed % 2 else 0, 3, 400)
        values = truth + rng.normal(0.3, 2, 400)
        found = score(NUMBER, truth, values, METRICS["regression"])
        assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, values), rel=1e-12)
        assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, values), rel=1e-12)
        assert found["r2"] == pytest.approx(reference.r2_score(truth, values), rel=1e-9)
        looked += 3
    assert looked == 60


def test_perfect_and_zero_probabilities():
    truth = np.array([0, 1, 2, 1, 0, 2])
    found = score(task_of(3), truth, np.eye(3)[truth], METRICS["classification"])
    assert [found[name] for name in ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "mcc")] == [1.0] * 5
    assert found["log_loss"] == pytest.approx(0, abs=1e-15)
    wrong = score(task_of(3), truth, np.eye(3)[(truth + 1) % 3], ["log_loss"])["log_loss"]
    assert wrong == pytest.approx(-np.log(np.finfo(np.float64).eps))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_one_class_in_the_truth():
    truth, scores = np.zeros(9, int), drawn(2, 9, 0)[1]
    found = score(task_of(2), truth, scores, METRICS["classification"])
    answers = scores.argmax(axis=1)
    assert found["roc_auc"] is None
    assert found["mcc"] == 0.0 == reference.matthews_corrcoef(truth, answers)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(answers == 0))
    assert found["f1_macro"] == pytest.approx(reference.f1_score(truth, answers, average="macro"))
    assert "roc_auc" not in bootstrap(task_of(2), truth, scores, METRICS["classification"], seed=0, rounds=20)


def test_many_classes_average_over_those_that_occur():
    truth, scores = drawn(4, 200, 3)
    truth = truth % 3
    areas = [reference.roc_auc_score(truth == code, scores[:, code]) for code in range(3)]
    assert score(task_of(4), truth, scores, ["roc_auc"])["roc_auc"] == pytest.approx(np.mean(areas), rel=1e-12)


def test_edges_of_regression_and_no_rows():
    flat = np.full(4, 2.5)
    assert score(NUMBER, flat, flat, ["r2"])["r2"] == 1.0 == reference.r2_score(flat, flat)
    assert score(NUMBER, flat, flat + 1, ["r2"])["r2"] == 0.0 == reference.r2_score(flat, flat + 1)
    assert score(NUMBER, flat[:1], flat[:1], ["r2", "rmse"]) == {"r2": None, "rmse": 0.0}
    assert set(score(NUMBER, flat[:0], flat[:0], METRICS["regression"]).values()) == {None}
    empty = score(task_of(2), np.zeros(0, int), np.zeros((0, 2)), METRICS["classification"])
    assert set(empty.values()) == {None}
    assert score(NUMBER, flat, np.full(4, np.nan), ["rmse"])["rmse"] is None
    assert score(task_of(1), np.zeros(3, int), np.ones((3, 1)), ["accuracy", "roc_auc"]) == {
        "accuracy": 1.0,
        "roc_auc": None,
    }


def test_names_and_directions():
    assert default_primary(task_of(2)) == "accuracy" and default_primary(NUMBER) == "rmse"
    lower = [name for names in METRICS.values() for name in names if not higher_is_better(name)]
    assert lower == ["log_loss", "rmse", "mae"]
    with pytest.raises(ValueError, match="no metric of regression"):
        score(NUMBER, np.ones(2), np.ones(2), ["accuracy"])
    assert decide(np.array([[0.5, 0.5], [0.1, 0.9]])).tolist() == [0, 1]


def test_bootstrap_is_seeded_and_covers():
    truth, scores = drawn(2, 400, 0)
    first = bootstrap(task_of(2), truth, scores, METRICS["classification"], seed=1)
    assert first == bootstrap(task_of(2), truth, scores, METRICS["classification"], seed=1)
    assert first != bootstrap(task_of(2), truth, scores, METRICS["classification"], seed=2)
    inside = 0
    for seed in range(200):
        hits = np.random.default_rng(seed).random(300) < 0.8
        pair = bootstrap(task_of(2), np.ones(300, int), np.c_[~hits, hits].astype(float), ["accuracy"], seed=seed)
        inside += pair["accuracy"][0] <= 0.8 <= pair["accuracy"][1]
    assert 178 <= inside <= 200


def test_subsampled_interval_is_as_wide_as_the_formula():
    rows = 400_000
    hits = np.random.default_rng(0).random(rows) < 0.7
    low, high = bootstrap(
        task_of(2), np.ones(rows, int), np.c_[~hits, hits].astype(float), ["accuracy"], seed=0, rounds=400
    )["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / rows), rel=0.2)
    assert low < hits.mean() < high


def test_bootstrap_of_fifty_thousand_rows_takes_seconds():
    for width in (2, 10):
        truth, scores = drawn(width, 50_000, 0)
        begun = time.perf_counter()
        found = bootstrap(task_of(width), truth, scores, METRICS["classification"], seed=0)
        assert time.perf_counter() - begun < 15
        assert len(found) == 6


def test_tasks_load_no_training_library():
    code = (
        "import sys, keepfit.tasks.metrics, keepfit.tasks.curves, keepfit.tasks.groups, keepfit.stages.evaluation\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'matplotlib', 'lightgbm', 'torch'} & set(sys.modules)\n"
        "print(sorted(heavy), len(sys.modules) > 50)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[] True"
