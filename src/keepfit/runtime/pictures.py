"""A picture's file bytes become RGB pixels, and the same numbers for the network in training and in serving."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keepfit.core.errors import DataError, missing_extra
from keepfit.runtime.picture_faults import check_header, refusal

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")  # a JPEG with MPO pictures behind it opens as JPEG
MOST_PIXELS = 40_000_000
_ORIENTATION = 0x0112
_COUNTED = 4_000_000  # counting the frames of a longer file takes seconds; its note does without the number

_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers

Pixels = NDArray[np.uint8]


def decode(data: bytes, *, most_pixels: int = MOST_PIXELS, where: str = "") -> tuple[Pixels, list[str]]:
    """uint8 RGB [h, w, 3], turned as EXIF says, alpha over white, first frame; and notes on what was done.

    Grey of 16 bit is scaled by 1/257, of 32 bit or float by its range. `where` names the picture in errors. Raises DataError
    with code picture_broken, picture_truncated, picture_bomb (by the header, before decoding) or picture_format.
    """
    plugins = _pillow()
    with _hushed():
        try:
            notes: list[str] = []
            image = plugins.open(io.BytesIO(data), formats=FORMATS)
            check_header(image, data, most_pixels)
            deep = ";16" in str(image.tile)
            turned = image.tag_v2.get(_ORIENTATION, 1) if image.format == "TIFF" else 1  # Pillow turns these itself
            image.load()
            turn = _orientation(image)
            notes += _frames(image, data)
            flat = _flat(image, deep, notes)
            if turn > 1:
                flat = flat.transpose(_turns()[turn])
            if turn > 1 or turned in range(2, 9):
                notes.append(f"EXIF orientation {max(turn, turned)}")
            return np.array(flat), notes
        except DataError as error:
            error.where = where
            raise
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
            raise refusal(error, data, where) from None


def encode_array(array: ArrayLike) -> bytes:
    """Binary PNM bytes of HW or HWC (1, 3 or 4 channels) with numbers 0..255. Raises DataError for anything else.

    Fractions are rounded, half to even. The fourth channel is alpha, laid over white.
    """
    pixels = _checked(array)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        over = pixels[..., :3] * alpha + (255 - alpha) * 255
        pixels = ((over.astype(np.uint32) + 127) // 255).astype(np.uint8)
    kind = b"P6" if pixels.ndim == 3 and pixels.shape[2] == 3 else b"P5"
    return b"%s\n%d %d\n255\n" % (kind, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


@dataclass(frozen=True)
class PicturePreparation:
    """How pixels become the network's input: size, channels, and the mean and spread of each channel on the scale 0..1.

    `resize` is `squash` (to the size as it is) or `cover` (the shorter side to the size, then the centre); with `edge` the
    shorter side is first brought to that many whole pixels, and then the centre is cut out, as processors of models trained
    elsewhere do it. Raises ValueError when a value is not possible.
    """

    height: int
    width: int
    channels: int
    resize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    filter: str = "bilinear"
    edge: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.channels)
        if not all(type(size) is int for size in sizes) or not all(1 <= size <= 2048 for size in sizes[:2]):
            raise ValueError(f"height and width must be whole numbers from 1 to 2048, not {sizes[:2]}")
        if self.channels not in (1, 3) or self.resize not in ("squash", "cover"):
            raise ValueError(f"channels must be 1 or 3, resize squash or cover, not {self.channels} {self.resize!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(_is_finite(value) for value in values):
                raise ValueError(f"{name} must have {self.channels} finite numbers, not {values}")
        if self.filter not in _FILTERS or (
            self.edge is not None and (type(self.edge) is not int or not 1 <= self.edge <= 4096)
        ):
            raise ValueError(
                f"filter must be one of {list(_FILTERS)} and edge a size, not {self.filter!r} {self.edge!r}"
            )
        if not all(value >= 1e-6 for value in self.std):
            raise ValueError(f"std must be above zero, not {self.std}")

    def fit_size(self, rgb: Pixels) -> Pixels:
        """uint8 [h, w, 3] to uint8 [height, width, channels]: grey as ITU-R 601, then antialiased bilinear, as Pillow does."""
        image = _pillow().fromarray(np.ascontiguousarray(rgb))
        if self.channels == 1:
            image = image.convert("L")
        if self.edge is not None:
            image = self._cut(image)
        elif image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), _FILTERS[self.filter], box=self._window(*image.size))
        return np.array(image).reshape(self.height, self.width, self.channels)

    def to_input(self, pixels: Pixels) -> NDArray[np.float32]:
        """uint8 [n, h, w, c] to float32 [n, c, h, w]: x / 255, then minus mean, then over std, each rounded to float32."""
        out = np.empty((pixels.shape[0], pixels.shape[3], *pixels.shape[1:3]), np.float32)
        for channel, scale in enumerate(self._scales):
            out[:, channel] = scale[pixels[..., channel]]
        return out

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": "image",
            "version": 1,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "resize": self.resize,
            "mean": list(self.mean),
            "std": list(self.std),
            **({"filter": self.filter} if self.filter != "bilinear" else {}),
            **({"edge": self.edge} if self.edge is not None else {}),
        }

    @classmethod
    def from_json(cls, value: Any) -> PicturePreparation:
        """Inverse of `to_json`. Raises ValueError for anything that `to_json` does not write."""
        keys = {"kind", "version", "height", "width", "channels", "resize", "mean", "std"}
        if not isinstance(value, dict) or set(value) - {"filter", "edge"} != keys:
            raise ValueError(f"a preparation of pictures has the keys {sorted(keys)}")
        if value["kind"] != "image" or type(value["version"]) is not int or value["version"] != 1:
            raise ValueError(f"kind must be image and version 1, not {value['kind']!r} {value['version']!r}")
        if not isinstance(value["mean"], list) or not isinstance(value["std"], list):
            raise ValueError("mean and std must be lists of numbers")
        given = {key: value[key] for key in ("height", "width", "channels", "resize", "filter", "edge") if key in value}
        return cls(**given, mean=tuple(value["mean"]), std=tuple(value["std"]))

    def _cut(self, image: Any) -> Any:
        """The shorter side to `edge`, the other rounded down, then the centre; what lies outside the picture is black."""
        wide, high = image.size
        edge = self.edge or min(wide, high)
        size = (edge, int(edge * high / wide)) if wide <= high else (int(edge * wide / high), edge)
        image = image.resize(size, _FILTERS[self.filter])
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))

    def _window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of the picture that is kept, in its own pixels."""
        if self.resize == "squash":
            return (0.0, 0.0, float(width), float(height))
        scale = min(width / self.width, height / self.height)
        across, down = min(self.width * scale, width), min(self.height * scale, height)
        left, top = (width - across) / 2, (height - down) / 2
        return (left, top, min(left + across, width), min(top + down, height))

    @cached_property
    def _scales(self) -> list[NDArray[np.float32]]:
        """The input of each of the 256 values, by channel: a look-up is exact and several times faster than arithmetic."""
        shares = np.arange(256, dtype=np.float32) / np.float32(255)
        return [(shares - np.float32(mean)) / np.float32(std) for mean, std in zip(self.mean, self.std, strict=True)]


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e6


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra("image", "PIL") from None
    if not {"TIFF", "WEBP"} <= set(Image.OPEN):
        from PIL import TiffImagePlugin, WebPImagePlugin  # noqa: F401  (else Pillow imports all of its plugins)
    return Image


_HUSH: Any = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_LOCK = threading.Lock()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """No warnings from Pillow: what is wrong with a file is said by an error or a note.

    `warnings.catch_warnings` puts back what other threads have changed, and makes every warning be shown again.
    """
    log = logging.getLogger("PIL.TiffImagePlugin")
    if not log.handlers:  # its errors would go to stderr, where nobody has set up logging
        log.addHandler(logging.NullHandler())
    with _LOCK:
        rules: Any = warnings.filters
        rules.insert(0, _HUSH)
    try:
        yield
    finally:
        with _LOCK, contextlib.suppress(ValueError):
            rules.remove(_HUSH)


def _frames(image: Any, data: bytes) -> list[str]:
    """The note on a file of several frames or pages."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return []
    said = "pages: first page" if image.format == "TIFF" else "animated: first frame"
    if len(data) > _COUNTED:
        return [said]
    from PIL import Image

    try:
        return [f"{said} of {Image.open(io.BytesIO(data), formats=FORMATS).n_frames}"]
    except Exception:  # a later frame is damaged, which does not matter to the first
        return [said]


def _orientation(image: Any) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or it cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return found if type(found) is int and 1 <= found <= 8 else 1


def _turns() -> dict[int, Any]:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _flat(image: Any, deep: bool, notes: list[str]) -> Any:
    """The picture in mode RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _narrowed(image, notes)
    if image.mode in ("LAB", "HSV"):
        raise DataError(
            "picture_format",
            "the picture has colours of a kind that is not read",
            seen=f"mode {image.mode}",
            hint="save it again as RGB",
        )
    notes += ["16 bit"] * deep + [image.mode] * (image.mode == "CMYK")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    if clear.getchannel("A").getextrema() != (255, 255):
        notes.append("alpha over white")
    under = _pillow().new("RGB", image.size, (255, 255, 255))
    under.paste(clear, mask=clear.getchannel("A"))
    return under


def _narrowed(image: Any, notes: list[str]) -> Any:
    """Grey of more than 8 bits in mode RGB."""
    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if image.mode != "F" else _bounds(values)
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
        notes.append("16 bit")
        grey = (values.astype(np.uint32) * 255 + 32767) // 65535
    else:
        notes.append("float" if image.mode == "F" else "32 bit")
        if image.mode == "F" and low >= 0 and high <= 255:
            low, high = 0.0, 1.0 if high <= 1 else 255.0
        with np.errstate(all="ignore"):
            shares = (values.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-30))
        grey = np.rint(np.clip(np.nan_to_num(shares, nan=0.0), 0, 1) * np.float32(255))
    return _pillow().fromarray(grey.astype(np.uint8)).convert("RGB")


def _bounds(values: NDArray[np.float32]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _checked(array: ArrayLike) -> Pixels:
    """uint8 [h, w] or [h, w, 1|3|4] of what was given."""

    def refuse(what: str, seen: str) -> DataError:
        hint = "give [height, width] or [height, width, channels] with 1, 3 or 4 channels and numbers from 0 to 255"
        return DataError("picture_array", what, seen=seen, hint=hint)

    try:
        values = np.asarray(array)
    except (ValueError, TypeError, OverflowError) as error:
        raise refuse("the picture is not a regular array of numbers", str(error)[:120]) from None
    if values.dtype.kind not in "uif":
        raise refuse("the picture is not an array of numbers", f"type {values.dtype}")
    if values.ndim not in (2, 3) or values.size == 0 or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise refuse("the picture has the wrong shape", f"shape {values.shape}")
    if values.shape[0] * values.shape[1] > MOST_PIXELS:
        raise refuse(f"the picture has more than {MOST_PIXELS:,} pixels", f"shape {values.shape}")
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise refuse("the picture has numbers outside 0 to 255", f"from {low:g} to {high:g}")
    if values.dtype.kind == "f" and high <= 1 and (values % 1).any():
        raise refuse("the picture has numbers from 0 to 1", f"from {low:g} to {high:g}")
    rounded: Pixels = np.rint(values).astype(np.uint8)
    return rounded
