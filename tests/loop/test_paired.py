"""Tests that may be looked at after every label keep their error probability and find what is better."""

import numpy as np
import pytest

from keepfit.loop.paired import LossTest, PairedTest


def walked(seed: int, chance: float, share: float = 0.1, labels: int = 2000) -> PairedTest:
    generator = np.random.default_rng(seed)
    differs, wins = generator.random(labels) < share, generator.random(labels) < chance
    test = PairedTest(alpha=0.05, horizon=labels)
    test.add_all(wins | ~differs, ~wins | ~differs)
    return test


def test_an_equal_model_is_rarely_called_better_and_a_better_one_nearly_always():
    assert sum(walked(seed, 0.5).better for seed in range(200)) <= 200 * 0.05 + 2 * np.sqrt(200 * 0.05 * 0.95)
    assert sum(walked(seed, 0.65).better for seed in range(50)) >= 48


def test_the_error_probability_that_is_spent_never_passes_alpha():
    test = PairedTest(alpha=0.05, horizon=400)
    for _ in range(400):
        test.add(False, True)
    assert not test.better and test.exhausted
    assert 0.04 < test._spent <= 0.05 + 1e-12


def test_rows_on_which_both_agree_say_nothing():
    test = PairedTest()
    test.add_all([True, False] * 100, [True, False] * 100)
    assert (test.wins, test.losses, test.labels) == (0, 0, 200)


def test_the_same_labels_give_the_same_decision_label_by_label():
    one, again = walked(3, 0.7), walked(3, 0.7)
    assert one.better and one.decided_at == again.decided_at


@pytest.mark.parametrize("gain, seeds, least, most", [(0.0, 100, 0, 10), (0.15, 20, 19, 20)])
def test_losses_of_numbers(gain: float, seeds: int, least: int, most: int):
    called = 0
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        champion, challenger = generator.exponential(1, (2, 2000))
        test = LossTest(scale=3.0)
        for first, second in zip(challenger * (1 - gain), champion, strict=True):
            test.add(float(first), float(second))
        called += test.better
    assert least <= called <= most
