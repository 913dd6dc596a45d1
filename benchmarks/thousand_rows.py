"""What the ledger, cleaning, profile, labels and leak guard cost a run of 1,000 rows: at most a second of CPU.

The walk to the end of `clean` with everything that is on by default, beside the same with all that can be switched off off;
seven interleaved pairs in one process after one of each, CPU time, so that other work on the machine does not count.
`--mutant everything` looks at labels with every row and tree, as `relabel` does: it must miss the goal.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import keepfit as kf
from benchmarks.measuring import interval, is_quick, mutant, told

GOAL = "1,000 rows pay at most 1 s for cleaning, ledger, profile, labels and leak guard"
METHODS = (
    "near_duplicates: off, outliers: off, spellings: off, rare: off, formats: off, dependencies: off, duplicates: off"
)
OFF = f"{{{METHODS}, labels: off, leaks: off}}"


def spent(folder: Path, name: str, clean: str) -> float:
    """CPU seconds of the walk to the end of clean."""
    path = folder / f"{name}.yaml"
    path.write_text(f"version: 1\ndata: {{source: t.csv, target: y}}\nmodel: {{use: linear}}\nclean: {clean}\n")
    begun = time.process_time()
    kf.run(path, workspace=folder / "w", until="clean", fresh=True)
    return time.process_time() - begun


def main() -> int:
    """Pairs, and the line."""
    rng = np.random.default_rng(0)
    rows = ["a,b,c,city,y"]
    for _ in range(1000):
        a, b, c = rng.normal(size=3)
        rows.append(f"{a:.4f},{b:.4f},{c:.3f},city{rng.integers(9)},{'yes' if a + b + rng.normal() / 2 > 0 else 'no'}")
    on = "{labels: relabel}" if mutant() == "everything" else "{}"
    with tempfile.TemporaryDirectory(prefix="keepfit-thousand-") as scratch:
        folder = Path(scratch)
        (folder / "t.csv").write_text("\n".join(rows) + "\n")
        pairs = [
            (spent(folder, "on", on), spent(folder, "off", OFF))
            for _ in range(1 + (3 if is_quick() or mutant() else 7))
        ]
    more = [one - other for one, other in pairs[1:]]
    low, high = interval(more)
    value = {"seconds": round(statistics.median(more), 3), "first_run": round(pairs[0][0] - pairs[0][1], 3)}
    return told(GOAL, value, 1.0, high <= 1.0, interval=[low, high], mutant=mutant())


if __name__ == "__main__":
    sys.exit(main())
