"""`keepfit run` in several processes and on two hosts (two folders that meet on a port of the loopback)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from made_pictures import write_pictures, write_recipe

import keepfit as kf
from keepfit import start
from keepfit.core.errors import EnvironmentFault, RecipeError
from keepfit.engine.plan import plan
from keepfit.recipe.load import load

pytest.importorskip("torch", reason="torch is not installed (extra networks)")

TRAIN = "train: {epochs: 2, batch_size: 4, precision: fp32, distributed: {use: ddp, processes: 1}}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    write_pictures(folder / "pictures")
    return write_recipe(folder, train=TRAIN)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def key(recipe, *said):
    return next(step.key for step in plan(load(recipe, said)).steps if step.stage == "train")


def started(command):
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def ends(make):
    """Status, output and errors of two hosts that `make(port, rank)` gives the commands of.

    A port that was free a moment ago may be another's now: the first host then ends with that error, and both start again on
    another port.
    """
    first, tries = ("", ""), 0
    while not tries or (tries < 5 and ("[port_taken]" in first[1] or "EADDRINUSE" in first[1])):
        port, tries = free_port(), tries + 1
        hosts = [started(make(port, rank)) for rank in (0, 1)]
        try:
            first = hosts[0].communicate(timeout=120)
            second = hosts[1].communicate(timeout=30 if hosts[0].returncode == 0 else 1)
        except subprocess.TimeoutExpired as late:
            second = (str(late.output), f"not ended: {late.stderr}")
        finally:
            for host in hosts:
                host.terminate()
                host.communicate(timeout=30)
    assert [host.returncode for host in hosts] == [0, 0], (first, second)
    return first, second


def test_two_hosts_train_one_model_and_the_first_one_has_it(place, tmp_path):
    def command(port, rank):
        said = ["nodes=2", f"rendezvous=127.0.0.1:{port}", f"node_rank={rank}"]
        program = [sys.executable, "-m", "keepfit", "run", str(place), "--until", "train"]
        return [*program, *(f"train.distributed.{part}" for part in said), "--workspace", str(tmp_path / str(rank))]

    first, second = ends(command)
    assert "epoch 2 of 2" in first[1] and "epoch" not in second[1]
    assert "train made" in first[0] and "train elsewhere" in second[0]
    assert not list((tmp_path / "1/.keepfit/scratch").rglob("step-*"))


def test_a_port_that_another_holds_is_told(place, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        meet = f"train.distributed.rendezvous=127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(EnvironmentFault) as caught:
            kf.run(place, ["train.distributed.nodes=2", meet], workspace=tmp_path, until="train")
    assert caught.value.code == "port_taken" and caught.value.where == meet.rpartition("=")[2]


@pytest.mark.slow
def test_a_launcher_of_the_users_own_starts_the_whole_line_on_two_hosts(place, tmp_path):
    def command(port, rank):
        meet = [f"--master-port={port}", "--master-addr=127.0.0.1", "--nnodes=2", "--nproc-per-node=1"]
        launcher = [sys.executable, "-m", "torch.distributed.run", *meet, f"--node-rank={rank}"]
        program = ["-m", "keepfit", "run", str(place), "train.distributed.processes=2", "--until", "train"]
        return [*launcher, *program, "--workspace", str(tmp_path / str(rank))]

    first, second = ends(command)
    assert "epoch 2 of 2" in first[1] and "epoch" not in second[1]
    assert (tmp_path / "0/.keepfit").is_dir() and not (tmp_path / "1").exists()


def test_the_key_knows_how_many_but_not_where(place):
    two = ("train.distributed.nodes=2", "train.distributed.rendezvous=a:1")
    assert key(place, *two) == key(place, "train.distributed.processes=2")
    assert key(place, *two) == key(place, *two[:1], "train.distributed.rendezvous=b:2", "train.distributed.node_rank=1")
    assert key(place, *two) != key(place) != key(place, *two, "train.distributed.use=fsdp")


def test_a_launcher_that_started_another_number_is_told(place, tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError) as caught:
        kf.run(place, workspace=tmp_path)
    assert caught.value.code == "other_processes" and "must be 3" in caught.value.hint


def test_check_says_how_a_step_is_shared(place, tmp_path):
    said = start.check(place, ["train.distributed.processes=2", "train.distributed.use=fsdp"], tmp_path)["processes"]
    assert (said["use"], said["processes"], said["step_rows"]) == ("fsdp", 2, 8)
    assert "rows of a step in all processes" in said["batch_norm"]
    assert "processes" not in start.check(place, [], tmp_path)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("nodes=2", "several nodes need rendezvous"),
        ("node_rank=1", "node_rank counts from 0"),
        ("launcher=horovod", "there is no launcher 'horovod'"),
    ],
)
def test_what_does_not_go_together_is_said(place, said, words):
    with pytest.raises(RecipeError, match=words):
        load(Path(place), [f"train.distributed.{said}"])
