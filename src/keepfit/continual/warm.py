"""A challenger that starts from its champion: the same preparation, the champion's weights, and a method that holds it near."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from keepfit.continual import VERSION, methods
from keepfit.continual.head import carried, features, head_of
from keepfit.continual.rehearsal import Rehearsal, Some
from keepfit.continual.shares import adjustment, counts_of, expected_shares
from keepfit.continual.statistics import LARGEST, Statistics
from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault, RecipeError
from keepfit.training.job import Job

RECALL = "recall.safetensors"
PERTURBED = 0.1
"""Share of fresh weights in the start of replay, at most (Ash & Adams 2020, "On warm-starting neural network training")."""


@dataclass(frozen=True)
class Warm:
    """What a challenger starts from.

    `method` is first, replay, ewc or lwf; `files` those of the champion's train stage (empty for first); `before` the champion's
    classes and `classes` those of the challenger, by name; `counts` how many rows of each class there were before;
    `remembered` says by sample id which rows are old ones; `hold` multiplies the penalties of ewc and lwf.
    """

    method: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    before: Sequence[str] = ()
    classes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    remembered: frozenset[str] = frozenset()
    hold: float = 1.0

    @property
    def preparation(self) -> bytes | None:
        """The champion's, which its weights were learned for; None for the first."""
        return self.files.get("preparation.json")

    def job(self, job: Job, ids: Sequence[str], codes: NDArray[np.int64]) -> Job:
        """The job as this method does it. `ids` and `codes` are of the training rows, in order."""
        name, _ = head_of(job.network, job.classes)
        if self.method == "first":
            return replace(job, method=methods.First(name, job.classes, job.train))
        weights, recall = self._weights(name)
        with torch.random.fork_rng():
            torch.manual_seed(job.seed)
            champion = carried(copy.deepcopy(job.network), weights, self.before, self.classes)
        is_old = np.array([one in self.remembered for one in ids], bool)
        new, old = np.flatnonzero(~is_old), np.flatnonzero(is_old)
        known = [place for place, one in enumerate(self.classes) if one in self.before]
        fresh = counts_of(torch.from_numpy(codes[new]), job.classes)
        counted = torch.tensor([float(self.counts.get(one, 0)) for one in self.classes], dtype=torch.float64)
        expected = expected_shares(counted, fresh)
        network, rows, method = self._start(job, champion, new, old, codes, known, (fresh, counted, expected), recall)
        said = {"method": self.method, "version": VERSION, "hold": self.hold, "old": int(is_old.sum())}
        sums = {name: digest.of_bytes(data) for name, data in sorted(self.files.items())}
        identity = {**job.identity, "continual": {**said, "champion": digest.of_json(sums)}}
        return replace(job, network=network, train=rows, method=method, identity=identity)

    def _start(
        self,
        job: Job,
        champion: nn.Module,
        new: NDArray[np.int64],
        old: NDArray[np.int64],
        codes: NDArray[np.int64],
        known: list[int],
        counts: tuple[Tensor, Tensor, Tensor],
        recall: bytes | None,
    ) -> tuple[nn.Module, Any, Any]:
        fresh, counted, expected = counts
        if self.method == "lwf" or (self.method == "replay" and not len(old)):
            method: Any = methods.Lwf(champion, known, adjustment(fresh, expected), self.hold)
            return copy.deepcopy(champion), Some(job.train, new), method
        if self.method == "ewc" and not len(old):
            raise RecipeError(
                "nothing_remembered",
                "ewc holds the weights on which old rows depend, and there is no old row to look at",
                where="retrain.memory",
                seen="0 remembered rows",
                hint="retrain.memory=200, or retrain.strategy=lwf, which needs no old rows",
            )
        if self.method == "ewc":
            held = Some(job.train, old)
            return (
                copy.deepcopy(champion),
                Some(job.train, new),
                methods.Ewc(held, known, adjustment(fresh, expected), self.hold),
            )
        rows = Rehearsal(job.train, new, old, codes, job.seed)
        name, head = head_of(champion, job.classes)
        found = None
        if head.in_features <= LARGEST and recall is not None:
            found = Statistics.from_bytes(recall)[0].among(self.before, self.classes)
        elif head.in_features <= LARGEST:
            shown = counts_of(torch.from_numpy(codes[old]), job.classes)
            weights = torch.where(shown > 0, counted.clamp_min(1) / shown.clamp_min(1), 1.0)
            found = Statistics.of(features(champion, name, Some(job.train, old)), job.classes, weights)
        moved = adjustment(rows.counts(codes, job.classes), expected)
        method = methods.Replay(champion, name, known, rows, moved, job.classes, found)
        fast = min(method.shares(champion).values(), default=1.0)
        return perturbed(copy.deepcopy(champion), job.network, PERTURBED * fast), rows, method

    def _weights(self, head: str) -> tuple[dict[str, Tensor], bytes | None]:
        """The champion's weights, with the head as it was learned where a head in closed form was mixed into it."""
        kept = [name for name in sorted(self.files) if name.startswith("weights/")]
        found = [name for name in kept if not name.endswith(RECALL)]
        recall = next((self.files[name] for name in kept if name.endswith(RECALL)), None)
        if len(found) != 1:
            raise EnvironmentFault(
                "no_champion_weights",
                "the champion has no one network to start from",
                where="retrain.strategy",
                seen=", ".join(found) or "no weights",
                hint="retrain.strategy: full or fresh",
            )
        weights: dict[str, Tensor] = load(self.files[found[0]])
        if recall is not None:
            own = Statistics.from_bytes(recall)[1]
            weights |= {f"{head}.{name}": own[name] for name in ("weight", "bias") if f"{head}.{name}" in weights}
        return weights, recall


def perturbed(network: nn.Module, fresh: nn.Module, share: float) -> nn.Module:
    """The network with its learned weights shrunk towards a fresh start by `share`; counters and statistics of norms stay."""
    with torch.no_grad():
        for mine, other in zip(network.parameters(), fresh.parameters(), strict=True):
            if mine.requires_grad:
                mine.lerp_(other.to(mine), share)
    return network
