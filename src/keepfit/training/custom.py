"""Loads the network that a recipe names; runs the user's own file and nothing else."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import RecipeError, nearest
from keepfit.training.exporting import to_onnx


def network_of(reference: str, folder: Path, args: Mapping[str, Any], offered: Mapping[str, Any]) -> nn.Module:
    """The module `file.py:Class` made with `args`, and with what is `offered` where the constructor has such a name.

    Raises RecipeError for a file or class that is not there, a constructor that fails, and a class that is no network.
    """
    file, _, name = reference.rpartition(":")
    path = (folder / file).resolve()
    if not path.is_file():
        names = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise RecipeError(
            "no_class_file",
            "the file of model.class is not there",
            where="model.class",
            seen=str(path),
            hint=nearest(path.name, names) or "the path is relative to the recipe",
        )
    module = _module(path)
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise RecipeError(
            "no_class",
            f"{file} has no class {name!r}",
            where="model.class",
            seen=reference,
            hint=nearest(name, classes),
        )
    accepted = inspect.signature(found).parameters
    given = {key: value for key, value in offered.items() if key in accepted} | dict(args)
    try:
        made = found(**given)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise RecipeError(
            "class_failed",
            f"making {name} failed",
            where="model.args",
            seen=f"{type(error).__name__}: {error}",
            hint=f"its constructor takes {', '.join(accepted) or 'nothing'}; offered by name: {', '.join(offered)}",
        ) from None
    if not isinstance(made, nn.Module):
        raise RecipeError(
            "not_a_network",
            f"{name} is not a torch.nn.Module",
            where="model.class",
            seen=type(made).__name__,
            hint="derive it from torch.nn.Module",
        )
    return made


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"keepfit_custom_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(
            "no_class_file", "this is not a Python file", where="model.class", seen=str(path), hint="name a .py file"
        )
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.modules[spec.name] = module  # dataclasses look it up there
    sys.path.insert(0, folder)  # as `python file.py` does
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise RecipeError(
            "class_failed",
            f"running {path.name} failed",
            where="model.class",
            seen=f"{type(error).__name__}: {error}",
            hint=f"python {path.name} must run by itself",
        ) from None
    finally:
        sys.path.remove(folder)
    return module


def check_shapes(network: nn.Module, example: Tensor, outputs: int) -> None:
    """One forward pass. Raises RecipeError naming the layer that fails with the shapes that meet there."""
    entered: list[tuple[str, nn.Module, Any]] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, given, n=name: entered.append((n, m, given)))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    training = network.training
    try:
        with torch.no_grad():
            scores = network.eval()(example)
    except Exception as error:  # the user's own code may raise anything
        raise _shape_error(entered, example, error) from None
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if not isinstance(scores, Tensor) or tuple(scores.shape) != (len(example), outputs):
        seen = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise RecipeError(
            "shape_mismatch",
            "the network's output has the wrong shape",
            where="model.class",
            seen=f"{seen} for a batch of {len(example)}",
            hint=f"it must be ({len(example)}, {outputs}): one score per class, raw (no softmax)",
        )


def _shape_error(entered: list[tuple[str, nn.Module, Any]], example: Tensor, error: Exception) -> RecipeError:
    name, module, given = entered[-1] if entered else ("", None, (example,))
    shape = tuple(given[0].shape) if given and isinstance(given[0], Tensor) else "?"
    weight = getattr(module, "weight", None)
    wanted = f", its weight is {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
    return RecipeError(
        "shape_mismatch",
        f"shapes do not fit at layer {name or 'the start'!r} ({type(module).__name__ if module is not None else 'input'})",
        where="model.class",
        seen=f"it was given {shape}{wanted}; {(str(error).splitlines() or [type(error).__name__])[0][:160]}",
        hint=f"the network is fed batches of shape {tuple(example.shape)}",
    )


def check_export(network: nn.Module, example: Tensor) -> None:
    """Exports once before training. Raises RecipeError where torch cannot: hours later would be too late to hear of it."""
    training = network.training
    try:
        to_onnx(network, example)
    except Exception as error:  # torch's exporter raises classes of its own for what it cannot follow
        lines = str(error).strip().splitlines()
        raise RecipeError(
            "not_exportable",
            "torch cannot export this network to ONNX",
            where="model.class",
            seen=f"{type(error).__name__}: {lines[0][:160] if lines else ''}",
            hint="forward must not choose its way by the values of tensors (if x.mean() > 0); use torch.where",
        ) from None
    finally:
        network.train(training)
