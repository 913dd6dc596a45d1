"""300 hot swaps of a registered model while it serves at 80 % of what it can: errors, mixed answers, latency during swaps, memory.

Three boosted models of one table take turns; every answer is checked against that of the version that it names.
`--mutant name_first` names the next version before its model answers, as a service with two variables would: answers must mix.
`--mutant keep` never lets go of a model that was swapped away: memory must be seen to grow.
"""

from __future__ import annotations

import http.client
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, told

GOAL = (
    "hot swaps under 80 % load: 0 errors, 0 mixed answers, p99 during a swap at most 1.5x, "
    "memory after the last at most 1.10x that after swap 20"
)
CLIENTS, ROWS = 4, 16
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
"""
RUN = "{}\nimport sys\nfrom keepfit.cli.main import run\nsys.exit(run(sys.argv[1:]))"


@contextmanager
def service(workspace: str) -> Iterator[tuple[int, int]]:
    """`keepfit serve bench`; gives port and process id."""
    code = RUN.format(MUTANTS.get(mutant() or "", ""))
    command = [sys.executable, "-c", code, "serve", "bench", "--port", "0", "--workspace", workspace]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(found[1]), process.pid
                return
        raise SystemExit("the service did not start")
    finally:
        process.terminate()
        process.wait(60)


class Client(threading.Thread):
    """Asks at a rate (0: as fast as it can) and checks every answer; `times` holds (begun, seconds)."""

    def __init__(self, port: int, bodies: list[bytes], wanted: dict[str, list[Any]], rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.bodies, self.wanted, self.rate = port, bodies, wanted, rate
        self.times: list[tuple[float, float]] = []
        self.errors, self.mixed = 0, 0
        self.draw, self.ending = np.random.default_rng(seed), threading.Event()

    def run(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        due = time.perf_counter()
        while not self.ending.is_set():
            if self.rate:
                due += float(self.draw.exponential(1 / self.rate))
                time.sleep(max(0.0, due - time.perf_counter()))
            which = int(self.draw.integers(len(self.bodies)))
            # From when it was due, so that a stall is not hidden by the questions that it held up.
            begun = due if self.rate else time.perf_counter()
            try:
                line.request("POST", "/predict", self.bodies[which], {"Content-Type": "application/json"})
                reply = line.getresponse()
                body = json.loads(reply.read())
                self.errors += reply.status != 200
            except (OSError, http.client.HTTPException, ValueError):
                self.errors += 1
                line.close()
                continue
            self.times.append((begun, time.perf_counter() - begun))
            if reply.status == 200:
                said = [next(iter(one["probabilities"].values())) for one in body["predictions"]]
                self.mixed += not np.allclose(said, self.wanted[body["model"]["version"]][which], atol=1e-6)


def asked(port: int, bodies: list[bytes], wanted: dict[str, list[Any]], rate: float, during: Any) -> list[Client]:
    """Clients that ask while `during()` runs."""
    clients = [Client(port, bodies, wanted, rate / CLIENTS, seed) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    during()
    for client in clients:
        client.ending.set()
    for client in clients:
        client.join(60)
    return clients


def swap_time(spans: list[tuple[float, float]]) -> float:
    """Median seconds from the promotion to the first answer of the promoted version."""
    return round(statistics.median(high - low for low, high in spans), 3)


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
            overrides=["model.use=gbdt", f"seed={seed}", f"model.params.rounds={40 + 20 * seed}"],
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


def main() -> int:
    """Capacity, a quiet stretch, the swaps, another quiet stretch."""
    swaps, seconds = (30, 4.0) if is_quick() else (300, 20.0)
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bodies, wanted = models(scratch)
        # In a process of its own: the clients' clocks must not wait for it.
        promoter = subprocess.Popen(
            [sys.executable, "-c", PROMOTE, scratch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert promoter.stdin is not None and promoter.stdout is not None
        promoter.stdout.readline()
        with service(scratch) as (port, pid):
            warm = asked(port, bodies, wanted, 0, lambda: time.sleep(seconds / 2))
            peak = sum(len(c.times) for c in warm) / (seconds / 2)
            rate, spans, sizes = 0.8 * peak, [], {}

            def turns() -> None:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                for turn in range(1, swaps + 1):
                    number = (2, 3, 1)[turn % 3]
                    begun = time.perf_counter()
                    promoter.stdin.write(f"{number}\n")
                    promoter.stdin.flush()
                    while True:
                        line.request("GET", "/healthz")
                        if json.loads(line.getresponse().read())["model"]["version"] == str(number):
                            break
                        time.sleep(0.01)
                    spans.append((begun, time.perf_counter()))
                    time.sleep(0.3)
                    sizes[turn] = memory(pid)

            first = asked(port, bodies, wanted, rate, lambda: time.sleep(seconds))
            busy = asked(port, bodies, wanted, rate, turns)
            last = asked(port, bodies, wanted, rate, lambda: time.sleep(seconds))
        promoter.stdin.close()
        promoter.wait(60)
    clients = [*warm, *first, *busy, *last]
    quiet = [s for c in [*first, *last] for _, s in c.times]
    during = [s for c in busy for at, s in c.times if any(low <= at + s and at <= high for low, high in spans)]
    p99 = {name: float(np.percentile(some, 99)) * 1000 for name, some in (("quiet", quiet), ("swap", during))}
    early = min(20, swaps // 2)
    after = {turn: statistics.median(sizes[n] for n in range(turn - 4, turn + 1)) for turn in (early, swaps)}
    growth = after[swaps] / after[early]
    errors, mixed = sum(c.errors for c in clients), sum(c.mixed for c in clients)
    ratio = p99["swap"] / p99["quiet"]
    value = {"errors": errors, "mixed": mixed, "p99_ratio": round(ratio, 3), "memory_ratio": round(growth, 3)}
    passed = errors == 0 and mixed == 0 and ratio <= 1.5 and growth <= 1.10 and len(during) > 100
    return told(
        GOAL,
        value,
        {"errors": 0, "mixed": 0, "p99_ratio": 1.5, "memory_ratio": 1.1},
        passed,
        swaps=swaps,
        p99_ms={name: round(v, 2) for name, v in p99.items()},
        answers=sum(len(c.times) for c in clients),
        answers_during_swaps=len(during),
        load_per_s=round(rate, 1),
        swap_s=swap_time(spans),
        rss_mb=round(sizes[swaps] / 1e6, 1),
        cores=len(os.sched_getaffinity(0)),
    )


if __name__ == "__main__":
    sys.exit(main())
