"""Records a second that one core watches: 30 columns of text as sources give them, answers and labels; and that memory stays.

`--mutant hoarding` keeps every report: its memory must grow past the bound. CPU time of this process, since wall time is shared.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

import numpy as np

from benchmarks.measuring import interval, mutant, told
from keepfit.monitor import Held, MonitorOptions, Profile, Records, check, make_profile
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, text_column

GOAL = "one core watches at least 5,000 records a second of 30 columns; memory constant"
ANCHOR, NUMBERS, CATEGORIES, WINDOW = 5000, 20, 10, 500


def drawn(rows: int, rng: np.random.Generator) -> tuple[Table, np.ndarray, np.ndarray]:
    """Text columns, scores [n, 2] and labels [n]."""
    columns = {f"n{n}": text_column(rng.normal(size=rows).round(4).tolist()) for n in range(NUMBERS)}
    columns |= {f"c{n}": text_column([f"v{k}" for k in rng.geometric(0.1, rows)]) for n in range(CATEGORIES)}
    p = rng.random(rows)
    return Table(columns), np.column_stack([1 - p, p]), (rng.random(rows) < p).astype(int)


def reference() -> Profile:
    """Of 5,000 rows."""
    table, scores, truth = drawn(5000, np.random.default_rng(0))
    rules = [ColumnRule(name, "numeric" if name[0] == "n" else "categorical") for name in table.names]
    return make_profile(table, rules, Held(table, scores, truth), ["no", "yes"])


def main() -> int:
    """Rounds of windows; the rate is of the fitted profile alone, records are made before."""
    profile, section = reference(), MonitorOptions(window=WINDOW)
    rng = np.random.default_rng(1)
    windows = []
    for _ in range(8):
        table, scores, truth = drawn(WINDOW, rng)
        windows.append(Records(table, scores, np.array(["no", "yes"], object)[truth]))
    rounds = 7
    rates, kept, watch = [], [], None
    check(profile, windows[0], section)
    for _ in range(rounds):
        begun = time.process_time()
        for window in windows:
            watch = check(profile, window, section, watch).watch
        rates.append(len(windows) * WINDOW / (time.process_time() - begun))
    tracemalloc.start()
    sizes = []
    for place in range(30):
        report = check(profile, windows[place % 8], section, watch)
        watch = report.watch
        if mutant() == "hoarding":
            kept.append((report, drawn(WINDOW, rng)))
        if place in (5, 29):
            sizes.append(tracemalloc.get_traced_memory()[0])
    growth = (sizes[1] - sizes[0]) / 1e6
    low, high = interval(rates)
    return told(
        GOAL,
        round(float(np.median(rates))),
        ANCHOR,
        low >= ANCHOR and growth < 1.0,
        interval=[low, high],
        unit="records a CPU second",
        memory_growth_mb=round(growth, 3),
        windows=rounds * len(windows),
        columns=NUMBERS + CATEGORIES,
    )


if __name__ == "__main__":
    sys.exit(main())
