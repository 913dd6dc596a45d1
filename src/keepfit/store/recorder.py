"""Takes answers off the hot path and feedback to the disk: two threads, bounded queues, constant memory."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keepfit.core.errors import EnvironmentFault, KeepfitError
from keepfit.runtime.blocks import BlockTable
from keepfit.store.record_files import Backend
from keepfit.store.request_ids import RequestIds
from keepfit.store.segments import Entry
from keepfit.store.sketches import Sketch, Sketcher

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.bundle import Bundle
    from keepfit.runtime.table import Table

Mode = Literal["full", "sketch", "off"]
DAY_S, WIDE, LEAST_PRUNE_S = 86_400.0, 8, 1.0
# Between two entries this thread lets go of Python's lock and has it again before the event loop is awake, which then begins to
# wait anew: a queue of 256 answers written as one piece kept it from answering for 20 to 60 ms. So bites of this much CPU, and a
# rest after each; larger ones the more beyond CALM wait, since a busy event loop gives the lock back only every 5 ms.
BITE_S, LEAST_BITE, MOST_BITE, REST_S, CALM = 0.001, 8, 256, 0.0003, 256
log = logging.getLogger("keepfit.records")


@dataclass(frozen=True)
class Limits:
    """How much is kept, and how much may wait. `age_s` and `size_bytes` bound the store; `waiting` requests and
    `waiting_bytes` of their bodies bound the queue, beyond which records are dropped and counted; `looked_per_s` rows and
    `looked_cells_per_s` cells a second are looked into by sketches, every `look_s` or when their bodies come to `unseen_bytes`;
    a sketch is written every `sketch_s`; answers are synced every `sync_s`; what is too much goes every `prune_s`, or when an
    eighth of `size_bytes` has come."""

    age_s: float = 30 * DAY_S
    size_bytes: int = 1 << 30
    waiting: int = 10_000
    waiting_bytes: int = 64 << 20
    looked_per_s: int = 2000
    looked_cells_per_s: int = 400_000
    look_s: float = 1.0
    unseen_bytes: int = 8 << 20
    sketch_s: float = 60.0
    sync_s: float = 1.0
    pause_s: float = 0.05
    prune_s: float = 60.0


@dataclass(frozen=True)
class Answered:
    """One answer to be recorded: what was asked, what was said, and by which model."""

    request_id: str
    at: float
    name: str
    version: str
    sketcher: Sketcher
    sha256: str
    table: Table
    answers: Answers
    size_bytes: int


class Recorder:
    """The recorder of one process; its ids are those that feedback is known by."""

    def __init__(self, backend: Backend, mode: Mode = "full", limits: Limits | None = None) -> None:
        self.backend, self.mode, self.limits = backend, mode, limits or Limits()
        self._told: Callable[[str, int], None] = lambda what, rows: None
        self.ids = RequestIds(backend.key())
        self._queue: deque[Answered] = deque()
        self._queued_bytes = 0
        self._truths: deque[tuple[Entry, Future[None]]] = deque()
        self._wake, self._ending = threading.Condition(), threading.Event()
        self._lock, self._draining = threading.Lock(), threading.RLock()
        self._sketches: dict[str, Sketch] = {}
        self._unseen: list[tuple[Answered, int]] = []
        self._unseen_bytes = 0
        self._cost_s = BITE_S / LEAST_BITE  # of the CPU, one answer
        self._unpruned_bytes = 0
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._answers, "keepfit-records"), (self._feedback, "keepfit-feedback"))
        ]
        for thread in self._threads:
            thread.start()

    def listen(self, told: Callable[[str, int], None]) -> None:
        """Tell `told(what, rows)` of rows that were `written` or `dropped`."""
        self._told = told

    def describe(self, bundle: Bundle, name: str, version: str) -> Sketcher:
        """Keep what a model is, before its first answer; gives what sketches its rows."""
        columns = [{"name": column.name, "kind": column.kind} for column in bundle.inputs]
        facts = {
            "name": name,
            "version": version,
            "sha256": bundle.sha256,
            "task": bundle.task,
            "modality": bundle.modality,
        }
        more = {"text": bundle.manifest.get("text_column"), "image": bundle.manifest.get("image_column")}
        shown = {"target": bundle.target, "classes": bundle.classes, "columns": columns}
        sketcher = Sketcher(bundle)
        more["block"] = sketcher.block_names
        self.backend.describe({**facts, **shown, **{key: value for key, value in more.items() if value}})
        return sketcher

    def classes_before(self, name: str) -> list[Any]:
        """The classes of all models of a name that ever answered here; none where their descriptions cannot be read."""
        try:
            return [it for one in self.backend.models().values() if one["name"] == name for it in one["classes"] or ()]
        except (KeepfitError, OSError, ValueError, KeyError, TypeError) as error:
            log.error("the models of before cannot be read, labels of theirs are refused: %s", error)
            return []

    def put(self, answered: Answered) -> bool:
        """Queue an answer; never waits. False, and counted as dropped, when the queue is full."""
        with self._lock:
            full = len(self._queue) >= self.limits.waiting
            full |= self._queued_bytes + answered.size_bytes > self.limits.waiting_bytes and bool(self._queue)
            if not full:
                self._queue.append(answered)
                self._queued_bytes += answered.size_bytes
        if full:
            self._told("dropped", len(answered.answers))
        return not full

    def feedback(self, request_id: str, labels: list[Any]) -> Future[None]:
        """Queue the truth about an answer; the future is done when it is durable, or has the KeepfitError why it is not."""
        done: Future[None] = Future()
        with self._wake:
            if self._ending.is_set():
                done.set_exception(
                    EnvironmentFault("stopping", "the service is stopping", where="the service", hint="send it again")
                )
                return done
            self._truths.append(({"id": request_id, "t": round(time.time(), 3), "labels": labels}, done))
            self._wake.notify()
        return done

    def flush(self) -> None:
        """Write what waits, sketches too."""
        self._drain()
        self._write_sketches()

    def close(self) -> None:
        """Write all that waits and stop."""
        with self._wake:
            self._ending.set()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self.flush()
        self.backend.close()

    def _feedback(self) -> None:
        while True:
            with self._wake:
                while not self._truths and not self._ending.is_set():
                    self._wake.wait()
                batch = list(self._truths)
                self._truths.clear()
            if not batch and self._ending.is_set():
                return
            try:  # one sync for all that came while the one before went on
                self.backend.write("feedback", [entry for entry, _ in batch], durable=True)
            except KeepfitError as error:
                log.error("feedback is not stored: %s", error)
                for _, done in batch:
                    done.set_exception(error)
            else:
                for _, done in batch:
                    done.set_result(None)

    def _answers(self) -> None:
        sketched = pruned = synced = looked = time.monotonic()
        rest_s = LEAST_PRUNE_S
        while not self._ending.wait(self.limits.pause_s):
            self._drain()
            moment = time.monotonic()
            if moment - looked >= self.limits.look_s:
                looked = moment
                self._look()
            if moment - synced >= self.limits.sync_s:
                synced = moment
                self._write("answers", [], durable=True)
            if moment - sketched >= self.limits.sketch_s:
                sketched = moment
                self._write_sketches()
            # Much at once fills the disk between two times, and removing it at once holds up what waits.
            much = self._unpruned_bytes > self.limits.size_bytes // 8
            if moment - pruned >= (rest_s if much else self.limits.prune_s):
                self._unpruned_bytes = 0
                self._prune()
                pruned = time.monotonic()
                rest_s = max(LEAST_PRUNE_S, 10 * (pruned - moment))

    def _drain(self) -> None:
        with self._draining:
            with self._lock:
                waiting = len(self._queue)
            done = 0
            while done < waiting:
                with self._lock:
                    size = min(self._bite(len(self._queue)), waiting - done)
                    batch = [self._queue.popleft() for _ in range(size)]
                    self._queued_bytes -= sum(answered.size_bytes for answered in batch)
                begun = time.thread_time()
                self._record(batch, done, waiting)
                self._cost_s = 0.5 * self._cost_s + 0.5 * (time.thread_time() - begun) / len(batch)
                done += len(batch)
                if done < waiting and not self._ending.is_set():
                    time.sleep(REST_S)

    def _bite(self, waiting: int) -> int:
        """How many of those that wait are written at once."""
        budget_s = BITE_S * max(1.0, waiting / CALM)
        return max(LEAST_BITE, min(MOST_BITE, int(budget_s / max(self._cost_s, 1e-7))))

    def _record(self, batch: list[Answered], done: int, waiting: int) -> None:
        """Write a part of those that waited, of whom `done` came before it."""
        cells = self.limits.looked_cells_per_s // max(1, *(len(answered.sketcher.bins) for answered in batch))
        look = int(min(self.limits.looked_per_s, cells) * self.limits.pause_s) + 1
        step = -(-waiting // look)  # of many small answers every so manieth is looked into
        # Spent evenly over those that waited, so that no client's rows hide those of others.
        most = max(1, look // waiting)
        self._unseen += [(one, 0 if place % step else most) for place, one in enumerate(batch, done)]
        size_bytes = sum(answered.size_bytes for answered in batch)
        self._unseen_bytes += size_bytes
        self._unpruned_bytes += size_bytes
        if self._unseen_bytes > self.limits.unseen_bytes:
            self._look()
        entries = sorted((entry_of(answered, self.mode) for answered in batch), key=lambda entry: entry["t"])
        rows = sum(len(answered.answers) for answered in batch)
        self._told("written" if self._write("answers", entries) else "dropped", rows)

    def _look(self) -> None:
        """Sketch what waits to be, all answers of a model at once: its cost is by column more than by row."""
        with self._draining:
            unseen, self._unseen, self._unseen_bytes = self._unseen, [], 0
            by_model: dict[str, list[tuple[Answered, int]]] = {}
            for one in unseen:
                by_model.setdefault(one[0].sha256, []).append(one)
            for sha256, some in by_model.items():
                made = some[-1][0].sketcher.sketch_all([(one.table, one.answers, most) for one, most in some])
                before = self._sketches.get(sha256)
                self._sketches[sha256] = made if before is None else before.merged(made)

    def _write_sketches(self) -> None:
        with self._draining:
            self._look()
            found, self._sketches = self._sketches, {}
        at = round(time.time(), 3)
        entries = [{"t": at, "sha256": sha256, **sketch.as_json()} for sha256, sketch in found.items()]
        if entries:
            self._write("sketches", entries, durable=True)

    def _write(self, kind: Literal["answers", "sketches"], entries: list[Entry], durable: bool = False) -> bool:
        try:
            self.backend.write(kind, entries, durable=durable)
            return True
        except KeepfitError as error:
            log.error("%s are not recorded: %s", kind, error)
            return False

    def _prune(self) -> None:
        try:
            self.backend.prune(time.time(), self.limits.age_s, self.limits.size_bytes)
        except (KeepfitError, OSError) as error:
            log.error("old records are not removed: %s", error)


def entry_of(answered: Answered, mode: Mode) -> Entry:
    """The record of an answer as JSON; probabilities with 7 decimals; pictures as base64."""
    answers = answered.answers
    entry: Entry = {
        "id": answered.request_id,
        "t": round(answered.at, 3),
        "model": [answered.name, answered.version, answered.sha256],
        "predictions": answers.labels,
    }
    if answers.probabilities is not None:
        entry["probabilities"] = answers.probabilities.astype(float).round(7).tolist()
    if mode == "full":
        entry |= _inputs(answered.table)
    return entry


def _inputs(table: Table) -> Entry:
    """`inputs`: the cells by column; of a wide table the numbers as base64 of float64 [n, d], whose columns the model's description
    names (`block`): written in a tenth of the time."""
    if isinstance(table, BlockTable) and len(table.layout.at) >= WIDE:
        numbers = base64.b64encode(np.ascontiguousarray(table.block, "<f8").tobytes()).decode()
        return {"inputs": {name: column.tolist() for name, column in table.rest.items()}, "block": numbers}
    return {"inputs": {name: [_cell(cell) for cell in column] for name, column in table.columns.items()}}


def _cell(cell: Any) -> Any:
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell
