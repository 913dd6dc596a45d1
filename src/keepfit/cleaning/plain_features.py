"""Plain features of pictures and texts for the checks on labels: quick to make, no network, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.pictures import decode
from keepfit.runtime.texts import cjk_share

_SIDE, _CELLS, _ANGLES = 32, 8, 8


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
    """[n, d]: a small colour copy, and per cell how strong edges of each direction are (Dalal, Triggs 2005)."""
    return np.stack([_of_picture(decode(data)[0]) for data in pictures]).astype(np.float32)


def _of_picture(pixels: NDArray[Any]) -> NDArray[np.float32]:
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32) / 255
    small = np.asarray(image.resize((_CELLS, _CELLS), Image.Resampling.BOX), np.float32) / 255
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    angle = ((np.arctan2(down, right) % np.pi) / np.pi * _ANGLES).astype(int) % _ANGLES
    width = _SIDE // _CELLS
    cell = (np.arange(_SIDE) // width)[:, None] * _CELLS + (np.arange(_SIDE) // width)[None, :]
    edges = np.bincount((cell * _ANGLES + angle).ravel(), strength.ravel(), minlength=_CELLS * _CELLS * _ANGLES)
    blocks = edges.reshape(_CELLS, _CELLS, _ANGLES)
    blocks = blocks / (np.linalg.norm(blocks, axis=2, keepdims=True) + 0.1)
    return np.concatenate([small.ravel(), blocks.ravel().astype(np.float32)])
