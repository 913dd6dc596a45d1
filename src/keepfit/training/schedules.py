"""Learning-rate schedules: the share of the full rate as a pure function of the step; plateau also of the losses so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from keepfit.core.options import Options
from keepfit.training.options import (
    ConstantOptions,
    CosineOptions,
    OneCycleOptions,
    PlateauOptions,
    StepOptions,
)

Share = Callable[[int, Sequence[float]], float]  # (optimizer steps done, validation losses of the epochs so far)


def _warm(step: int, epoch_steps: int, epochs: float) -> float:
    steps = round(epochs * epoch_steps)
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine(said: CosineOptions, epoch_steps: int, epochs: int) -> Share:
    """From 1 to `floor` over all steps after the warm-up."""
    warm, last = round(said.warmup * epoch_steps), max(1, epochs * epoch_steps)

    def share(step: int, _: Sequence[float]) -> float:
        if step < warm:
            return _warm(step, epoch_steps, said.warmup)
        done = min(1.0, (step - warm) / max(1, last - warm))
        return said.floor + (1 - said.floor) * 0.5 * (1 + math.cos(math.pi * done))

    return share


def onecycle(said: OneCycleOptions, epoch_steps: int, epochs: int) -> Share:
    """From `start` to 1 over the first `up` of the steps, then to `start` / 10,000."""
    last = max(1, epochs * epoch_steps - 1)
    top = max(1.0, said.up * last)

    def between(first: float, second: float, done: float) -> float:
        return second + (first - second) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def share(step: int, _: Sequence[float]) -> float:
        if step <= top:
            return between(said.start, 1.0, step / top)
        return between(1.0, said.start / 10_000, (step - top) / max(1.0, last - top))

    return share


def step(said: StepOptions, epoch_steps: int, epochs: int) -> Share:
    """`factor` once more after every `every` epochs."""

    def share(done: int, _: Sequence[float]) -> float:
        return _warm(done, epoch_steps, said.warmup) * said.factor ** (done // (said.every * epoch_steps))

    return share


def constant(said: ConstantOptions, epoch_steps: int, epochs: int) -> Share:
    """1 after the warm-up."""
    return lambda done, _: _warm(done, epoch_steps, said.warmup)


def plateau(said: PlateauOptions, epoch_steps: int, epochs: int) -> Share:
    """`factor` once more whenever the loss was no better for more than `patience` epochs; worked out from the losses."""

    def share(done: int, losses: Sequence[float]) -> float:
        best, bad, cuts = math.inf, 0, 0
        for loss in losses:
            if loss < best * (1 - 1e-4):
                best, bad = loss, 0
            else:
                bad += 1
            if bad > said.patience:
                bad, cuts = 0, cuts + 1
        return float(_warm(done, epoch_steps, said.warmup) * said.factor**cuts)

    return share


def share_of(said: Options, epoch_steps: int, epochs: int) -> Share:
    """The schedule that a recipe names."""
    makers: dict[str, Callable[..., Share]] = {
        "cosine": cosine,
        "onecycle": onecycle,
        "step": step,
        "constant": constant,
        "plateau": plateau,
    }
    return makers[said.use](said, epoch_steps, epochs)  # type: ignore[attr-defined]
