"""Two processes train what one process with the doubled batch trains, to float tolerance (T2).

Weights, running statistics and the figures of every epoch are compared, for copies (ddp) and split weights (fsdp), on pictures
with augmentation, dropout, batch norm, class weights, an average of the weights and last batches that cannot be halved.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.measuring import is_quick, mutant, told
from benchmarks.trainer_kills import CLASSES, SIDE, pictures
from keepfit.modalities.image.networks import SmallCnn
from keepfit.modalities.image.options import CropOptions, FlipOptions, NoiseOptions, RotateOptions
from keepfit.recipe.train import train_class
from keepfit.training import launching, ranks, shared, strategies
from keepfit.training.job import Job
from keepfit.training.trainer import train

GOAL = "2 processes (gloo): the result of 1 process with the doubled batch, to float tolerance"
ATOL, RTOL = 2e-5, 1e-4
OPTIMIZERS = {"sgd": {"use": "sgd", "lr": 0.05}, "adamw": {"use": "adamw", "lr": 1e-3}}
AUGMENT = [part.model_validate({}) for part in (RotateOptions, CropOptions, FlipOptions, NoiseOptions)]


def cases() -> list[tuple[str, str, int]]:
    """Strategy, optimizer, seed."""
    if is_quick():
        return [("ddp", "sgd", 1), ("fsdp", "adamw", 1)]
    return [(use, name, seed) for use in ("ddp", "fsdp") for name in OPTIMIZERS for seed in (1, 2, 3)]


def job(use: str, optimizer: str, seed: int, world: int) -> Job:
    """101 pictures in steps of 24: the last step has 5, shared as 3 and 2; 41 are judged."""
    said: dict[str, Any] = {"distributed": {"use": use, "processes": world}} if world > 1 else {}
    options = train_class().model_validate(
        {
            "epochs": 2 if is_quick() else 4,
            "batch_size": 24 // world,
            "optimizer": OPTIMIZERS[optimizer],
            "schedule": "cosine",
            "ema": 0.9,
            "precision": "fp32",
            "early_stop": "off",
            **said,
        }
    )
    torch.manual_seed(seed)
    network = SmallCnn(1, CLASSES, SIDE, SIDE, width_factor=0.3, dropout=0.3)
    rows, valid = pictures(101, SIDE, 1, seed, augment=AUGMENT), pictures(41, SIDE, 1, seed + 10)
    weights = torch.linspace(0.5, 2.0, CLASSES)
    return Job(network, rows, valid, options, CLASSES, seed, threads=1, class_weights=weights)


def switch_off(name: str | None) -> None:
    """What a mutant does in each process: the mean of unequal shares unweighted, or batch norm of each share by itself."""
    if name == "unweighted":
        strategies.Ddp.scale = lambda self, mass, stop: (1.0, ranks.sums([float(stop)])[0] > 0)
    elif name == "own_norms":
        for kind in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
            shared._SHARED.pop(kind)


def share(folder: Path) -> None:
    """The program of each of the two processes."""
    launching.hold_lifeline()
    switch_off(mutant())
    with ranks.joined() as (rank, world):
        for case in cases():
            fitted = train(job(*case, world))
            if rank == 0:
                place = folder / "-".join(map(str, case))
                save_file(fitted.network.state_dict(), f"{place}.safetensors")
                Path(f"{place}.json").write_text(json.dumps(fitted.history))


def distance(found: Any, wanted: Any) -> float:
    """The largest difference in units of the tolerance; at most 1 is equal."""
    here, there = (np.asarray(value, np.float64) for value in (found, wanted))
    return float((np.abs(here - there) / (ATOL + RTOL * np.abs(there))).max(initial=0.0))


def compared(folder: Path, case: tuple[str, str, int]) -> float:
    """The distance of weights, buffers and figures of one case."""
    alone, place = train(job(*case, 1)), folder / "-".join(map(str, case))
    tensors = load_file(f"{place}.safetensors")
    far = [distance(tensors[name], value) for name, value in alone.network.state_dict().items()]
    for here, there in zip(json.loads(Path(f"{place}.json").read_text()), alone.history, strict=True):
        far.append(distance([here[key] for key in there], list(there.values())))
    return max(far)


def main() -> int:
    """One group for all cases, then each of them alone."""
    if mutant() not in (None, "unweighted", "own_norms"):
        sys.exit("mutants: unweighted, own_norms")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        said = job("ddp", "sgd", 1, 2).options.distributed
        program = ["-m", "benchmarks.two_processes", *sys.argv[1:], "--child", place]
        launching.start(said, program, folder, lambda: False, lambda what, data: None)
        far = {"-".join(map(str, case)): round(compared(folder, case), 4) for case in cases()}
    worst = max(far.values())
    how = "largest difference in units of 2e-5 + 1e-4 |value|, one process and the doubled batch"
    return told(GOAL, worst, how, worst <= 1, cases=far, mutant=mutant())


if __name__ == "__main__":
    if "--child" in sys.argv:
        share(Path(sys.argv[-1]))
        os._exit(0)
    sys.exit(main())
