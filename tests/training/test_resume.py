"""A run that was stopped goes on in the middle of an epoch and ends with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
from made_jobs import digest, job, options

from keepfit.core.errors import EnvironmentFault, RecipeError
from keepfit.training import checkpoint, optimizers
from keepfit.training.trainer import train

PLAIN = {"epochs": 3, "checkpoint": {"every": "2 steps"}}
KINDS = {
    "adamw": {},
    "workers": {"workers": 2},
    "average": {"ema": 0.9, "label_smoothing": 0.1},
    "sgd": {"optimizer": {"use": "sgd", "lr": 0.05}, "schedule": {"use": "plateau", "patience": 0}},
    "fp16": {"precision": "fp16", "clip_norm": None},
    "accumulate": {"accumulate": 2, "gradient_checkpointing": True},
}


class Killed(BaseException):
    pass


def ended(folder, said, monkeypatch, *, kill_at=None, **more):
    """Digests of weights, optimizer and history at the end; None where the run was killed."""
    made, steps, make = [], [0], optimizers.make

    def watched(*given):
        made.append(make(*given))
        if given[2] > 1e-5:  # the finder begins below
            made[-1].register_step_post_hook(lambda *_: count())
        return made[-1]

    def count():
        steps[0] += 1
        if steps[0] == kill_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(optimizers, "make", watched)
        try:
            found = train(job(options(**PLAIN | said), folder=folder, **more))
        except Killed:
            return None
    state = checkpoint.optimizer_tensors(made[-1])
    return digest(found.network.state_dict()), digest(state), json.dumps(found.history), found.resumed_at


@pytest.mark.parametrize("kind", KINDS)
def test_resume_in_mid_epoch_is_bitwise_equal(kind, tmp_path, monkeypatch):
    said = KINDS[kind]
    wanted = ended(tmp_path / "whole", {**said, "workers": 0}, monkeypatch)
    total = 9 if "accumulate" in said else 15
    for at in (3, total // 2 + 1):
        assert ended(tmp_path / "killed", said, monkeypatch, kill_at=at) is None
    found = ended(tmp_path / "killed", said, monkeypatch)
    assert found[:3] == wanted[:3] and found[3] > 3 and wanted[3] is None


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch):
    wanted = ended(None, {}, monkeypatch)
    for name, change in {
        "model.safetensors": lambda data: data[: len(data) // 2],
        "optimizer.safetensors": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "state.json": lambda data: data.replace(b'"bad": 0', b'"bad": 1'),
        "random-0.safetensors": lambda data: b"",
        "best.safetensors": None,
    }.items():
        folder = tmp_path / name
        assert ended(folder, {}, monkeypatch, kill_at=9) is None
        newest, before = sorted(folder.glob("step-*"), reverse=True)
        assert (newest.name, before.name) == ("step-0000000008", "step-0000000006")
        damaged = newest / name
        if change is None:
            damaged.unlink()
        else:
            assert change(damaged.read_bytes()) != damaged.read_bytes()
            damaged.write_bytes(change(damaged.read_bytes()))
        found = ended(folder, {}, monkeypatch)
        assert found[3] == 6 and found[:3] == wanted[:3]


def test_nothing_whole_begins_again(tmp_path, monkeypatch):
    wanted = ended(tmp_path, {}, monkeypatch, kill_at=5)
    for place in tmp_path.glob("step-*/state.json"):
        place.write_text("{")
    wanted = ended(None, {}, monkeypatch)
    assert ended(tmp_path, {}, monkeypatch) == wanted


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, monkeypatch):
    assert ended(tmp_path, {}, monkeypatch, kill_at=5) is None
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError) as caught:
        ended(tmp_path, {"label_smoothing": 0.2, "optimizer": {"lr": 0.5}}, monkeypatch, count=96)
    error = caught.value
    assert error.code == "checkpoint_other_recipe" and "step-" in error.where and "--fresh" in error.hint
    for part in (
        "train.label_smoothing: 0.0 in the checkpoint, 0.2 here",
        "train.optimizer.lr: 0.001",
        "rows: [80, 32]",
    ):
        assert part in error.seen
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    found = ended(tmp_path, {"workers": 2, "checkpoint": {"every": "3 steps"}}, monkeypatch)
    assert found[3] == 4  # how it is loaded and saved may change


def test_what_was_measured_is_kept(tmp_path, monkeypatch):
    said = {"optimizer": {"lr": "auto"}, "precision": "auto"}
    wanted = ended(None, said, monkeypatch)
    assert ended(tmp_path, said, monkeypatch, kill_at=5) is None
    with monkeypatch.context() as patched:
        patched.setattr("keepfit.training.finder.find", lambda *_, **__: pytest.fail("measured again"))
        found = ended(tmp_path, said, monkeypatch)
    assert found[:3] == wanted[:3] and found[3] == 4


def test_a_full_disk_keeps_the_last_good_one(tmp_path, monkeypatch):
    wanted = ended(None, {}, monkeypatch)
    code = f"""
        import resource, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r} + "/..")
        from pathlib import Path
        from made_jobs import job, options
        from keepfit.core.errors import EnvironmentFault
        from keepfit.training import checkpoint
        from keepfit.training.trainer import train
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save, calls = checkpoint.save, []
        def filling(*given):
            calls.append(1)
            if len(calls) == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
            save(*given)
        checkpoint.save = filling
        try:
            train(job(options(**{PLAIN!r}), folder=Path({str(tmp_path)!r})))
        except EnvironmentFault as error:
            print(error.code, "|", error.hint)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith("disk_full | ") and "free some space" in done.stdout, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["step-0000000002", "step-0000000004"]
    found = ended(tmp_path, {}, monkeypatch)
    assert found[3] == 4 and found[:3] == wanted[:3]


@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_are_kept(keep, tmp_path, monkeypatch):
    ended(tmp_path, {"checkpoint": {"every": "2 steps", "keep": keep}}, monkeypatch)
    names = ["step-0000000010", "step-0000000012", "step-0000000014"]
    assert sorted(os.listdir(tmp_path)) == names[-keep:]


def test_a_damaged_one_ahead_does_not_push_out_the_good_ones(tmp_path):
    for step in (4, 6):
        checkpoint.save(tmp_path, step, {}, {"identity": {}, "step": step}, keep=2)
    (tmp_path / "step-0000000006" / "state.json").write_text("")
    checkpoint.save(tmp_path, 5, {}, {"identity": {}, "step": 5}, keep=1)
    assert os.listdir(tmp_path) == ["step-0000000005"]
    assert checkpoint.latest(tmp_path, {}).state["step"] == 5


def test_scratch_of_a_killed_writer_is_swept(tmp_path):
    for name in (".step-0000000004.abc.part", ".step-0000000002.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    assert checkpoint.latest(tmp_path, {}) is None and os.listdir(tmp_path) == []


def test_removal_hides_before_it_deletes(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {}, {"identity": {}}, keep=1)
    unlink = os.unlink

    def killed(*given, **named):
        unlink(*given, **named)
        raise Killed

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(Killed):
        checkpoint.save(tmp_path, 2, {}, {"identity": {}}, keep=1)
    assert [name for name in os.listdir(tmp_path) if name.startswith("step-")] == ["step-0000000002"]


def test_other_trouble_of_the_system_is_coded(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault) as caught:
        checkpoint.save(tmp_path / "file", 1, {}, {}, keep=1)
    assert caught.value.code == "not_a_folder" and caught.value.hint
