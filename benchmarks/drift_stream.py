"""Stream drift on 0/1 errors: false alarms per 10,000 labels and median delay, beside river's detectors on the same streams.

The detector knows 2,000 held-out labels, not the true error. `--mutant impatient` divides the labels between false alarms by
a hundred: it must miss the goal.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from benchmarks.measuring import is_quick, mutant, told
from keepfit.monitor.streams import step, watch_of

GOAL = "stream drift: at most 0.10 false alarms per 10,000 labels; median delay 600 / 220 / 60 for error .10 to .15 / .20 / .30"
ANCHOR = {"false_alarms": 0.10, "0.15": 600, "0.2": 220, "0.3": 60}
BEFORE, LENGTH, HELD, MEAN = 5000, 10_000, 2000, 100_000
RIVER = {
    "ADWIN": ("ADWIN", {}),
    "DDM": ("binary.DDM", {}),
    "EDDM": ("binary.EDDM", {}),
    "HDDM_A": ("binary.HDDMA", {}),
    "HDDM_W": ("binary.HDDMW", {}),
    "PageHinkley": ("PageHinkley", {}),
}


def ours(stream: np.ndarray, held: np.ndarray) -> list[int]:
    """Places where the watch rings."""
    mean = MEAN / 100 if mutant() == "impatient" else MEAN
    return step(watch_of(int(held.sum()), len(held)), stream.tolist(), mean)[1]


def rivers(name: str, stream: np.ndarray) -> list[int]:
    """Places where a detector of river rings, with its defaults."""
    path, said = RIVER[name]
    module, _, attribute = f"river.drift.{path}".rpartition(".")
    detector: Any = getattr(importlib.import_module(module), attribute)(**said)
    found = []
    for place, wrong in enumerate(stream.tolist()):
        detector.update(int(wrong))
        if detector.drift_detected:
            found.append(place)
    return found


def measured(ring: Any, streams: int, seed: int) -> dict[str, Any]:
    """False alarms per 10,000 on streams without drift; delays and misses on streams with one."""
    rng = np.random.default_rng(seed)
    held = rng.random((streams, HELD)) < 0.1
    quiet = rng.random((streams, LENGTH)) < 0.1
    alarms = sum(len(ring(quiet[n], held[n])) for n in range(streams))
    found: dict[str, Any] = {"false_alarms": round(alarms / streams, 4)}
    for error in (0.15, 0.2, 0.3):
        delays, missed = [], 0
        for n in range(streams):
            stream = np.concatenate([rng.random(BEFORE) < 0.1, rng.random(LENGTH) < error])
            after = [place - BEFORE + 1 for place in ring(stream, held[n]) if place >= BEFORE]
            delays.append(after[0] if after else np.inf)
            missed += not after
        found[str(error)] = float(np.median(delays))
        found[f"missed_{error}"] = missed
    return found


def main() -> int:
    """200 streams of each kind; river's detectors on the same number, in quick form on four."""
    streams, theirs = (100, 4) if is_quick() else (200, 200)
    seeds = (7001,) if is_quick() else (7001, 7002, 7003)
    each = [measured(ours, streams, seed) for seed in seeds]
    found = {key: round(float(np.mean([one[key] for one in each])), 4) for key in each[0]}
    good = all(found[key] <= most for key, most in ANCHOR.items()) and not any(
        found[k] for k in found if k.startswith("missed")
    )
    beside = {}
    if not mutant():
        for name in RIVER if not is_quick() else ("ADWIN",):

            def ring(stream: np.ndarray, _: np.ndarray, name: str = name) -> list[int]:
                return rivers(name, stream)

            one = measured(ring, theirs, seeds[0])
            beside[name] = {
                key: n if np.isfinite(n) else None for key, n in one.items()
            }  # None: missed in most streams
    return told(
        GOAL,
        found,
        ANCHOR,
        good,
        streams=streams * len(seeds),
        labels_held=HELD,
        river=beside,
        river_streams=theirs,
        by_seed=each,
    )


if __name__ == "__main__":
    sys.exit(main())
