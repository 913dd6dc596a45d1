"""Weight files: names with tensors, from safetensors or a torch state dict; objects of any other kind are refused unread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import DataError, EnvironmentFault, missing_extra

COUNTER = "num_batches_tracked"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name to tensor of a .safetensors file or a torch state dict; objects of any other kind in it are refused unread."""
    try:
        if path.suffix == ".safetensors":
            return _safe_tensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except EnvironmentFault:
        raise
    except Exception as error:
        hint = "give a .safetensors file, or a .pth file of a state dict: torch.save(model.state_dict(), ...)"
        seen = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise refused("weights_broken", "the weight file cannot be read", path, seen, hint) from error
    return _unwrapped(content, path)


def _safe_tensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file as read
    except ImportError:
        raise missing_extra("networks", "safetensors") from None
    return dict(read(path))


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint that holds it under a key, or with the prefix of a parallel wrapper."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not named or not content or not all(isinstance(value, Tensor) for value in content.values()):
        seen = f"a {type(content).__name__}"
        raise refused("weights_broken", "the file holds no names with tensors", path, seen, "save the state dict")
    return {key.removeprefix("module."): value.detach() for key, value in content.items()}


def load_strictly(
    module: nn.Module, name: str, tensors: Mapping[str, Tensor], path: Path, beside: tuple[str, ...] = ()
) -> None:
    """Fills a module. Raises DataError for a weight that is missing, has no place or another shape, or is no finite number.

    `beside` are weights of the file that are left out.
    """
    wanted = module.state_dict()
    given = {key: value for key, value in tensors.items() if key not in beside}
    # A counter that inference never reads; files from before it existed lack it.
    given = {key: value for key, value in wanted.items() if key.endswith(COUNTER)} | given
    missing = [f"missing {key}" for key in wanted if key not in given][:1]
    unexpected = [f"unexpected {key}" for key in given if key not in wanted][:1]
    shapes = [
        f"{key} is {list(given[key].shape)}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ][:1]
    if missing or unexpected or shapes:
        seen = ", ".join(missing + unexpected + shapes)
        raise refused("weights_do_not_fit", f"the weights are not those of {name}", path, seen, "check the file")
    strange = [key for key, value in given.items() if not _finite(value)]
    if strange:
        raise refused("weights_not_finite", "a weight is not a finite number", path, strange[0], "train it again")
    module.load_state_dict(given)


def _finite(value: Tensor) -> bool:
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_complex()
    return plain and bool(torch.isfinite(value).all())


def refused(code: str, what: str, path: Path, seen: str, hint: str) -> DataError:
    """A weight file that is not taken, and what to do."""
    return DataError(code, what, where=str(path), seen=seen, hint=hint)
