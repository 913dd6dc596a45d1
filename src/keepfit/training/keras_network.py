"""A Keras 3 model on its torch backend as a torch module; Keras is imported by the user's own file, not here."""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import RecipeError

_VARIABLE = "KERAS_BACKEND"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LAYER = re.compile(r"""layer ['"]?([\w./-]+)['"]?""")


@contextmanager
def torch_backend() -> Iterator[None]:
    """Keras, where it is imported inside, uses torch; the environment is as before afterwards.

    Raises RecipeError where the process has imported Keras with another backend.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "torch"
    try:
        _check_backend()
        yield
        _check_backend()
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def _check_backend() -> None:
    keras = sys.modules.get("keras")
    used = keras.config.backend() if keras is not None and hasattr(keras, "config") else "torch"
    if used != "torch":
        raise RecipeError(
            "keras_backend",
            "Keras runs on another backend in this process",
            where="model.class",
            seen=used,
            hint="networks learn on torch: set KERAS_BACKEND=torch, or leave the variable to keepfit",
        )


@contextmanager
def named_and_seeded() -> Iterator[None]:
    """Names of layers begin anew and initial weights follow torch's seed: Keras draws them from Python's random state."""
    keras = sys.modules.get("keras")
    if keras is None:
        yield
        return
    keras.utils.clear_session(free_memory=False)
    state = random.getstate()
    random.seed(torch.initial_seed())
    try:
        yield
    finally:
        random.setstate(state)


def makes_keras(found: Any) -> bool:
    """Whether a class is a Keras model, or a function stands in a file that has imported Keras."""
    keras = sys.modules.get("keras")
    if keras is None:
        return False
    if isinstance(found, type):
        return issubclass(found, keras.Model)
    seen = vars(sys.modules.get(getattr(found, "__module__", ""), sys)).values()
    places = (getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in seen)
    return any(str(place).partition(".")[0] == "keras" for place in places)


def as_keras(offered: Mapping[str, Any]) -> dict[str, Any]:
    """What is offered to a constructor, with pictures as (h, w, c) where Keras is set to that."""
    shape = tuple(offered.get("input_shape", ()))
    if len(shape) != 3 or sys.modules["keras"].config.image_data_format() != "channels_last":
        return dict(offered)
    return {**offered, "input_shape": (*shape[1:], shape[0])}


def is_model(made: Any) -> bool:
    """Whether this is a Keras model."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(made, keras.Model)


def channels_last(model: Any, shape: tuple[int, ...]) -> bool:
    """Whether a model wants pictures of `shape` (c, h, w) as (h, w, c): by its own input, else by Keras's setting."""
    if len(shape) != 3:
        return False
    try:
        own = tuple(model.input_shape[1:])
    except (AttributeError, TypeError, ValueError, RuntimeError):  # a subclass has none before it is built
        own = ()
    first, last = (
        len(own) == 3 and all(a in (None, b) for a, b in zip(own, wanted, strict=True))
        for wanted in (shape, (*shape[1:], shape[0]))
    )
    if first != last:
        return last
    return bool(sys.modules["keras"].config.image_data_format() == "channels_last")


class KerasNetwork(nn.Module):
    """float32 [n, ...] as torch lays it out to scores [n, k]; pictures are turned to channels last where the model wants so.

    Keras does not follow `train()` and `eval()` of torch: it is told with each call.
    """

    def __init__(self, make: Callable[[], Any], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.make, self.shape = make, shape
        self.model = make()
        self.last = channels_last(self.model, shape)
        with torch.no_grad():
            self.eval()(torch.zeros(2, *shape))  # weights are made with the first call
        self.train()

    def __deepcopy__(self, known: dict[int, Any]) -> KerasNetwork:
        """Made again and filled: Keras copies by saving and loading, which gives the layers other names."""
        with named_and_seeded():
            made = KerasNetwork(self.make, self.shape)
        made.load_state_dict(self.state_dict())
        made.train(self.training)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, k]."""
        scores: Tensor = self.model(x.permute(0, 2, 3, 1) if self.last else x, training=self.training)
        return scores

    def named_parameters(self, *args: Any, **more: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Without the states of random generators, which torch's averages and norms cannot take."""
        return ((name, value) for name, value in super().named_parameters(*args, **more) if value.is_floating_point())

    def named_buffers(self, *args: Any, **more: Any) -> Iterator[tuple[str, Tensor]]:
        """With the states of random generators."""
        yield from super().named_buffers(*args, **more)
        yield from ((name, one) for name, one in super().named_parameters(*args, **more) if not one.is_floating_point())


def explained(error: Exception) -> tuple[str, str]:
    """The layer that Keras names in an error, or empty, and the sentence with the shapes."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    said = next((line for line in lines if "shape" in line and not line.startswith("Arguments")), "")
    said = said or (lines[0] if lines else type(error).__name__)
    found = _LAYER.search(said)
    return (found[1] if found else ""), said[:300]
