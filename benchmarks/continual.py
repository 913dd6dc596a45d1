"""C1: new classes without the old rows. Split Fashion-MNIST (five pairs of classes, each row seen once), an MLP of 2 x 400.

What a loop with `retrain.strategy: replay` does at each run is done here on tensors: the champion's weights, the remembered
rows, the statistics of its features. Beside it on the same rows: no method at all (naive), rows replayed with the plain loss
(er), ewc, lwf, and one pass over all rows at once (joint). `--mutant no_memory` remembers one row of each class, keeps no
statistics and plays back nothing else.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import is_quick, mutant, skipped, told
from keepfit.continual.warm import RECALL, Warm
from keepfit.loop.strategies import reservoir
from keepfit.recipe.train import train_class
from keepfit.training.checkpoint import apart
from keepfit.training.job import Job
from keepfit.training.trainer import train as train_network

GOAL = "C1 class-incremental accuracy with 200 / 500 / 2,000 remembered rows, at most 2x naive gradient steps"
ANCHOR = {"200": 0.80, "500": 0.82, "2000": 0.84, "practical": {"of_joint": 0.98, "cost": 0.35}}
FOLDER = Path("/usr/share/datasets/fashion-mnist")
TASKS, BATCH = 5, 32
Rows = NDArray[np.int64]


class Mlp(nn.Module):
    """[n, 784] to scores [n, k]."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU())
        self.head = nn.Linear(400, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        scores: Tensor = self.head(self.trunk(x))
        return scores


class Pictures:
    """Rows in memory as the trainer reads them; counts the rows that were learned from."""

    def __init__(self, inputs: Tensor, answers: Tensor) -> None:
        self.inputs, self.answers, self.learned, self.steps = inputs, answers, 0, 0

    def __len__(self) -> int:
        return len(self.answers)

    def batch(self, rows: Rows, epoch: int | None) -> tuple[Tensor, Tensor]:
        """As the trainer asks for it."""
        if epoch is not None:
            self.learned += len(rows)
            self.steps += 1
        place = torch.from_numpy(rows)
        return self.inputs[place], self.answers[place]


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pictures [60000, 784], classes, test pictures, classes."""

    def read(name: str, skip: int) -> NDArray[np.uint8]:
        return np.frombuffer(gzip.open(FOLDER / name).read(), np.uint8, offset=skip)

    found = []
    for part in ("train", "t10k"):
        pixels = torch.from_numpy(read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 784).copy()).float() / 255
        found += [(pixels - 0.286) / 0.353, torch.from_numpy(read(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64))]
    return found[0], found[1], found[2], found[3]


def options(epochs: int = 1) -> Any:
    """The train section: one pass, AdamW, cosine, averaged weights."""
    said = {
        "epochs": epochs, "batch_size": BATCH, "optimizer": {"use": "adamw", "lr": 1e-3, "weight_decay": 0.01},
        "schedule": "cosine", "ema": 0.999, "early_stop": "off", "precision": "fp32", "clip_norm": None,
    }  # fmt: skip
    return train_class().model_validate(said)


class Line:
    """One sequence of tasks: champion, memory and what it cost."""

    def __init__(self, method: str, memory: int, seed: int, epochs: int = 1) -> None:
        self.method, self.memory, self.seed, self.epochs = method, memory, seed, epochs
        self.files: Mapping[str, bytes] = {}
        self.counts: dict[str, int] = {}
        self.kept = np.empty(0, np.int64)
        self.learned = self.steps = 0
        self.seconds = 0.0
        self.network: nn.Module | None = None

    def learn(self, x: Tensor, y: Tensor, new: Rows, classes: int) -> None:
        """One task: new rows and remembered ones, from the champion on."""
        begun = time.process_time()
        torch.manual_seed(self.seed)
        names = [str(one) for one in range(classes)]
        rows = np.concatenate([self.kept, new])
        examples = Pictures(x[rows], y[rows])
        some = Pictures(x[new[:256]], y[new[:256]])
        job = Job(Mlp(classes), examples, some, options(self.epochs), classes, self.seed, threads=1, device="cpu")
        if self.method in ("replay", "ewc", "lwf"):
            ids = [str(row) for row in rows]
            old = frozenset(str(row) for row in self.kept)
            method = self.method if self.files else "first"
            before = [str(one) for one in range(classes - 2)] if self.files else []
            warm = Warm(method, self.files, before, names, self.counts, old)
            job = warm.job(job, ids, y[rows].numpy())
        elif self.network is not None:
            job = replace(job, network=widened(self.network, Mlp(classes)))
        fitted = train_network(job)
        more = job.method.settle(fitted.network) if job.method is not None else {}
        self.network = fitted.network
        self.files = {"weights/network.safetensors": save(apart(fitted.network.state_dict()))}
        if mutant() != "no_memory":
            self.files |= {f"weights/{name}": raw for name, raw in more.items()}
        self.learned, self.steps = self.learned + examples.learned, self.steps + examples.steps
        for code in y[new].tolist():
            self.counts[str(code)] = self.counts.get(str(code), 0) + 1
        self.seconds += time.process_time() - begun
        if self.memory:
            labels = np.array([str(code) for code in y[rows].tolist()], object)
            self.kept = rows[reservoir(labels, self.memory, self.seed)]

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """On the test rows."""
        assert self.network is not None
        with torch.no_grad():
            return float((self.network(x).argmax(1) == y).float().mean())


def widened(network: nn.Module, fresh: nn.Module) -> nn.Module:
    """The network with fresh outputs for the classes that it does not know."""
    state = fresh.state_dict()
    for name, value in network.state_dict().items():
        state[name][tuple(slice(size) for size in value.shape)] = value
    fresh.load_state_dict(state)
    return fresh


def split(y: Tensor, seed: int) -> list[Rows]:
    """The rows of each task, shuffled."""
    draw = np.random.default_rng(seed)
    return [draw.permutation(np.flatnonzero((y // 2 == task).numpy())) for task in range(TASKS)]


def sequence(method: str, memory: int, seed: int, x: Tensor, y: Tensor, tasks: list[Rows]) -> Line:
    """All tasks in turn."""
    line = Line(method, memory, seed)
    for task, rows in enumerate(tasks):
        line.learn(x, y, rows, 2 * task + 2)
    return line


def er(memory: int, seed: int, x: Tensor, y: Tensor, tasks: list[Rows]) -> float:
    """Experience replay as it is usually written: one batch of new rows and one of remembered ones, plain cross entropy, SGD."""
    torch.manual_seed(seed)
    draw, network = np.random.default_rng(seed), Mlp(2 * TASKS)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    kept: Rows = np.empty(0, np.int64)
    for rows in tasks:
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            some = rows[start : start + BATCH]
            if len(kept):
                some = np.concatenate([some, kept[draw.integers(0, len(kept), BATCH)]])
            loss = functional.cross_entropy(network(x[some]), y[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seen = np.concatenate([kept, rows])
        kept = seen[reservoir(np.array([str(code) for code in y[seen].tolist()], object), memory, seed)]
    with torch.no_grad():
        return float((network(TEST[0]).argmax(1) == TEST[1]).float().mean())


def practical(seed: int, x: Tensor, y: Tensor, tasks: list[Rows]) -> dict[str, float]:
    """Two classes come to a champion that was trained on the other eight; a tenth of the old rows is remembered. Beside it all
    rows learned anew: accuracy and cost of that run. `chain`: the same where the champion came about so itself, task by task."""
    joint, chain = Line("joint", 0, seed, epochs=3), Line("replay", 0, seed, epochs=2)
    shuffled = np.random.default_rng(seed).permutation
    joint.learn(x, y, shuffled(np.concatenate(tasks)), 2 * TASKS)
    for task, rows in enumerate(tasks):
        chain.memory = sum(map(len, tasks[: task + 1])) // 10
        chain.learn(x, y, rows, 2 * task + 2)
    old = shuffled(np.concatenate(tasks[:-1]))
    line = Line("replay", len(old) // 10, seed, epochs=3)
    line.learn(x, y, old, 2 * TASKS - 2)
    line.epochs, line.learned, line.seconds = 2, 0, 0.0
    line.learn(x, y, tasks[-1], 2 * TASKS)
    both = line.accuracy(*TEST), joint.accuracy(*TEST)
    found = {
        "replay": both[0],
        "joint": both[1],
        "of_joint": both[0] / both[1],
        "chain": chain.accuracy(*TEST) / both[1],
    }
    cost = {"cost_rows": line.learned / joint.learned, "cost_cpu": line.seconds / joint.seconds}
    return {key: round(value, 4) for key, value in {**found, **cost}.items()}


TEST: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))


def main() -> int:
    """One JSON line."""
    if not FOLDER.is_dir():
        return skipped(GOAL, ANCHOR, f"{FOLDER} is not there (Debian: dataset-fashion-mnist)")
    global TEST
    torch.set_num_threads(1)
    x, y, *test = data()
    TEST = (test[0], test[1])
    seeds = [0] if is_quick() else [0, 1, 2, 3, 4]
    table = Path(tempfile.gettempdir()) / f"keepfit-continual-{mutant() or 'real'}.json"
    cells: dict[str, Any] = json.loads(table.read_bytes()) if table.exists() and "--fresh" not in sys.argv else {}
    for seed in seeds:
        if str(seed) not in cells:
            cells[str(seed)] = cell(seed, x, y)
            table.write_text(json.dumps(cells))
        print(seed, json.dumps(cells[str(seed)]), file=sys.stderr, flush=True)
    if mutant() is None and "beside" not in cells:
        cells["beside"] = beside(seeds[0], x, y)
        table.write_text(json.dumps(cells))
    found = [cells[str(seed)] for seed in seeds]
    names = ("naive", "200", "500", "2000")
    value: dict[str, Any] = {name: round(float(np.mean([one[name] for one in found])), 4) for name in names}
    rows = max(one["rows"] for one in found)
    good = value["200"] >= 0.80 and value["500"] >= 0.82 and value["2000"] >= 0.84 and rows <= 2
    if "beside" in cells:
        value |= cells["beside"]
        good = good and value["practical"]["of_joint"] >= 0.98 and value["practical"]["cost_rows"] <= 0.35
    return told(GOAL, value, ANCHOR, bool(good), cells=found, seeds=len(seeds))


def cell(seed: int, x: Tensor, y: Tensor) -> dict[str, float]:
    """One seed: accuracy by rows remembered, and what it cost as a multiple of naive training."""
    tasks = split(y, seed)
    naive = sequence("naive", 0, seed, x, y, tasks)
    made = {"naive": naive.accuracy(*TEST)}
    for memory in (200, 500, 2000):
        line = sequence("replay", 10 if mutant() == "no_memory" else memory, seed, x, y, tasks)
        made[str(memory)] = line.accuracy(*TEST)
        made["rows"], made["steps"] = round(line.learned / naive.learned, 3), round(line.steps / naive.steps, 3)
        made["cpu"] = round(line.seconds / naive.seconds, 2)
        made["statistics_bytes"] = len(line.files.get(f"weights/{RECALL}", b""))
    return made


def beside(seed: int, x: Tensor, y: Tensor) -> dict[str, Any]:
    """The other methods on one seed, plain replay of 200 rows, and the practical mode."""
    tasks = split(y, seed)
    made: dict[str, Any] = {one: sequence(one, 200, seed, x, y, tasks).accuracy(*TEST) for one in ("ewc", "lwf")}
    return {**made, "er_200": er(200, seed, x, y, tasks), "practical": practical(seed, x, y, tasks)}


if __name__ == "__main__":
    sys.exit(main())
