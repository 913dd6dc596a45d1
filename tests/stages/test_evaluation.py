"""The evaluation is JSON, complete for every task, and importance finds the column that matters."""

import json

import numpy as np
import pytest

from keepfit.runtime.table import Table, text_column
from keepfit.stages.evaluation import evaluation
from keepfit.stages.importance import permutation_importance
from keepfit.tasks.metrics import METRICS
from keepfit.tasks.task import Task


def drawn(width, rows=600, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, width, rows)
    raw = rng.random((rows, width)) + np.eye(width)[truth]
    return truth, raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("width", [2, 4, 30])
def test_classification_is_json_and_counts_every_row(width):
    task = Task("classification", "y", tuple(f"class {number}" for number in range(width)))
    truth, scores = drawn(width)
    slices = {"g": text_column([["a", None][number % 2] for number in range(600)])}
    facts = evaluation(
        task,
        truth,
        scores,
        baseline=np.full_like(scores, 1 / width),
        slices=slices,
        metrics=METRICS["classification"],
        seed=0,
    )
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert sum(map(sum, facts["confusion"])) == facts["n"] == 600
    assert facts["metrics"]["accuracy"] == facts["accuracy"]["model"] > facts["baseline"]["accuracy"]
    assert facts["intervals"]["accuracy"] == facts["accuracy"]["interval"]
    assert len(facts["curves"]) == (1 if width == 2 else min(width, 10))
    assert [group["n"] for group in facts["slices"][0]["groups"]] == [300, 300]


def test_one_class_in_test_still_evaluates():
    task = Task("classification", "y", (False, True))
    facts = evaluation(
        task,
        np.zeros(40, int),
        drawn(2, 40)[1],
        baseline=np.ones((40, 2)) / 2,
        slices={},
        metrics=METRICS["classification"],
        seed=0,
    )
    assert facts["curves"] == [] and facts["metrics"]["roc_auc"] is None and facts["classes"] == [False, True]


def test_regression_is_json_and_seeded():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5000)
    facts = [
        evaluation(
            Task("regression", "y"),
            truth,
            truth + rng.normal(size=5000) * 0,
            baseline=np.zeros(5000),
            slices={},
            metrics=METRICS["regression"],
            seed=3,
        )
        for _ in range(2)
    ]
    assert facts[0] == facts[1] and json.dumps(facts[0], allow_nan=False)
    assert len(facts[0]["sample"]["truth"]) == 1000 and sum(facts[0]["residuals"]["counts"]) == 5000


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same number of rows"):
        evaluation(
            Task("regression", "y"), np.ones(3), np.ones(3), baseline=np.ones(2), slices={}, metrics=["rmse"], seed=0
        )


def test_importance_finds_the_column_that_is_used():
    rng = np.random.default_rng(0)
    values = rng.normal(size=800)
    table = Table({"idle": text_column(rng.normal(size=800)), "used": text_column(values)})
    task = Task("regression", "y")

    def predict(part):
        return np.array([float(cell) for cell in part.columns["used"]])

    found = permutation_importance(predict, table, task, values, "rmse", seed=0, rows=500)
    assert [row["name"] for row in found] == ["used", "idle"]
    assert found[0]["drop"] > 1 and found[1]["drop"] == 0.0
    assert found == permutation_importance(predict, table, task, values, "rmse", seed=0, rows=500)
