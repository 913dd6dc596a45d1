"""Tokens and TF-IDF weights of a text cell; the same code when fitting and when serving."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def tokens(text: str) -> list[str]:
    """Lower-case words; Chinese, Japanese and Korean runs become characters and pairs of characters."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _CJK.search(word):
            found += list(word) + [word[i:i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def weigh(texts: Sequence[str | None], vocabulary: Mapping[str, int], idf: NDArray[np.float32],
          components: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """TF-IDF rows with sublinear counts and unit length, float32 [n, words], or [n, k] after `components` [words, k].

    Salton and Buckley 1988; the projection is latent semantic analysis (Deerwester et al. 1990).
    """
    width = len(idf) if components is None else components.shape[1]
    out = np.zeros((len(texts), width), np.float32)
    for row, text in enumerate(texts):
        counts = Counter(vocabulary[token] for token in tokens(text or "") if token in vocabulary)
        if not counts:
            continue
        where = np.fromiter(counts, np.int64, len(counts))
        weight = np.array([1 + math.log(count) for count in counts.values()]) * idf[where]
        weight = (weight / np.sqrt((weight**2).sum())).astype(np.float32)
        if components is None:
            out[row, where] = weight
        else:
            out[row] = (weight[:, None].astype(np.float64) * components[where]).sum(0)
    return out
