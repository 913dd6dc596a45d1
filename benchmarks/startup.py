"""`keepfit --help` against a bare Python start: interleaved pairs, the median of their ratios."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.measuring import interval, told

GOAL = "keepfit --help starts in at most 10 times a bare Python start"


def seconds(*arguments: str) -> float:
    """Wall time of one Python process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> int:
    """Seven pairs after one to warm up."""
    pairs = [(seconds("-c", "pass"), seconds("-m", "keepfit", "--help")) for _ in range(8)][1:]
    ratios = [ours / bare for bare, ours in pairs]
    low, high = interval(ratios)
    return told(GOAL, round(statistics.median(ratios), 2), 10, high <= 10, interval=[low, high], pairs=len(pairs),
                bare_ms=round(statistics.median(bare for bare, _ in pairs) * 1000, 1),
                ours_ms=round(statistics.median(ours for _, ours in pairs) * 1000, 1))


if __name__ == "__main__":
    sys.exit(main())
