"""`keepfit --help` against a bare Python start: interleaved pairs, the median of their ratios.

`--mutant heavy` imports numpy, pydantic and duckdb first, as a careless import at the top of a module would: it must miss the goal.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.measuring import interval, mutant, told

GOAL = "keepfit --help starts in at most 10 times a bare Python start"
HEAVY = "import numpy, pydantic, duckdb; from keepfit.cli.main import run; run(['--help'])"


def seconds(*arguments: str) -> float:
    """Wall time of one Python process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> int:
    """Seven pairs after one to warm up."""
    ours = ("-c", HEAVY) if mutant() == "heavy" else ("-m", "keepfit", "--help")
    pairs = [(seconds("-c", "pass"), seconds(*ours)) for _ in range(8)][1:]
    ratios = [taken / bare for bare, taken in pairs]
    low, high = interval(ratios)
    return told(
        GOAL,
        round(statistics.median(ratios), 2),
        10,
        high <= 10,
        interval=[low, high],
        pairs=len(pairs),
        mutant=mutant(),
        bare_ms=round(statistics.median(bare for bare, _ in pairs) * 1000, 1),
        ours_ms=round(statistics.median(taken for _, taken in pairs) * 1000, 1),
    )


if __name__ == "__main__":
    sys.exit(main())
