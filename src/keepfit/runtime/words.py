"""Tokens and TF-IDF weights of a text cell; the same code when fitting and when serving."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.table import Column

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_LETTERS = re.compile(r"[^\W\d_]+", re.UNICODE)
_DIGITS = re.compile(r"[0-9]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def tokens(text: str) -> list[str]:
    """Lower-case words; Chinese, Japanese and Korean runs become characters and pairs of characters."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _CJK.search(word):
            found += list(word) + [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def part_of(column: Column, part: str) -> Column:
    """A key of each text, None where missing: `whole` in lower case, its `first` word, or its `lead` character."""
    out = np.empty(len(column), object)
    for row, text in enumerate(column):
        if text is None:
            continue
        low = text.lower()
        if part == "whole":
            out[row] = low
        elif part == "first":
            found = _LETTERS.search(low)
            out[row] = found[0] if found else low
        else:
            out[row] = low[:1]
    return out


def figures(column: Column) -> NDArray[np.float64]:
    """The last run of digits of each text (at most 9 digits), NaN where there is none."""
    found = [_DIGITS.findall(text or "") for text in column]
    return np.array([float(runs[-1][:9]) if runs else np.nan for runs in found])


def weights(
    text: str | None, vocabulary: Mapping[str, int], idf: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and TF-IDF weights of the known words of a text: sublinear counts, unit length.

    Salton and Buckley 1988.
    """
    counts = Counter(vocabulary[token] for token in tokens(text or "") if token in vocabulary)
    where = np.fromiter(counts, np.int64, len(counts))
    weight = np.array([1 + math.log(count) for count in counts.values()]) * idf[where]
    return where, (weight / np.sqrt((weight**2).sum() or 1.0)).astype(np.float32)


def weigh(
    texts: Sequence[str | None],
    vocabulary: Mapping[str, int],
    idf: NDArray[np.float32],
    components: NDArray[np.float32],
) -> NDArray[np.float32]:
    """TF-IDF rows projected on `components` [words, k]: float32 [n, k]. Latent semantic analysis (Deerwester et al. 1990)."""
    out = np.zeros((len(texts), components.shape[1]), np.float32)
    for row, text in enumerate(texts):
        where, weight = weights(text, vocabulary, idf)
        if len(where):
            out[row] = (weight[:, None].astype(np.float64) * components[where]).sum(0)
    return out
