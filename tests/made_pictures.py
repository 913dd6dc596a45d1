"""Small made-up pictures and recipes that many tests share: a bright bar that stands or lies, in green or red."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf

KINDS = ("flat", "tall")
TRAIN = "train: {epochs: 1, batch_size: 16, precision: fp32}\n"
CNN = "model: {use: cnn, width: 0.25}\n"


def pixels(number: int, kind: str, side: int = 16) -> Any:
    """uint8 [side, side, 3] with a bar whose place and noise follow from the number."""
    rng = np.random.default_rng([number, KINDS.index(kind)])
    made = rng.integers(0, 60, (side, side, 3))
    at = int(rng.integers(2, side - 5))
    place = (slice(at, at + 3), slice(None)) if kind == "flat" else (slice(None), slice(at, at + 3))
    made[place] = (40, 220, 90) if number % 2 else (220, 60, 40)
    return made.astype(np.uint8)


def png(array: Any) -> bytes:
    """The bytes of a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def write_pictures(folder: Path, each: int = 24, *, first: int = 0, side: int = 16) -> Path:
    """A folder per class with `each` PNG files."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            (folder / kind / f"{number:03d}.png").write_bytes(png(pixels(number, kind, side)))
    return folder


def write_recipe(folder: Path, data: str = "source: pictures", more: str = "", *, train: str = TRAIN) -> Path:
    """`shapes.yaml`: a narrow network and one epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "shapes.yaml"
    path.write_text(f"version: 1\ndata: {{{data}}}\n{CNN}{train}{more}", "utf-8")
    return path


def made_run(folder: Path) -> Any:
    """A finished run of `write_recipe` on `write_pictures`, in `folder`."""
    write_pictures(folder / "pictures")
    return kf.run(write_recipe(folder), workspace=folder)
