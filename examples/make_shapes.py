"""Draws a folder of pictures with one sub-folder per class: circles, squares and triangles on a noisy ground."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE, EACH = 96, 60


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """One picture: a shape of random place, size and colour."""
    ground = np.clip(rng.normal(rng.integers(40, 200), 25, (SIZE, SIZE, 3)), 0, 255)
    picture = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    x, y, r = rng.integers(30, 66), rng.integers(30, 66), rng.integers(14, 28)
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    if kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif kind == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    return picture


def main(folder: Path) -> None:
    """Write the pictures under `folder`, the same ones each time."""
    rng = np.random.default_rng(0)
    for kind in ("circle", "square", "triangle"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for place in range(EACH):
            draw(kind, rng).save(folder / kind / f"{place:03d}.png")
    print(f"{3 * EACH} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shapes"))
