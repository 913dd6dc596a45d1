"""A network whose training is killed goes on from its checkpoint and ends with the same bytes; real processes and signals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from made_pictures import write_pictures, write_recipe
from made_tables import statuses

import keepfit as kf

pytest.importorskip("torch", reason="torch is not installed (extra networks)")

RUN = """
import sys, keepfit as kf
run = kf.run(sys.argv[1], workspace=sys.argv[2], emit=lambda e: print(e.at, e.what, flush=True))
"""
TRAIN = (
    "train: {epochs: 3, batch_size: 4, precision: fp32, dropout: 0.3, ema: 0.5, checkpoint: {every: 1 steps}}\n"
    "augment: [flip, {use: rotate, degrees: 10}, mixup]\n"
)


def walked(recipe, workspace, **said):
    """A run, and what its training said."""
    seen = []
    run = kf.run(recipe, workspace=workspace, emit=lambda e: seen.append(e.what) if e.at == "train" else None, **said)
    return run, seen


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    write_pictures(folder / "pictures")
    return kf.run(write_recipe(folder, train=TRAIN), workspace=folder, until="package"), folder


def prepared(calm, folder):
    folder.mkdir(parents=True)
    shutil.copytree(calm[1] / "pictures", folder / "pictures")
    return write_recipe(folder, train=TRAIN)


def until_epoch(process, stream):
    """Waits for the end of the first epoch."""
    for line in stream:
        if line.startswith("train") and "epoch" in line:
            return
    raise AssertionError(process.communicate())


def test_killed_while_training_and_then_finished_with_the_same_bytes(calm, tmp_path):
    recipe = prepared(calm, tmp_path / "killed")
    command = [sys.executable, "-c", RUN, str(recipe), str(recipe.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until_epoch(process, process.stdout)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    saved = list((recipe.parent / ".keepfit/scratch").rglob("state.json"))
    assert 1 <= len(saved) <= 2 and json.loads(saved[-1].read_bytes())["state"]["step"] >= 1

    shutil.copytree(recipe.parent, tmp_path / "fresh")
    run, seen = walked(recipe, recipe.parent, until="package")
    assert (seen.count("resumed"), seen[0], seen[-1]) == (1, "started", "made")
    assert [s["status"] for s in run.stages][:4] == ["kept"] * 3 + ["made"]
    assert run.files["package"] == calm[0].files["package"] and len(run.files["package"]) == 8
    assert run.files["train"] == calm[0].files["train"]
    assert not list((recipe.parent / ".keepfit/scratch").rglob("state.json"))
    assert set(statuses(kf.run(recipe, workspace=recipe.parent, until="package")).values()) == {"kept"}

    anew, seen = walked(tmp_path / "fresh/shapes.yaml", tmp_path / "fresh", fresh=True, until="train")
    assert "resumed" not in seen and seen.count("epoch") == 3 and set(statuses(anew).values()) == {"made"}
    assert anew.files["train"] == calm[0].files["train"]


def test_two_runs_at_once_do_not_harm_each_other(calm, tmp_path):
    recipe = prepared(calm, tmp_path / "both")
    command = [sys.executable, "-c", RUN, str(recipe), str(recipe.parent)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until_epoch(other, other.stdout)
    run, seen = walked(recipe, recipe.parent, until="package")
    _, err = other.communicate()
    assert other.returncode == 0, err[-600:]
    assert "resumed" not in seen and seen.count("epoch") == 3
    assert run.files["package"] == calm[0].files["package"]
    bundle = recipe.parent / "runs/shapes/0001/bundle"
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == calm[0].files["package"]
    assert not list((recipe.parent / ".keepfit/scratch").rglob("state.json"))
    assert set(statuses(kf.run(recipe, workspace=recipe.parent)).values()) == {"kept"}


def test_ctrl_c_once_packages_the_best_so_far(calm, tmp_path):
    recipe = prepared(calm, tmp_path / "stopped")
    recipe.write_text(recipe.read_text().replace("epochs: 3", "epochs: 4000"))
    command = [sys.executable, "-m", "keepfit", "run", str(recipe), "--workspace", str(recipe.parent), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until_epoch(process, process.stderr)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0 and "packaging the best so far" in err, err[-600:]
    said = json.loads(out.splitlines()[-1])
    assert said["interrupted"] is True and (said["modality"], said["task"]) == ("image", "classification")
    assert kf.api.verify(said["bundle"])["verified"] and said["metrics"]["test"]["accuracy"] >= 0

    seen = []
    again = kf.run(
        recipe,
        workspace=recipe.parent,
        until="train",
        emit=lambda e: seen.append(e.what),
        stopped=lambda: "epoch" in seen,
    )
    assert seen.count("resumed") == 1 and again.interrupted and statuses(again)["train"] == "made"


@pytest.mark.parametrize("size", [4, 64])
def test_stopped_in_the_first_epoch(calm, tmp_path, size):
    recipe = prepared(calm, tmp_path / "early")
    recipe.write_text(
        recipe.read_text().replace("batch_size: 4", f"batch_size: {size}").replace("epochs: 3", "epochs: 4000")
    )
    pressed = []
    run = kf.run(
        recipe,
        workspace=recipe.parent,
        emit=lambda e: pressed.append(e) if (e.at, e.what) == ("train", "started") else None,
        stopped=lambda: bool(pressed),
    )
    assert run.interrupted and kf.api.verify(run.bundle)["verified"] and run.report.is_file()
    assert len(json.loads(run.files["train"]["trained.json"])["epochs"]) == 0  # 64 is cut to a quarter of the rows
    assert run.metrics["test"]["log_loss"] > 0
