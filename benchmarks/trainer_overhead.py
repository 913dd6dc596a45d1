"""What the trainer costs over a plain PyTorch loop (T1): both in lock step, CPU time per step; and what `precision: auto` chose."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import interval, is_quick, mutant, told
from keepfit.modalities.image.mobilenet import FEATURES, MobileNetV2
from keepfit.modalities.image.networks import SmallCnn
from keepfit.recipe.train import train_class
from keepfit.training import precision, trainer
from keepfit.training.job import Job
from keepfit.training.loading import batches

GOAL = "training: at most 2 % more CPU time per step than a plain PyTorch loop of the same work"
ANCHOR = 1.02
ROWS, BATCH, CLASSES, LR, CLIP, DECAY = 20 * 32, 32, 10, 1e-3, 1.0, 0.01


class Rows:
    """Noise of a shape and codes in memory; before each batch is handed out, `before` is called."""

    def __init__(self, rows: int, shape: tuple[int, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        codes = rng.integers(0, CLASSES, rows)
        inputs = rng.normal(size=(rows, *shape)) + codes.reshape(-1, *[1] * len(shape)) / CLASSES
        self.truth, self.inputs = torch.from_numpy(codes), torch.from_numpy(inputs.astype(np.float32))
        self.before: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.truth)

    def batch(self, rows: np.ndarray, epoch: int | None) -> tuple[Tensor, Tensor]:
        """As the trainer asks for it."""
        if epoch is not None:
            self.before()
        place = torch.from_numpy(rows)
        return self.inputs[place], self.truth[place]


def pictures() -> nn.Module:
    """For [n, 1, 28, 28]; the same weights each time."""
    torch.manual_seed(0)
    return SmallCnn(1, CLASSES, 28, 28, dropout=0.1)


def table() -> nn.Module:
    """For [n, 20]: steps of a millisecond, so that what the trainer does in Python is seen."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(128, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(128, CLASSES),
    )


def plain(model: nn.Module, train: Rows, valid: Rows, epochs: int, seed: int) -> Iterator[None]:
    """What one writes by hand for the same work: AdamW without decay on norms, clipping, cosine, best weights kept.

    Yields after every step; the judgement of an epoch is part of the step after it.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}], lr=LR, weight_decay=DECAY
    )
    steps, step, best = epochs * math.ceil(len(train) / BATCH), 0, (0.0, 0.0)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for rows in batches(seed, epoch, len(train), BATCH):
            place = torch.from_numpy(rows)
            inputs, truth = train.inputs[place], train.truth[place]
            loss = functional.cross_entropy(model(inputs), truth)
            loss.backward()
            total += loss.item()
            for group in optimizer.param_groups:
                group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            yield
        model.eval()
        right, lost = 0, 0.0
        with torch.no_grad():
            for start in range(0, len(valid), 128):
                truth = valid.truth[start : start + 128]
                scores = model(valid.inputs[start : start + 128])
                lost += functional.cross_entropy(scores, truth).item() * len(truth)
                right += int((scores.argmax(1) == truth).sum())
        if (right / len(valid), -lost) > best or not epoch:
            best = right / len(valid), -lost
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    yield


@contextmanager
def as_users_have_it() -> Iterator[None]:
    """Outside of the trainer: its flags are off, so that the plain loop is not slowed by them."""
    strict = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(strict, warn_only=True)


def lock_step(
    network: Callable[[], nn.Module], shape: tuple[int, ...], rows: int, epochs: int, seed: int
) -> tuple[list[tuple[float, float]], bool]:
    """Seconds of CPU of each epoch, trainer's and plain loop's; and whether both ended with the same weights to the bit."""
    train, valid = Rows(rows, shape, 0), Rows(128, shape, 1)
    by_hand = network()
    torch.manual_seed(seed)
    random = [torch.get_rng_state()]
    loop = plain(by_hand, train, valid, epochs, seed)
    ours, theirs = [0.0], [0.0]
    mark = [0.0]
    per_epoch = math.ceil(rows / BATCH)
    count = [0]

    def one_step() -> None:
        ours[-1] += time.process_time() - mark[0]
        if count[0] and count[0] % per_epoch == 0:
            ours.append(0.0)  # the trainer has judged the epoch; the plain loop does so in its next step
            theirs.append(0.0)
        kept = torch.get_rng_state()
        torch.set_rng_state(random[0])
        with as_users_have_it():
            begun = time.process_time()
            next(loop)
            theirs[-1] += time.process_time() - begun
        random[0] = torch.get_rng_state()
        torch.set_rng_state(kept)
        count[0] += 1
        mark[0] = time.process_time()

    train.before = one_step
    options = train_class().model_validate(
        {
            "epochs": epochs,
            "batch_size": BATCH,
            "optimizer": {"use": "adamw", "lr": LR, "weight_decay": DECAY},
            "schedule": "cosine",
            "clip_norm": CLIP,
            "precision": "fp32",
            "early_stop": "off",
        }
    )
    mark[0] = time.process_time()
    fitted = trainer.train(Job(network(), train, valid, options, CLASSES, seed, threads=1))
    ours[-1] += time.process_time() - mark[0]
    with as_users_have_it():
        begun = time.process_time()
        next(loop)
        theirs[-1] += time.process_time() - begun
    same = all(
        torch.equal(a, b)
        for a, b in zip(fitted.network.state_dict().values(), by_hand.state_dict().values(), strict=True)
    )
    return list(zip(ours, theirs, strict=True)), same


def chosen(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """What `auto` takes for a network here, and its step in bf16 as a share of that in fp32."""
    truth = torch.arange(len(inputs)) % CLASSES
    taken, seconds = precision.choose("auto", model, (inputs, truth), functional.cross_entropy, "cpu", 1000)
    return {"chosen": taken, "bf16_to_fp32": round(seconds["bf16"] / seconds["fp32"], 3)}


def hobble(name: str | None) -> None:
    """Breaks the trainer on purpose, so that the benchmark is seen to fail."""
    if name == "extra_forward":
        learn = trainer._Training._learn

        def twice(self: Any, inputs: Tensor, answers: Tensor, *, last: bool) -> None:
            with torch.random.fork_rng(), torch.no_grad():
                self.network(inputs)
            learn(self, inputs, answers, last=last)

        trainer._Training._learn = twice
    elif name == "filled_memory":
        quiet = trainer._quiet

        @contextmanager
        def filling(threads: int) -> Iterator[None]:
            with quiet(threads):
                torch.utils.deterministic.fill_uninitialized_memory = True
                yield

        trainer._quiet = filling
    elif name is not None:
        raise SystemExit(f"mutants: extra_forward, filled_memory; not {name}")


def main() -> int:
    """Epochs in lock step; the first of each run warms up."""
    quick = is_quick()
    hobble(mutant())
    torch.set_num_threads(1)
    epochs, seeds = (9, 1) if quick else (17, 3)
    pairs, same = [], []
    for seed in range(seeds):
        found, equal = lock_step(pictures, (1, 28, 28), ROWS, epochs, seed)
        pairs += found[1:]
        same.append(equal)
    ratios = [ours / theirs for ours, theirs in pairs]
    low, high = interval(ratios)
    brief, equal = lock_step(table, (20,), 200 * BATCH, 9 if quick else 17, 0)
    same.append(equal)
    brief_interval = interval([a / b for a, b in brief[1:]])
    passed = max(high, brief_interval[1]) <= ANCHOR and all(same)
    steps = math.ceil(ROWS / BATCH)
    torch.manual_seed(0)
    auto = {
        "SmallCnn": chosen(pictures(), torch.randn(64, 1, 28, 28)),
        "MobileNetV2": chosen(nn.Sequential(MobileNetV2(), nn.Linear(FEATURES, CLASSES)), torch.randn(16, 3, 96, 96)),
    }
    return told(
        GOAL,
        round(statistics.median(ratios), 4),
        ANCHOR,
        passed,
        interval=[low, high],
        pairs=len(pairs),
        same_weights=all(same),
        step_ms=round(1000 * statistics.median(a for a, _ in pairs) / steps, 2),
        plain_step_ms=round(1000 * statistics.median(b for _, b in pairs) / steps, 2),
        precision_auto=auto,
        millisecond_steps={
            "ratio": round(statistics.median(a / b for a, b in brief[1:]), 3),
            "interval": brief_interval,
            "more_us": round(1e6 * statistics.median((a - b) / 200 for a, b in brief[1:]), 1),
            "plain_us": round(1e6 * statistics.median(b / 200 for _, b in brief[1:]), 1),
        },
        mutant=mutant(),
        quick=quick,
    )


if __name__ == "__main__":
    sys.exit(main())
