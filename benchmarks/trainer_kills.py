"""A training run killed at any moment goes on and ends with the same bytes (R1); and what saving costs.

Finished cells are kept in a table in the temporary folder (named after the training code), so that a run that was stopped goes on.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import select
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as save_tensors
from torch import nn

import keepfit.training
from benchmarks.measuring import interval, is_quick, mutant, told
from keepfit.core import atomic
from keepfit.modalities.image.examples import PictureExamples
from keepfit.modalities.image.mobilenet import FEATURES, MobileNetV2
from keepfit.modalities.image.networks import SmallCnn
from keepfit.modalities.image.options import CropOptions, FlipOptions, MixupOptions, NoiseOptions, RotateOptions
from keepfit.recipe.train import train_class
from keepfit.runtime.pictures import PicturePreparation
from keepfit.training import checkpoint, optimizers, trainer
from keepfit.training.job import Job

GOAL = "training killed at random times, also inside a save: the same bytes at the end, no unreadable checkpoint, saves at most 5 %"
CLASSES, SIDE, SEED, LONGEST_S = 4, 12, 7, 120.0


def pictures(count: int, side: int, channels: int, seed: int, **more: Any) -> PictureExamples:
    """Noise whose brightness tells the class, as PNG."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, count)
    found = []
    for code in truth:
        pixels = (rng.random((side, side, 3)) * 120 + 30 * code).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(file, "PNG")
        found.append(file.getvalue())
    preparation = PicturePreparation(side, side, channels, "squash", (0.5,) * channels, (0.25,) * channels)
    return PictureExamples(found, truth, preparation, classes=CLASSES, seed=seed, **more)


def small_job(folder: Path, workers: int) -> Job:
    """All that is random or remembered: augmentation, mixup, dropout, AdamW, average, batch norm, plateau, smoothing."""
    options = train_class().model_validate(
        {
            "epochs": 5,
            "batch_size": 12,
            "optimizer": {"use": "adamw", "lr": 3e-3},
            "schedule": {"use": "plateau", "patience": 0},
            "label_smoothing": 0.05,
            "ema": 0.9,
            "precision": "fp32",
            "early_stop": "off",
            "workers": workers,
            "checkpoint": {"every": "5 steps"},
        }
    )
    torch.manual_seed(SEED)
    network = SmallCnn(1, CLASSES, SIDE, SIDE, width_factor=0.3, dropout=0.3)
    return Job(network, TRAIN, VALID, options, CLASSES, SEED, threads=1, folder=folder)


AUGMENT = [part.model_validate({}) for part in (RotateOptions, CropOptions, FlipOptions, NoiseOptions, MixupOptions)]
TRAIN, VALID = pictures(150, SIDE, 1, 1, augment=AUGMENT), pictures(40, SIDE, 1, 2)


class Events:
    """Counts what a save does to the disk; at number `at` the parent is told, which kills."""

    def __init__(self, pipe: int, at: int) -> None:
        self.pipe, self.at, self.seen, self.inside = pipe, at, 0, False
        self.seconds: list[float] = []

    def here(self) -> None:
        """One more thing happens; never comes back from the one to be killed at."""
        if not self.inside:
            return
        self.seen += 1
        if self.seen == self.at:
            os.write(self.pipe, b"s")
            time.sleep(LONGEST_S)

    def watch(self) -> None:
        """Wraps the calls by which a checkpoint reaches the disk; files are written in two halves."""
        for name in ("fsync", "replace", "unlink", "rmdir"):
            setattr(os, name, self._told(getattr(os, name)))
        Path.write_bytes = lambda path, data: self._halves(path, data)
        Path.write_text = lambda path, text: self._halves(path, text.encode())
        save = checkpoint.save

        def watched(*arguments: Any) -> None:
            self.inside, begun = True, time.perf_counter()
            try:
                save(*arguments)
            finally:
                self.inside = False
                self.seconds.append(time.perf_counter() - begun)

        checkpoint.save = watched

    def _told(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def told_of(*arguments: Any, **named: Any) -> Any:
            self.here()
            return call(*arguments, **named)

        return told_of

    def _halves(self, path: Path, data: bytes) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            self.here()
            file.write(data[len(data) // 2 :])


def trained(job: Job, pipe: int, at: int) -> dict[str, Any]:
    """In the child: train and say what came out, as digests."""
    made: list[torch.optim.Optimizer] = []
    make = optimizers.make
    optimizers.make = lambda *given: made.append(make(*given)) or made[-1]
    events = Events(pipe, at)
    events.watch()
    os.write(pipe, b"b")
    begun = time.perf_counter()
    fitted = trainer.train(job)
    return {
        "weights": digest(save_tensors(dict(fitted.network.state_dict()))),
        "optimizer": digest(save_tensors({k: v.clone() for k, v in checkpoint.optimizer_tensors(made[-1]).items()})),
        "history": digest(json.dumps(fitted.history).encode()),
        "seconds": time.perf_counter() - begun,
        "events": events.seen,
        "saves": events.seconds,
    }


def digest(data: bytes) -> str:
    """SHA-256 (hex)."""
    return hashlib.sha256(data).hexdigest()


def child(make: Callable[[], Job], goal: Path, at: int) -> tuple[int, int]:
    """A forked process that trains and writes `goal`; its id, and a pipe on which it says `b` (begun) and `s` (inside a save)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 1
    try:
        os.setsid()
        os.close(reading)
        gc.freeze()
        atomic_text, found = atomic.write_text, trained(make(), writing, at)
        atomic_text(goal, json.dumps(found))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def said(pipe: int, seconds: float) -> str:
    """What the child says within that time: a letter, `end` when it is gone, `` when the time is up."""
    if not select.select([pipe], [], [], max(0.0, seconds))[0]:
        return ""
    return os.read(pipe, 1).decode() or "end"


def kill(pid: int) -> bool:
    """SIGKILL to the trainer, then to its workers. True when it was still running."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.WIFSIGNALED(status)


def whole(make: Callable[[], Job], goal: Path) -> dict[str, Any]:
    """A run that is not killed."""
    pid, pipe = child(make, goal, -1)
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pipe)
    if status:
        raise SystemExit("a run that nobody killed has failed")
    return json.loads(goal.read_text())


def unreadable(folder: Path) -> int:
    """How many checkpoints under their final name cannot be read."""
    names = [name for name in os.listdir(folder) if name.startswith("step-")] if folder.is_dir() else []
    return sum(checkpoint._read(folder / name) is None for name in names)


def done_steps(folder: Path) -> int:
    """Steps of the newest checkpoint."""
    names = [name for name in os.listdir(folder) if name.startswith("step-")] if folder.is_dir() else []
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def cell(number: int, kinds: list[str], workers: int, reference: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """One run killed as often as `kinds` has entries, then let run to its end, beside the one that was not killed."""
    rng = np.random.default_rng([SEED, number])
    folder, goal = scratch / f"cell-{number}", scratch / f"cell-{number}.json"
    found: dict[str, Any] = {
        "cell": number,
        "workers": workers,
        "kills": [],
        "unreadable": 0,
        "identical": True,
        "lucky": 0,
    }
    waiting = list(kinds)
    for _ in range(20 * len(kinds)):
        if not waiting:
            break
        left = 1 - done_steps(folder) / reference["steps"]
        at = int(rng.integers(1, max(2, round(left * reference["events"])))) if waiting[0] == "save" else -1
        pid, pipe = child(lambda: small_job(folder, workers), goal, at)
        begun = said(pipe, LONGEST_S)
        wait = LONGEST_S if at > 0 else float(rng.random()) * left * reference["seconds"]
        heard = said(pipe, wait) if begun == "b" else begun
        hit = kill(pid)
        os.close(pipe)
        found["unreadable"] += unreadable(folder)
        if hit and (at < 0 or heard == "s"):
            found["kills"].append(waiting.pop(0))
        elif goal.exists():  # it came to its end before the kill: judged too, and the cell begins again
            found["lucky"] += 1
            found["identical"] &= same(json.loads(goal.read_text()), reference)
            goal.unlink()
            shutil.rmtree(folder)
            waiting, found["kills"] = list(kinds), []
        else:
            found["identical"] = False  # a run that could not go on
            break
    if found["identical"]:
        found["identical"] = same(whole(lambda: small_job(folder, workers), goal), reference)
        found["unreadable"] += unreadable(folder)
        found["left_over"] = len([name for name in os.listdir(folder) if not name.startswith("step-")])
    shutil.rmtree(folder, ignore_errors=True)
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Weights, optimizer and history agree to the byte."""
    return all(one[key] == other[key] for key in ("weights", "optimizer", "history"))


def overhead(scratch: Path, epochs: int) -> dict[str, Any]:
    """Time in saves as a share of the whole, by epoch, with `checkpoint.every: epoch`: MobileNetV2, 352 pictures of 96 pixels."""
    train, valid = pictures(352, 96, 3, 3), pictures(64, 96, 3, 4)
    options = train_class().model_validate(
        {"epochs": epochs + 1, "batch_size": 32, "precision": "fp32", "early_stop": "off"}
    )
    ends: list[float] = []

    def job() -> Job:
        network = nn.Sequential(MobileNetV2(), nn.Dropout(0.2), nn.Linear(FEATURES, CLASSES))
        return Job(
            network,
            train,
            valid,
            options,
            CLASSES,
            SEED,
            threads=1,
            folder=scratch / "overhead",
            say=lambda what, data: (
                ends.append(time.perf_counter()),
                (scratch / "ends").open("a").write(f"{ends[-1]}\n"),
            ),
        )

    found = whole(job, scratch / "overhead.json")
    size = sum(p.stat().st_size for p in next((scratch / "overhead").glob("step-*")).iterdir())
    marks = [float(line) for line in (scratch / "ends").read_text().split()]
    lengths = [b - a for a, b in pairwise(marks)]  # from one judgement to the next: one save and one epoch
    shares = [spent / length for spent, length in zip(found["saves"], lengths, strict=True)]
    return {
        "value": round(statistics.median(shares), 4),
        "interval": interval(shares),
        "epochs": len(shares),
        "save_ms": round(1000 * statistics.median(found["saves"]), 1),
        "epoch_s": round(statistics.median(lengths), 2),
        "checkpoint_mb": round(size / 1e6, 1),
    }


def hobble(name: str | None) -> None:
    """Breaks resuming or saving on purpose, so that the benchmark is seen to fail."""
    if name == "rng_not_restored":
        checkpoint.load_rng = lambda tensors: None
    elif name == "optimizer_not_restored":
        checkpoint.load_optimizer = lambda optimizer, tensors: None
    elif name == "written_in_place":

        def in_place(folder: Path, step: int, tensors: Any, state: Any, keep: int) -> None:
            goal = folder / f"step-{step:010d}"
            goal.mkdir(parents=True, exist_ok=True)
            sums = {}
            for group, named in tensors.items():
                data = save_tensors(checkpoint._apart(named))
                sums[group] = digest(data)
                (goal / f"{group}.safetensors").write_bytes(data)
            said = {"format": checkpoint.FORMAT, "sums": sums, **state}
            (goal / "state.json").write_text(json.dumps({"sum": checkpoint._sum(said), "state": said}))

        checkpoint.save = in_place
    elif name is not None:
        raise SystemExit(f"mutants: rng_not_restored, optimizer_not_restored, written_in_place; not {name}")


def table() -> Path:
    """Where finished cells are kept: a change of the training code or of this file begins a new table."""
    sources = sorted(Path(keepfit.training.__file__).parent.glob("*.py"))
    content = digest(b"".join(path.read_bytes() for path in [*sources, Path(__file__)]))
    name = f"trainer-kills-{content[:12]}-{mutant() or 'whole'}{'-quick' if is_quick() else ''}.jsonl"
    return Path(tempfile.gettempdir()) / "keepfit-bench" / name


def main() -> int:
    """The reference, the cells that are not in the table, the cost of saving."""
    hobble(mutant())
    saved, cells = (3, 5) if is_quick() else (30, 50)
    plan = [["save" if number < saved else "random", "random"] for number in range(cells)]
    kept = table()
    kept.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as place, kept.open("a") as out:
        scratch = Path(place)
        references = {}
        for workers in (0, 2):
            folder = scratch / f"whole-{workers}"
            references[workers] = whole(lambda f=folder, w=workers: small_job(f, w), scratch / f"whole-{workers}.json")
            references[workers]["steps"] = 5 * 13
        alike = same(references[0], references[2])
        for number, kinds in enumerate(plan):
            if number in {row.get("cell") for row in rows}:
                continue
            workers = 2 * (number % 2)
            rows.append(cell(number, kinds, workers, references[workers], scratch))
            out.write(json.dumps(rows[-1]) + "\n")
            out.flush()
            print(f"cell {number + 1} of {cells}: {rows[-1]}", file=sys.stderr, flush=True)
        cost = next((row["overhead"] for row in rows if "overhead" in row), None) or overhead(
            scratch, 3 if is_quick() else 8
        )
        if not any("overhead" in row for row in rows):
            out.write(json.dumps({"overhead": cost}) + "\n")
    return judged([row for row in rows if "cell" in row], cost, alike, sum(len(kinds) for kinds in plan))


def judged(rows: list[dict[str, Any]], cost: dict[str, Any], alike: bool, wanted: int) -> int:
    """The line of the goal. The interval is the 95 % one for the share of kills that are survived."""
    kills = [kind for row in rows for kind in row["kills"]]
    good = sum(len(row["kills"]) for row in rows if row["identical"])
    bad = sum(row["unreadable"] for row in rows)
    left = sum(row.get("left_over", 0) for row in rows)
    low = round(0.05 ** (1 / max(good, 1)), 4) if good == len(kills) else None
    passed = good == len(kills) == wanted and not bad and not left and alike and cost["interval"][1] <= 0.05
    return told(
        GOAL,
        good,
        wanted,
        passed,
        interval=[low, 1.0],
        kills=len(kills),
        inside_saves=kills.count("save"),
        unreadable=bad,
        left_over=left,
        same_with_workers=alike,
        runs_judged=sum(1 + row["lucky"] for row in rows),
        save_overhead=cost,
        mutant=mutant(),
        quick=is_quick(),
    )


if __name__ == "__main__":
    sys.exit(main())
