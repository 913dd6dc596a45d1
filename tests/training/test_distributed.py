"""Two processes take the steps that one would take, go on to the byte after a kill, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")

import shared_jobs  # noqa: E402
from made_jobs import options  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from keepfit.core.errors import DataError, EnvironmentFault  # noqa: E402
from keepfit.training import launching  # noqa: E402
from keepfit.training.trainer import train  # noqa: E402

PROGRAM = str(Path(shared_jobs.__file__))


def shared(folder, *names, processes=2, stopped=lambda: False, **said):
    """What two processes made of these cases, and what process 0 said."""
    folder.mkdir(parents=True)
    heard = []
    distributed = options(distributed={"use": "ddp", "processes": processes, **said}).distributed
    command = [PROGRAM, str(folder), *names]
    launching.start(distributed, command, folder, stopped, lambda what, data: heard.append(what))
    return heard


def alive(folder):
    """Processes that were given this folder."""
    seen = subprocess.run(["ps", "-ww", "-eo", "pid,stat,args"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in seen if str(folder) in line and " Z" not in line]


def result(folder, name):
    return load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """All cases in one group."""
    folder = tmp_path_factory.mktemp("shared") / "calm"
    heard = shared(folder, *shared_jobs.CASES)
    return folder, heard


@pytest.mark.parametrize("name", ["ddp", "heavy", "fsdp", "adamw", "numbers"])
def test_two_processes_are_one_with_the_doubled_batch(calm, name):
    weights, facts = result(calm[0], name)
    alone = train(shared_jobs.job(name, 1))
    assert weights.keys() == alone.network.state_dict().keys() and len(weights) >= 8
    for key, value in alone.network.state_dict().items():
        assert torch.allclose(weights[key].float(), value.float(), atol=2e-5, rtol=1e-4), key
    for here, there in zip(facts["history"], alone.history, strict=True):
        assert here.keys() == there.keys()
        assert np.allclose([here[k] for k in there], list(there.values()), atol=2e-5, rtol=1e-4)
    assert facts["best_epoch"] == alone.best_epoch and calm[1].count("epoch") == 3 * len(shared_jobs.CASES)


def test_a_dead_process_ends_all_and_the_next_run_goes_on_to_the_byte(calm, tmp_path):
    with pytest.raises(EnvironmentFault) as caught:
        shared(tmp_path / "first", "split~", "resumed!")
    assert (
        caught.value.code == "process_died" and "SIGKILL" in caught.value.seen and caught.value.where == "rank 1 of 2"
    )
    assert not alive(tmp_path)
    shared(tmp_path / "second", "resumed", "split")
    for name in ("resumed", "split"):
        (weights, facts), (wanted, calmly) = result(tmp_path / "second", name), result(calm[0], name)
        # killed in the sixth ask: of step 4 the other process may still be writing when it is ended
        assert facts["resumed_at"] in (3, 4, 5) and calmly["resumed_at"] is None
        assert all(torch.equal(weights[key], value) for key, value in wanted.items()) and len(wanted) >= 9
        assert facts["history"] == calmly["history"]


@pytest.mark.slow
def test_weights_that_are_split_and_loading_without_workers_go_on_too(calm, tmp_path):
    for number, name in enumerate(("split!", "split!", "alone!")):
        with pytest.raises(EnvironmentFault, match="has died"):
            shared(tmp_path / str(number), name)
    shared(tmp_path / "last", "split", "alone")
    for name in ("split", "alone"):
        (weights, facts), (wanted, calmly) = result(tmp_path / "last", name), result(calm[0], name)
        assert facts["resumed_at"] >= (6 if name == "split" else 4) and facts["history"] == calmly["history"]
        assert all(torch.equal(weights[key], value) for key, value in wanted.items()) and len(wanted) >= 9


def test_an_error_of_one_process_is_the_error_of_the_run(tmp_path):
    with pytest.raises(DataError) as caught:
        shared(tmp_path / "run", "ddp?")
    assert (caught.value.code, caught.value.where, caught.value.hint) == ("bad_row", "row 7", "mend it")
    assert not alive(tmp_path)


def test_no_process_outlives_a_parent_that_is_killed(tmp_path):
    (tmp_path / "run").mkdir()
    code = (
        "import sys; from pathlib import Path; from made_jobs import options; from keepfit.training import launching\n"
        "launching.start(options(distributed={'use': 'ddp'}).distributed, [sys.argv[2], sys.argv[1]], Path(sys.argv[1]),"
        " lambda: False, lambda *a: None)"
    )
    child = (
        "import sys, time; from pathlib import Path; from keepfit.training import launching\n"
        "launching.hold_lifeline(); import os; Path(sys.argv[1], os.environ['RANK']).touch(); time.sleep(60)"
    )
    (tmp_path / "child.py").write_text(child)
    path = os.pathsep.join(sys.path)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "child.py")],
        env=os.environ | {"PYTHONPATH": path},
    )
    until(lambda: all((tmp_path / "run" / rank).exists() for rank in "01"))
    assert len(alive(tmp_path)) >= 4
    parent.kill()
    parent.wait()
    until(lambda: not alive(tmp_path))


def until(said, seconds=60):
    """Waits for a thing to be true."""
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end
        time.sleep(0.1)
