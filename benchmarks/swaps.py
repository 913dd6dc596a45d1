"""300 hot swaps of a registered model while it serves at 80 % of what it can: errors, mixed answers, latency during swaps, memory.

Three boosted models of one table take turns; every answer is checked against that of the version that it names.
`--mutant name_first` names the next version before its model answers, as a service with two variables would: answers must mix.
`--mutant keep` never lets go of a model that was swapped away: memory must be seen to grow.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, told
from keepfit.load_test import Target, exchange

GOAL = (
    "hot swaps under 80 % load: 0 errors, 0 mixed answers, p99 during a swap at most 1.5x, "
    "memory after the last at most 1.10x that after swap 20"
)
CLIENTS, ROWS, AFTER_S, PAUSE_S = 16, 4, 0.3, 0.3
MUTANTS = {
    "name_first": """
import time
from keepfit.serve import service
class Two(service.Current):
    names = None
    def swap(self, bundle, predictor):
        self.names = {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256}
        for key, value in self.names.items():
            self.service.model[key] = value
        time.sleep(0.05)
        return super().swap(bundle, predictor)
import keepfit.serve.server as server
server.Current = Two
""",
    "keep": """
from keepfit.serve import follow
class Kept(list):
    def clear(self):
        pass
before = follow.Follower.__init__
def begun(self, *said, **more):
    before(self, *said, **more)
    self._retired = Kept()
follow.Follower.__init__ = begun
""",
}
PROMOTE = """
import sys, keepfit
registry = keepfit.registry(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    registry.promote("bench", int(line))
    print("done", flush=True)
"""
RUN = "{}\nimport sys\nfrom keepfit.cli.main import run\nsys.exit(run(sys.argv[1:]))"


@contextmanager
def service(workspace: str) -> Iterator[tuple[int, int]]:
    """`keepfit serve bench`; gives port and process id."""
    code = RUN.format(MUTANTS.get(mutant() or "", ""))
    cores = os.sched_getaffinity(0)
    command = ["taskset", "-c", str(min(cores)), sys.executable, "-c", code, "serve", "bench", "--port", "0"]
    command += ["--workspace", workspace]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, {max(cores)})
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(found[1]), process.pid
                return
        raise SystemExit("the service did not start")
    finally:
        os.sched_setaffinity(0, cores)
        process.terminate()
        process.wait(60)


@dataclass
class Asked:
    """What came back in one stretch: (begun, seconds, which body, reply) of every answer, and errors."""

    answers: list[tuple[float, float, int, bytes]] = field(default_factory=list)
    errors: int = 0

    def mixed(self, wanted: dict[str, list[Any]]) -> int:
        """How many answers are not those of the version that they name. Looked at afterwards: the clients' clock must not wait."""
        wrong = 0
        for _, _, which, reply in self.answers:
            body = json.loads(reply)
            said = [next(iter(one["probabilities"].values())) for one in body["predictions"]]
            wrong += not np.allclose(said, wanted[body["model"]["version"]][which], atol=1e-6)
        return wrong


async def client(
    target: Target, bodies: list[bytes], rate: float, seed: int, ending: asyncio.Event, seen: Asked
) -> None:
    """Asks at a rate (0: as fast as it can) over one connection."""
    draw, requests = np.random.default_rng(seed), [target.request("POST", "/predict", body) for body in bodies]
    reader, writer = await asyncio.open_connection(*target.place)
    due = time.perf_counter()
    while not ending.is_set():
        if rate:
            due += float(draw.exponential(1 / rate))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        which = int(draw.integers(len(requests)))
        # From when it was due, so that a stall is not hidden by the questions that it held up.
        begun = due if rate else time.perf_counter()
        status, body, _ = await exchange(requests[which], reader, writer)
        if status == 200:
            seen.answers.append((begun, time.perf_counter() - begun, which, body))
        else:
            seen.errors += 1
    writer.close()


async def asked(target: Target, bodies: list[bytes], rate: float, during: Awaitable[None]) -> Asked:
    """What CLIENTS clients hear while `during` goes on."""
    ending, seen = asyncio.Event(), Asked()
    share = rate / CLIENTS
    clients = [asyncio.create_task(client(target, bodies, share, seed, ending, seen)) for seed in range(CLIENTS)]
    await during
    ending.set()
    for ended in await asyncio.gather(*clients, return_exceptions=True):
        seen.errors += ended is not None
    return seen


async def turns(
    target: Target, promoter: Promoter, pid: int, swaps: int
) -> tuple[list[tuple[float, float]], list[int]]:
    """Promote one version after the other: from the pointer's move until AFTER_S after the new version was seen to answer, by when
    the old one is freed; and resident bytes after each."""
    reader, writer = await asyncio.open_connection(*target.place)
    spans, sizes = [], []
    health = target.request("GET", "/healthz")
    for turn in range(1, swaps + 1):
        number = (2, 3, 1)[turn % 3]
        await promoter.promote(number)
        begun = time.perf_counter()
        while True:
            _, body, _ = await exchange(health, reader, writer)
            if json.loads(body)["model"]["version"] == str(number):
                break
            await asyncio.sleep(0.01)
        spans.append((begun, time.perf_counter() + AFTER_S))
        await asyncio.sleep(AFTER_S + PAUSE_S)
        sizes.append(memory(pid))
    writer.close()
    return spans, sizes


class Promoter:
    """Promotes in a process of its own, which steps back for everybody: what is measured is the swap, not who asks for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process, self.told, self.said = process, process.stdin, process.stdout

    @classmethod
    async def begun(cls, workspace: str) -> Promoter:
        """Once it is ready."""
        command = ["nice", "-n", "10", sys.executable, "-c", PROMOTE, workspace]
        if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
            command = ["chrt", "-o", "0", *command]
        pipe = asyncio.subprocess.PIPE
        made = cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
        await made.said.readline()
        return made

    async def promote(self, number: int) -> None:
        """Until the pointer has moved."""
        self.told.write(f"{number}\n".encode())
        await self.said.readline()

    async def close(self) -> None:
        """End it."""
        self.told.close()
        await self.process.wait()


def swap_time(spans: list[tuple[float, float]]) -> float:
    """Median seconds from the promotion to the first answer of the promoted version."""
    return round(statistics.median(high - low for low, high in spans) - AFTER_S, 3)


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def models(workspace: str) -> tuple[list[bytes], dict[str, list[Any]]]:
    """Three versions of `bench`; bodies to ask, and the first probability of every row by version."""
    registry = kf.registry(workspace)
    frame, wanted, bodies = None, {}, []
    for seed in range(3):
        run = kf.fit(
            "sklearn:breast_cancer",
            "diagnosis",
            workspace=workspace,
            overrides=["model.use=gbdt", f"seed={seed}", f"model.params.rounds={300 + 100 * seed}"],
        )
        version = registry.register(run.bundle, "bench")
        if frame is None:
            frame = [
                json.loads(line)["input"] for line in (run.bundle / "golden.jsonl").read_text("utf-8").splitlines()
            ]
            draw = np.random.default_rng(0)
            picked = [[frame[n] for n in draw.integers(0, len(frame), ROWS)] for _ in range(20)]
            rows = [[{k: None if v is None else float(v) for k, v in row.items()} for row in some] for some in picked]
            bodies = [json.dumps({"inputs": some}).encode() for some in rows]
        model = kf.load(version.path)
        wanted[str(version.version)] = [
            [next(iter(a["probabilities"].values())) for a in model.predict(some).rows()] for some in rows
        ]
    answers = [np.array(wanted[number]) for number in sorted(wanted)]
    if len(wanted) != 3 or any(np.allclose(a, b, atol=1e-4) for a, b in itertools.pairwise(answers)):
        raise SystemExit("the models must differ")
    return bodies, wanted


async def stretches(port: int, pid: int, bodies: list[bytes], scratch: str, swaps: int, seconds: float) -> Any:
    """Capacity, a quiet stretch, the swaps, another quiet stretch."""
    target = Target.of(f"http://127.0.0.1:{port}")
    await asked(target, bodies, 0, asyncio.sleep(seconds / 2))  # until records wait as they will under load
    warm = await asked(target, bodies, 0, asyncio.sleep(seconds / 2))
    rate = 0.8 * len(warm.answers) / (seconds / 2)
    first = await asked(target, bodies, rate, asyncio.sleep(seconds))
    found: list[Any] = []
    promoter = await Promoter.begun(scratch)

    async def swapped() -> None:
        found.extend(await turns(target, promoter, pid, swaps))

    busy = await asked(target, bodies, rate, swapped())
    await promoter.close()
    last = await asked(target, bodies, rate, asyncio.sleep(seconds))
    return rate, [warm, first, busy, last], *found


def main() -> int:
    """The line of S2."""
    swaps, seconds = (60, 4.0) if is_quick() else (300, 20.0)
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bodies, wanted = models(scratch)
        with service(scratch) as (port, pid):
            rate, heard, spans, sizes = asyncio.run(stretches(port, pid, bodies, scratch, swaps, seconds))

    def is_swap(at: float, seconds: float) -> bool:
        return any(low <= at + seconds and at <= high for low, high in spans)

    timed = [(is_swap(at, s), s) for some in heard[1:] for at, s, _, _ in some.answers]
    # Between the swaps too: what else the machine does in those minutes falls on both.
    during, quiet = [s for swap, s in timed if swap], [s for swap, s in timed if not swap]
    p99 = {name: float(np.percentile(some, 99)) * 1000 for name, some in (("quiet", quiet), ("swap", during))}
    early = min(20, swaps // 2)
    after = {turn: statistics.median(sizes[turn - 5 : turn]) for turn in (early, swaps)}
    errors, mixed = sum(some.errors for some in heard), sum(some.mixed(wanted) for some in heard)
    ratio, growth = p99["swap"] / p99["quiet"], after[swaps] / after[early]
    value = {"errors": errors, "mixed": mixed, "p99_ratio": round(ratio, 3), "memory_ratio": round(growth, 3)}
    passed = errors == 0 and mixed == 0 and ratio <= 1.5 and growth <= 1.10 and len(during) > 100
    return told(
        GOAL,
        value,
        {"errors": 0, "mixed": 0, "p99_ratio": 1.5, "memory_ratio": 1.1},
        passed,
        swaps=swaps,
        p99_ms={name: round(v, 2) for name, v in p99.items()},
        p50_ms={"quiet": round(statistics.median(quiet) * 1000, 2), "swap": round(statistics.median(during) * 1000, 2)},
        answers=sum(len(some.answers) for some in heard),
        answers_during_swaps=len(during),
        load_per_s=round(rate, 1),
        swap_s=swap_time(spans),
        rss_mb=round(sizes[-1] / 1e6, 1),
        mutant=mutant(),
    )


if __name__ == "__main__":
    sys.exit(main())
