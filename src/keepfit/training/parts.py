"""Tensors that each process holds whole, or a part of (FSDP2's DTensor)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from torch import Tensor


class Parts(Protocol):
    """How what the network and its optimizer hold lies in the processes."""

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that one process could have: what is split is gathered (all processes must ask, in the same order)."""

    def spread(self, named: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `whole`: each tensor as `like` of the same name is split, on its device."""

    def own(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """The part of each that this process holds."""

    def number(self, value: Tensor) -> float:
        """A scalar."""


class Undivided:
    """Each process holds everything."""

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As they are."""
        return dict(named)

    def spread(self, named: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """On the device of `like`."""
        return _placed(named, like)

    def own(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """All of them."""
        return list(parameters)

    def number(self, value: Tensor) -> float:
        """Its value."""
        return float(value)


class Divided:
    """Each process holds a part."""

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every split tensor gathered, by name: what was read from a file comes in another order in each process."""
        found = {name: named[name] for name in sorted(named)}
        return {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in found.items()}

    def spread(self, named: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each process takes its part."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        found = _placed(named, like)
        for name, value in found.items():
            goal = like.get(name)
            if isinstance(goal, DTensor) and value.shape == goal.shape:
                found[name] = distribute_tensor(value, goal.device_mesh, goal.placements, src_data_rank=None)
        return found

    def own(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """The local part."""
        return [value.to_local() if hasattr(value, "to_local") else value for value in parameters]

    def number(self, value: Tensor) -> float:
        """A norm is of all parts."""
        return float(value.full_tensor() if hasattr(value, "full_tensor") else value)


def _placed(named: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.to(like[name].device) if name in like and like[name].shape == value.shape else value
        for name, value in named.items()  # an optimizer's step count stays where the optimizer keeps it
    }
