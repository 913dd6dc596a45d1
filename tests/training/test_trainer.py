"""The loop: what each option does to the weights, and what the caller keeps."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from made_jobs import Rows, digest, fitted, job, network, options, weights
from torch import nn

from keepfit.training import finder, losses, optimizers, trainer
from keepfit.training.loading import batches, order, stream


def still(**more):
    return network(norm=False, dropout=0.0, **more)


@pytest.mark.parametrize("count", [64, 80, 72])  # whole steps, one batch left over, half a batch left over
def test_accumulation_is_the_larger_batch(count):
    said = {"optimizer": {"use": "sgd", "lr": 0.1}, "epochs": 2}
    large = fitted(options(**said, batch_size=32), count=count, net=still())
    small = fitted(options(**said, batch_size=16, accumulate=2), count=count, net=still())
    for one, other in zip(large.network.parameters(), small.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_is_judged_and_returned():
    said = options(
        ema=0.99, epochs=1, clip_norm=None, optimizer={"use": "sgd", "lr": 0.1, "momentum": 0, "weight_decay": 0}
    )
    rows, net = Rows(80, 1), still()
    by_hand, average = still(), weights(still())
    slope = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for step, place in enumerate(batches(5, 0, 80, 16)):
        inputs, answers = rows.batch(place, 0)
        slope.zero_grad()
        nn.functional.cross_entropy(by_hand(inputs), answers).backward()
        slope.step()
        keep = min(0.99, (2 + step) / (11 + step))
        average = {name: keep * old + (1 - keep) * by_hand.state_dict()[name] for name, old in average.items()}
    found = fitted(said, rows=rows, net=net).network.state_dict()
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_step():
    def moved(clip):
        net = still()
        before = weights(net)
        said = {"use": "sgd", "lr": 1.0, "momentum": 0, "weight_decay": 0}
        after = fitted(options(optimizer=said, clip_norm=clip, epochs=1, batch_size=80), net=net).network.state_dict()
        return math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3) and moved(None) > 0.1


def test_label_smoothing_makes_it_less_sure():
    def sureness(smoothing):
        net = fitted(options(label_smoothing=smoothing, epochs=15, optimizer={"lr": 0.02}), net=still()).network
        with torch.no_grad():
            return float(net(torch.from_numpy(Rows(200, 3).inputs)).softmax(1).max(1).values.mean())

    assert sureness(0.3) < sureness(0.0) - 0.05


def test_early_stop_restores_the_best_weights():
    said = options(epochs=40, early_stop={"patience": 2}, optimizer={"use": "sgd", "lr": 0.05})
    seen = {}
    given = job(
        said,
        valid=Rows(24, 9),
        net=still(),
        say=lambda what, data: seen.update({data["epoch"]: weights(given.network)}),
    )
    found = trainer.train(given)
    ranked = [(entry["accuracy"], -entry["loss"]) for entry in found.history]
    assert found.stopped_by == "early_stop" and len(found.history) == found.best_epoch + 2 < 40
    assert ranked.index(max(ranked)) + 1 == found.best_epoch
    assert digest(found.network.state_dict()) == digest(seen[found.best_epoch]) != digest(seen[len(found.history)])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("classes", [3, 0])
def test_precisions_run_on_the_cpu(precision, classes):
    found = fitted(options(precision=precision, epochs=6, optimizer={"lr": 0.01}), classes=classes)
    assert found.precision == precision and found.history[-1]["loss"] < found.history[0]["loss"]
    assert {p.dtype for p in found.network.parameters()} == {torch.float32}


def test_auto_measures_long_runs_only():
    said = []
    short = fitted(options(precision="auto"), say=lambda what, data: said.append(what))
    assert short.precision == "fp32" and "precision" not in said
    long = fitted(options(precision="auto", epochs=20), say=lambda what, data: said.append(what))
    assert long.precision in ("fp32", "bf16") and "precision" in said


@pytest.mark.parametrize("said", [{}, {"compile": False, "channels_last": True}, {"early_stop": {"patience": 1}}])
def test_a_run_repeats_itself(said):
    one, other = (fitted(options(**said)) for _ in range(2))
    assert one.history == other.history and digest(one.network.state_dict()) == digest(other.network.state_dict())


@pytest.mark.parametrize("lr", ["auto", 0.01])
def test_the_caller_keeps_random_state_threads_and_flags(lr):
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(2)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    given = job(options(optimizer={"lr": lr}, workers=2))
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    try:
        trainer.train(given)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (str(np.random.get_state()), random.getstate()) == before[1:]
        assert torch.get_num_threads() == 2 and torch.utils.deterministic.fill_uninitialized_memory
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_failed_run_puts_threads_back():
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError):
        fitted(net=nn.Linear(5, 3))
    assert torch.get_num_threads() == 2 and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("use", ["adamw", "sgd"])
def test_the_finder_gives_a_sane_rate(use):
    net, rows = network(), Rows(200, 1)
    before = digest(net.state_dict())
    said = options(optimizer={"use": use, "lr": "auto"}).optimizer
    rate, curve = finder.find(net, said, rows, losses.make("auto", classes=3), seed=0, batch_size=16, device="cpu")
    assert 1e-4 <= rate <= 0.2 and len(curve) > 40 and digest(net.state_dict()) == before
    found = fitted(options(optimizer={"use": use, "lr": "auto"}, epochs=8), count=200)
    assert found.lr == pytest.approx(rate, rel=20) and found.history[-1]["accuracy"] > 0.7


def test_the_order_is_a_function_of_seed_and_epoch():
    assert (order(1, 2, 50) == order(1, 2, 50)).all() and sorted(order(1, 2, 50)) == list(range(50))
    assert (order(1, 2, 50) != order(1, 3, 50)).any() and (order(1, 2, 50) != order(2, 2, 50)).any()
    assert [len(rows) for rows in batches(0, 0, 33, 16)] == [16, 17]  # no batch of one row
    assert [len(rows) for rows in batches(0, 0, 34, 16)] == [16, 16, 2]


@pytest.mark.parametrize("start", [0, 2])
def test_workers_give_the_same_batches(start):
    rows, cut = Rows(80, 1), batches(0, 1, 80, 16)
    found = [list(stream(rows, cut, 1, start=start, workers=workers)) for workers in (0, 2)]
    assert len(found[0]) == len(found[1]) == 5 - start
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(*found, strict=True))


def test_an_interrupt_ends_the_epoch_and_the_budget_the_run():
    calls = iter([False, False, True])
    found = fitted(stopped=lambda: next(calls, True))
    assert found.stopped_by == "interrupt" and found.history == []
    found = fitted(options(epochs=50), budget_s=0.0)
    assert found.stopped_by == "budget" and len(found.history) == 1


def test_schedule_and_layers_set_the_rate_of_each_group():
    net = still()
    net.layers = [["0.weight", "0.bias"], ["3.weight", "3.bias"]]
    made = []
    make = optimizers.make
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optimizers, "make", lambda *given: made.append(make(*given)) or made[-1])
        said = options(
            optimizer={"lr": 0.1, "layer_decay": 0.5}, schedule={"use": "step", "every": 1, "factor": 0.1}, epochs=2
        )
        found = fitted(said, net=net)
    assert sorted({round(group["lr"], 6) for group in made[0].param_groups}) == [0.005, 0.01]
    assert [round(entry["lr"], 6) for entry in found.history] == [0.01, 0.001]
