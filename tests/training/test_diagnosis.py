"""Numerical trouble stops a run with a code, the place and what to try."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_jobs import Rows, fitted, job, network, options
from torch import nn

from keepfit.core.errors import DataError
from keepfit.training.diagnosis import Watch, nothing_learned
from keepfit.training.trainer import train


def refused(*arguments, **named):
    with pytest.raises(DataError) as caught:
        fitted(*arguments, **named)
    assert caught.value.hint and caught.value.seen
    return caught.value


@pytest.mark.parametrize("clip", [1.0, None])
def test_inputs_that_are_no_numbers(clip):
    rows = Rows(80, 1)
    rows.inputs[7, 2] = np.nan
    error = refused(options(clip_norm=clip), rows=rows)
    assert error.code == "loss_not_finite" and "inputs" in error.seen and error.where.startswith("step ")


def test_validation_rows_that_are_no_numbers():
    valid, said = Rows(32, 2), []
    valid.inputs[3, 0] = np.inf
    error = refused(valid=valid, say=lambda what, data: said.append(data))
    assert error.code == "loss_not_finite" and "inputs" in error.seen and error.where == "validation after epoch 1"
    assert said == []


def test_weights_that_run_away():
    said = options(optimizer={"use": "sgd", "lr": 1.0}, clip_norm=None, epochs=5)
    wild = said.optimizer.model_copy(update={"lr": 1e20})  # the recipe allows no such rate
    said = said.model_copy(update={"optimizer": wild})
    error = refused(said, net=network(norm=False, outputs=1), classes=0)
    assert error.code == "loss_not_finite" and "lr=1e+19" in error.hint


def test_a_gradient_that_is_no_number():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(6, 3)

        def forward(self, x):
            return self.line(x) + (self.line.weight.sum() * 0).abs().sqrt()

    error = refused(net=Root())
    assert error.code == "gradient_exploded" and "lr=0.0001" in error.hint and error.where == "step 0"


def test_a_gradient_may_jump_twice_but_not_thrice():
    watch = Watch()
    for step in range(20):
        watch.norm(1.0, step, 0.1)
    watch.norm(2e4, 20, 0.1), watch.norm(2e4, 21, 0.1), watch.norm(1.0, 22, 0.1)
    watch.norm(2e4, 23, 0.1), watch.norm(2e4, 24, 0.1)
    with pytest.raises(DataError) as caught:
        watch.norm(2e4, 25, 0.1)
    assert caught.value.code == "gradient_exploded" and "usual 1" in caught.value.seen


class Deaf(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.answer, self.factor = nn.Parameter(torch.zeros(3)), factor

    def forward(self, x):
        return (self.answer * self.factor).expand(len(x), 3)


@pytest.mark.parametrize(("early", "factor", "at"), [("off", 1, 4), ({"patience": 2}, 0, 3)])
def test_a_network_that_learns_nothing(early, factor, at):
    error = refused(options(epochs=8, early_stop=early), net=Deaf(factor), valid=Rows(32, 1))
    assert error.where == f"epoch {at}"
    assert error.code == "nothing_learned" and "guessing has" in error.seen and "auto" in error.hint


def test_one_that_learns_is_left_alone():
    assert len(train(job(options(epochs=8))).history) == 8
    history = [{"loss": 0.2, "train_loss": 0.2}] * 8
    nothing_learned(
        history, np.array([0.9, 0.1]), np.zeros(10, int), 8, 0.1
    )  # one class for all, but better than guessing
