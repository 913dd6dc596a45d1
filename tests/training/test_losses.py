"""Every loss beside its formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from keepfit.training import losses

SCORES = np.random.default_rng(0).normal(size=(5, 3))
CODES = np.array([0, 2, 1, 2, 2])
SHARES = np.random.default_rng(1).dirichlet(np.ones(3), 5)
WEIGHTS = np.array([0.5, 1.0, 3.0])
LOGS = SCORES - np.log(np.exp(SCORES).sum(1, keepdims=True))


def found(name, answers, *, scores=SCORES, classes=3, weights=None, smoothing=0.0):
    made = losses.make(
        name, classes=classes, weights=None if weights is None else torch.tensor(weights), smoothing=smoothing
    )
    given = torch.tensor(answers) if answers.dtype == np.int64 else torch.tensor(answers, dtype=torch.float32)
    return float(made(torch.tensor(scores, dtype=torch.float32), given))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["auto", "cross_entropy", "focal"])
def test_losses_of_classes(name, weights, smoothing):
    each = np.ones(3) if weights is None else weights
    wanted = np.eye(3)[CODES] * (1 - smoothing) + smoothing / 3
    fade = (1 - np.exp(LOGS)) ** 2 if name == "focal" else 1.0
    lost = -(wanted * each * fade * LOGS).sum()
    mass = each[CODES].sum() if name != "focal" else (wanted * each).sum()
    assert found(name, CODES, weights=weights, smoothing=smoothing) == pytest.approx(lost / mass, rel=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_mixed_rows_have_shares(name):
    fade = (1 - np.exp(LOGS)) ** 2 if name == "focal" else 1.0
    assert found(name, SHARES) == pytest.approx(-(SHARES * fade * LOGS).sum() / 5, rel=1e-5)


@pytest.mark.parametrize("name", ["auto", "mse", "mae", "huber"])
def test_losses_of_numbers(name):
    scores, answers = np.array([[0.0], [1.0], [5.0]]), np.array([[0.4], [1.0], [2.0]])
    gap = np.abs(scores - answers)
    wanted = {"mae": gap, "huber": np.where(gap < 1, gap**2 / 2, gap - 0.5)}.get(name, gap**2).mean()
    assert found(name, answers, scores=scores, classes=0) == pytest.approx(wanted, rel=1e-6)
