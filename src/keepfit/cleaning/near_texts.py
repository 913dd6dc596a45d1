"""Near-duplicate texts: MinHash signatures of character 5-grams, locality-sensitive hashing, then the true Jaccard index.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.groups import joined

_SIZE = 5
_BANDS, _ROWS = 16, 4  # a pair of similarity 0.8 is missed once in 4,500; one of 0.3 is looked at in vain 1 time in 8
_AT_ONCE = 2_000_000
_CROWD = 40
_SPACE = re.compile(r"\s+")
_ODD = np.uint64(0x9E3779B97F4A7C15)
Hashes = NDArray[np.uint64]


def folded(text: str | None) -> str:
    """A text with compatible characters unified, letters small, and runs of white space as one blank."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text or "").casefold()).strip()


def near_texts(texts: Sequence[str | None], similarity: float = 0.8) -> NDArray[np.int64]:
    """The first row of each row's group [n]: texts whose sets of 5-grams have a Jaccard index of `similarity` or more.

    Texts that differ in case and white space only are equal. Empty texts are near to nothing. Deterministic.
    """
    plain = [folded(text) for text in texts]
    alike: dict[str, int] = {}
    pairs = [(alike.setdefault(text, row), row) for row, text in enumerate(plain) if text]
    kept = sorted(alike.values())
    sets = list(_gram_sets([plain[row] for row in kept]))
    for left, right in _candidates(_signatures(sets), np.array([len(grams) for grams in sets]), similarity):
        if _jaccard(sets[left], sets[right]) >= similarity:
            pairs.append((kept[left], kept[right]))
    return joined(len(plain), pairs)


def _gram_sets(texts: Sequence[str]) -> Iterator[Hashes]:
    """The distinct hashes of the 5-grams of each text, ascending; a shorter text is one gram."""
    for text in texts:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        width = min(_SIZE, len(codes))
        grams = np.zeros(len(codes) - width + 1, np.uint64)
        with np.errstate(over="ignore"):
            for place in range(width):
                grams = grams * _ODD + codes[place : len(codes) - width + 1 + place]
        yield np.unique(_mixed(grams))


def _mixed(numbers: Hashes) -> Hashes:
    """The finalizer of splitmix64: neighbours in, strangers out."""
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _signatures(sets: Sequence[Hashes]) -> Hashes:
    """MinHash signatures [n, bands * rows], in portions so that memory does not grow with the corpus."""
    out = np.zeros((len(sets), _BANDS * _ROWS), np.uint64)
    rng = np.random.default_rng(0)
    salts = rng.integers(1, 2**63, _BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
    begin = 0
    while begin < len(sets):
        end, size = begin, 0
        while end < len(sets) and (end == begin or size + len(sets[end]) <= _AT_ONCE):
            size, end = size + len(sets[end]), end + 1
        flat = np.concatenate(sets[begin:end])
        starts = np.concatenate([[0], np.cumsum([len(grams) for grams in sets[begin : end - 1]], dtype=int)])
        for place, salt in enumerate(salts):
            with np.errstate(over="ignore"):
                turned = (flat ^ (flat >> np.uint64(29))) * salt
            out[begin:end, place] = np.minimum.reduceat(turned ^ (turned >> np.uint64(32)), starts)
        begin = end
    return out


def _candidates(signatures: Hashes, sizes: NDArray[np.int64], similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs that agree in a band and whose sizes allow the similarity, each once; in a crowd, neighbours by size only."""
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        order = np.lexsort((sizes, *part.T))
        differs = np.ones(len(order), bool)
        differs[1:] = (part[order[1:]] != part[order[:-1]]).any(axis=1)
        ends = [*np.flatnonzero(differs), len(order)]
        for start, stop in itertools.pairwise(ends):
            bucket = order[start:stop]
            for place, left in enumerate(bucket[:-1]):
                for right in bucket[place + 1 : place + 1 + _CROWD]:
                    pair = (int(min(left, right)), int(max(left, right)))
                    if sizes[left] >= similarity * sizes[right] and pair not in seen:
                        seen.add(pair)
                        yield pair


def _jaccard(left: Hashes, right: Hashes) -> float:
    both = len(np.intersect1d(left, right, assume_unique=True))
    return both / (len(left) + len(right) - both)
