"""Exact tails, the promised rate of false alarms, and features named; small worlds, a few seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keepfit.monitor.drift import judge, learn_levels
from keepfit.monitor.features import Feature, Values, feature_of
from keepfit.monitor.profile import outputs_of
from keepfit.monitor.tails import log_count_tail, log_gamma, log_gamma_tail, log_mean_tail, log_normal_tail


def test_gamma_and_normal_tails_are_those_of_the_library():
    assert log_gamma([0.5, 1, 4.5, 300]) == pytest.approx([math.lgamma(x) for x in (0.5, 1, 4.5, 300)], abs=1e-9)
    wanted = [math.log(math.erfc(z / math.sqrt(2)) / 2) for z in (-2.0, 0.0, 1.5, 6.0)]
    assert log_normal_tail([-2.0, 0.0, 1.5, 6.0]) == pytest.approx(wanted, abs=1e-6)
    # shape 2, scale 1: (1 + x) e^-x
    for x in (0.3, 3.0, 30.0):
        assert log_gamma_tail(x, 2.0, 1.0) == pytest.approx(math.log1p(x) - x, abs=1e-9)


def test_the_tail_of_a_count_is_summed_exactly():
    def pmf(k, n, a, b):
        beta = lambda x, y: math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)  # noqa: E731
        return math.comb(n, k) * math.exp(beta(k + a, n - k + b) - beta(a, b))

    cases = [(9, 20, 3.0, 40.0), (0, 60, 30.0, 70.0), (60, 60, 0.5, 500.0), (12, 200, 1.0, 90.0)]
    for k, n, a, b in cases:
        upper, lower = sum(pmf(j, n, a, b) for j in range(k, n + 1)), sum(pmf(j, n, a, b) for j in range(k + 1))
        assert log_count_tail(k, n, a, b)[0] == pytest.approx(math.log(min(1, 2 * min(upper, lower))), abs=0.01)


def test_the_tail_of_a_mean_is_that_of_simulation():
    scores = (np.arange(20) + 0.5) / 20
    drawn = scores[np.random.default_rng(0).integers(0, 20, (400_000, 10))].mean(1)
    found = log_mean_tail(np.array([0.74]), np.array([10.0]), np.full((1, 20), 0.05), scores[None])[0]
    assert found == pytest.approx(math.log((np.abs(drawn - 0.5) >= 0.24).mean()), abs=0.15)


def world(rng, rows):
    """Six features: two nearly the same, ties, many zeros, categories few and many, gaps."""
    z = rng.standard_normal(rows)
    near = z + 0.1 * rng.standard_normal(rows)
    gaps = np.where(rng.random(rows) < 0.2, np.nan, np.round(2 * rng.standard_normal(rows)))
    zeros = np.where(rng.random(rows) < 0.7, 0.0, rng.exponential(size=rows))
    few = np.array([f"c{n}" for n in np.minimum(rng.geometric(0.4, rows), 5)], object)
    many = np.array([f"k{int(n)}" for n in np.exp(7 * rng.random(rows))], object)
    columns = {"z": z, "near": near, "gaps": gaps, "zeros": zeros, "few": few, "many": many}
    return {name: Values(data, np.zeros(rows, bool), name) for name, data in columns.items()}


def made(rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    reference = world(rng, rows)
    features = [feature_of(name, values) for name, values in reference.items()]
    return features, learn_levels(features, [f.code(reference[f.name]) for f in features]), rng


def test_quiet_windows_ring_as_often_as_was_said():
    rang = dict.fromkeys((60, 800), 0)
    for seed in range(3):
        features, levels, rng = made(1500, seed)
        for size in rang:
            for _ in range(80):
                window = world(rng, size)
                rang[size] += judge(features, levels, [f.tally(window[f.name]) for f in features], 0.05).rings
    assert all(2 <= n <= 28 for n in rang.values()), rang  # 12 of 240 are expected


@pytest.fixture(scope="module")
def once():
    return made()


@pytest.mark.parametrize("name", ["z", "gaps", "zeros", "few", "many"])
def test_the_feature_that_changed_is_named_first(once, name):
    features, levels, rng = once
    window = world(rng, 300)
    data = window[name].data.copy()
    if data.dtype == object:
        data[:120] = data[0]
    else:
        data = data + 1.5
    window[name] = Values(data, window[name].bad, name)
    verdict = judge(features, levels, [f.tally(window[f.name]) for f in features], 0.001)
    assert verdict.named[0] == name and verdict.changes[0].log_p < verdict.log_level


def test_a_window_of_another_type_or_of_nothing_is_judged(once):
    features, levels, rng = once
    window = world(rng, 80)
    window["z"] = Values(np.full(80, None, object), np.zeros(80, bool), "z")
    window["few"] = Values(rng.standard_normal(80), np.zeros(80, bool), "few")
    window["gaps"] = Values(np.full(80, np.nan), np.zeros(80, bool), "gaps")
    verdict = judge(features, levels, [f.tally(window[f.name]) for f in features], 0.001)
    assert {"z", "few", "gaps"} <= set(verdict.named)
    nothing = judge(features, levels, [np.zeros(f.bins + 2) for f in features], 0.001)
    assert not nothing.rings


def test_features_round_trip_and_name_no_rare_value(once):
    features, levels, _ = once
    for feature in features:
        again = Feature.from_json(feature.name, feature.as_json())
        assert again.as_json() == feature.as_json() and again.bins == feature.bins
    many = next(f for f in features if f.name == "many")
    assert min(many.counts[:12]) >= 5 and len(many.values) < 300 and many.groups
    assert type(levels).from_json(levels.as_json()) == levels


def test_answers_of_a_learner_and_of_its_file_fall_into_the_same_bins():
    draw = np.random.default_rng(0)
    few = draw.random(12)
    exact = few[draw.integers(0, 12, 4000)]
    rough = exact.astype(np.float32)
    for columns, classes in ((lambda p: np.stack([p, 1 - p], 1), ("a", "b")), (lambda p: (1234.5 * p)[:, None], ())):
        ours, theirs = (outputs_of(columns(one), classes) for one in (exact, rough))
        for name, values in ours.items():
            feature = feature_of(name, values)
            assert np.array_equal(feature.code(values), feature.code(theirs[name]))
