"""Varies pictures of the training split; what is done to one is a pure function of (seed, epoch, index)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.catalog import load
from keepfit.core.errors import missing_extra
from keepfit.modalities.image.options import (
    Augmentation,
    BlurOptions,
    ColourOptions,
    CropOptions,
    CutmixOptions,
    EraseOptions,
    FlipOptions,
    MixupOptions,
    NoiseOptions,
    RotateOptions,
    ScaleOptions,
    TranslateOptions,
)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
_BILINEAR, _BOX, _AFFINE, _MIRROR, _UPSIDE_DOWN = 2, 4, 0, 0, 1  # Pillow's numbers, so that it is imported late


def augmented(picture: Pixels, parts: Sequence[Augmentation], rng: np.random.Generator) -> Pixels:
    """uint8 [h, w, 1 or 3] varied by the parts of a picture, in their order; parts of a batch are passed over."""
    image = _pillow().fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    for part in parts:
        if part.of == "picture" and rng.random() < part.p:
            image = _code(part.impl)(image, part, rng)
    return np.array(image).reshape(picture.shape)


def mixed(
    inputs: Floats, targets: Floats, parts: Sequence[Augmentation], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """float32 [b, c, h, w] and [b, k] after one of the parts of a batch, drawn evenly; others are passed over."""
    found = [part for part in parts if part.of == "batch"]
    if not found or len(inputs) < 2:
        return inputs, targets
    part = found[int(rng.integers(len(found)))]
    if rng.random() >= part.p:
        return inputs, targets
    result: tuple[Floats, Floats] = _code(part.impl)(inputs, targets, part, rng)
    return result


def contact_sheet(pictures: Sequence[Pixels], columns: int) -> bytes:
    """A PNG of uint8 [h, w, 1 or 3] pictures, row by row on white; small ones are enlarged by a whole factor."""
    if not pictures or columns < 1:
        raise ValueError("a contact sheet needs pictures and columns")
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    zoom, gap = max(1, 64 // max(height, width)), 4
    down, across = height * zoom + gap, width * zoom + gap
    sheet = np.full((-(-len(pictures) // columns) * down + gap, columns * across + gap, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        top, left = gap + place // columns * down, gap + place % columns * across
        sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    out = io.BytesIO()
    _pillow().fromarray(sheet).save(out, "PNG")
    return out.getvalue()


def rotated(image: Any, part: RotateOptions, rng: np.random.Generator) -> Any:
    """Around the centre by an angle from -degrees to degrees."""
    return image.rotate(rng.uniform(-part.degrees, part.degrees), _BILINEAR, fillcolor=_border(image))


def cropped(image: Any, part: CropOptions, rng: np.random.Generator) -> Any:
    """A part of random area, shape and place, at the full size. A part that does not fit is narrowed to what does."""
    width, height = image.size
    area = rng.uniform(*part.scale) * width * height
    shape = math.exp(rng.uniform(math.log(part.ratio[0]), math.log(part.ratio[1])))
    across, down = min(math.sqrt(area * shape), width), min(math.sqrt(area / shape), height)
    left, top = rng.random() * (width - across), rng.random() * (height - down)
    return image.resize(image.size, _BILINEAR, box=(left, top, min(left + across, width), min(top + down, height)))


def flipped(image: Any, part: FlipOptions, rng: np.random.Generator) -> Any:
    """Mirrored; draws nothing."""
    return image.transpose(_UPSIDE_DOWN if part.vertical else _MIRROR)


def scaled(image: Any, part: ScaleOptions, rng: np.random.Generator) -> Any:
    """Zoomed around the centre by a factor of the range."""
    back = 1 / rng.uniform(*part.range)
    width, height = image.size
    inverse = (back, 0, width / 2 * (1 - back), 0, back, height / 2 * (1 - back))
    return image.transform(image.size, _AFFINE, inverse, _BILINEAR, fillcolor=_border(image))


def translated(image: Any, part: TranslateOptions, rng: np.random.Generator) -> Any:
    """Shifted by whole pixels."""
    shift = tuple(round(rng.uniform(-part.share, part.share) * size) for size in image.size)
    moved = _pillow().new(image.mode, image.size, _border(image))
    moved.paste(image, shift)
    return moved


def coloured(image: Any, part: ColourOptions, rng: np.random.Generator) -> Any:
    """Hue, saturation, contrast, brightness, in this order, as one linear map that is rounded once.

    Hue and saturation are the matrices `hueRotate` and `saturate` of the W3C Filter Effects Module; contrast turns around the
    picture's mean grey; brightness multiplies.
    """
    bright, contrast, saturation = (
        rng.uniform(1 - spread, 1 + spread) for spread in (part.brightness, part.contrast, part.saturation)
    )
    angle = rng.uniform(-part.hue, part.hue) * 2 * math.pi
    mean = image.resize((1, 1), _BOX).getpixel((0, 0))
    grey = float(mean) if image.mode == "L" else sum(w * v for w, v in zip(_GREY, mean, strict=True))
    gain, offset = bright * contrast, bright * (1 - contrast) * grey
    if image.mode == "L":
        return image.point([min(max(round(gain * value + offset), 0), 255) for value in range(256)])
    keep, turn = saturation * math.cos(angle), saturation * math.sin(angle)
    rows = [
        gain * (weight + keep * ((row == column) - weight) + turn * _TURN[row][column]) if column < 3 else offset
        for row in range(3)
        for column, weight in enumerate((*_GREY, 0.0))
    ]
    return image.convert("RGB", tuple(rows))


_GREY = (0.213, 0.715, 0.072)
_TURN = ((-0.213, -0.715, 0.928), (0.143, 0.140, -0.283), (-0.787, 0.715, 0.072))


def blurred(image: Any, part: BlurOptions, rng: np.random.Generator) -> Any:
    """Gaussian blur with a radius up to the largest."""
    from PIL.ImageFilter import GaussianBlur

    return image.filter(GaussianBlur(rng.uniform(0, part.radius)))


def noisy(image: Any, part: NoiseOptions, rng: np.random.Generator) -> Any:
    """Normal noise of the given deviation, cut off at black and white."""
    pixels = np.asarray(image)
    noise = rng.standard_normal(pixels.shape, np.float32)
    noise *= np.float32(part.std * 255)
    noise += pixels
    np.rint(noise, out=noise)
    np.clip(noise, 0, 255, out=noise)
    return _pillow().fromarray(noise.astype(np.uint8))


def erased(image: Any, part: EraseOptions, rng: np.random.Generator) -> Any:
    """A rectangle of random area, shape (1:3.3 to 3.3:1) and place, filled with random pixels."""
    width, height = image.size
    area = rng.uniform(*part.area) * width * height
    shape = math.exp(rng.uniform(-1.2, 1.2))
    across, down = (
        min(max(round(math.sqrt(side)), 1), limit) for side, limit in ((area * shape, width), (area / shape, height))
    )
    place = (int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1)))
    noise = rng.bytes(across * down * len(image.getbands()))
    covered = image.copy()
    covered.paste(_pillow().frombytes(image.mode, (across, down), noise), place)
    return covered


def blended(inputs: Floats, targets: Floats, part: MixupOptions, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """share * batch + (1 - share) * the batch in another order."""
    share = np.float32(rng.beta(part.alpha, part.alpha))
    order = rng.permutation(len(inputs))
    return _blend(inputs, inputs[order], share), _blend(targets, targets[order], share)


def pasted(inputs: Floats, targets: Floats, part: CutmixOptions, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The same rectangle of every picture comes from another one; answers are shared by the pixels that stay."""
    height, width = inputs.shape[2:]
    side = math.sqrt(1 - rng.beta(part.alpha, part.alpha))
    order = rng.permutation(len(inputs))
    spans = []
    for size in (height, width):
        centre, half = rng.uniform(0, size), side * size / 2
        spans.append(slice(round(max(centre - half, 0)), round(min(centre + half, size))))
    out = inputs.copy()
    out[:, :, spans[0], spans[1]] = inputs[order, :, spans[0], spans[1]]
    cut = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return out, _blend(targets, targets[order], np.float32(1 - cut / (height * width)))


def _blend(first: Floats, second: Floats, share: np.float32) -> Floats:
    return first * share + second * (np.float32(1) - share)


def _border(image: Any) -> tuple[int, ...]:
    """The mean colour of the outermost pixels: black around digits, unremarkable around photographs."""
    pixels = np.asarray(image)
    ring = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    return tuple(int(value) for value in np.atleast_1d((ring.sum(axis=0) + len(ring) // 2) // len(ring)))


@cache
def _code(reference: str) -> Callable[..., Any]:
    found: Callable[..., Any] = load(reference)
    return found


@cache
def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("image", "PIL") from None
    return Image
