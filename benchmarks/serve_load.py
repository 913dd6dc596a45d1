"""784 numbers over HTTP: `keepfit serve`, all on, beside a bare FastAPI + pydantic + onnxruntime service of the same network.

Rounds of both in turn, both servers on the first core, the client on the last. Validation, metrics, sketches against the profile
and the full record of every answer are on. `--mutant alone` switches batching off, `--mutant text` the way of numbers past text:
each must miss.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.load_client import client, press
from benchmarks.measuring import interval, is_quick, mutant, told
from benchmarks.serve_row import BARE, service
from benchmarks.wide_bundle import NAMES, rows, wide_bundle

GOAL = "784 numbers as JSON beside bare FastAPI + pydantic + onnxruntime: throughput, p99 at 64 connections, p50 at 1"
ANCHORS = {"throughput": 2.0, "p99": 0.5, "p50_alone": 1.15}
TEXT = """
import sys
from keepfit.runtime.predictor import Predictor
Predictor.quick_body = lambda self, body, most: None
from keepfit.cli.main import run
sys.exit(run(["serve", *sys.argv[1:]]))
"""
Pair = tuple[dict[str, float], dict[str, float]]


def bodies() -> tuple[bytes, bytes]:
    """The same row for us, by column, and for the bare service."""
    row = rows(1)[0]
    ours = dict(zip(NAMES, row, strict=True))
    return json.dumps({"input": ours}).encode(), json.dumps({"input": row}).encode()


def main() -> int:
    """Pairs of rounds at 64 and at 1 connection."""
    pairs, seconds = (3, 1.0) if is_quick() else (9, 2.0)
    said = "{batch: {max: 1}}" if mutant() == "alone" else "{}"
    asked = bodies()
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        bundle = wide_bundle(Path(scratch, "bundle"), serve=said)
        command = ("-c", TEXT) if mutant() == "text" else ("-m", "keepfit", "serve")
        with (
            service(*command, str(bundle), "--port", "0", "--workspace", scratch) as ours,
            service("-c", BARE, str(bundle / "model.onnx"), "0") as bare,
        ):
            for port, body in zip((ours, bare), asked, strict=True):
                press(port, body, 8, 1.0)

            def pair(connections: int) -> Pair:
                one, two = (
                    press(port, body, connections, seconds) for port, body in zip((ours, bare), asked, strict=True)
                )
                return one, two

            many, alone = [pair(64) for _ in range(pairs)], [pair(1) for _ in range(pairs)]
    return judged(many, alone)


def judged(many: list[Pair], alone: list[Pair]) -> int:
    """The line."""
    seen = {
        "throughput": [ours["answers_per_s"] / bare["answers_per_s"] for ours, bare in many],
        "p99": [ours["p99_ms"] / bare["p99_ms"] for ours, bare in many],
        "p50_alone": [ours["p50_ms"] / bare["p50_ms"] for ours, bare in alone],
    }
    intervals = {name: interval(values) for name, values in seen.items()}
    lost = sum(ours["refused"] + ours["failed"] for ours, _ in [*many, *alone])
    passed = (
        intervals["throughput"][0] >= ANCHORS["throughput"]
        and all(intervals[name][1] <= ANCHORS[name] for name in ("p99", "p50_alone"))
        and lost == 0
    )
    shown = {
        f"{who}_{connections}": {
            name: round(statistics.median(pair[place][name] for pair in found), 3)
            for name in ("answers_per_s", "p50_ms", "p99_ms")
        }
        for connections, found in ((64, many), (1, alone))
        for place, who in enumerate(("ours", "bare"))
    }
    middle = {name: round(statistics.median(values), 3) for name, values in seen.items()}
    more = {"pairs": len(many), "client": client(), "lost": lost, "mutant": mutant()}
    return told(GOAL, middle, ANCHORS, passed, interval=intervals, **more, **shown)


if __name__ == "__main__":
    sys.exit(main())
