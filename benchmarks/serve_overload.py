"""Three times what a service can do: a network that costs what MobileNetV2 does, so that the model and not HTTP is the limit.

Capacity is what 64 clients get that ask again at once; then three times that arrives at its own times, whatever the answers do.
Both in turn, nine times; the recovery told is the longest.
`flooded` is told beside it, not judged: of a network that costs nearly nothing, where refusing costs a third of answering, 512
clients ask again at once. `--mutant endless` takes the bound of the queue away: it must miss.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks.load_client import press
from benchmarks.measuring import interval, is_quick, mutant, told
from benchmarks.serve_load import bodies
from benchmarks.serve_row import service
from benchmarks.wide_bundle import wide_bundle
from keepfit.load_test import Seen, Target, closed_loop, exchange, percentile_ms

GOAL = "three times capacity: answers per second over those at capacity, refusals within 50 ms, recovery within 2 s"
ANCHORS = {"goodput": 0.9, "refused_p99_ms": 50, "recovery_s": 2}
ENDLESS = """
import sys
from keepfit.serve import batching, turns
turns.Shares.take = lambda self, client, much=1: True
batching.Batcher._make_room = lambda self, one: None
batching.Batcher.is_full = lambda self, client: False
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""
PATIENCE_S = 30.0


async def offered(
    target: Target, request: bytes, rate: float, seconds: float, connections: int, after: Callable[[], Awaitable[float]]
) -> tuple[Seen, float]:
    """Requests at their own times, whatever the answers do; a client without a free connection makes another. Gives what `after`
    gives too, which begins when the last was sent. What is not answered PATIENCE_S later counts as status 0."""
    seen, asking = Seen(), set()
    free = [await asyncio.open_connection(*target.place) for _ in range(connections)]

    async def one(at: float) -> None:
        line = free.pop() if free else await asyncio.open_connection(*target.place)
        try:
            status, _, kept = await exchange(request, *line)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            status, kept = 0, False
        seen.note(status, time.perf_counter() - at)
        if kept:
            free.append(line)
        else:
            line[1].close()

    begun = time.perf_counter()
    for count in range(int(rate * seconds)):
        if (wait_s := begun + count / rate - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(one(time.perf_counter()))
        asking.add(task)
        task.add_done_callback(asking.discard)
    seen.lasted = time.perf_counter() - begun
    answered = len(seen.seconds)
    found = await after()
    if asking:
        _, late = await asyncio.wait(set(asking), timeout=PATIENCE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    del seen.seconds[answered:]  # goodput is what came while the load lasted
    for _, writer in free:
        writer.close()
    return seen, found


def rounds(target: Target, request: bytes, count: int, seconds: float) -> Iterator[tuple[float, Seen, float]]:
    """Per round the capacity before and after, averaged, what three times that got, and the seconds until it was over."""
    before = asyncio.run(closed_loop(target, request, 64, seconds))
    for _ in range(count):
        bound_s, rate = max(0.05, 4 * before["p50_ms"] / 64000), 3 * before["answers_per_s"]
        seen, recovery = asyncio.run(
            offered(target, request, rate, seconds, 128, lambda: recovered(target, request, bound_s))  # noqa: B023 - at once
        )
        after = asyncio.run(closed_loop(target, request, 64, seconds))
        yield (before["answers_per_s"] + after["answers_per_s"]) / 2, seen, recovery
        before = after


def main() -> int:
    """Capacity, three times that, and one client alone, in turn."""
    count, seconds = (3, 3.0) if is_quick() else (9, 5.0)
    request_body = bodies()[0]
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bundle = wide_bundle(Path(scratch, "bundle"), costly=True)
        command = ("-c", ENDLESS) if mutant() == "endless" else ("-m", "keepfit", "serve")
        with service(*command, str(bundle), "--port", "0", "--workspace", scratch) as port:
            cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {max(cores)})
            target = Target.of(f"http://127.0.0.1:{port}")
            found = list(rounds(target, target.request("POST", "/predict", request_body), count, seconds))
            os.sched_setaffinity(0, cores)
    flooded = flood(request_body, 3.0 if is_quick() else 6.0)
    ratios = [len(seen.seconds) / seen.lasted / peak for peak, seen, _ in found]
    goodput, recovery = statistics.median(ratios), max(one for _, _, one in found)
    refused = percentile_ms([late for _, seen, _ in found for late in seen.refused_seconds], 99)
    statuses = sum((Counter(seen.statuses) for _, seen, _ in found), Counter())
    passed = interval(ratios)[0] >= 0.9 and refused is not None and refused <= 50 and recovery <= 2 and not statuses[0]
    return told(
        GOAL,
        {"goodput": round(goodput, 3), "refused_p99_ms": refused, "recovery_s": round(recovery, 3)},
        ANCHORS,
        passed,
        interval=interval(ratios),
        rounds=count,
        peak_per_s=round(statistics.median(peak for peak, _, _ in found), 1),
        answered_p99_ms=percentile_ms([late for _, seen, _ in found for late in seen.seconds], 99),
        statuses=dict(statuses),
        flooded=flooded,
        mutant=mutant(),
    )


def flood(body: bytes, seconds: float) -> dict[str, float]:
    """Answers per second of the dense network at 64 and at 512 connections, and the refusals per second beside the latter."""
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bundle = wide_bundle(Path(scratch, "bundle"))
        with service("-m", "keepfit", "serve", str(bundle), "--port", "0", "--workspace", scratch) as port:
            press(port, body, 64, 1.0)
            some, many = press(port, body, 64, seconds), press(port, body, 512, seconds)
    return {
        "at_64_per_s": some["answers_per_s"],
        "at_512_per_s": many["answers_per_s"],
        "refused_per_s": round(many["refused"] / seconds, 1),
    }


async def recovered(target: Target, request: bytes, bound_s: float) -> float:
    """Seconds until ten answers in a row took less than `bound_s` each."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 60 and not await _quick_ten(target, request, bound_s):
        await asyncio.sleep(0.01)
    return time.perf_counter() - begun


async def _quick_ten(target: Target, request: bytes, bound_s: float) -> bool:
    reader, writer = await asyncio.open_connection(*target.place)
    try:
        for _ in range(10):
            asked = time.perf_counter()
            status, _, kept = await exchange(request, reader, writer)
            if status != 200 or not kept or time.perf_counter() - asked > bound_s:
                return False
        return True
    finally:
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
