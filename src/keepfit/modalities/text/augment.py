"""Varies texts of the training split; what is done to one is a pure function of (seed, epoch, index).

Deletion and swap after Wei and Zou 2019 ("EDA"), dropout to an unknown word after Bowman et al. 2016.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from keepfit.core.catalog import load
from keepfit.modalities.text.options import TextAugmentation, WordDeleteOptions, WordDropoutOptions, WordSwapOptions

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_PIECE = re.compile(rf"\s+|[{_CJK}]|[^\s{_CJK}]+")


def varied(text: str, parts: Sequence[TextAugmentation], rng: np.random.Generator, blank: str) -> str:
    """The text after its parts, in their order; `blank` stands for a word that is hidden. A word always stays."""
    pieces = _PIECE.findall(text)
    for part in parts:
        if rng.random() < part.p:
            pieces = load(part.impl)(pieces, part, rng, blank)
    return "".join(pieces)


def _words(pieces: list[str]) -> list[int]:
    return [place for place, piece in enumerate(pieces) if not piece.isspace()]


def dropped_out(pieces: list[str], part: WordDropoutOptions, rng: np.random.Generator, blank: str) -> list[str]:
    """Each word hidden with probability `rate`."""
    words = _words(pieces)
    hidden = {place for place, draw in zip(words, rng.random(len(words)), strict=True) if draw < part.rate}
    if len(hidden) == len(words):
        hidden.discard(words[int(rng.integers(len(words)))] if words else -1)
    return [f" {blank} " if place in hidden else piece for place, piece in enumerate(pieces)]


def deleted(pieces: list[str], part: WordDeleteOptions, rng: np.random.Generator, blank: str) -> list[str]:
    """Each word taken out with probability `rate`."""
    words = _words(pieces)
    gone = {place for place, draw in zip(words, rng.random(len(words)), strict=True) if draw < part.rate}
    if len(gone) == len(words):
        gone.discard(words[int(rng.integers(len(words)))] if words else -1)
    return [piece for place, piece in enumerate(pieces) if place not in gone]


def swapped(pieces: list[str], part: WordSwapOptions, rng: np.random.Generator, blank: str) -> list[str]:
    """As many pairs of words as `rate` of the words, at least one, change places."""
    words, out = _words(pieces), list(pieces)
    if len(words) < 2:
        return out
    for _ in range(max(1, round(part.rate * len(words)))):
        one, other = (words[int(n)] for n in rng.choice(len(words), 2, replace=False))
        out[one], out[other] = out[other], out[one]
    return out
