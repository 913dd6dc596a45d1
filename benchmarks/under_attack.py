"""Honest clients while others attack: p99 beside quiet stretches in turn, and resident memory; then memory over many requests.

The attacks go on together, from a process of their own: 200 clients that send a head a byte at a time, bodies of 2 GB that begin,
chunks of 6 bytes, JSON 100,000 levels deep, NaN and Infinity, heads of 60 kB, and what no HTTP is. `--mutant alone` takes away what
bounds heads and the depth of JSON: the service must be seen to die, or to miss.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.load_client import press
from benchmarks.measuring import interval, is_quick, mutant, told
from benchmarks.serve_load import bodies
from benchmarks.wide_bundle import wide_bundle
from keepfit.load_test import Target, exchange

GOAL = "under attack: p99 of honest clients at most 2x, memory growth at most 20 MB; memory flat over many requests"
ANCHORS = {"p99_ratio": 2.0, "growth_mb": 20.0, "many_growth_mb": 20.0}
RATE, CLIENTS, SLOW = 100.0, 4, 200
ATTACK = f"""
import asyncio, sys
place = ("127.0.0.1", int(sys.argv[1]))
head = b"POST /predict HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
def whole(body): return head + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body
deep = b"[" * 100_000 + b"]" * 100_000
asks = [
    head + b"Content-Length: 2000000000\\r\\n\\r\\n" + b"x" * 100_000,
    head + b"Transfer-Encoding: chunked\\r\\n\\r\\n" + b"6\\r\\nabcdef\\r\\n" * 2000 + b"0\\r\\n\\r\\n",
    whole(b'{{"input": ' + deep + b"}}"), whole(b'{{"input": {{"pixel0": NaN}}}}'), whole(b'{{"input": {{"pixel0": -Infinity}}}}'),
    head + b"X-Long: " + b"a" * 60_000 + b"\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}", b"\\x16\\x03\\x01" + bytes(300),
    whole(b"\\x1f\\x8b" + bytes(1000)), b"GET /v2/models/%252e%252e%252f/ready HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
]
async def slow(place_in_line):
    while True:
        try:
            reader, writer = await asyncio.open_connection(*place)
            writer.write(b"POST /predict HTTP/1.1\\r\\nHost: x\\r\\nX-Slow: ")
            while True:
                await asyncio.sleep(1.0)
                writer.write(b"a")
                await writer.drain()
        except OSError:
            pass
async def hostile(number):
    while True:
        try:
            reader, writer = await asyncio.open_connection(*place)
            writer.write(asks[number % len(asks)])
            await asyncio.wait_for(reader.read(4096), 2)
            writer.close()
        except (OSError, asyncio.TimeoutError):
            pass
        number += 4
        await asyncio.sleep(0.2)
async def main():
    await asyncio.gather(*map(slow, range({SLOW})), *map(hostile, range(4)))
asyncio.run(main())
"""
OPEN = """
import json, sys
from keepfit.serve import body, predict, server, wire
wire.MOST_HEAD_BYTES, wire.HEAD_S = 1 << 40, 1e9
before = wire.protocol
server.wire.protocol = lambda **more: before(1 << 40, 1e9)
sys.setrecursionlimit(10**9)
before_parse = body.parse_json
predict.parse_json = lambda text, max_depth, **more: before_parse(text, 1 << 40, **more)
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) / 1000


async def honest(target: Target, request: bytes, seconds: float, seed: int) -> list[float]:
    """Seconds of every answer, from when it was due, of CLIENTS clients that ask RATE times a second together."""
    times: list[float] = []

    async def one(number: int) -> None:
        draw = np.random.default_rng([seed, number])
        reader, writer = await asyncio.open_connection(*target.place)
        due = time.perf_counter()
        until = due + seconds
        while due < until:
            due += float(draw.exponential(CLIENTS / RATE))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            status, _, _ = await exchange(request, reader, writer)
            times.append(time.perf_counter() - due if status == 200 else 60.0)
        writer.close()

    await asyncio.gather(*map(one, range(CLIENTS)))
    return times


def p99_ms(times: list[float]) -> float:
    """The 99th percentile."""
    return float(np.percentile(times, 99)) * 1000


@contextmanager
def served(scratch: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service on the first core, and its port."""
    bundle = wide_bundle(Path(scratch, "bundle"))
    first = ["taskset", "-c", str(min(os.sched_getaffinity(0))), sys.executable]
    command = ["-c", OPEN] if mutant() == "alone" else ["-m", "keepfit", "serve"]
    said = [str(bundle), "--port", "0", "--workspace", scratch, "--json"]
    process = subprocess.Popen([*first, *command, *said], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield (
            process,
            next(int(m[1]) for line in process.stderr if (m := re.search(r"http://127\.0\.0\.1:(\d+)", line))),
        )
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def attacked(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The attackers, on the last core."""
    last = ["taskset", "-c", str(max(os.sched_getaffinity(0))), sys.executable]
    attacker = subprocess.Popen([*last, "-c", ATTACK, str(port)])
    try:
        yield attacker
    finally:
        attacker.kill()
        attacker.wait()


def in_turn(port: int, pid: int, body: bytes, pairs: int, seconds: float) -> tuple[list[float], list[float], float]:
    """p99 in ms of quiet and of attacked stretches, and by how many MB the memory grew meanwhile."""
    target = Target.of(f"http://127.0.0.1:{port}")
    request = target.request("POST", "/predict", body)
    quiet: list[float] = []
    loud: list[float] = []
    with attacked(port) as attacker:
        asyncio.run(honest(target, request, seconds, 0))
        before = memory_mb(pid)
        for pair in range(pairs):
            attacker.send_signal(signal.SIGSTOP)
            quiet.append(p99_ms(asyncio.run(honest(target, request, seconds, 2 * pair + 1))))
            attacker.send_signal(signal.SIGCONT)
            loud.append(p99_ms(asyncio.run(honest(target, request, seconds, 2 * pair + 2))))
    return quiet, loud, memory_mb(pid) - before


def main() -> int:
    """Quiet and attacked stretches in turn."""
    pairs, seconds, many_s = (3, 3.0, 4.0) if is_quick() else (7, 6.0, 40.0)
    body = bodies()[0]
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch, served(scratch) as (process, port):
        press(port, body, 16, 2.0)
        try:
            quiet, loud, growth = in_turn(port, process.pid, body, pairs, seconds)
        except (OSError, asyncio.IncompleteReadError):
            code = process.wait(5)
            return told(GOAL, "the service died", ANCHORS, False, code=code, mutant=mutant())
        answered, sizes = 0.0, [memory_mb(process.pid)]
        for _ in range(4):
            answered += press(port, body, 64, many_s / 4)["answers_per_s"] * many_s / 4
            sizes.append(memory_mb(process.pid))
    ratios = [two / one for one, two in zip(quiet, loud, strict=True)]
    value = {
        "p99_ratio": round(statistics.median(ratios), 3),
        "growth_mb": round(growth, 1),
        "many_growth_mb": round(sizes[-1] - sizes[1], 1),
    }
    return told(
        GOAL,
        value,
        ANCHORS,
        all(value[name] <= anchor for name, anchor in ANCHORS.items()),
        interval=interval(ratios),
        pairs=pairs,
        p99_ms={"quiet": round(statistics.median(quiet), 2), "attacked": round(statistics.median(loud), 2)},
        many_requests=round(answered),
        rss_mb=[round(size) for size in sizes],
        mutant=mutant(),
    )


if __name__ == "__main__":
    sys.exit(main())
