"""Groups are cut completely, and gaps are found when they are there and not when they are not."""

import numpy as np
import pytest

from keepfit.tasks.groups import compare_groups, share_gap, split_groups, wilson
from keepfit.tasks.task import Task

TWO = Task("classification", "pay {x}", ("no", "{yes}"))


def text(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def test_groups_hold_every_row_once():
    rng = np.random.default_rng(0)
    columns = {
        "many": [f"v{number}" for number in rng.zipf(1.6, 2000) % 60],
        "numbers": [str(number) for number in rng.normal(size=2000)],
        "few": [["a", "b", None][number] for number in rng.integers(0, 3, 2000)],
        "none": [None] * 2000,
    }
    for values in columns.values():
        groups = split_groups(text(values))
        assert np.array([group.rows for group in groups]).sum(axis=0).tolist() == [1] * 2000
    kinds = {name: [group.kind for group in split_groups(text(values))] for name, values in columns.items()}
    assert kinds["many"] == ["value"] * 20 + ["other"]
    assert kinds["numbers"] == ["range"] * 4
    assert kinds["few"] == ["value", "value", "missing"] and kinds["none"] == ["missing"]


def drawn(rows, seed, harm):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, rows)
    truth = rng.integers(0, 2, rows)
    wrong = rng.random(rows) < np.where(group == 1, 0.1 + harm, 0.1)
    answers = np.where(wrong, 1 - truth, truth)
    positive = np.where(answers == 1, 0.9, 0.1)
    return truth, np.c_[1 - positive, positive], text(["ab"[code] for code in group])


def test_a_planted_gap_is_found_and_said():
    truth, scores, group = drawn(3000, 0, 0.2)
    [column] = compare_groups(TWO, truth, scores, {"place": group}, ["accuracy"])
    found = {finding["quantity"]: finding for finding in column["findings"]}
    assert {"error rate", "false positive rate", "false negative rate"} <= set(found)
    assert "base rate" not in found
    assert found["error rate"]["low"] * found["error rate"]["high"] > 0
    assert "place = " in found["error rate"]["sentence"] and "{yes}" in found["false positive rate"]["sentence"]


def test_chance_alone_is_seldom_a_finding():
    looked = [
        len(
            compare_groups(TWO, *drawn(1000, seed, 0.0)[:2], {"place": drawn(1000, seed, 0.0)[2]}, ["accuracy"])[0][
                "findings"
            ]
        )
        > 0
        for seed in range(200)
    ]
    assert len(looked) == 200 and sum(looked) <= 20


def test_rates_are_right():
    truth, scores = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    [column] = compare_groups(TWO, truth, scores, {"g": text(["a", "a", "a", None])}, ["accuracy"])
    first, missing = column["groups"]
    assert (first["n"], first["base_rate"], first["false_positive_rate"]) == (3, 1 / 3, 0.5)
    assert first["false_negative_rate"] == 1.0
    assert first["calibration_gap"] == pytest.approx(0.4 - 1 / 3)
    assert (missing["kind"], missing["false_positive_rate"], missing["metrics"]["accuracy"]) == ("missing", None, 1.0)


def test_regression_gaps():
    rng = np.random.default_rng(0)
    truth, group = rng.normal(size=2000), rng.integers(0, 2, 2000)
    values = truth + rng.normal(0, 0.3, 2000) + 0.5 * group
    slices = {"g": text(["ab"[code] for code in group])}
    [column] = compare_groups(Task("regression", "y"), truth, values, slices, ["rmse"])
    assert {finding["quantity"] for finding in column["findings"]} == {"bias", "absolute error"}
    assert column["groups"][0]["false_positive_rate"] is None


def test_intervals_against_published_values():
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 and 48/80 give 0.0524 to 0.3339."""
    ours, others = np.r_[np.ones(56), np.zeros(14)], np.r_[np.ones(48), np.zeros(32)]
    assert share_gap(ours, others, 1.959964) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
