"""Whole runs whose train stage is two processes, by learner; and the first Ctrl-C of such a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from made_pictures import write_pictures
from made_pictures import write_recipe as write_shapes
from made_tables import made_run, statuses

import keepfit as kf

pytest.importorskip("torch", reason="torch is not installed (extra networks)")

TWO = "distributed: {use: %s, processes: 2}"
TRAIN = "train: {epochs: %d, batch_size: 8, precision: fp32, " + TWO + "}\n"
NET = """
from torch import nn
def Net(features, classes):
    return nn.Sequential(nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))
"""
LEARNERS = {"mlp": "{use: mlp, params: {hidden: [16], periodic: 2}}", "custom": "{use: custom, class: net.py:Net}"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "use"), [("mlp", "ddp"), ("custom", "fsdp")])
def test_tables_are_learned_by_two_processes(tmp_path, name, use):
    (tmp_path / "net.py").write_text(NET)
    run = made_run(tmp_path, learner=LEARNERS[name], more=TRAIN % (2, use))
    saved = json.loads((run.bundle / "bundle.json").read_bytes())
    assert saved["parity"]["labels_equal"] == 1.0 and statuses(run)["train"] == "made"
    assert run.metrics["test"]["accuracy"] > 0.5
    assert statuses(kf.run(tmp_path / "small.yaml", workspace=tmp_path))["train"] == "kept"


@pytest.mark.slow
def test_the_first_ctrl_c_packages_the_best_of_two_processes(tmp_path):
    write_pictures(tmp_path / "pictures")
    recipe = write_shapes(tmp_path, train=TRAIN % (4000, "ddp"))
    command = [sys.executable, "-m", "keepfit", "run", str(recipe), "--workspace", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any(line.startswith("train") and "epoch 1 " in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "packaging the best so far" in err, err[-600:]
    said = json.loads(out.splitlines()[-1])
    assert said["interrupted"] is True and kf.api.verify(said["bundle"])["verified"]
