"""M4: the gate may be looked at after every label; an equal model is rarely promoted, a better one nearly always.

Streams of 5,000 labels on which champion and challenger disagree in 6 or 10 of 100 rows; the challenger is equal or 2 points
better. Beside it, on the same streams: McNemar's test read after every label, and a beta mixture martingale (an e-process).
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import is_quick, mutant, told
from keepfit.loop.paired import PairedTest

LABELS, ALPHA, GAIN = 5000, 0.05, 0.02
DISAGREEING = (0.06, 0.10)


def main() -> int:
    """One JSON line: false promotions and power, the worst over the kinds of stream and pooled."""
    streams = 200 if is_quick() else 2000
    peeked = mutant() == "peeking"
    rates = {
        (share, gain): [
            np.mean(column)
            for column in zip(*(outcome(share, gain, seed, peeked) for seed in range(streams)), strict=True)
        ]
        for share in DISAGREEING
        for gain in (0.0, GAIN)
    }
    value = {
        name: {
            "false": round(float(np.mean([rates[share, 0.0][at] for share in DISAGREEING])), 4),
            "power": round(float(np.mean([rates[share, GAIN][at] for share in DISAGREEING])), 4),
        }
        for at, name in enumerate(("ours", "peeked_mcnemar", "e_process"))
    }
    value["ours"]["labels"] = round(float(np.mean([rates[share, GAIN][3] for share in DISAGREEING])))
    slack = 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / (streams * len(DISAGREEING)))
    passed = value["ours"]["false"] <= ALPHA + slack and value["ours"]["power"] >= 0.95
    anchor = {"false": ALPHA, "power": 0.95, "within_labels": LABELS}
    return told(
        "M4 promotion gate looked at after every label", value, anchor, passed, streams=streams, slack=round(slack, 4)
    )


def outcome(share: float, gain: float, seed: int, peeked: bool) -> tuple[float, float, float, float]:
    """Whether ours, McNemar's and the e-process promoted, and the labels that ours needed."""
    generator = np.random.default_rng((seed, round(1000 * share), round(1000 * gain)))
    differs = generator.random(LABELS) < share
    wins = generator.random(LABELS) < 0.5 + gain / (2 * share)
    test = PairedTest(ALPHA, LABELS)
    test.add_all(wins | ~differs, ~wins | ~differs)
    ahead = np.cumsum(np.where(wins, 1, -1)[differs])
    rung = peeked_mcnemar(ahead)
    ours = rung if peeked else test.better
    return float(ours), float(rung), float(e_process(ahead)), float(test.decided_at or LABELS)


def peeked_mcnemar(ahead: NDArray[np.int64]) -> bool:
    """Whether the one-sided normal test at 5 % was ever significant after the first 25 disagreements."""
    count = np.arange(1, len(ahead) + 1)
    return bool(np.any((ahead / np.sqrt(count) > 1.645) & (count >= 25)))


def e_process(ahead: NDArray[np.int64]) -> bool:
    """Whether a mixture of likelihood ratios, uniform over coins from 0.5 to 1, ever reached 1 / alpha."""
    count = np.arange(1, len(ahead) + 1)
    wins = (count + ahead) / 2
    grid = np.linspace(0.505, 0.995, 50)[:, None]
    ratios = wins * np.log(2 * grid) + (count - wins) * np.log(2 * (1 - grid))
    top = ratios.max(0)
    return bool(np.any(top + np.log(np.exp(ratios - top).mean(0)) >= -math.log(ALPHA)))


if __name__ == "__main__":
    sys.exit(main())
