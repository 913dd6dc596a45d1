"""784 numbers over HTTP: `keepfit serve`, all on, beside a bare FastAPI service of the same network; and three times its load.

Pairs of rounds in turn, both servers on the first core, clients on the others. `--mutant alone` switches batching off,
`--mutant endless` the bound of the queue: the first must miss S1, the second S3.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import interval, is_quick, mutant, told
from benchmarks.serve_row import BARE, service
from keepfit.load_test import Seen, Target, closed_loop, exchange, percentile_ms

SPEED = "784 numbers as JSON beside bare FastAPI + pydantic + onnxruntime: throughput, p99 at 64 connections, p50 at 1"
LOAD = "three times capacity: answers per second over those at capacity, refusals within 50 ms, recovery within 2 s"
ANCHORS = {"throughput": 2.0, "p99": 0.5, "p50_alone": 1.15}
WIDTH, ROWS = 784, 600
MUTANTS = {"alone": "batch: {max: 1}", "endless": "queue: 100000, timeout: 1h"}


def trained(scratch: Path) -> Path:
    """A bundle of a linear model on 784 columns of numbers."""
    draw = np.random.default_rng(0)
    numbers = draw.random((ROWS, WIDTH)).round(6)
    labels = np.where(numbers[:, :50].sum(1) > 25, "yes", "no")
    names = [f"c{place}" for place in range(WIDTH)]
    lines = [",".join([*names, "label"])]
    lines += [",".join([*map(repr, row.tolist()), label]) for row, label in zip(numbers, labels, strict=True)]
    table = scratch / "numbers.csv"
    table.write_text("\n".join(lines) + "\n")
    said = MUTANTS.get(mutant() or "")
    overrides = ["model.use=linear", *([f"serve={{{said}}}"] if said else [])]
    return kf.fit(str(table), "label", overrides=overrides, workspace=scratch).bundle


def bodies() -> tuple[bytes, bytes]:
    """The same row for us, by column, and for the bare service."""
    row = np.random.default_rng(1).random(WIDTH).round(6).tolist()
    ours = {f"c{place}": value for place, value in enumerate(row)}
    return json.dumps({"input": ours}).encode(), json.dumps({"input": row}).encode()


def rounds(ours: int, bare: int, pairs: int, seconds: float) -> dict[int, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Rounds of both at 64 and at 1 connection, in turn."""
    targets = [Target.of(f"http://127.0.0.1:{port}") for port in (ours, bare)]
    requests = [target.request("POST", "/predict", body) for target, body in zip(targets, bodies(), strict=True)]
    return {
        connections: [
            tuple(  # type: ignore[misc]
                asyncio.run(closed_loop(target, request, connections, seconds))
                for target, request in zip(targets, requests, strict=True)
            )
            for _ in range(pairs)
        ]
        for connections in (64, 1)
    }


def speed(found: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]]) -> int:
    """The line of S1."""

    def ratios(connections: int, name: str) -> list[float]:
        return [ours[name] / bare[name] for ours, bare in found[connections]]

    seen = {
        "throughput": ratios(64, "answers_per_s"),
        "p99": ratios(64, "p99_ms"),
        "p50_alone": ratios(1, "p50_ms"),
    }
    middle = {name: round(statistics.median(values), 3) for name, values in seen.items()}
    passed = all(
        middle[name] >= anchor if name == "throughput" else middle[name] <= anchor for name, anchor in ANCHORS.items()
    )
    shown = {
        f"{who}_{connections}": {
            name: statistics.median(pair[place][name] for pair in found[connections])
            for name in ("answers_per_s", "p50_ms", "p99_ms", "refused", "failed")
        }
        for connections in found
        for place, who in enumerate(("ours", "bare"))
    }
    intervals = {name: interval(values) for name, values in seen.items()}
    return told(SPEED, middle, ANCHORS, passed, interval=intervals, pairs=len(found[64]), mutant=mutant(), **shown)


async def offered(target: Target, request: bytes, rate: float, seconds: float, connections: int) -> Seen:
    """Requests at their own times, whatever the answers do; a client without a free connection makes another."""
    seen, free, asking = Seen(), [], set()
    begun = time.perf_counter()

    async def one(at: float) -> None:
        line = free.pop() if free else await asyncio.open_connection(*target.place)
        try:
            status, _, kept = await asyncio.wait_for(exchange(request, *line), 60)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status, kept = 0, False
        seen.note(status, time.perf_counter() - at)
        (free.append if kept else lambda gone: gone[1].close())(line)

    free.extend([await asyncio.open_connection(*target.place) for _ in range(connections)])
    begun = time.perf_counter()
    for count in range(int(rate * seconds)):
        due = begun + count / rate
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(one(time.perf_counter()))
        asking.add(task)
        task.add_done_callback(asking.discard)
    ended = time.perf_counter() - begun
    await asyncio.gather(*asking)
    seen.lasted = ended
    for _, writer in free:
        writer.close()
    return seen


def load(port: int, seconds: float) -> int:
    """The line of S3: capacity by 64 clients that ask again at once, then three times that, then one client alone."""
    target = Target.of(f"http://127.0.0.1:{port}")
    request = target.request("POST", "/predict", bodies()[0])
    peak = asyncio.run(closed_loop(target, request, 64, seconds))["answers_per_s"]
    seen = asyncio.run(offered(target, request, 3 * peak, seconds, 128))
    recovery = recovery_s(target, request)
    goodput = len(seen.seconds) / max(seconds, seen.lasted) / peak
    refused = percentile_ms(seen.refused_seconds, 99)
    value = {"goodput": round(goodput, 3), "refused_p99_ms": refused, "recovery_s": round(recovery, 3)}
    passed = goodput >= 0.9 and refused is not None and refused <= 50 and recovery <= 2
    return told(
        LOAD,
        value,
        {"goodput": 0.9, "refused_p99_ms": 50, "recovery_s": 2},
        passed,
        peak=peak,
        offered=round(sum(seen.statuses.values()) / seen.lasted, 1),
        refused_p50_ms=percentile_ms(seen.refused_seconds, 50),
        p99_ms=percentile_ms(seen.seconds, 99),
        statuses=dict(seen.statuses),
        mutant=mutant(),
    )


def recovery_s(target: Target, request: bytes) -> float:
    """How long after the load until ten answers in a row take under 50 ms each."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 60:
        if asyncio.run(_quick_ten(target, request)):
            break
    return time.perf_counter() - begun


async def _quick_ten(target: Target, request: bytes) -> bool:
    reader, writer = await asyncio.open_connection(*target.place)
    try:
        for _ in range(10):
            asked = time.perf_counter()
            status, _, kept = await exchange(request, reader, writer)
            if status != 200 or not kept or time.perf_counter() - asked > 0.05:
                return False
        return True
    finally:
        writer.close()


def main() -> int:
    """S1, then S3."""
    pairs, seconds = (3, 1.0) if is_quick() else (7, 4.0)
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bundle = trained(Path(scratch))
        place = ["--workspace", scratch]
        with (
            service("-m", "keepfit", "serve", str(bundle), "--port", "0", *place) as ours,
            service("-c", BARE, str(bundle / "model.onnx"), "0") as bare,
        ):
            codes = [speed(rounds(ours, bare, pairs, seconds)), load(ours, 2 * seconds)]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
