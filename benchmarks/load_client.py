"""A client that costs little, on the last core: wrk where there is one, else `keepfit.load_test` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LUA = """
local file = io.open(os.getenv("BODY"), "r"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency)
  local failed = summary.errors
  print(string.format('RESULT {"answers": %d, "micros": %d, "p50": %d, "p99": %d, "refused": %d, "failed": %d, "late": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed.status,
    failed.connect + failed.read + failed.write + failed.timeout, failed.timeout))
end
"""
OWN = """
import asyncio, json, sys
from pathlib import Path
from keepfit.load_test import Target, closed_loop
target = Target.of(sys.argv[1])
request = target.request("POST", "/predict", Path(sys.argv[2]).read_bytes())
print(json.dumps(asyncio.run(closed_loop(target, request, int(sys.argv[3]), float(sys.argv[4])))))
"""


def client() -> str:
    """What asks: wrk or keepfit."""
    return "wrk" if shutil.which("wrk") else "keepfit"


def press(port: int, body: bytes, connections: int, seconds: float, path: str = "/predict") -> dict[str, float]:
    """Ask over kept connections as fast as answers come: answers_per_s, p50_ms, p99_ms, refused, failed, and
    how many of those that failed were only late (over 2 s)."""
    last = ["taskset", "-c", str(max(os.sched_getaffinity(0)))]
    with tempfile.TemporaryDirectory(prefix="keepfit-load-") as folder:
        asked, script = Path(folder, "body"), Path(folder, "post.lua")
        asked.write_bytes(body)
        script.write_text(LUA)
        url = f"http://127.0.0.1:{port}"
        if client() == "keepfit":
            said = [sys.executable, "-c", OWN, url, str(asked), str(connections), str(seconds)]
            found: dict[str, Any] = json.loads(subprocess.run([*last, *said], capture_output=True, check=True).stdout)
            return {name: found[name] for name in ("answers_per_s", "p50_ms", "p99_ms", "refused", "failed")} | {
                "late": 0
            }
        said = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url + path]
        env = {**os.environ, "BODY": str(asked)}
        out = subprocess.run([*last, *said], capture_output=True, check=True, text=True, env=env).stdout
    seen = json.loads(re.search(r"RESULT (.*)", out)[1])  # type: ignore[index]
    good = seen["answers"] - seen["refused"]
    return {
        "answers_per_s": round(good / seen["micros"] * 1e6, 1),
        "p50_ms": seen["p50"] / 1000,
        "p99_ms": seen["p99"] / 1000,
        "refused": seen["refused"],
        "failed": seen["failed"],
        "late": seen["late"],
    }
