"""Near-duplicate pictures: a perceptual hash from the low frequencies, then a comparison of small grey copies.

The hash is Zauner's pHash, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.groups import joined
from keepfit.runtime.pictures import decode

_SIDE, _KEPT = 32, 8
_THUMB = 16
_PIECES = 9  # hashes that differ in at most 8 bits agree in one of 9 pieces
_APART = 8
_AT_ONCE = 4_000_000


def near_pictures(pictures: Sequence[bytes], difference: float = 0.02) -> NDArray[np.int64]:
    """The first row of each row's group [n]: hashes that differ in at most 8 of 64 bits, and grey copies of 16 x 16 whose
    mean difference, after evening out brightness, is at most `difference` of the picture's own contrast range.

    The same picture in another size, format or quality is near; a flipped or cropped one is not. Raises DataError for a
    file that is no picture.
    """
    hashes = np.zeros(len(pictures), np.uint64)
    thumbs = np.zeros((len(pictures), _THUMB * _THUMB), np.float32)
    for row, data in enumerate(pictures):
        hashes[row], thumbs[row] = _look(decode(data)[0])
    pairs = []
    for left, right in _candidates(hashes):
        apart = np.abs(thumbs[left] - thumbs[right]).mean(axis=1)
        near = apart <= difference
        pairs += list(zip(left[near].tolist(), right[near].tolist(), strict=True))
    return joined(len(pictures), pairs)


def _look(pixels: NDArray[Any]) -> tuple[np.uint64, NDArray[np.float32]]:
    """The hash, and the grey copy with its range brought to 0..1."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L") if pixels.ndim == 3 else Image.fromarray(pixels)
    side = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = (_cosines() @ side @ _cosines().T).ravel()
    bits = low > np.median(low[1:])
    code = np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))
    thumb = np.asarray(grey.resize((_THUMB, _THUMB), Image.Resampling.BOX), np.float32).ravel()
    spread = float(np.ptp(thumb))
    return code, (thumb - thumb.min()) / (spread if spread >= 4 else 255.0)


def _cosines() -> NDArray[np.float64]:
    """The first rows of the discrete cosine transform [8, 32]."""
    where = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    return np.asarray(np.cos(np.arange(_KEPT)[:, None] * where[None, :]))


def _candidates(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows whose hashes differ in at most 8 bits, in portions."""
    edges = np.linspace(0, 64, _PIECES + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(piece, kind="stable")
        differs = np.ones(len(order), bool)
        differs[1:] = piece[order][1:] != piece[order][:-1]
        ends = [*np.flatnonzero(differs), len(order)]
        for start, stop in itertools.pairwise(ends):
            yield from _within(order[start:stop], hashes)


def _within(
    bucket: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    step = max(1, _AT_ONCE // max(len(bucket), 1))
    for begin in range(0, len(bucket), step) if len(bucket) > 1 else ():
        left = bucket[begin : begin + step]
        apart = np.bitwise_count(hashes[left][:, None] ^ hashes[bucket][None, :])
        a, b = np.nonzero((apart <= _APART) & (left[:, None] < bucket[None, :]))
        if len(a):
            yield left[a], bucket[b]
