"""A .keras file on the torch backend, in safe mode: its description may name Keras's own parts only."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from keepfit.core.errors import missing_extra
from keepfit.training.existing.form import Opened
from keepfit.training.existing.kinds import refused
from keepfit.training.existing.torch_files import of_network
from keepfit.training.keras_network import KerasNetwork, torch_backend

_WAY_OUT = "use layers of Keras itself; or save the weights with the class: --class my_model.py:make, and package that"


def load(path: Path) -> Opened:
    """The model of a .keras file. Raises DataError where it brings code or classes along, EnvironmentFault without Keras."""
    _check(path)
    with torch_backend():
        if "keras" not in sys.modules:
            try:
                import keras
            except ImportError:
                raise missing_extra("keras", "keras") from None
        keras = sys.modules["keras"]
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever a damaged file leads it to
            seen = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise refused("model_broken", "Keras does not open the file", path, seen, _WAY_OUT) from None
    try:
        shape = tuple(model.input_shape[1:])
    except (AttributeError, TypeError, ValueError):
        raise refused(
            "several_inputs", "the model does not read one input", path, type(model).__name__, _WAY_OUT
        ) from None
    sizes = tuple(size or 32 for size in shape)
    first = (sizes[2], *sizes[:2]) if len(sizes) == 3 and sizes[2] in (1, 3) else sizes
    with torch.no_grad():
        network = KerasNetwork(lambda: model, first)
    if network.last:
        shape = (shape[2], *shape[:2])
    return of_network(network, "keras", "keras", path, shape)


def _check(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RecursionError) as error:
        raise refused(
            "model_broken", "the file is no .keras archive", path, str(error)[:200], "model.save('m.keras')"
        ) from None
    for part in _parts(described):
        module, name = part.get("module"), str(part.get("class_name"))
        own = (
            module is None
            or str(module).partition(".")[0] == "keras"
            or (module == "builtins" and name in ("list", "tuple"))
        )
        if not own or name in ("function", "__lambda__", "Lambda") or part.get("registered_name") not in (None, name):
            seen = f"{module}.{name}"[:200]
            raise refused("foreign_code", "the file wants code that it does not hold", path, seen, _WAY_OUT)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every part of a description, at any depth."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
