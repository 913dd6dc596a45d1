"""What benchmarks share: the line they print, bootstrap intervals of medians, and where shared data is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def told(goal: str, value: Any, anchor: Any, passed: bool | None, **more: Any) -> int:
    """Print the JSON line of a goal and return an exit code; `passed` None is a goal that could not be measured."""
    print(json.dumps({"goal": goal, "value": value, "anchor": anchor, "pass": passed, **more}), flush=True)
    return 1 if passed is False else 0


def skipped(goal: str, anchor: Any, reason: str) -> int:
    """The line of a goal that cannot be measured here, with the reason."""
    return told(goal, None, anchor, None, skipped=reason)


def interval(values: list[float], seed: int = 0) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    drawn = np.random.default_rng(seed).choice(np.array(values), (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def shared_table(name: str) -> Path | None:
    """A table of the shared data folder (`KEEPFIT_SHARED`, or `../shared` beside the clone), or None."""
    folder = Path(os.environ.get("KEEPFIT_SHARED", Path(__file__).parents[2] / "shared"))
    path = folder / "data" / "tabular" / name
    return path.resolve() if path.is_file() else None


def is_quick() -> bool:
    """Whether the short form was asked for."""
    return "--quick" in sys.argv


def mutant() -> str | None:
    """The name after `--mutant`: a feature that the benchmark switches off, to be seen failing."""
    return sys.argv[sys.argv.index("--mutant") + 1] if "--mutant" in sys.argv else None
