"""Parts of learning on: sums that follow the features, the mix of classes, what is rehearsed, heads that grow, runs that go on."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dataclasses import replace  # noqa: E402

from safetensors.torch import save  # noqa: E402
from torch import nn  # noqa: E402

from keepfit.continual.head import carried, features, head_of  # noqa: E402
from keepfit.continual.rehearsal import Rehearsal  # noqa: E402
from keepfit.continual.shares import adjustment, expected_shares  # noqa: E402
from keepfit.continual.statistics import Statistics  # noqa: E402
from keepfit.continual.warm import Warm  # noqa: E402
from keepfit.core.errors import EnvironmentFault, RecipeError  # noqa: E402
from keepfit.recipe.train import train_class  # noqa: E402
from keepfit.training.job import Job  # noqa: E402
from keepfit.training.trainer import train  # noqa: E402


class Net(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 8), nn.ReLU())
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.trunk(x))


class Points:
    def __init__(self, rows: int, classes: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        codes = draw.integers(0, classes, rows)
        self.codes = codes
        self.inputs = torch.from_numpy(
            (draw.normal(size=(rows, 3)) * 0.5 + 2 * np.eye(4)[codes][:, :3]).astype(np.float32)
        )
        self.answers = torch.from_numpy(codes)

    def __len__(self) -> int:
        return len(self.answers)

    def batch(self, rows, epoch):
        place = torch.from_numpy(rows)
        return self.inputs[place], self.answers[place]


def test_sums_give_the_ridge_of_all_rows_and_follow_a_linear_move():
    points, network = Points(300, 3, 0), Net(3)
    rows = list(features(network, "head", points, 64))
    found = Statistics.of(rows, 3)
    x, y = torch.cat([one for one, _ in rows]), torch.nn.functional.one_hot(points.answers, 3).double()
    whole = torch.linalg.solve(x.T @ x + 10 * torch.eye(9).double(), x.T @ y)
    assert torch.allclose(found.head(), whole)
    turn = torch.block_diag(torch.linalg.qr(torch.randn(8, 8).double())[0] * 2, torch.ones(1, 1).double())
    moved = found.moved(x[:200], x[:200] @ turn, torch.ones(200).double() * 1e6)
    direct = Statistics.of([(x @ turn, points.answers)], 3)
    assert torch.allclose(moved.moments, direct.moments, rtol=1e-3, atol=1e-2)
    back, more = Statistics.from_bytes(found.to_bytes(weight=torch.ones(2, 2)))
    assert torch.allclose(back.moments, found.moments, rtol=1e-5) and torch.equal(more["weight"], torch.ones(2, 2))
    assert found.among(["a", "b", "c"], ["b", "d"]).sums[:, 1].abs().sum() == 0


def test_scores_are_moved_by_the_mix_that_is_shown_and_the_one_that_is_asked():
    shown, even = torch.tensor([90.0, 10.0]), torch.tensor([1.0, 1.0])
    gap = adjustment(shown, even)
    assert gap[0] - gap[1] == pytest.approx(np.log(9), abs=1e-5)
    assert torch.equal(expected_shares(even, shown), shown)
    assert expected_shares(torch.tensor([5.0, 0.0]), torch.tensor([0.0, 3.0])).tolist() == [5.0, 3.0]


def test_what_is_rehearsed_is_even_over_classes_and_the_same_each_time():
    points = Points(120, 3, 1)
    old = np.flatnonzero(points.codes < 2)[:20]
    new = np.setdiff1d(np.arange(120), old)
    one = Rehearsal(points, new, old, points.codes, 0)
    first, again = one.batch(np.arange(40), 3), one.batch(np.arange(40), 3)
    assert len(one) == len(new) and len(first[1]) == 80 and torch.equal(first[0], again[0])
    drawn = torch.cat([one.batch(np.arange(n, n + 20), 0)[1][20:] for n in range(0, 80, 20)])
    assert torch.bincount(drawn, minlength=3).min() > 15
    assert len(one.batch(np.arange(40), None)[1]) == 40


def test_a_head_is_carried_over_by_name_and_another_network_is_refused():
    old, new = Net(2), Net(3)
    carried(new, old.state_dict(), ["c", "a"], ["a", "b", "c"])
    assert torch.equal(new.head.weight[0], old.head.weight[1]) and torch.equal(new.head.weight[2], old.head.weight[0])
    assert head_of(new, 3)[0] == "head"
    with pytest.raises(RecipeError, match="another network"):
        carried(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)), old.state_dict(), ["c", "a"], ["a", "b", "c"])
    with pytest.raises(RecipeError, match="last linear layer"):
        head_of(new, 7)
    with pytest.raises(EnvironmentFault, match="no one network"):
        Warm("lwf", {"preparation.json": b"{}"}, ["a"], ["a", "b"])._weights("head")


def job_of(folder: Path | None, stop_at: int = 10**9) -> Job:
    points = Points(160, 4, 2)
    said = {
        "epochs": 4,
        "batch_size": 16,
        "early_stop": "off",
        "precision": "fp32",
        "checkpoint": {"every": "3 steps", "keep": 2},
    }
    torch.manual_seed(0)
    calls = iter(range(10**9))
    options = train_class().model_validate(said)
    return Job(
        Net(4),
        points,
        Points(40, 4, 3),
        options,
        4,
        0,
        threads=1,
        folder=folder,
        stopped=lambda: next(calls) >= stop_at,
    )


@pytest.mark.parametrize("method", ["replay", "ewc", "lwf"])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path, method: str):
    torch.manual_seed(5)
    files = {"weights/network.safetensors": save(Net(2).state_dict()), "preparation.json": b"{}"}
    ids = [str(n) for n in range(160)]
    warm = Warm(method, files, ["0", "1"], ["0", "1", "2", "3"], {"0": 50, "1": 60}, frozenset(ids[:30]))

    def learned(job: Job):
        made = warm.job(job, ids, job.train.codes)
        fitted = train(made)
        made.method.settle(fitted.network)
        return fitted

    whole = learned(job_of(None))
    learned(replace(job_of(tmp_path, stop_at=12)))
    again = learned(job_of(tmp_path))
    assert again.resumed_at
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
