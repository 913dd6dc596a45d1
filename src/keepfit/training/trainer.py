"""The loop: epochs and steps on plain torch; killed at any moment it goes on and ends with the same bytes.

What the next step depends on is weights, optimizer, average, random state and place in the epoch: all are in a
checkpoint. Batches are pure functions of (seed, epoch, index), so that nothing else has to be.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import deterministic

from keepfit.core import digest
from keepfit.training import checkpoint, finder, losses, optimizers, precision, schedules, strategies
from keepfit.training.diagnosis import Watch, nothing_learned
from keepfit.training.job import Fitted, Job
from keepfit.training.judging import judge, rank
from keepfit.training.loading import batches, stream
from keepfit.training.memory import recompute


def train(job: Job) -> Fitted:
    """Train to the end, from the last checkpoint where there is one.

    Raises DataError with a diagnosis for numerical trouble, RecipeError for a checkpoint of another job,
    EnvironmentFault where a checkpoint cannot be written.
    """
    with _quiet(job.threads):
        return _Training(job).run()


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """Deterministic kernels and a number of threads, put back afterwards; the caller's random state is not touched."""
    count, strictly = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warns, fills = torch.is_deterministic_algorithms_warn_only_enabled(), deterministic.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = False  # filling every fresh tensor costs time and changes no result
        try:
            yield
        finally:
            torch.set_num_threads(count)
            torch.use_deterministic_algorithms(strictly, warn_only=warns)
            deterministic.fill_uninitialized_memory = fills


class _Training:
    """One run: the objects that change from step to step."""

    def __init__(self, job: Job) -> None:
        self.job, said = job, job.options
        torch.manual_seed(job.seed)
        self.strategy = strategies.of(said)
        self.device = self.strategy.device(_device(job.device))
        self.network = job.network.to(self.device)
        if said.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        if said.gradient_checkpointing:
            recompute(self.network)
        self.loss = losses.make(
            said.loss, classes=job.classes, weights=job.class_weights, smoothing=said.label_smoothing
        )
        self.step_rows = said.batch_size * self.strategy.world
        self.sizes = [len(rows) for rows in batches(job.seed, 0, len(job.train), self.step_rows)]
        self.epoch_batches = len(self.sizes)
        self.epoch_steps = math.ceil(self.epoch_batches / said.accumulate)
        self.saved = checkpoint.unpacked(self.strategy.talk.first(self._latest))
        self.lr, self.precision = json.loads(self.strategy.talk.first(lambda: json.dumps(self._choices()).encode()))
        self.average = copy.deepcopy(self.network) if said.ema else None
        self.forward = self.strategy.wrap(self.network, self.average, compiled=said.compile)
        if job.method is not None:
            job.method.begin(self.network)
        shares = {} if job.method is None else job.method.shares(self.network)
        self.optimizer = optimizers.make(said.optimizer, self.network, self.lr, shares)
        self.share = schedules.share_of(said.schedule, self.epoch_steps, said.epochs)
        self.scaler = torch.amp.GradScaler(self.device.split(":")[0], enabled=self.precision == "fp16")
        self.parameters = list(self.network.parameters())  # walking all modules anew in each step is not free
        self.watch = Watch()
        self.epoch = self.place = self.step = self.bad = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_rank: tuple[float, ...] = ()
        self.best_epoch = 0
        self.total: Tensor | float = 0.0
        self.resumed_at: int | None = None
        self.stopped_by = "epochs"

    def run(self) -> Fitted:
        """All epochs that are left."""
        start = time.monotonic()
        self._resume()
        while self.epoch < self.job.options.epochs and not self._has_stood_still():
            whole = self._one_epoch()
            if not whole or (self._any(self.job.stopped()) and self.epoch < self.job.options.epochs):
                self.stopped_by = "interrupt"
                break
            if self.job.budget_s is not None and self._any(time.monotonic() - start > self.job.budget_s):
                self.stopped_by = "budget"
                self.job.say("stopped", {"why": f"the time budget of {self.job.budget_s:g} s"})
                break
        if self.best:
            self.network.load_state_dict(self.best)
        elif self.average is not None:
            self.network.load_state_dict(self.average.state_dict())
        plain = self.strategy.plain(self.network)
        network = plain.to("cpu", memory_format=torch.contiguous_format).eval()
        return Fitted(network, self.history, self.best_epoch, self.precision, self.lr, self.resumed_at, self.stopped_by)

    def _any(self, here: bool) -> bool:
        """Whether any process says so: all must end at the same place."""
        return self.strategy.talk.sums([float(here)])[0] > 0

    def _latest(self) -> bytes:
        folder = self.job.folder
        return checkpoint.packed(None if folder is None else checkpoint.latest(folder, self._identity()))

    def _has_stood_still(self) -> bool:
        said = self.job.options.early_stop
        if said == "off" or self.bad < said.patience:
            return False
        self.stopped_by = "early_stop"
        return True

    def _one_epoch(self) -> bool:
        """The batches that are left of this epoch, then its judgement. False when it was interrupted."""
        job, said = self.job, self.job.options
        rows = batches(job.seed, self.epoch, len(job.train), self.step_rows)
        self.forward.train()
        own = [self.strategy.cut(some) for some in rows]
        is_shared = self.strategy.world > 1
        found = stream(job.train, own, self.epoch, start=self.place, workers=said.workers, threads=is_shared)
        for inputs, answers in found:
            self.strategy.at(rows[self.place])
            stop = self._learn(inputs, answers, last=self.place + 1 == len(rows))
            self.place += 1
            if said.checkpoint.every and self.step % said.checkpoint.every == 0 and self._is_between_steps():
                self._save()
            if stop and self.place < len(rows):
                return False
        self._judge(len(rows))
        self.epoch, self.place = self.epoch + 1, 0
        self.total = 0.0
        if self.epoch < said.epochs:
            self._save()
        return True

    def _is_between_steps(self) -> bool:
        """Whether no gradient is half gathered: only then a checkpoint is the whole state."""
        return self.place % self.job.options.accumulate == 0 and self.place < self.epoch_batches

    def _learn(self, inputs: Tensor, answers: Tensor, *, last: bool) -> bool:
        """Forward, backward and, every `accumulate` batches, a step. True when the run was asked to stop."""
        said = self.job.options
        mass = losses.mass(said.loss, answers, self.job.class_weights) if self.strategy.world > 1 else 1.0
        scale, stop = self.strategy.scale(mass, self.job.stopped())
        inputs, answers = self._placed(inputs), answers.to(self.device, non_blocking=True)
        is_step = last or (self.place + 1) % said.accumulate == 0
        with self.strategy.batch(last=is_step):
            with precision.context(self.precision, self.device):
                scores = self.forward(inputs)
            if self.job.method is None:
                loss = self.loss(scores.float(), answers)
            else:
                loss = self.job.method.loss(self.loss, scores.float(), answers, inputs, self.network)
            part = scale * (self._part() if said.accumulate > 1 else 1.0)
            self.scaler.scale(loss if part == 1.0 else loss * part).backward()
        # Reading a value from an accelerator waits for it: there the sum stays where it is, and is looked at now and then.
        value = loss.detach().double() if self.device != "cpu" else loss.item()
        self.total = self.total + value * self.strategy.part(scale)
        if (self.device == "cpu" or self.step % 20 == 0) and not math.isfinite(value):
            self.watch.loss(float(value), self.step, self._rate(), self.network, inputs)
        if is_step:
            self._step()
        return stop

    def _part(self) -> float:
        """The share of this batch in the rows of its step: the last step of an epoch may have fewer batches."""
        count = self.job.options.accumulate
        first = self.place - self.place % count
        return self.sizes[self.place] / sum(self.sizes[first : first + count])

    def _placed(self, inputs: Tensor) -> Tensor:
        moved = inputs.to(self.device, non_blocking=True)
        if self.job.options.channels_last and moved.ndim == 4:
            return moved.contiguous(memory_format=torch.channels_last)
        return moved

    def _rate(self) -> float:
        rate: float = self.lr * self.share(self.step, [entry["loss"] for entry in self.history])
        return rate

    def _step(self) -> None:
        said, rate = self.job.options, self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        if said.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.parameters, said.clip_norm)
            if not self.scaler.is_enabled() and (self.device == "cpu" or self.step % 20 == 0):
                self.watch.norm(self.strategy.parts.number(norm), self.step, rate)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._follow()

    def _follow(self) -> None:
        """The running average of the weights; buffers are copied."""
        if self.average is None:
            return
        decay = min(self.job.options.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            own = self.strategy.parts.own
            torch._foreach_lerp_(own(self.average.parameters()), own(self.parameters), 1 - decay)
            for kept, seen in zip(self.average.buffers(), self.network.buffers(), strict=True):
                kept.copy_(seen)

    def _judge(self, count: int) -> None:
        """The validation figures of this epoch; keeps the weights when they are the best so far."""
        job = self.job
        judged = self.average if self.average is not None else self.network
        self.strategy.align(judged)
        found, answered, shares = judge(
            judged,
            job.valid,
            self.loss,
            job.options.batch_size,
            job.classes,
            self.precision,
            self.device,
            job.class_weights,
            self.strategy,
        )
        if not math.isfinite(found["loss"]):
            self.watch.judged(found["loss"], self.epoch + 1, self._rate(), judged, job.valid)
        entry = {"epoch": self.epoch + 1, "train_loss": sum(self._totals()) / count, **found, "lr": self._rate()}
        self.history.append(entry)
        job.say("epoch", {**entry, "of": job.options.epochs})
        ranked = rank(found, job.classes)
        if not self.best_rank or ranked > self.best_rank:
            self.best_rank, self.best_epoch, self.bad = ranked, self.epoch + 1, 0
            self.best = {name: value.detach().clone() for name, value in judged.state_dict().items()}
        else:
            self.bad += 1
        plain = job.options.loss in ("auto", "cross_entropy") and not job.options.label_smoothing and job.method is None
        if job.classes and plain and job.class_weights is None:  # else the loss of guessing is another
            ended = self._has_stood_still()
            nothing_learned(self.history, shares, answered, job.options.epochs, self.lr, ended=ended)

    def _identity(self) -> dict[str, Any]:
        said = self.job.options.model_dump(mode="json", exclude={"workers", "checkpoint", "distributed"})
        shared = self.job.options.distributed
        shapes = {name: list(value.shape) for name, value in self.network.state_dict().items()}
        return {
            "train": said,
            "processes": [shared.use, self.strategy.world] if shared is not None else ["single", 1],
            "seed": self.job.seed,
            "classes": self.job.classes,
            "rows": [len(self.job.train), len(self.job.valid)],
            "network": digest.of_json(shapes),
            "learns": sum(p.requires_grad for p in self.network.parameters()),
            "threads": self.job.threads,
            "device": self.device.split(":")[0],
            "torch": torch.__version__,
            **self.job.identity,
        }

    def _totals(self) -> list[float]:
        """The sum of losses of each process: a run that goes on must add to its own."""
        return [
            float(value)
            for value in self.strategy.talk.gathered(torch.tensor([float(self.total)], dtype=torch.float64))
        ]

    def _save(self) -> None:
        """All processes gather, the first one writes."""
        job, whole = self.job, self.strategy.parts.whole
        if job.folder is None:
            return
        tensors = {
            "model": whole(self.network.state_dict()),
            "optimizer": whole(checkpoint.optimizer_tensors(self.optimizer)),
            **self._random(),
        }
        if self.average is not None:
            tensors["average"] = whole(self.average.state_dict())
        if self.best:
            tensors["best"] = whole(self.best)
        state = {
            "identity": self._identity(),
            "epoch": self.epoch,
            "place": self.place,
            "step": self.step,
            "bad": self.bad,
            "best": [list(self.best_rank), self.best_epoch],
            "history": self.history,
            "totals": self._totals(),
            "lr": self.lr,
            "precision": self.precision,
            "scaler": self.scaler.state_dict(),
            "norms": [list(self.watch.norms), self.watch.wild],
        }
        if self.strategy.rank == 0:
            checkpoint.save(job.folder, self.step, tensors, state, job.options.checkpoint.keep)

    def _random(self) -> dict[str, dict[str, Tensor]]:
        """The random state of every process."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, state in checkpoint.rng_tensors().items():
            for place, value in enumerate(self.strategy.talk.gathered(state)):
                found.setdefault(f"random-{place}", {})[name] = value
        return found

    def _resume(self) -> None:
        job, saved, strategy = self.job, self.saved, self.strategy
        if saved is None:
            return
        state, tensors = saved.state, saved.tensors
        whole = self.network.state_dict()
        self.network.load_state_dict(strategy.parts.spread(tensors["model"], whole))
        checkpoint.load_optimizer(self.optimizer, tensors["optimizer"], strategy.parts.spread)
        if self.average is not None:
            self.average.load_state_dict(strategy.parts.spread(tensors["average"], self.average.state_dict()))
        self.best = strategy.parts.spread(tensors.get("best", {}), whole)
        self.epoch, self.place, self.step, self.bad = (state[key] for key in ("epoch", "place", "step", "bad"))
        self.best_rank, self.best_epoch = tuple(state["best"][0]), state["best"][1]
        self.history, self.resumed_at = state["history"], state["step"]
        self.total = state["totals"][strategy.rank]
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.watch.norms.extend(state["norms"][0])
        self.watch.wild = state["norms"][1]
        checkpoint.load_rng(tensors[f"random-{strategy.rank}"])
        self.saved = None
        job.say("resumed", {"epoch": self.epoch + 1, "step": self.step})

    def _choices(self) -> tuple[float, str]:
        """Learning rate and precision; those of the checkpoint where there is one, for a measurement may come out otherwise."""
        job, said = self.job, self.job.options
        if self.saved is not None:
            return self.saved.state["lr"], self.saved.state["precision"]
        taken: str = said.precision
        seconds: dict[str, float] = {}
        if taken == "auto":
            inputs, answers = job.train.batch(np.arange(min(self.step_rows, len(job.train)), dtype=np.int64), 0)
            batch = self._placed(inputs), answers.to(self.device)
            steps = self.epoch_batches * said.epochs
            taken, seconds = precision.choose(taken, self.network, batch, self.loss, self.device, steps)
        if seconds:
            job.say("precision", {"chosen": taken, "step_ms": {k: round(1000 * v, 2) for k, v in seconds.items()}})
        lr = said.optimizer.lr
        if lr == "auto":
            lr, curve = finder.find(
                self.network,
                said.optimizer,
                job.train,
                self.loss,
                seed=job.seed,
                batch_size=self.step_rows,
                device=self.device,
            )
            job.say("found_lr", {"lr": lr, "steps": len(curve)})
        return float(lr), taken


def _device(asked: str) -> str:
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
