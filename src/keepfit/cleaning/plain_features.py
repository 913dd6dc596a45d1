"""Plain features of pictures and texts for the checks on labels: quick to make, no network, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.pictures import decode
from keepfit.runtime.texts import cjk_share

_SIDE, _CELLS, _ANGLES = 64, 8, 9
_FAINT, _STRONGEST = 0.01, 0.2


def of_texts(texts: Sequence[str | None]) -> Any:
    """Weighted n-grams, sparse [n, d]: words and pairs of words, or 1 to 3 characters where most are Chinese. Needs
    scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    plain = [text or "" for text in texts]
    if cjk_share(plain) > 0.3:
        way = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    else:
        way = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        return way.fit_transform(plain).tocsr()
    except ValueError:  # no word in any text
        return np.zeros((len(plain), 1), np.float32)


def of_pictures(pictures: Sequence[bytes]) -> NDArray[np.float32]:
    """[n, 1956]: a colour copy of 8 x 8, and in each of 7 x 7 overlapping blocks how strong edges of each direction are
    (histograms of oriented gradients, Dalal, Triggs 2005)."""
    return np.stack([_of_picture(decode(data)[0]) for data in pictures]).astype(np.float32)


def _of_picture(pixels: NDArray[Any]) -> NDArray[np.float32]:
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32) / 255
    small = np.asarray(image.resize((_CELLS, _CELLS), Image.Resampling.BOX), np.float32) / 255
    cells = _edges(np.sqrt(grey))
    blocks = np.concatenate([cells[:-1, :-1], cells[1:, :-1], cells[:-1, 1:], cells[1:, 1:]], 2)
    blocks = np.minimum(blocks / np.sqrt((blocks**2).sum(2, keepdims=True) + _FAINT), _STRONGEST)
    blocks /= np.sqrt((blocks**2).sum(2, keepdims=True) + _FAINT)
    return np.concatenate([small.ravel(), blocks.ravel()]).astype(np.float32)


def _edges(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """[cells, cells, angles] strength of edges of a square picture, each pixel shared out between the nearest cells and
    angles."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    angle = (np.arctan2(down, right) % np.pi) / np.pi * _ANGLES
    first, part = np.floor(angle).astype(int), angle % 1
    sums = np.zeros((_SIDE, _SIDE, _ANGLES), np.float32)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE]
    np.add.at(sums, (y, x, first % _ANGLES), strength * (1 - part))
    np.add.at(sums, (y, x, (first + 1) % _ANGLES), strength * part)
    share = _shares()
    return np.asarray(np.tensordot(share, np.tensordot(share, sums, (1, 0)), (1, 1)).swapaxes(0, 1), np.float32)


@cache
def _shares() -> NDArray[np.float32]:
    """[cells, side]: how much of a line of pixels belongs to each cell, less the farther from its middle."""
    place = (np.arange(_SIDE) + 0.5) / (_SIDE / _CELLS) - 0.5
    return np.asarray(np.maximum(0.0, 1 - np.abs(place[None, :] - np.arange(_CELLS)[:, None])), np.float32)
