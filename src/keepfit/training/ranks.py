"""What the processes of one training tell each other: sums, one decision, bytes of process 0. Knows nothing of networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from keepfit.core.errors import EnvironmentFault


class Talk(Protocol):
    """What the processes of a training ask each other; all ask the same, in the same order."""

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each number summed over the processes."""

    def gathered(self, value: Tensor) -> list[Tensor]:
        """A CPU tensor of each process."""

    def first(self, make: Callable[[], bytes]) -> bytes:
        """What process 0 makes, known to all."""


class Alone:
    """One process, which asks itself."""

    def sums(self, values: Sequence[float]) -> list[float]:
        """The same numbers."""
        return list(values)

    def gathered(self, value: Tensor) -> list[Tensor]:
        """The one tensor."""
        return [value]

    def first(self, make: Callable[[], bytes]) -> bytes:
        """What is made."""
        return make()


class Together:
    """The process group that `joined` has made."""

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum over all processes of each number, in double precision."""
        return sums(values)

    def gathered(self, value: Tensor) -> list[Tensor]:
        """A CPU tensor of the same shape of every process, in order of rank."""
        return gathered(value)

    def first(self, make: Callable[[], bytes]) -> bytes:
        """What process 0 makes, known to all; the others do not call `make`."""
        return first(make)


@contextmanager
def joined(timeout_s: float = 1800.0) -> Iterator[tuple[int, int]]:
    """This process as one of its group, by the variables that a launcher sets (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT).

    Gives the rank and the number of processes. What is on the CPU goes by gloo, what is on CUDA by nccl. Raises
    EnvironmentFault where the group does not come together.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    except (RuntimeError, ValueError) as error:
        raise EnvironmentFault(
            "no_process_group",
            "the processes of the training did not find each other",
            where=f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}",
            seen=str(error).splitlines()[0][:200],
            hint="every host must reach train.distributed.rendezvous, and be started with its own node_rank",
        ) from None
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def sums(values: Sequence[float]) -> list[float]:
    """The sum over all processes of each number, in double precision."""
    whole = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(whole)
    found: list[float] = whole.tolist()
    return found


def first(make: Callable[[], bytes]) -> bytes:
    """What process 0 makes, known to all; the others do not call `make`."""
    size = torch.zeros(1, dtype=torch.int64)
    data = torch.empty(0, dtype=torch.uint8)
    if dist.get_rank() == 0:
        data = torch.frombuffer(bytearray(make()) or bytearray(1), dtype=torch.uint8)
        size[0] = len(data)
    dist.broadcast(size, 0)
    if dist.get_rank() != 0:
        data = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, 0)
    found: bytes = data.numpy().tobytes()
    return found


def gathered(value: Tensor) -> list[Tensor]:
    """A CPU tensor of the same shape of every process, in order of rank."""
    found = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(found, value.contiguous())
    return found


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, through which gradients flow back to each of them."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        """A fresh tensor: autograd may need the one that was given."""
        whole = value.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Every process has used the sum: each one's gradient counts."""
        whole = gradient.clone()
        dist.all_reduce(whole)
        return whole
