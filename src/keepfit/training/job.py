"""What the trainer is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from keepfit.recipe.train import TrainFields, processes_of
from keepfit.training.loading import Examples

Say = Callable[[str, dict[str, Any]], None]
Plain = Callable[[Tensor, Tensor], Tensor]


class Method(Protocol):
    """Another way to learn than by the plain loss, such as one that holds a network to what it knew."""

    def shares(self, network: nn.Module) -> Mapping[str, float]:
        """Shares of the learning rate by parameter name; 1 for those that are not named."""

    def begin(self, network: nn.Module) -> None:
        """Before the first step, also of a run that goes on: the network is where it learns, with the weights it starts from."""

    def loss(self, of: Plain, scores: Tensor, answers: Tensor, inputs: Tensor, network: nn.Module) -> Tensor:
        """The loss of a batch; `of` is the plain one, of scores [b, k] and answers."""

    def settle(self, network: nn.Module) -> dict[str, bytes]:
        """The last touch on a trained network, and files to keep beside its weights."""


@dataclass(frozen=True)
class Job:
    """A network, the rows it learns from and those it is judged on, and everything else that the result depends on.

    `classes` is 0 for numbers. `identity` is what the caller adds to tell two jobs apart (digests of the data, the
    learner's parameters). `folder` keeps checkpoints; None keeps none. `budget_s` ends the run after the epoch in which
    it is used up.
    """

    network: nn.Module
    train: Examples
    valid: Examples
    options: TrainFields
    classes: int
    seed: int
    threads: int = 2
    identity: dict[str, Any] = field(default_factory=dict)
    class_weights: Tensor | None = None
    folder: Path | None = None
    budget_s: float | None = None
    device: str = "auto"
    stopped: Callable[[], bool] = lambda: False
    say: Say = lambda what, data: None
    method: Method | None = None


@dataclass(frozen=True)
class Fitted:
    """The network with its best weights, on the CPU and in evaluation mode, and how it came about."""

    network: nn.Module
    history: list[dict[str, Any]]
    best_epoch: int
    precision: str
    lr: float
    resumed_at: int | None
    stopped_by: str  # epochs, early_stop, budget or interrupt


def for_rows(options: TrainFields, rows: int) -> TrainFields:
    """The options with steps of at most a quarter of the rows, but eight: few rows would otherwise make few steps."""
    most = max(8, rows // 4) // processes_of(options)
    return options.model_copy(update={"batch_size": min(options.batch_size, max(2, most))})


def curve(fitted: Fitted) -> dict[str, Any]:
    """Loss per epoch, for the report."""
    return {
        "metric": "loss",
        "train": [entry["train_loss"] for entry in fitted.history],
        "validation": [entry["loss"] for entry in fitted.history],
        "best": fitted.best_epoch,
        "unit": "epoch",
    }
