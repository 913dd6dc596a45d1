"""One row over HTTP on one core: `keepfit serve` beside a bare FastAPI service of the same network that checks nothing.

`--mutant nagle` makes the listening socket without naming its protocol, so that replies wait for each other: it must miss the goal.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

import keepfit as kf
from benchmarks.measuring import interval, is_quick, mutant, told

GOAL = "single-row /predict: p50 at most 5 ms on one core, validation on"
ANCHOR_MS = 5.0
BARE = """
import sys
import fastapi, numpy, onnxruntime, pydantic, uvicorn
said = onnxruntime.SessionOptions()
said.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], said, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
class Row(pydantic.BaseModel):
    input: list[float]
app = fastapi.FastAPI()
@app.post("/predict")
def predict(row: Row):
    scores = session.run(None, {name: numpy.array([row.input], numpy.float32)})[0]
    return {"prediction": int(scores[0].argmax()), "probabilities": scores[0].tolist()}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="info", access_log=False)
"""

NAGLE = """
import socket, sys, types
sys.modules["uvloop"] = None  # it names no protocol either, and sets the option on every connection
import keepfit.serve.server as server
server.socket = types.SimpleNamespace(**{**vars(socket), "IPPROTO_TCP": 0})
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""


@contextmanager
def service(*command: str) -> Iterator[int]:
    """A server process on the first core; gives its port."""
    with serving(*command) as (port, _):
        yield port


@contextmanager
def serving(*command: str) -> Iterator[tuple[int, int]]:
    """A server process on the first core; gives its port and process id."""
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                yield int(found[1]), process.pid
                return
        raise SystemExit(f"the service did not start: {command}")
    finally:
        process.terminate()
        process.wait(30)
        with suppress(ProcessLookupError):  # LitServe leaves its workers behind
            os.killpg(process.pid, signal.SIGKILL)


def p50_ms(connection: http.client.HTTPConnection, bodies: list[bytes], count: int) -> float:
    """Median time of one question on a kept connection."""
    times = []
    for place in range(count):
        begun = time.perf_counter()
        connection.request("POST", "/predict", bodies[place % len(bodies)], {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        times.append((time.perf_counter() - begun) * 1000)
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {text!r}")
    return statistics.median(times)


def main() -> int:
    """Pairs of rounds, ours and the bare service's in turn."""
    rounds, count = (7, 100) if is_quick() else (15, 300)
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        run = kf.fit("sklearn:breast_cancer", "diagnosis", overrides=["model.use=gbdt"], workspace=scratch)
        golden = [json.loads(line)["input"] for line in (run.bundle / "golden.jsonl").read_text("utf-8").splitlines()]
        rows = [{name: None if text is None else float(text) for name, text in row.items()} for row in golden]
        full = [json.dumps({"input": row}).encode() for row in rows]
        numbers = np.random.default_rng(0).random((len(rows), features_of(run.bundle)))
        bare = [json.dumps({"input": row.tolist()}).encode() for row in numbers]
        command = ("-c", NAGLE) if mutant() == "nagle" else ("-m", "keepfit", "serve")
        with (
            service(*command, str(run.bundle), "--port", "0") as ours,
            service("-c", BARE, str(run.bundle / "model.onnx"), "0") as theirs,
        ):
            lines = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in (ours, theirs)]
            for line, bodies in zip(lines, (full, bare), strict=True):
                p50_ms(line, bodies, 50)
            pairs = [(p50_ms(lines[0], full, count), p50_ms(lines[1], bare, count)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    low, high = interval([a for a, _ in pairs])
    return told(
        GOAL,
        round(statistics.median(a for a, _ in pairs), 3),
        ANCHOR_MS,
        high <= ANCHOR_MS,
        interval=[low, high],
        unit="ms",
        bare_ms=round(statistics.median(b for _, b in pairs), 3),
        ratio=round(statistics.median(ratios), 3),
        ratio_interval=interval(ratios),
        pairs=rounds,
        questions=rounds * count,
    )


def features_of(bundle: Path) -> int:
    """How many features the network reads."""
    import onnxruntime

    shape = (
        onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
        .get_inputs()[0]
        .shape
    )
    return int(shape[1])


if __name__ == "__main__":
    sys.exit(main())
