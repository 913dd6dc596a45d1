"""`keepfit serve NAME` as users start it: workers whose counters add up, who all follow the pointer, and who come back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from made_bundles import constant_bundle

from keepfit.store.records import Records
from keepfit.store.registry import Registry


@contextmanager
def served(workspace: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "keepfit", "serve", *words, "--port", "0", "--workspace", str(workspace)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        while "answers at" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield re.findall(r"http://\S+", said)[-1], process
    finally:
        process.terminate()
        process.communicate(timeout=40)


def ask(url: str) -> tuple[int, str, str]:
    body = httpx.post(f"{url}/predict", json={"input": {"x": 1}}).json()
    assert body["prediction"] == float(body["model"]["version"])
    return os.getpid(), body["model"]["version"], body["request_id"]


def workers_of(pid: int) -> list[str]:
    """The processes that answer; the one that watches is no such."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    return [line.split()[0] for line in listed.splitlines() if "keepfit.serve.worker" in line]


def test_workers_count_exactly_follow_the_pointer_and_come_back(tmp_path):
    registry = Registry(tmp_path)
    for number in (1, 2):
        registry.register(constant_bundle(tmp_path / str(number), number))
    with served(tmp_path, "constant@champion", "--workers", "2") as (url, process), ThreadPoolExecutor(6) as pool:
        first = list(pool.map(lambda _: ask(url), range(120)))
        assert {version for _, version, _ in first} == {"1"}
        for _, _, known in first[::10]:
            said = httpx.post(f"{url}/feedback", json={"request_id": known, "label": 1.0}).json()
            assert said["known"] and said["stored"]  # whichever worker it reaches
        text = httpx.get(f"{url}/metrics").text
        assert re.findall(r'keepfit_predictions_total\{class=""\} (\S+)', text) == ["120.0"]
        assert re.findall(r'keepfit_feedback_total\{result="stored"\} (\S+)', text) == ["12.0"]
        assert re.findall(r'keepfit_model_info\{.*version="(\d)"\}', text) == ["1"]
        registry.promote("constant", 2)
        until = time.monotonic() + 20
        while (
            time.monotonic() < until
            and 'keepfit_swaps_total{result="done"} 2.0' not in httpx.get(f"{url}/metrics").text
        ):
            time.sleep(0.1)
        assert Counter(version for _, version, _ in pool.map(lambda _: ask(url), range(60))) == {"2": 60}

        children = workers_of(process.pid)
        assert len(children) == 2
        os.kill(int(children[0]), signal.SIGKILL)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            alive = workers_of(process.pid)
            if len(alive) == 2 and children[0] not in alive:
                break
            time.sleep(0.2)
        assert len(alive) == 2 and children[0] not in alive
        assert {version for _, version, _ in pool.map(lambda _: ask(url), range(20))} == {"2"}
        total = re.findall(r'keepfit_predictions_total\{class=""\} (\S+)', httpx.get(f"{url}/metrics").text)
        assert total == ["200.0"]  # what the killed one had counted stays
    assert process.returncode == 0
    rows = list(Records.open("constant", tmp_path).rows())
    assert 180 <= len(rows) <= 200 and sum(row.label == 1.0 for row in rows) == 12
    assert [row.at for row in rows] == sorted(row.at for row in rows)


def test_one_process_swaps_and_says_so(tmp_path):
    registry = Registry(tmp_path)
    for number in (1, 2):
        registry.register(constant_bundle(tmp_path / str(number), number))
    with served(tmp_path, "constant", "--record", "sketch") as (url, process):
        assert ask(url)[1] == "1"
        code = subprocess.run(
            [sys.executable, "-m", "keepfit", "models", "promote", "constant", "--workspace", str(tmp_path), "--json"],
            capture_output=True,
            text=True,
        )
        assert json.loads(code.stdout.splitlines()[-1])["version"] == 2
        assert process.stderr is not None and "serve swapped model=constant@2" in process.stderr.readline()
        assert ask(url)[1] == "2"
    assert process.returncode == 0
    assert [row.inputs for row in Records.open("constant", tmp_path).rows()] == [None, None]
