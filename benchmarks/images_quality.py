"""Pictures: fine-tuned backbones and a small network from scratch, each beside a plain hand-written loop with the same settings.

Finished cells are kept in a table beside the temporary files, so that a run that was stopped goes on; `--only NAME` is one cell.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import is_quick, skipped, told
from keepfit.stages.results import part_of

GOAL = (
    "pictures: sign_digits >= 0.985, cifar10 subset >= 0.82, "
    "Fashion-MNIST from scratch >= 0.915 after 5 epochs, 0.925 at preset best"
)
SHARED = Path(os.environ.get("KEEPFIT_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "images"
FASHION = Path("/usr/share/datasets/fashion-mnist")
VARIED = "[{use: rotate, degrees: 15, p: 0.5}, {use: crop, scale: [0.75, 1.0]}, {use: colour, p: 0.5}]"
CELLS: dict[str, tuple[Path, float, str]] = {
    "sign_digits": (
        SHARED / "sign_digits_10.zip",
        0.985,
        f"augment: {VARIED}\nmodel: {{use: pretrained, source: mobilenet_v2, size: 128}}\n",
    ),
    "cifar10_subset": (
        SHARED / "cifar10_train_subset.zip",
        0.82,
        "augment: [flip, {use: crop, scale: [0.6, 1.0]}, {use: colour, p: 0.5}, {use: cutmix, p: 0.5}]\n"
        "model: {use: pretrained, source: mobilenet_v2, size: 160}\n"
        "train: {epochs: 10, label_smoothing: 0.1}\n",
    ),
    "fashion": (FASHION, 0.915, "model: {use: cnn}\ntrain: {epochs: 5}\n"),
    "fashion_best": (FASHION, 0.925, "preset: best\nmodel: {use: cnn}\n"),
}


def main() -> int:
    """One JSON line with all cells."""
    names = ["sign_digits"] if is_quick() else list(CELLS)
    if "--only" in sys.argv:
        names = [sys.argv[sys.argv.index("--only") + 1]]
    absent = [name for name in names if not CELLS[name][0].exists()]
    if absent:
        return skipped(GOAL, {name: CELLS[name][1] for name in names}, f"no data for {', '.join(absent)}")
    table = Path(tempfile.gettempdir()) / f"keepfit-images-quality-{'quick' if is_quick() else 'full'}.json"
    cells: dict[str, Any] = json.loads(table.read_bytes()) if table.exists() and "--fresh" not in sys.argv else {}
    for name in names:
        if name not in cells:
            cells[name] = measured(name)
            table.write_text(json.dumps(cells))
        print(name, json.dumps(cells[name]), file=sys.stderr, flush=True)
    passed = all(cells[name]["ours"] >= CELLS[name][1] for name in names)
    if "--only" not in sys.argv:
        table.unlink()
    return told(GOAL, {name: cells[name] for name in names}, {name: CELLS[name][1] for name in names}, passed)


def measured(name: str) -> dict[str, Any]:
    """Test accuracy and minutes of the whole line, and test accuracy of a plain loop on the same pictures."""
    source, _, more = CELLS[name]
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "r.yaml"
        recipe.write_text(f"version: 1\nname: bench\nmodality: image\ndata: {{source: {source}}}\n{more}")
        quick = ["train.epochs=2"] if is_quick() else []
        begun = time.monotonic()
        run = kf.run(recipe, quick, workspace=folder)
        minutes = (time.monotonic() - begun) / 60
        plain = plain_loop(recipe, quick, run)
        history = run.files["train"]["trained.json"]
    return {
        "ours": round(float(run.metrics["test"]["accuracy"] or 0), 4),
        "plain_loop": round(plain, 4),
        "minutes": round(minutes, 1),
        "precision": json.loads(history)["precision"],
        "validation": [round(entry["accuracy"], 4) for entry in json.loads(history)["epochs"]],
    }


def plain_loop(recipe: Path, overrides: list[str], run: Any) -> float:
    """The same network, pictures, batches and settings in twenty lines of torch; no checkpoints, the last weights count."""
    import torch

    from keepfit import recipe as recipes
    from keepfit.core.catalog import load
    from keepfit.modalities.image.examples import PictureExamples
    from keepfit.modalities.image.learn import Looked
    from keepfit.modalities.room import Way
    from keepfit.stages.results import json_of, table_of, task_of, truth_of
    from keepfit.training.loading import batches, plain

    said = recipes.load(recipe, overrides)
    table, task = table_of(run.files["ingest"]), task_of(json_of(run.files["split"], "task.json"))
    part = np.array(part_of(run.files["clean"]).tolist(), object)
    rows = {name: table.take(part == name) for name in ("train", "test")}
    way = Way("mean", "missing", "none", 0, None, "balanced", train=said.train, folder=recipe.parent)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    start = load(said.model.impl)(said.model, Looked(list(rows["train"].columns["image"])), len(task.classes), way)
    found = {
        name: PictureExamples(
            list(sample.columns["image"]),
            truth_of(sample.columns[task.target], task),
            start.preparation,
            classes=len(task.classes),
            augment=said.augment if name == "train" else (),
        )
        for name, sample in rows.items()
    }
    network = start.network.to(memory_format=torch.channels_last)
    best = torch.optim.AdamW(
        network.parameters(), said.train.optimizer.lr, weight_decay=said.train.optimizer.weight_decay
    )
    steps = len(batches(0, 0, len(found["train"]), said.train.batch_size)) * said.train.epochs
    share = rate(said.train.schedule.use, steps, said.train.epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(best, share)
    for epoch in range(said.train.epochs):
        network.train()
        for batch in batches(0, epoch, len(found["train"]), said.train.batch_size):
            inputs, answers = found["train"].batch(batch, epoch)
            best.zero_grad()
            torch.nn.functional.cross_entropy(
                network(inputs.contiguous(memory_format=torch.channels_last)),
                answers,
                label_smoothing=said.train.label_smoothing,
            ).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            best.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        right = [int((network(inputs).argmax(1) == answers).sum()) for inputs, answers in plain(found["test"], 128)]
    return sum(right) / len(found["test"])


def rate(use: str, steps: int, epochs: int) -> Callable[[int], float]:
    """The recipe's schedule written by hand: one cycle, or a cosine after one epoch of warm-up."""
    top = 0.3 * (steps - 1) if use == "onecycle" else steps / epochs

    def share(step: int) -> float:
        if step < top:
            up = step / top
            return 0.04 + 0.96 * 0.5 * (1 - np.cos(np.pi * up)) if use == "onecycle" else (step + 1) / top
        return float(0.5 * (1 + np.cos(np.pi * min(1.0, (step - top) / max(1.0, steps - 1 - top)))))

    return share


if __name__ == "__main__":
    sys.exit(main())
