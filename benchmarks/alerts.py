"""A planted latency, error, broken feed, drift, loss of accuracy and stop each raise their own alert, and no other, in a real
Prometheus; hostile requests add no series.

Rules and configuration are those that `keepfit dashboards` writes, over a window of seconds. Needs Debian's package
`prometheus`. `--mutant uncounted` serves without counting requests, `--mutant unwatched` without its monitor: their alerts do
not come then, and the goal is missed.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, told
from benchmarks.measuring import skipped as not_measured
from keepfit import dashboards

GOAL = "a planted latency, error, broken feed, drift, loss of accuracy and stop each raise their own alert only; at most 200 series"
WINDOW, HELD, PATIENCE_S, CALM_S = "6s", "2s", 90.0, 20.0
ROWS = 100  # of a monitored window
FAULTY = """
import os, sys, time
from keepfit.runtime.network import Network
before, place = Network.scores, sys.argv.pop(1)
def scores(self, features):
    said = open(place).read() if os.path.exists(place) else ""
    if said == "slow":
        time.sleep(0.8)
    if said == "error":
        raise RuntimeError("planted")
    return before(self, features)
Network.scores = scores
"""
MUTANTS = {
    "uncounted": """
from keepfit.serve.meters import Meters
Meters.answered = lambda self, route, status, seconds: None
""",
    "unwatched": """
import contextlib, keepfit.serve.server
keepfit.serve.server.watched = lambda *given: contextlib.nullcontext()
""",
}
RUN = "{}{}\nfrom keepfit.cli.main import run\nsys.exit(run(sys.argv[1:]))"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def program(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs while the block does."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def until(wanted: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with suppress(OSError, ValueError, http.client.HTTPException):
            if wanted():
                return True
        time.sleep(0.25)
    return False


def firing(port: int) -> set[str]:
    """The names of the alerts that fire."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=10) as reply:
        said = json.load(reply)["data"]["alerts"]
    return {one["labels"]["alertname"] for one in said if one["state"] == "firing"}


class Asker(threading.Thread):
    """Asks about rows and tells what was true, ten times a second, whatever comes back; `fault` says what is wrong with them."""

    def __init__(self, port: int, fault: Path, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self.port, self.fault, self.ending, self.asked = port, fault, threading.Event(), 0
        self.rng = np.random.default_rng(seed)

    def run(self) -> None:
        while not self.ending.wait(0.1):
            with suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                self.ask(line)
                line.close()
                self.asked += 1

    def ask(self, line: http.client.HTTPConnection) -> None:
        """Rows of the world of `drawn`, and their labels."""
        said = self.fault.read_text() if self.fault.exists() else ""
        rows, truth = drawn(5, self.rng, said)
        found = self.post(line, "/predict", {"inputs": rows})
        self.post(line, "/feedback", {"request_id": found["request_id"], "labels": truth})

    def post(self, line: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer as JSON."""
        line.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        found: dict[str, Any] = json.loads(line.getresponse().read())
        return found


def drawn(rows: int, rng: np.random.Generator, said: str = "") -> tuple[list[dict[str, float]], list[str]]:
    """A world of three numbers, in which nine of ten labels follow from their sum; and what is planted in it."""
    x = rng.normal([5.0, 10.0, 20.0], 1.0, (rows, 3))
    truth = np.where(rng.random(rows) < (0.4 if said == "turned" else 0.1), -1, 1) * np.sign(x.sum(1) - 35) > 0
    if said == "shifted":
        x[:, 1] += 1.5
        truth = np.where(rng.random(rows) < 0.1, -1, 1) * np.sign(x.sum(1) - 35) > 0
    if said == "broken":
        x[:, 0] *= 1000
    cells = [dict(zip("abc", map(float, row), strict=True)) for row in x.round(3)]
    return cells, [("no", "yes")[int(one)] for one in truth]


def trained(folder: Path) -> Path:
    """A bundle for the world of `drawn`."""
    rows, truth = drawn(2000, np.random.default_rng(1))
    lines = ["a,b,c,answer", *(f"{r['a']},{r['b']},{r['c']},{t}" for r, t in zip(rows, truth, strict=True))]
    (folder / "world.csv").write_text("\n".join(lines) + "\n")
    said = ["model.use=linear", f"monitor.window={ROWS}", "clean.labels=off"]
    return kf.fit(str(folder / "world.csv"), "answer", workspace=folder, overrides=said).bundle


def hostile(port: int, count: int) -> int:
    """Send requests whose path, method, query, headers and names are all different; how many were answered."""
    answered = 0
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        path = ("/predict", f"/v2/models/m{number}/infer", f"/x{number}", f"/healthz?{number}")[number % 4]
        body = json.dumps({"input": {f"column{number}": number}}).encode()
        try:
            line.request(f"M{number}" if number % 7 == 0 else "POST", path, body, {f"X-{number}": str(number)})
            line.getresponse().read()
            answered += 1
        except (OSError, http.client.HTTPException):
            line.close()
    line.close()
    return answered


def series(port: int) -> int:
    """Lines of /metrics that are samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        return sum(not line.startswith(b"#") for line in reply.read().splitlines())


def stretch(fault: Path, said: str, port: int, wanted: set[str]) -> dict[str, Any]:
    """Plant a fault, wait for its alert and then a little for others, mend it, wait until all is calm."""
    fault.write_text(said)
    begun = time.monotonic()
    came = until(lambda: firing(port) >= wanted)
    seconds = time.monotonic() - begun
    time.sleep(3)
    raised = firing(port)
    fault.write_text("")
    return {
        "raised": sorted(raised),
        "seconds": round(seconds, 1) if came else None,
        "calm": until(lambda: not firing(port)),
    }


def configured(folder: Path, target: int) -> None:
    """Prometheus's files as the verb would write them, over seconds."""
    (folder / "prometheus.yml").write_text(json.dumps(dashboards.prometheus([f"127.0.0.1:{target}"], every="1s")))
    (folder / "keepfit.rules.yml").write_text(json.dumps(dashboards.rules(WINDOW, HELD)))


def main() -> int:
    """Quiet, slow, wrong, hostile, gone."""
    if shutil.which("prometheus") is None:
        return not_measured(GOAL, 200, "no prometheus on this machine: apt install prometheus")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        folder, service, port = Path(scratch), free_port(), free_port()
        fault = folder / "fault"
        bundle = trained(folder)
        configured(folder, service)
        code = RUN.format(FAULTY, MUTANTS.get(mutant() or "", ""))
        serving = [sys.executable, "-c", code, str(fault), "serve", str(bundle), "--port", str(service)]
        watching = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        with program(watching, folder / "prometheus.log"):
            with program([*serving, "--workspace", scratch], folder / "service.log"):
                if not until(lambda: series(service) > 0) or not until(lambda: firing(port) is not None):
                    raise SystemExit(
                        (folder / "service.log").read_text() + (folder / "prometheus.log").read_text()[-2000:]
                    )
                asker = Asker(service, fault)
                asker.start()
                until(lambda: not firing(port))
                time.sleep(CALM_S)
                found["quiet"] = {"raised": sorted(firing(port))}
                found["latency"] = stretch(fault, "slow", port, {"KeepfitSlow"})
                found["error"] = stretch(fault, "error", port, {"KeepfitErrors"})
                found["feed"] = stretch(fault, "broken", port, {"KeepfitFeedBroken"})
                found["drift"] = stretch(fault, "shifted", port, {"KeepfitDrift"})
                found["accuracy"] = stretch(fault, "turned", port, {"KeepfitAccuracy"})
                asker.ending.set()
                asker.join(30)
                count = 2_000 if is_quick() else 100_000
                answered, size = hostile(service, count), series(service)
            until(lambda: firing(port) >= {"KeepfitDown"})
            time.sleep(3)
            found["stop"] = {"raised": sorted(firing(port) - {"KeepfitRefusals"})}
    wanted = {"quiet": [], "latency": ["KeepfitSlow"], "error": ["KeepfitErrors"], "feed": ["KeepfitFeedBroken"]}
    wanted |= {"drift": ["KeepfitDrift"], "accuracy": ["KeepfitAccuracy"], "stop": ["KeepfitDown"]}
    raised = {name: one["raised"] for name, one in found.items()}
    passed = raised == wanted and size <= 200 and answered == count
    return told(GOAL, {"series": size, **raised}, {"series": 200, **wanted}, passed, found=found, hostile=answered)


if __name__ == "__main__":
    sys.exit(main())
