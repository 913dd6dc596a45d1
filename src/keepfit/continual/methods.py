"""How a network is held to what it knew: by rows (replay), by its weights (ewc) or by its answers (lwf).

Each is a `Method` of the trainer: a loss in place of the plain one, shares of the learning rate, and what is done at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from keepfit.continual.head import features
from keepfit.continual.rehearsal import Rehearsal, Some
from keepfit.continual.statistics import Statistics
from keepfit.training.job import Plain
from keepfit.training.loading import Examples, plain

ANSWERS, READOUT = 0.3, 10.0
"""Weights of the champion's scores in the loss of remembered rows (dark experience replay, Buzzega et al. 2020), and of the
head in closed form beside the learned one."""
PENALTY, DISTIL, TEMPERATURE = 100.0, 1.0, 2.0
SLOWEST, ROWS_PER_ROW = 0.1, 6.0
"""Layers below the head learn as fast as the memory can hold them: fully from one remembered row to six new ones on."""


def _still(network: nn.Module) -> nn.Module:
    held = copy.deepcopy(network).eval()
    for parameter in held.parameters():
        parameter.requires_grad_(False)
    return held


@dataclass
class First:
    """Learns as without a method; what its features add up to is kept for those that come after it."""

    head: str
    classes: int
    rows: Examples

    def shares(self, network: nn.Module) -> Mapping[str, float]:
        """All parameters alike."""
        return {}

    def begin(self, network: nn.Module) -> None:
        """Nothing to hold."""

    def loss(self, of: Plain, scores: Tensor, answers: Tensor, inputs: Tensor, network: nn.Module) -> Tensor:
        """The plain one."""
        return of(scores, answers)

    def settle(self, network: nn.Module) -> dict[str, bytes]:
        """The statistics; the network stays as it is."""
        made = Statistics.of(features(network, self.head, self.rows), self.classes)
        return {"recall.safetensors": made.to_bytes(**_own_head(network, self.head))}


@dataclass
class Replay:
    """Rehearses remembered rows with the champion's scores beside their labels, and mixes a head in closed form into its own.

    `known` are the classes (codes) that the champion has; `moved` is added to scores while learning; `statistics` None leaves
    the head as it was learned.
    """

    champion: nn.Module
    head: str
    known: list[int]
    rows: Rehearsal
    moved: Tensor
    classes: int
    statistics: Statistics | None

    def shares(self, network: nn.Module) -> Mapping[str, float]:
        """Layers below the head are slower where few rows are remembered: what the statistics say of them must stay true."""
        if self.statistics is None:
            return {}
        fast = min(1.0, max(SLOWEST, ROWS_PER_ROW * len(self.rows.remembered) / max(len(self.rows.new), 1)))
        own = f"{self.head}."
        return {name: 1.0 if name.startswith(own) else fast for name, _ in network.named_parameters()}

    def begin(self, network: nn.Module) -> None:
        """To where the network is."""
        place = next(network.parameters()).device
        self.champion, self.moved = _still(self.champion).to(place), self.moved.to(place)

    def loss(self, of: Plain, scores: Tensor, answers: Tensor, inputs: Tensor, network: nn.Module) -> Tensor:
        """The plain loss on adjusted scores, and the distance to the champion's scores on rows of the classes that it knows."""
        found = of(scores + self.moved, answers)
        if answers.ndim > 1:  # rows were mixed: what each shows is of several classes
            return found
        half = len(answers) // 2
        mine = torch.zeros(len(answers), dtype=torch.bool, device=answers.device)
        mine[half:] = torch.isin(answers[half:], torch.tensor(self.known, device=answers.device))
        if not bool(mine.any()):
            return found
        with torch.no_grad():
            then = self.champion(inputs[mine])[:, self.known].float()
        return found + ANSWERS * functional.mse_loss(scores[mine][:, self.known], then)

    def settle(self, network: nn.Module) -> dict[str, bytes]:
        """The statistics of all rows so far, as this network sees them; their head is mixed into the learned one."""
        if self.statistics is None:
            return {}
        old = torch.cat([self._moment(part, self.champion) for part in self._parts()])
        new = torch.cat([self._moment(part, network) for part in self._parts()])
        fresh, kept = len(self.rows.new), len(self.rows.remembered)
        weights = torch.ones(fresh + kept, dtype=torch.float64)
        weights[fresh:] = fresh / max(kept, 1)
        before = self.statistics.moved(old, new, weights)
        codes = torch.cat([answers for _, answers in plain(self._parts()[0], 256)])
        total = before.plus(Statistics.of([(new[:fresh], codes)], self.classes))
        own = _own_head(network, self.head)
        self._mix(network, total.head())
        return {"recall.safetensors": total.to_bytes(**own)}

    def _parts(self) -> tuple[Some, Some]:
        return Some(self.rows.examples, self.rows.new), Some(self.rows.examples, self.rows.remembered)

    def _moment(self, rows: Some, network: nn.Module) -> Tensor:
        found = [one for one, _ in features(network, self.head, rows)]
        width = network.get_submodule(self.head).in_features + 1
        return torch.cat(found) if found else torch.zeros(0, int(width), dtype=torch.float64)

    def _mix(self, network: nn.Module, made: Tensor) -> None:
        head: Any = network.get_submodule(self.head)
        with torch.no_grad():
            head.weight += READOUT * made[:-1].T.to(head.weight)
            head.bias += READOUT * made[-1].to(head.bias)


@dataclass
class Ewc:
    """Elastic weight consolidation (Kirkpatrick et al. 2017): a weight is held the more, the more the old rows depend on it.

    The Fisher information is its diagonal, estimated on remembered rows, which are not learned from.
    """

    remembered: Some
    known: list[int]
    moved: Tensor
    hold: float
    anchor: dict[str, Tensor] = field(default_factory=dict)
    fisher: dict[str, Tensor] = field(default_factory=dict)

    def shares(self, network: nn.Module) -> Mapping[str, float]:
        """All parameters alike: the penalty holds them."""
        return {}

    def begin(self, network: nn.Module) -> None:
        """The champion's weights, and what each of them is worth. Labels are drawn from the champion's own answers."""
        place = next(network.parameters()).device
        self.moved = self.moved.to(place)
        learned = {name: one for name, one in network.named_parameters() if one.requires_grad}
        self.anchor = {name: one.detach().clone() for name, one in learned.items()}
        self.fisher = {name: torch.zeros_like(one) for name, one in learned.items()}
        draw, was, rows = torch.Generator().manual_seed(0), network.training, 0
        network.eval()
        for inputs, _ in plain(self.remembered, 1):
            logs = network(inputs.to(place))[:, self.known].float().log_softmax(1)
            drawn = torch.multinomial(logs.detach().exp().cpu(), 1, generator=draw).to(place)
            found = torch.autograd.grad(logs.gather(1, drawn).sum(), list(learned.values()), allow_unused=True)
            for name, slope in zip(learned, found, strict=True):
                if slope is not None:
                    self.fisher[name] += slope.detach() ** 2
            rows += 1
        self.fisher = {name: value / max(rows, 1) for name, value in self.fisher.items()}
        network.train(was)

    def loss(self, of: Plain, scores: Tensor, answers: Tensor, inputs: Tensor, network: nn.Module) -> Tensor:
        """The loss of the new rows and half the weighted squared distance to the champion's weights."""
        found = of(scores + self.moved, answers)
        penalty = torch.zeros((), device=scores.device)
        for name, parameter in network.named_parameters():
            if name in self.fisher:
                penalty = penalty + (self.fisher[name] * (parameter - self.anchor[name]) ** 2).sum()
        return found + 0.5 * PENALTY * self.hold * penalty

    def settle(self, network: nn.Module) -> dict[str, bytes]:
        """Nothing to keep."""
        return {}


@dataclass
class Lwf:
    """Learning without forgetting (Li & Hoiem 2016): new rows must still get the champion's answers for the classes it knows."""

    champion: nn.Module
    known: list[int]
    moved: Tensor
    hold: float

    def shares(self, network: nn.Module) -> Mapping[str, float]:
        """All parameters alike."""
        return {}

    def begin(self, network: nn.Module) -> None:
        """To where the network is."""
        place = next(network.parameters()).device
        self.champion, self.moved = _still(self.champion).to(place), self.moved.to(place)

    def loss(self, of: Plain, scores: Tensor, answers: Tensor, inputs: Tensor, network: nn.Module) -> Tensor:
        """The loss of the new rows and the distance of softened answers (Hinton et al. 2015)."""
        with torch.no_grad():
            then = (self.champion(inputs)[:, self.known].float() / TEMPERATURE).log_softmax(1)
        mine = (scores[:, self.known] / TEMPERATURE).log_softmax(1)
        apart = functional.kl_div(mine, then, log_target=True, reduction="batchmean") * TEMPERATURE**2
        return of(scores + self.moved, answers) + DISTIL * self.hold * apart

    def settle(self, network: nn.Module) -> dict[str, bytes]:
        """Nothing to keep."""
        return {}


def _own_head(network: nn.Module, name: str) -> dict[str, Tensor]:
    """The learned head alone, from which the next one goes on."""
    head: Any = network.get_submodule(name)
    bias = torch.zeros(head.out_features) if head.bias is None else head.bias
    return {"weight": head.weight.detach().clone().contiguous(), "bias": bias.detach().clone().contiguous()}
