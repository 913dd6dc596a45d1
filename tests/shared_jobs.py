"""A program for the tests of shared training: runs jobs by name in each process of a group; process 0 writes what came out.

python shared_jobs.py FOLDER NAME [NAME ...]
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch
from made_jobs import Rows, network, options
from safetensors.torch import save_file

from keepfit.core.errors import DataError, KeepfitError
from keepfit.training import launching, ranks
from keepfit.training.job import Job
from keepfit.training.trainer import train

PLAIN = {"epochs": 3, "batch_size": 16, "optimizer": {"use": "sgd", "lr": 0.05}}
CASES = {
    "ddp": PLAIN,
    "heavy": {**PLAIN, "accumulate": 2, "ema": 0.6, "label_smoothing": 0.05},
    "fsdp": {**PLAIN, "ema": 0.6},
    "adamw": {**PLAIN, "optimizer": {"use": "adamw", "lr": 3e-3}},
    "numbers": {**PLAIN, "loss": "mae"},
    "resumed": {**PLAIN, "optimizer": {"use": "adamw", "lr": 3e-3}, "ema": 0.6, "checkpoint": {"every": "1 steps"}},
}
CASES["split"] = {**CASES["resumed"], "use": "fsdp"}
CASES["alone"] = CASES["resumed"]
CASES["resumed"] = {**CASES["resumed"], "workers": 2}
KILLED_AT = 5  # asked in each of 3 steps and after their epoch: in the middle of the second one


def job(name, world, folder=None, **more):
    """83 rows in steps of 32: the last step has 19, shared as 10 and 9; 129 rows are judged, the last block is one row."""
    said = dict(CASES[name])
    use = said.pop("use", "fsdp" if name == "fsdp" else "ddp")
    if world > 1:
        said |= {"distributed": {"use": use, "processes": world}, "batch_size": 32 // world}
    else:
        said["batch_size"] = 32
    classes = 0 if name == "numbers" else 3
    weights = torch.tensor([1.0, 4.0, 0.5]) if name == "heavy" else None
    made = network(outputs=max(classes, 1), dropout=0.3)
    if name == "adamw":  # a bias before a batch norm has no gradient but rounding, of which AdamW makes whole steps
        made[0].bias = None
    return Job(
        made,
        Rows(83, 1, classes=classes),
        Rows(129, 2, classes=classes),
        options(**said),
        classes,
        5,
        threads=1,
        class_weights=weights,
        folder=folder,
        **more,
    )


def one(name, folder, rank, world):
    """Trains a case; `NAME!` is killed in an epoch, `NAME~` is interrupted there, `NAME?` ends in an error of its own."""
    plain = name.rstrip("!?~")
    batches = 0

    def stopped():
        nonlocal batches
        batches += 1
        if name.endswith("!") and batches > KILLED_AT and rank == world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name.endswith("?") and batches > 1 and rank == world - 1:
            raise DataError("bad_row", "a row is bad", where="row 7", seen="x", hint="mend it")
        return (folder / "stop").exists() or (name.endswith("~") and batches > KILLED_AT and rank == world - 1)

    kept = folder.parent / f"checkpoints-{plain}" if "checkpoint" in CASES[plain] else None
    made = job(plain, world, kept, stopped=stopped, say=launching.speaker(folder, rank))
    fitted = train(made)
    if rank == 0:
        save_file(fitted.network.state_dict(), folder / f"{plain}.safetensors")
        facts = dataclasses.asdict(dataclasses.replace(fitted, network=None))
        (folder / f"{plain}.json").write_text(json.dumps(facts))


def main(folder, names):
    launching.hold_lifeline()
    with ranks.joined() as (rank, world):
        try:
            for name in names:
                one(name, folder, rank, world)
        except KeepfitError as error:
            launching.write_error(folder, rank, error)
            return 3
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2:])
    os._exit(status)
