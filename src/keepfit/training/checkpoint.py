"""Checkpoints: safetensors and JSON in a folder made by one rename; a damaged one is passed over for the one before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from keepfit.core import atomic, digest
from keepfit.core.errors import RecipeError, from_os_error

FORMAT = 3
_PREFIX = "step-"
Spread = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Saved:
    """A checkpoint read back: groups of tensors by name, and the JSON state."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any], keep: int
) -> None:
    """Write `step-N` and remove all but the last `keep`. Raises EnvironmentFault when the disk is full; what was there stays."""
    goal = folder / f"{_PREFIX}{step:010d}"
    try:
        with atomic.new_folder(goal) as scratch:
            sums = {}
            for group, named in tensors.items():
                data = save_tensors(apart(named))
                sums[group] = digest.of_bytes(data)
                (scratch / f"{group}.safetensors").write_bytes(data)
            whole = {"format": FORMAT, "sums": sums, **state}
            text = json.dumps(
                {"sum": _sum(whole), "state": whole}
            )  # keys as they stand: what is resumed is the same to the byte
            (scratch / "state.json").write_text(text)
        _drop(folder, goal, keep)
    except OSError as error:
        raise from_os_error(error, "writing a checkpoint") from None


def _drop(folder: Path, last: Path, keep: int) -> None:
    """Remove all but `last` and the `keep` - 1 before it; what is numbered above it was damaged and passed over."""
    found = _all(folder)
    until = [place for place in found if place.name <= last.name]
    for old in [*(place for place in found if place.name > last.name), *until[:-keep]]:
        # Out of sight by one rename: a kill while the files go must not leave half a checkpoint.
        hidden = old.with_name(f".{old.name}.old")
        shutil.rmtree(hidden, ignore_errors=True)
        os.replace(old, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def latest(folder: Path, identity: Mapping[str, Any]) -> Saved | None:
    """The last whole checkpoint, None where there is none. Raises RecipeError when it belongs to another job."""
    for place in reversed(_all(folder)):
        found = _read(place)
        if found is None:
            continue
        other = found.state["identity"]
        differing = differences(json.loads(json.dumps(identity)), other)
        if differing:
            raise RecipeError(
                "checkpoint_other_recipe",
                "the checkpoint belongs to another recipe, other data or other library versions",
                where=str(place),
                seen="; ".join(differing[:8]),
                hint="use --fresh to begin again, or put these keys back",
            )
        return found
    return None


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Dotted keys in which two JSON values differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted(set(one) | set(other)):
            found += differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
        return found
    return [] if one == other else [f"{path}: {str(other)[:40]} in the checkpoint, {str(one)[:40]} here"]


def clear(folder: Path) -> None:
    """Remove all checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    """Checkpoints from old to new; scratch folders of killed writers are swept on the way."""
    if not folder.is_dir():
        return []
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith(_PREFIX):
            found.append(folder / name)
        elif name.startswith(f".{_PREFIX}"):
            shutil.rmtree(folder / name, ignore_errors=True)
    return found


def _read(place: Path) -> Saved | None:
    try:
        read = json.loads((place / "state.json").read_bytes())
        state = read["state"]
        if _sum(state) != read["sum"] or state["format"] != FORMAT:
            return None
        tensors = {}
        for group, wanted in state["sums"].items():
            data = (place / f"{group}.safetensors").read_bytes()
            if digest.of_bytes(data) != wanted:
                return None
            tensors[group] = load_tensors(data)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    return Saved(tensors, state)


def _sum(state: dict[str, Any]) -> str:
    return digest.of_bytes(json.dumps(state).encode())


def apart(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and none sharing memory with another (safetensors refuses that)."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in named.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.numel() and plain.data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.data_ptr())
        found[name] = plain
    return found


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors: `parameter number.name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], spread: Spread) -> None:
    """Inverse of `optimizer_tensors`; the groups stay as they were made. `spread` gives each value the shape of its parameter."""
    whole = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    split = spread(tensors, {key: parameters[int(key.partition(".")[0])] for key in tensors})
    whole["state"] = {}
    for key, value in split.items():
        number, _, name = key.partition(".")
        whole["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(whole)


def packed(saved: Saved | None) -> bytes:
    """A checkpoint as bytes that one process can send to another; one byte for none."""
    if saved is None:
        return b"-"
    state = json.dumps(saved.state).encode()
    named = {f"{group}/{name}": value for group, found in saved.tensors.items() for name, value in found.items()}
    found: bytes = len(state).to_bytes(8, "little") + state + save_tensors(named)
    return found


def unpacked(data: bytes) -> Saved | None:
    """Inverse of `packed`."""
    if data == b"-":
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, value in load_tensors(data[end:]).items():
        group, _, name = key.partition("/")
        tensors.setdefault(group, {})[name] = value
    return Saved(tensors, json.loads(data[8:end]))


def rng_tensors() -> dict[str, Tensor]:
    """torch's random state, of every device."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found |= {f"cuda{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    return found


def load_rng(tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `rng_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    for name, state in tensors.items():
        if name.startswith("cuda"):
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda")))
