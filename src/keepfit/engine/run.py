"""Walks a plan: keeps what is made, makes the rest, and writes the run folder. The only thing that writes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import from_os_error
from keepfit.core.events import Emit, Event
from keepfit.engine import facts
from keepfit.engine.folder import RunFolder
from keepfit.engine.plan import Plan, Step
from keepfit.recipe import fill
from keepfit.recipe.model import learns_by_network
from keepfit.recipe.render import seen_from
from keepfit.recipe.train import processes_of
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.writers import csv_lines, parquet_bytes
from keepfit.stages import (
    clean,
    evaluate,
    explain,
    guard,
    ingest,
    package,
    packing,
    pictures,
    processes,
    split,
    texts,
    train,
)
from keepfit.stages.processes import Group
from keepfit.stages.results import all_entries, json_of, row_counts
from keepfit.stages.sample import Memory
from keepfit.store.artifacts import Files, Store
from keepfit.store.ledger import COLUMNS, KINDS, conserve
from keepfit.store.scratch import Scratch, scratch

Stopped = Callable[[], bool]


@dataclass
class Run:
    """A finished walk. `path` is the run folder, None where the walk ended before the bundle. `version` is the number that
    the bundle has in the registry, None where it is not registered."""

    path: Path | None
    stages: list[dict[str, Any]]
    files: dict[str, Files] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    modality: str = "tabular"
    group: Group | None = None
    version: int | None = None

    @property
    def bundle(self) -> Path | None:
        """The bundle folder."""
        return self.path / "bundle" if self.path else None

    @property
    def report(self) -> Path | None:
        """The report."""
        return self.path / "report.html" if self.path else None

    @property
    def metrics(self) -> dict[str, Any]:
        """`validation` and `test`."""
        if "evaluate" not in self.files:
            return {}
        found = json_of(self.files["evaluate"], "metrics.json")
        return {"validation": found["validation"], "test": found["test"]}

    @property
    def unanswered(self) -> int:
        """How many test rows had no answer, and are not in the metrics."""
        return int(json_of(self.files["evaluate"], "metrics.json")["unanswered"]) if "evaluate" in self.files else 0

    @property
    def primary(self) -> str:
        """The primary metric."""
        return str(json_of(self.files["evaluate"], "metrics.json")["primary"]) if "evaluate" in self.files else ""

    @property
    def task(self) -> str:
        """classification or regression."""
        return str(json_of(self.files["split"], "task.json")["kind"]) if "split" in self.files else ""


def run(
    plan: Plan,
    store: Store,
    runs: Path,
    emit: Emit,
    *,
    fresh: bool = False,
    goal: Path | None = None,
    stopped: Stopped = lambda: False,
    group: Group | None = None,
) -> Run:
    """Make what is missing and write `runs/<name>/<number>/` (or `goal`). Raises KeepfitError; nothing half-written stays."""
    start = time.monotonic()
    done = Run(None, [], modality=plan.recipe.modality, group=group)
    try:
        with _claimed(plan, store, runs, goal, fresh) as place:
            told = _logged(emit, place, start) if place is not None else emit
            for step in plan.steps:
                _walk(step, plan, store, done, told, fresh, stopped)
            _conserved(done.files)
            done.seconds, done.interrupted = time.monotonic() - start, stopped()
            if place is not None:
                done.path = folder = _written(place, plan, done)
                store.run_state(folder, place.name, place.keys, "finished")
                if goal is None:
                    _point(folder.parent / "latest", folder.name)
            return done
    except OSError as error:
        raise from_os_error(error, "writing the run") from None
    finally:
        packing.let_go()


@contextmanager
def _claimed(plan: Plan, store: Store, runs: Path, goal: Path | None, fresh: bool) -> Iterator[RunFolder | None]:
    """The folder of a walk that goes to the end, None for one that does not; on failure nothing half-written stays."""
    if plan.steps[-1].stage != "report":
        yield None
        return
    name = plan.recipe.name
    place = RunFolder(store, runs / name, name, [step.key for step in plan.steps], goal, fresh)
    try:
        place.claim_goal()
        yield place
    except BaseException:
        place.fail()
        raise
    finally:
        place.release()


def _logged(emit: Emit, place: RunFolder, start: float) -> Emit:
    """The listener, and every event but `kept` as a line of events.jsonl with the seconds since the start."""

    def told(event: Event) -> None:
        emit(event)
        if event.what != "kept":
            line = {"elapsed_s": round(time.monotonic() - start, 3), "at": event.at, "what": event.what, **event.data}
            place.log(json.dumps(line, ensure_ascii=False))

    return told


def _walk(step: Step, plan: Plan, store: Store, done: Run, emit: Emit, fresh: bool, stopped: Stopped) -> None:
    kept = None if fresh else store.made_by(step.key)
    begun = time.monotonic()
    status = "elsewhere"  # another host or process has what is made
    with processes.joined(done.group if step.stage == "train" else None, todo=kept is None) as todo:
        if kept is not None:
            done.files[step.stage] = kept[1]
            status = "kept"
        elif todo:
            emit(Event(step.stage, "started"))
            with scratch(store.folder, step.key, fresh=fresh) as place:
                files = _make(step.stage, plan, done, emit, stopped, place)
                artifact = store.put(files) if files else ""
                if files and not stopped():
                    store.record(step.key, artifact, step.stage, time.monotonic() - begun)
                if not stopped():
                    place.done()
            done.files[step.stage] = files
            status = "made" if files else status
    seconds = round(time.monotonic() - begun, 3)
    done.stages.append({"name": step.stage, "status": status, "seconds": seconds})
    if step.stage == "evaluate" and status == "made":
        emit(Event("evaluate", "metrics", {"metrics": done.metrics}))
    emit(Event(step.stage, status, {"seconds": seconds}))


def _task(plan: Plan, ingested: Files) -> str:
    """The task that was asked for; folders of pictures or texts, and arrays, have classes."""
    recipe = plan.recipe
    named = split.is_named(recipe.data, ingested)
    return "classification" if named and recipe.task == "auto" else recipe.task


def _make(stage: str, plan: Plan, done: Run, emit: Emit, stopped: Stopped, place: Scratch) -> Files:
    recipe, files = plan.recipe, done.files

    def earlier(*names: str) -> list[Files]:
        return [files[name] for name in names]

    if stage == "ingest":
        if recipe.modality == "image":
            return pictures.ingest_pictures(recipe.data, recipe.folder, plan.frame)
        if recipe.modality == "text":
            return texts.ingest_texts(recipe.data, recipe.folder, plan.frame)
        memory = None if recipe.budget.memory is None else Memory(recipe.budget.memory, recipe.seed)
        return ingest.ingest(recipe.data, recipe.folder, plan.frame, memory)
    if stage == "split":
        known = getattr(recipe.model, "classes", None) or (plan.start.classes if plan.start is not None else None)
        asked, leaks = _task(plan, files["ingest"]), recipe.clean.leaks
        return split.split(recipe.data, asked, recipe.seed, files["ingest"], known, leaks)
    if stage == "clean":
        return clean.clean(recipe.clean, recipe.data, recipe.seed, *earlier("ingest", "split"))
    if stage in ("train", "evaluate"):
        evaluate.refuse_early(recipe.evaluate, recipe.data.balance, files["ingest"], files["split"])
    if stage == "train":
        guard.refuse(recipe.clean.leaks, files["clean"])
        way = way_of(plan, place)
        shared = way.get("train") is not None and processes_of(way["train"]) > 1 and done.group is None

        def say(what: str, data: dict[str, Any]) -> None:
            emit(Event("train", what, data))

        found = (recipe.model, way, files["ingest"], files["split"], files["clean"], stopped, say)
        return processes.train(*found) if shared else train.train(*found, plan.start)
    line = earlier("ingest", "split", "clean", "train")
    if stage == "evaluate":
        return evaluate.evaluate(recipe.evaluate, recipe.seed, *line)
    if stage == "explain":
        return explain.explain(recipe.explain, recipe.evaluate, recipe.seed, *line)
    if stage == "package":
        card = facts.card(plan, files)
        metrics = json_of(files["evaluate"], "metrics.json")
        return package.package(
            recipe.package,
            recipe.name,
            plan.text,
            card,
            metrics,
            *line,
            read=recipe.data.read,
            image=recipe.data.image,
            monitor=recipe.monitor.model_dump(),
        )
    return facts.report(plan, files)


def way_of(plan: Plan, place: Scratch | None) -> dict[str, Any]:
    """How to fit, as the stage `train` is told; without a place no checkpoints are kept."""
    recipe = plan.recipe
    network = learns_by_network(recipe.modality, recipe.model.use)
    timed = recipe.model.use in ("auto", "ensemble") or "time" in recipe.budget.model_fields_set
    way = {
        "numeric": recipe.clean.missing.numeric,
        "categorical": recipe.clean.missing.categorical,
        "constant": recipe.clean.missing.constant,
        "indicator": recipe.clean.missing.indicator,
        "balance": recipe.data.balance,
        "seed": recipe.seed,
        "budget_s": recipe.budget.time if timed else None,
        "preset": recipe.preset,
        "folder": recipe.folder,
    }
    if not network:
        return way
    if "time" not in recipe.budget.model_fields_set:
        way["budget_s"] = None
    return {
        **way,
        "threads": 2,  # as many everywhere: the sums of another number differ in the last bits
        "train": recipe.train,
        "augment": recipe.augment,
        "scratch": place.path() if place is not None else None,
    }


def _conserved(files: dict[str, Files]) -> None:
    if "split" in files:
        conserve(*row_counts(files), all_entries(files))


def _written(place: RunFolder, plan: Plan, done: Run) -> Path:
    """The run folder with every file in it; the plan is the last one, since it says that the rest is whole."""

    def recipe(folder: Path) -> str:
        framed = plan.frame is not None
        return fill(plan.recipe, None if framed else seen_from(plan.recipe.folder, folder))

    made = any(stage["status"] == "made" for stage in done.stages)
    kept = None if made else place.whole(done.files, recipe)
    if kept is not None:
        return kept
    folder = place.begin()
    _write(folder, done)
    atomic.write_text(folder / "recipe.yaml", recipe(folder))
    saved = {
        "keys": place.keys,
        "stages": done.stages,
        "rows": dict(zip(("in", "kept"), row_counts(done.files), strict=True)),
    }
    atomic.write_text(folder / "plan.json", json.dumps(saved, indent=1))
    return folder


def _write(folder: Path, done: Run) -> None:
    files = done.files
    bundle = files["package"]
    with atomic.new_folder(folder / "bundle") as scratch:
        for name, data in bundle.items():
            (scratch / name).write_bytes(data)
    Bundle.open(folder / "bundle").predictor()
    entries = all_entries(files)
    rows = [entry.as_row() for entry in entries]
    atomic.write_bytes(folder / "ledger.parquet", parquet_bytes(COLUMNS, KINDS, rows))
    atomic.write_bytes(folder / "metrics.json", files["evaluate"]["metrics.json"])
    atomic.write_bytes(folder / "predictions.parquet", files["evaluate"]["predictions.parquet"])
    board = json_of(files["evaluate"], "leaderboard.json")
    if len(board) > 1:
        names = list(board[0])
        atomic.write_text(
            folder / "leaderboard.csv",
            "".join(csv_lines(names, [[row[n] for n in names] for row in board], for_people=True)),
        )
    for name, data in files["report"].items():
        atomic.write_bytes(folder / name, data)


def _point(link: Path, name: str) -> None:
    """`latest` -> the run, by one rename."""
    if link.is_symlink() and os.readlink(link) == name:
        return
    temp = link.with_name(f".latest.{os.getpid()}")
    if temp.is_symlink():
        temp.unlink()
    temp.symlink_to(name)
    os.replace(temp, link)
