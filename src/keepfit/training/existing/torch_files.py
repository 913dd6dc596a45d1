"""torch: a state dict with the class that it fills, and a program of `torch.export`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from keepfit.training.checkpoint import apart
from keepfit.training.custom import network_of
from keepfit.training.existing import archives
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.kinds import refused
from keepfit.training.exporting import to_onnx
from keepfit.training.weight_file import load_strictly, read_tensors

_SAVE = "save the weights: torch.save(model.state_dict(), 'model.pth'), and give the class: --class my_model.py:Net"


def of_network(
    network: nn.Module, kind: str, library: str, path: Path, shape: tuple[int | None, ...] | None = None
) -> Opened:
    """A torch module as the common form."""
    network.eval()

    def raw(batch: Array) -> Array:
        with torch.no_grad():
            try:
                found = network(torch.from_numpy(np.ascontiguousarray(batch, np.float32)))
            except Exception as error:  # the user's own code may raise anything
                seen = f"fed {tuple(batch.shape)}; {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
                hint = "say what it reads: --size, --colour, or for tables --columns"
                raise refused("model_failed", "the model does not take these inputs", path, seen, hint) from None
        if not isinstance(found, torch.Tensor):
            hint = "let forward return the tensor of scores"
            raise refused("not_scores", "the model gives no tensor", path, type(found).__name__, hint)
        return np.asarray(found.numpy())

    def graph(batch: Array) -> Any:
        return exported(lambda: to_onnx(network, torch.from_numpy(np.ascontiguousarray(batch, np.float32))), path)

    weights = {"network.safetensors": save(apart(network.state_dict()))}
    return Opened(kind, library, shape, raw, graph, weights=weights)


def exported(make: Callable[[], Any], path: Path) -> Any:
    """What an exporter makes. Raises DataError where it cannot follow the model."""
    try:
        return make()
    except Exception as error:  # torch's exporter raises classes of its own for what it cannot follow
        seen = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"
        hint = "forward must not choose its way by the values of tensors, and must take any number of rows"
        raise refused("not_exportable", "torch cannot export this model to ONNX", path, seen, hint) from None


def state_dict(
    path: Path, reference: str | None, folder: Path, args: Mapping[str, Any], offered: Mapping[str, Any]
) -> Opened:
    """The class filled with the weights of the file. Raises DataError for pickles, and for weights that do not fit."""
    tensors = read_tensors(path)
    if reference is None:
        seen = f"{len(tensors)} tensors, first {next(iter(tensors))!r}"
        raise refused("no_class", "weights alone are no network", path, seen, "give the class: --class my_model.py:Net")
    network = network_of(reference, folder, args, offered)
    load_strictly(network, reference.rpartition(":")[2], tensors, path)
    return of_network(network, "state_dict", "torch", path)


def program(path: Path) -> Opened:
    """A program of torch.export, after its archive was looked through. Raises DataError."""
    archives.check(path)
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.export.load(path)
    except Exception as error:  # torch raises whatever a damaged archive leads it to
        raise refused(
            "model_broken", "torch cannot open the program", path, str(error)[:200], "export it again"
        ) from None
    finally:
        logger.setLevel(level)
    names = found.graph_signature.user_inputs
    node = next((n for n in found.graph.nodes if n.name == names[0]), None) if len(names) == 1 else None
    if node is None:
        raise refused(
            "several_inputs", "the program reads several inputs", path, ", ".join(map(str, names)), "one tensor"
        )
    sizes = [size if isinstance(size, int) else None for size in node.meta["val"].shape]
    if sizes[0] is not None:
        hint = "export with dynamic_shapes=({0: torch.export.Dim('n')},)"
        raise refused("fixed_batch", f"the program takes exactly {sizes[0]} rows at once", path, str(sizes), hint)
    module = found.module()
    made = of_network(_Called(module), "program", "torch", path, tuple(sizes[1:]))
    weights = {"network.safetensors": save(apart(dict(found.state_dict)))} if found.state_dict else {}
    return Opened(
        made.kind, made.library, made.shape, made.raw, lambda batch: exported(lambda: to_onnx(found, _rows(batch)), path),
        weights=weights,
    )  # fmt: skip


def _rows(batch: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch, np.float32))


class _Called(nn.Module):
    """A program as a module; it has no training mode, so torch must not see it as a part."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.programs = (program,)

    def forward(self, x: torch.Tensor) -> Any:
        """What the program gives."""
        return self.programs[0](x)
