"""The fitted preparation of texts: n-grams of words and characters counted and weighed; the same code fits and serves."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.arrays import pack, unpack

Analyzer = Literal["word", "char"]
INDICES, WEIGHTS = "indices", "weights"
_MOST_CELLS = 1_000_000  # gathered weights of one call: rows x n-grams x classes
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")


def words(text: str) -> list[str]:
    """Lower-case words; every Chinese, Japanese or Korean character is one of its own."""
    return _WORD.findall(text.lower())


def cjk_share(texts: Sequence[str | None]) -> float:
    """Share of Chinese, Japanese and Korean among all letters."""
    letters = sum(len(_LETTER.findall(text)) for text in texts if text)
    return sum(len(_CJK.findall(text)) for text in texts if text) / max(letters, 1)


def grams(text: str, analyzer: Analyzer, least: int, most: int) -> Iterator[str]:
    """The n-grams of a text, one by one: of words joined by a space, or of characters, blanks run together."""
    if analyzer == "word":
        parts = words(text)
        for size in range(least, most + 1):
            yield from (" ".join(parts[at : at + size]) for at in range(len(parts) - size + 1))
        return
    flat = " ".join(text.lower().split())
    for size in range(least, most + 1):
        yield from (flat[at : at + size] for at in range(len(flat) - size + 1))


@dataclass(frozen=True)
class Block:
    """One kind of n-grams with its vocabulary [v] and idf float32 [v]."""

    analyzer: Analyzer
    least: int
    most: int
    vocabulary: tuple[str, ...]
    idf: NDArray[np.float32]

    @cached_property
    def places(self) -> dict[str, int]:
        """Index of each n-gram."""
        return {gram: place for place, gram in enumerate(self.vocabulary)}

    def weights(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices and weights of the known n-grams of a text: 1 + log of counts, times idf, of unit length.

        Only known n-grams are held, so that a long text needs no more memory than the vocabulary.
        Salton and Buckley 1988.
        """
        counts = Counter(map(self.places.get, grams(text, self.analyzer, self.least, self.most)))
        counts.pop(None, None)
        found = sorted((place, count) for place, count in counts.items() if place is not None)
        where = np.array([place for place, _ in found], np.int64)
        weight = (1 + np.log(np.array([count for _, count in found], np.float64))) * self.idf[where]
        return where, (weight / np.sqrt((weight**2).sum() or 1.0)).astype(np.float32)


@dataclass(frozen=True)
class TextPreparation:
    """Blocks of n-grams side by side; a text becomes indices and weights, never a dense row."""

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """How many n-grams there are."""
        return sum(len(block.vocabulary) for block in self.blocks)

    def weights(self, text: str | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices int64 [m] and weights float32 [m] of one text; both are empty for a missing text."""
        starts = itertools.accumulate((len(block.vocabulary) for block in self.blocks), initial=0)
        found = [block.weights(text or "") for block in self.blocks]
        where = [places + start for (places, _), start in zip(found, starts, strict=False)]
        return np.concatenate(where), np.concatenate([weight for _, weight in found])

    def batches(self, texts: Sequence[str | None], width: int) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
        """Row numbers and the network's inputs for some texts at a time; `width` is the number of scores of a row."""
        some: list[int] = []
        found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        longest = 1
        for row, text in enumerate(texts):
            one = self.weights(text)
            longer = max(longest, len(one[0]))
            if some and (len(some) + 1) * longer * width > _MOST_CELLS:
                yield np.array(some), _inputs(found)
                some, found, longer = [], [], max(1, len(one[0]))
            some.append(row)
            found.append(one)
            longest = longer
        if some:
            yield np.array(some), _inputs(found)

    def check(self, inputs: list[str], said: Mapping[str, str]) -> None:
        """Raises ValueError where a network with these inputs and notes reads other n-grams."""
        if inputs != [INDICES, WEIGHTS] or said.get("terms") != str(self.size):
            raise ValueError(
                f"model.onnx reads {inputs} of {said.get('terms')} terms, preparation.json has {self.size}"
            )

    def to_json(self) -> dict[str, Any]:
        """preparation.json."""
        return {
            "kind": "text",
            "version": 1,
            "blocks": [
                {
                    "analyzer": block.analyzer,
                    "ngrams": [block.least, block.most],
                    "vocabulary": list(block.vocabulary),
                    "idf": pack(block.idf),
                }
                for block in self.blocks
            ],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TextPreparation:
        """Inverse of `to_json`. Raises ValueError where it is not one."""
        if type(raw["version"]) is not int or raw["version"] != 1:
            raise ValueError(f"version {raw['version']!r}")
        return cls(tuple(_block(value) for value in raw["blocks"]))


def _inputs(some: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> dict[str, Any]:
    longest = max(1, *(len(where) for where, _ in some))
    indices, weights = np.zeros((len(some), longest), np.int64), np.zeros((len(some), longest), np.float32)
    for row, (where, weight) in enumerate(some):
        indices[row, : len(where)], weights[row, : len(where)] = where, weight
    return {INDICES: indices, WEIGHTS: weights}


def _block(raw: Mapping[str, Any]) -> Block:
    least, most = raw["ngrams"]
    vocabulary, idf = tuple(raw["vocabulary"]), unpack(raw["idf"]).astype(np.float32)
    if raw["analyzer"] not in ("word", "char") or type(least) is not int or type(most) is not int:
        raise ValueError(f"analyzer {raw['analyzer']!r}, n-grams {raw['ngrams']!r}")
    if not 1 <= least <= most <= 10 or not all(isinstance(gram, str) for gram in vocabulary):
        raise ValueError(f"n-grams {raw['ngrams']!r}")
    if idf.shape != (len(vocabulary),) or len(set(vocabulary)) != len(vocabulary) or not np.isfinite(idf).all():
        raise ValueError("vocabulary and idf do not fit together")
    return Block(raw["analyzer"], least, most, vocabulary, idf)
