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

from keepfit.core.errors import RecipeError, missing_extra, nearest
from keepfit.training.exporting import to_onnx
from keepfit.training.keras_network import (
    KerasNetwork,
    as_keras,
    explained,
    is_model,
    makes_keras,
    named_and_seeded,
    torch_backend,
)


def network_of(reference: str, folder: Path, args: Mapping[str, Any], offered: Mapping[str, Any]) -> nn.Module:
    """The network `file.py:Class` made with `args`, and with what is `offered` where the constructor has such a name.

    A torch module, or a Keras model (a class, or a function that returns one) as a torch module, for which
    `offered["input_shape"]` (c, h, w) is turned as Keras lays pictures out. Raises RecipeError for a file or class that
    is not there, a constructor that fails, and what is no network.
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
    with torch_backend():
        module = _module(path)
        found = getattr(module, name, None)
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            classes = [key for key, value in vars(module).items() if inspect.isclass(value) and key != "annotations"]
            raise RecipeError(
                "no_class",
                f"{file} has no class {name!r}",
                where="model.class",
                seen=reference,
                hint=nearest(name, classes),
            )
        with named_and_seeded():
            return _network(found, name, args, offered)


def _network(found: Any, name: str, args: Mapping[str, Any], offered: Mapping[str, Any]) -> nn.Module:
    """What the class or function makes, as a torch module."""
    guess = makes_keras(found)
    made = _made(found, name, args, as_keras(offered) if guess else offered)
    if is_model(made):
        return _of_keras(found, name, args, offered)
    if guess:
        made = _made(found, name, args, offered)
    if not isinstance(made, nn.Module):
        raise RecipeError(
            "not_a_network",
            f"{name} is neither a torch.nn.Module nor a Keras model",
            where="model.class",
            seen=type(made).__name__,
            hint="derive it from torch.nn.Module or keras.Model, or let a function return a Keras model",
        )
    return made


def _of_keras(found: Any, name: str, args: Mapping[str, Any], offered: Mapping[str, Any]) -> nn.Module:
    shape = tuple(offered.get("input_shape", ()))
    try:
        with named_and_seeded():
            return KerasNetwork(lambda: _made(found, name, args, as_keras(offered)), shape)
    except RecipeError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise _shape_error([], torch.zeros(2, *shape), error) from None


def _made(found: Any, name: str, args: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    try:
        accepted = inspect.signature(found).parameters
        given = {key: value for key, value in offered.items() if key in accepted} | dict(args)
        return found(**given)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        names = _parameters(found)
        raise RecipeError(
            "class_failed",
            f"making {name} failed",
            where="model.args",
            seen=f"{type(error).__name__}: {error}"[:300],
            hint=f"its constructor takes {', '.join(names) or 'nothing'}; offered by name: {', '.join(offered)}",
        ) from None


def _parameters(found: Any) -> list[str]:
    try:
        return list(inspect.signature(found).parameters)
    except (TypeError, ValueError):  # made in C, or hidden
        return []


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
        if isinstance(error, ModuleNotFoundError) and error.name == "keras":
            raise missing_extra("keras", "keras") from None
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
    _check_raw(scores)


def _check_raw(scores: Tensor) -> None:
    """Cross entropy takes raw scores: of probabilities it learns slowly and badly, and nothing else would tell."""
    shares = scores.detach().double()
    if scores.shape[1] > 1 and bool((shares >= 0).all()) and bool((shares.sum(1) - 1).abs().max() < 1e-4):
        raise RecipeError(
            "not_raw",
            "the network ends with a softmax",
            where="model.class",
            seen="its scores are probabilities: none below 0, and they sum to 1",
            hint="take the softmax out of its last layer (Keras: no activation); the answers get theirs afterwards",
        )


def _shape_error(entered: list[tuple[str, nn.Module, Any]], example: Tensor, error: Exception) -> RecipeError:
    name, module, given = entered[-1] if entered else ("", None, (example,))
    shape = tuple(given[0].shape) if given and isinstance(given[0], Tensor) else "?"
    weight = getattr(module, "weight", None)
    wanted = f", its weight is {tuple(weight.shape)}" if isinstance(weight, Tensor) else ""
    layer, said = explained(error)
    kind = type(module).__name__ if module is not None else "input"
    return RecipeError(
        "shape_mismatch",
        f"shapes do not fit at layer {name or layer or 'the start'!r}{'' if layer and not name else f' ({kind})'}",
        where="model.class",
        seen=said if layer and not name else f"it was given {shape}{wanted}; {said[:160]}",
        hint=f"the network is fed batches of shape {tuple(example.shape)}",
    )


def check_export(network: nn.Module, example: Tensor, *, longest: int = 0) -> None:
    """Exports once before training. Raises RecipeError where torch cannot: hours later would be too late to hear of it."""
    training = network.training
    try:
        to_onnx(network, example, longest=longest)
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
