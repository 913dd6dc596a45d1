"""When errors began to rise: the most likely moment of one change in a row of rights and wrongs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def change_point(errors: Sequence[bool], rate: float, least: int = 10) -> int:
    """The place from which the error rate most likely is another, higher one; 0 where there are too few.

    `rate`: the error rate before. The likelihood of one change at each place, with the rate after it at its best value
    (Page 1955; Siegmund and Venkatraman 1995), which must be at least `least` errors before the end.
    """
    wrong = np.asarray(errors, float)
    if len(wrong) <= least:
        return 0
    after = np.cumsum(wrong[::-1])[::-1]
    count = np.arange(len(wrong), 0, -1)
    share = np.clip(after / count, 1e-6, 1 - 1e-6)
    rate = min(max(rate, 1e-4), 1 - 1e-4)
    gain = after * np.log(share / rate) + (count - after) * np.log((1 - share) / (1 - rate))
    gain[share <= rate] = 0.0
    gain[len(wrong) - least :] = 0.0
    return int(np.argmax(gain))
