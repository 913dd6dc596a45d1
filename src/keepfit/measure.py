"""Measures a bundle in this process: latency of one row, throughput of many, memory, size."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import DataError
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import from_rows


def bench(path: Path, rows: int) -> dict[str, Any]:
    """Percentiles in ms of `rows` single-row answers after 20 to warm up, rows/s at 1,000 rows, bytes. Uses the golden rows."""
    bundle = Bundle.open(path)
    predictor = bundle.predictor()
    golden = [json.loads(line)["input"] for line in bundle.files.get("golden.jsonl", b"").decode().splitlines()]
    if not golden:
        raise DataError(
            "no_golden", "the bundle has no golden rows to ask with", where=str(path), hint="package.golden: synthetic"
        )
    times = []
    for place in range(rows + 20):
        begun = time.perf_counter()
        predictor.predict(predictor.check_rows([golden[place % len(golden)]]))
        times.append(time.perf_counter() - begun)
    many = from_rows([golden[place % len(golden)] for place in range(1000)], [c.name for c in bundle.inputs])
    begun = time.perf_counter()
    predictor.predict(many)
    spent = time.perf_counter() - begun
    p50, p95, p99 = (round(float(v) * 1000, 3) for v in np.percentile(times[20:], [50, 95, 99]))
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "rows_per_s": round(1000 / spent),
        "size_bytes": sum(len(data) for data in bundle.files.values()),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
