"""Schedules are pure functions of the step and, for plateau, of the losses so far."""

from __future__ import annotations

import math

import pytest
from made_jobs import options

from keepfit.training.schedules import share_of

STEPS, EPOCHS = 10, 4


def share(said):
    return share_of(options(schedule=said).schedule, STEPS, EPOCHS)


def rates(said, losses=()):
    made = share(said)
    forth = [made(step, losses) for step in range(STEPS * EPOCHS)]
    assert forth == [made(step, losses) for step in reversed(range(STEPS * EPOCHS))][::-1]
    return forth


@pytest.mark.parametrize("use", ["plateau", "cosine", "step", "constant"])
def test_warm_up_is_linear(use):
    found = rates({"use": use, "warmup": 0.5})
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and found[5] == pytest.approx(1.0)
    assert rates({"use": use})[0] == 1.0


def test_cosine_ends_at_its_floor():
    made = share({"use": "cosine", "floor": 0.1})
    assert (made(0, []), made(20, []), made(40, [])) == pytest.approx((1.0, 0.55, 0.1))
    assert made(41, []) == pytest.approx(0.1)


def test_onecycle_rises_and_falls():
    found = rates({"use": "onecycle", "up": 0.25, "start": 0.04})
    top = found.index(max(found))
    assert found[0] == pytest.approx(0.04) and found[-1] == pytest.approx(4e-6) and 9 <= top <= 10
    assert found[:top] == sorted(found[:top]) and found[top:] == sorted(found[top:], reverse=True)


def test_step_multiplies_every_few_epochs():
    found = rates({"use": "step", "every": 2, "factor": 0.1})
    assert found == pytest.approx([1.0] * 20 + [0.1] * 20)


def test_constant_is_constant():
    assert set(rates("constant")) == {1.0}


def test_plateau_follows_from_the_losses():
    made = share({"use": "plateau", "factor": 0.5, "patience": 1})
    cases = {
        (): 1,
        (3.0, 2.0, 1.0): 1,
        (1.0, 1.0): 1,
        (1.0, 1.0, 1.0): 0.5,
        (1.0, 2.0, 2.0, 2.0, 2.0): 0.25,
        (1.0, 2.0, 2.0, 0.5, 0.6): 0.5,
    }
    assert {losses: made(7, losses) for losses in cases} == cases
    assert made(0, [1.0, math.inf, math.inf]) == 0.5
