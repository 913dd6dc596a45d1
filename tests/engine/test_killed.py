"""Runs that are killed at any moment, and runs at the same time in one workspace; real processes, real signals."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from made_tables import made_run, write_recipe

import keepfit as kf
from keepfit.engine.plan import STAGES

RUN = """
import sys, keepfit as kf
run = kf.run(sys.argv[1], sys.argv[3:], workspace=sys.argv[2], emit=lambda e: print(e.at, e.what, flush=True))
print("path", run.path, flush=True)
"""
BUNDLE = ("model.onnx", "preparation.json", "profile.json", "golden.jsonl")


def start(recipe, workspace, *overrides):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(recipe), str(workspace), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(workspace) -> set[str]:
    path = workspace / ".keepfit/journal.sqlite"
    if not path.is_file():
        return set()
    try:
        return {row[0] for row in sqlite3.connect(path, timeout=30).execute("select stage from steps")}
    except sqlite3.OperationalError:  # killed before the tables were made
        return set()


def bytes_of(run):
    files = {name: (run / "bundle" / name).read_bytes() for name in BUNDLE}
    return {**files, "predictions.parquet": (run / "predictions.parquet").read_bytes()}


def test_killed_at_twelve_moments_and_then_finished_with_the_same_bytes(tmp_path):
    undisturbed = made_run(tmp_path / "calm", learner="gbdt")
    recipe, workspace = write_recipe(tmp_path / "killed", learner="gbdt"), tmp_path / "killed"
    rng = random.Random(7)
    kills, lost, seen = 0, 0, []
    for number in range(12):
        before = recorded(workspace)
        process = start(recipe, workspace)
        for _ in range(number % 6 + 1):  # waits for some news, then for a random moment
            line = process.stdout.readline()
            if not line:
                break
            seen.append(line.strip())
        time.sleep(rng.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        lost += len(before - recorded(workspace))
        if process.returncode == 0:
            for found in (workspace / "runs/small").glob("0*"):
                assert (found / "plan.json").is_file() or found.is_dir()
    assert kills >= 8 and lost == 0 and len(seen) >= 12
    before = recorded(workspace)
    last = start(recipe, workspace)
    out, err = last.communicate()
    assert last.returncode == 0, err
    kept = {line.split()[0] for line in out.splitlines() if line.endswith(" kept")}
    assert kept == before
    run = workspace / "runs/small/latest"
    assert bytes_of(run) == bytes_of(undisturbed.path) and len(bytes_of(run)) == 5
    assert json.loads((run / "plan.json").read_bytes())["keys"] and kf.load(run / "bundle")
    assert sqlite3.connect(workspace / ".keepfit/journal.sqlite").execute("pragma integrity_check").fetchone() == (
        "ok",
    )


def test_the_last_finished_step_is_kept_after_a_kill(tmp_path):
    recipe = write_recipe(tmp_path)
    process = start(recipe, tmp_path)
    for line in process.stdout:
        if line.startswith("clean made"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert recorded(tmp_path) >= set(STAGES[:3])
    run = kf.run(recipe, workspace=tmp_path)
    assert [s["status"] for s in run.stages][:3] == ["kept"] * 3 and run.path.name == "0001"


@pytest.mark.parametrize(
    "overrides", [[[], []], [["model.params.c=0.5"], []]], ids=["the same recipe", "other recipes"]
)
def test_runs_at_once_in_one_workspace_do_not_harm_each_other(tmp_path, overrides):
    recipe = write_recipe(tmp_path)
    processes = [start(recipe, tmp_path, *said) for said in overrides]
    outs = [p.communicate() for p in processes]
    assert [p.returncode for p in processes] == [0] * 2, [err[-600:] for _, err in outs]
    paths = {out.splitlines()[-1].removeprefix("path ") for out, _ in outs}
    runs = sorted(p for p in (tmp_path / "runs/small").iterdir() if p.name.isdigit())
    assert len(runs) == len(paths) >= (2 if overrides[0] else 1)
    for path in runs:
        kf.load(path / "bundle")
        assert (path / "plan.json").is_file() and (path / "report.html").is_file()
    if not overrides[0]:
        assert len({json.dumps({k: v.hex() for k, v in bytes_of(path).items()}) for path in runs}) == 1
    assert {s["status"] for s in kf.run(recipe, workspace=tmp_path).stages} == {"kept"}
