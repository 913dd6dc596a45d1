"""How a step is shared: by one process, by copies of the network (DDP), or with the weights split too (FSDP2).

The trainer asks its strategy and does not know which one it has.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from keepfit.core.catalog import load
from keepfit.core.errors import EnvironmentFault, RecipeError
from keepfit.recipe.train import TrainFields
from keepfit.training import parts, ranks
from keepfit.training.shared import Share, share_layers, unshare_layers

Rows = NDArray[np.int64]
_UNIT = 50_000  # parameters from which a layer is gathered by itself


class Strategy(Protocol):
    """What the trainer asks."""

    rank: int
    world: int
    share: Share
    talk: ranks.Talk
    parts: parts.Parts

    def device(self, found: str) -> str:
        """The device of this process."""

    def wrap(self, network: nn.Module, average: nn.Module | None, *, compiled: bool) -> nn.Module:
        """What forward is called on; parameters are looked at after this."""

    def cut(self, rows: Rows) -> Rows:
        """The rows of a step that are this process's; a row that counts for nothing where there are fewer rows than processes."""

    def at(self, rows: Rows) -> None:
        """The step that follows is of these rows (of all processes)."""

    def scale(self, mass: float, stop: bool) -> tuple[float, bool]:
        """What the mean loss of this process's rows, which weigh `mass`, is multiplied by; and whether anyone wants to stop."""

    def part(self, scale: float) -> float:
        """What a loss so scaled adds to the loss of the step."""

    def batch(self, *, last: bool) -> Any:
        """The context of forward and backward; gradients are summed over processes after the `last` one of a step."""

    def align(self, network: nn.Module) -> None:
        """Buffers of process 0, everywhere."""

    def plain(self, network: nn.Module) -> nn.Module:
        """The network as it was before `wrap`, with its present weights."""


class Single:
    """One process: every question has a plain answer."""

    rank, world = 0, 1

    def __init__(self) -> None:
        self.share = Share(0, 1)
        self.talk: ranks.Talk = ranks.Alone()
        self.parts: parts.Parts = parts.Undivided()

    def device(self, found: str) -> str:
        """As found."""
        return found

    def wrap(self, network: nn.Module, average: nn.Module | None, *, compiled: bool) -> nn.Module:
        """The network, compiled where that is asked for."""
        return torch.compile(network) if compiled else network

    def cut(self, rows: Rows) -> Rows:
        """All rows."""
        return rows

    def at(self, rows: Rows) -> None:
        """Nobody needs to know."""

    def scale(self, mass: float, stop: bool) -> tuple[float, bool]:
        """The mean loss is that of the step."""
        return 1.0, stop

    def part(self, scale: float) -> float:
        """All of it."""
        return scale

    def batch(self, *, last: bool) -> Any:
        """Nothing to sum."""
        return nullcontext()

    def align(self, network: nn.Module) -> None:
        """There is one copy of the buffers."""

    def plain(self, network: nn.Module) -> nn.Module:
        """The same."""
        return network


class Ddp:
    """Copies of the network; torch sums the gradients while they are made."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.share = Share(rank, world)
        self.talk: ranks.Talk = ranks.Together()
        self.parts: parts.Parts = parts.Undivided()
        self.forward: Any = None

    def device(self, found: str) -> str:
        """CUDA devices in order of the host's processes; the CPU where there is no nccl."""
        if not found.startswith("cuda"):
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"

    def wrap(self, network: nn.Module, average: nn.Module | None, *, compiled: bool) -> nn.Module:
        """DistributedDataParallel. Looking for unused parameters also keeps its buckets, and so the order of sums, as they
        are: a run that goes on would else sum its first step in another order."""
        share_layers(network, self.share)
        inner: Any = torch.compile(network) if compiled else network
        learns = any(parameter.requires_grad for parameter in network.parameters())
        self.forward = (
            nn.parallel.DistributedDataParallel(inner, find_unused_parameters=True, gradient_as_bucket_view=True)
            if learns
            else inner
        )
        found: nn.Module = self.forward
        return found

    def cut(self, rows: Rows) -> Rows:
        """Shares of consecutive rows, as equal as can be."""
        own = np.array_split(rows, self.world)[self.rank]
        return own if len(own) else rows[:1]

    def at(self, rows: Rows) -> None:
        """Where this process's rows lie among those of the step."""
        sizes = [len(part) for part in np.array_split(rows, self.world)]
        self.share.start, self.share.count, self.share.total = sum(sizes[: self.rank]), sizes[self.rank], len(rows)

    def scale(self, mass: float, stop: bool) -> tuple[float, bool]:
        """Gradients are averaged over processes: `world` takes that back, so that the sum is the mean over the step's rows."""
        own = mass if self.share.count else 0.0
        total, stops = ranks.sums([own, float(stop)])
        return own / max(total, 1e-12) * self.world, stops > 0

    def part(self, scale: float) -> float:
        """Summed over processes these make the loss of the step."""
        return scale / self.world

    def batch(self, *, last: bool) -> Any:
        """Gradients stay here until the last batch of a step."""
        return nullcontext() if last or not hasattr(self.forward, "no_sync") else self.forward.no_sync()

    def align(self, network: nn.Module) -> None:
        """Buffers that are each process's own would else judge differently."""
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)

    def plain(self, network: nn.Module) -> nn.Module:
        """The network with its own layers again."""
        unshare_layers(network)
        return network


class Fsdp(Ddp):
    """Weights, gradients and optimizer state are split; layers are gathered while they are used (FSDP2)."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(rank, world)
        self.parts = parts.Divided()

    def wrap(self, network: nn.Module, average: nn.Module | None, *, compiled: bool) -> nn.Module:
        """`fully_shard` on the large layers of chains, then on the network."""
        self.bare = copy.deepcopy(network).cpu()
        share_layers(network, self.share)
        for one in (network, average):
            if one is not None:
                _split(one)
        self.forward = network
        return torch.compile(network) if compiled else network

    @contextmanager
    def batch(self, *, last: bool) -> Iterator[None]:
        """Gradients stay whole until the last batch of a step."""
        self.forward.set_requires_gradient_sync(last)
        yield

    def plain(self, network: nn.Module) -> nn.Module:
        """The network from before, with the weights gathered."""
        self.bare.load_state_dict({name: value.cpu() for name, value in self.parts.whole(network.state_dict()).items()})
        return self.bare


def _split(network: nn.Module) -> None:
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for chain in reversed([m for m in network.modules() if isinstance(m, nn.Sequential | nn.ModuleList)]):
        for layer in chain:
            size = sum(parameter.numel() for parameter in layer.parameters())
            if size >= _UNIT and not isinstance(layer, nn.ModuleList | FSDPModule):
                fully_shard(layer, reshard_after_forward=True)
    if not isinstance(network, FSDPModule):
        fully_shard(network, reshard_after_forward=True)


def of(options: TrainFields) -> Strategy:
    """The strategy of a train section. Raises EnvironmentFault where it needs a group that is not there."""
    said = options.distributed
    if said is None or said.world == 1:
        return Single()
    if not dist.is_initialized() or dist.get_world_size() != said.world:
        seen = f"a group of {dist.get_world_size()}" if dist.is_initialized() else "a single process"
        raise EnvironmentFault(
            "no_process_group",
            f"training by {said.use} needs its group of {said.world} processes",
            where="train.distributed",
            seen=seen,
            hint="processes times nodes must be what the launcher starts; `keepfit run` starts them itself",
        )
    if said.use == "fsdp" and options.precision == "fp16":
        raise RecipeError(
            "bad_value",
            "fsdp does not train in fp16 here: its scaler would judge each part by itself",
            where="train.precision",
            seen="fp16 with distributed: fsdp",
            hint="train.precision=bf16",
        )
    made: Strategy = load(said.impl)(dist.get_rank(), dist.get_world_size())
    return made
