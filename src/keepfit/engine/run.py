"""Walks a plan: keeps what is made, makes the rest, and writes the run folder. The only thing that writes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import GateError, KeepfitError, from_os_error
from keepfit.core.events import Emit, Event
from keepfit.engine import facts
from keepfit.engine.plan import Plan, Step
from keepfit.recipe.model import learns_by_network
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.writers import csv_lines, parquet_bytes
from keepfit.stages import clean, evaluate, explain, ingest, package, pictures, split, train
from keepfit.stages.results import json_of, ledger_of
from keepfit.store.artifacts import Files, Store
from keepfit.store.ledger import COLUMNS, Entry, conserve
from keepfit.store.scratch import Scratch, scratch

Stopped = Callable[[], bool]


@dataclass
class Run:
    """A finished walk. `path` is the run folder, None where the walk ended before the bundle."""

    path: Path | None
    stages: list[dict[str, Any]]
    files: dict[str, Files] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

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
) -> Run:
    """Make what is missing and write `runs/<name>/<number>/` (or `goal`). Raises KeepfitError; nothing half-written stays."""
    start = time.monotonic()
    done = Run(None, [])
    try:
        with _claimed(plan, store, runs, goal) as folder:
            told = emit if plan.steps[-1].stage != "report" else _logged(emit, folder, start)
            for step in plan.steps:
                _walk(step, plan, store, done, told, fresh, stopped)
            _conserved(done.files)
            done.seconds, done.interrupted = time.monotonic() - start, stopped()
            if "report" in done.files:
                _write(folder, plan, done)
                done.path = folder
                store.run_state(folder, plan.recipe.name, [s.key for s in plan.steps], "finished")
                if goal is None:
                    _point(folder.parent / "latest", folder.name)
            return done
    except OSError as error:
        raise from_os_error(error, "writing the run") from None


@contextmanager
def _claimed(plan: Plan, store: Store, runs: Path, goal: Path | None) -> Iterator[Path]:
    """A run folder that no other process uses: an unfinished one of the same plan, or a new number."""
    if goal is not None:
        yield goal
        return
    if not any(step.stage == "report" for step in plan.steps):
        yield runs
        return
    keys = [step.key for step in plan.steps]
    parent = runs / plan.recipe.name
    old = store.unfinished(parent, keys) or _finished(parent, keys)
    lock = _locked(old) if old is not None else None
    folder = old
    while folder is None or lock is None:  # another process may lock a new folder before its maker does
        folder = store.new_run(parent, plan.recipe.name, keys)
        lock = _locked(folder)
    try:
        yield folder
    except BaseException:
        if not (folder / "plan.json").exists():  # nothing half-written stays
            store.run_state(folder, plan.recipe.name, keys, "failed")
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _logged(emit: Emit, folder: Path, start: float) -> Emit:
    """The listener, and every event but `kept` as a line of events.jsonl with the seconds since the start."""

    def told(event: Event) -> None:
        emit(event)
        if event.what != "kept":
            folder.mkdir(parents=True, exist_ok=True)
            line = {"elapsed_s": round(time.monotonic() - start, 3), "at": event.at, "what": event.what, **event.data}
            with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return told


def _finished(parent: Path, keys: list[str]) -> Path | None:
    """The latest run, when it was made by this very plan and is whole."""
    try:
        folder = (parent / "latest").resolve(strict=True)
    except OSError:
        return None
    return folder if _is_whole(folder, keys) else None


def _is_whole(folder: Path, keys: list[str]) -> bool:
    """Whether a run folder was written to its end by this very plan and its bundle is undamaged."""
    try:
        same = json.loads((folder / "plan.json").read_bytes())["keys"] == keys
        Bundle.open(folder / "bundle")
    except (OSError, ValueError, KeyError, TypeError, KeepfitError):
        return False
    return bool(same)


def _locked(folder: Path) -> int | None:
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _walk(step: Step, plan: Plan, store: Store, done: Run, emit: Emit, fresh: bool, stopped: Stopped) -> None:
    kept = None if fresh else store.made_by(step.key)
    begun = time.monotonic()
    if kept is not None:
        done.files[step.stage] = kept[1]
        status = "kept"
    else:
        emit(Event(step.stage, "started"))
        with scratch(store.folder, step.key, fresh=fresh) as place:
            files = _make(step.stage, plan, done.files, emit, stopped, place)
            artifact = store.put(files)
            if not stopped():
                store.record(step.key, artifact, step.stage, time.monotonic() - begun)
                place.done()
        done.files[step.stage] = files
        status = "made"
    seconds = round(time.monotonic() - begun, 3)
    done.stages.append({"name": step.stage, "status": status, "seconds": seconds})
    if step.stage == "evaluate" and status == "made":
        emit(Event("evaluate", "metrics", {"metrics": done.metrics}))
    emit(Event(step.stage, status, {"seconds": seconds}))


def _task(plan: Plan) -> str:
    """The task that was asked for; folders and arrays of pictures have classes."""
    recipe = plan.recipe
    named = recipe.modality == "image" and recipe.data.image is None
    return "classification" if named and recipe.task == "auto" else recipe.task


def _make(stage: str, plan: Plan, files: dict[str, Files], emit: Emit, stopped: Stopped, place: Scratch) -> Files:
    recipe = plan.recipe

    def earlier(*names: str) -> list[Files]:
        return [files[name] for name in names]

    if stage == "ingest":
        if recipe.modality == "image":
            return pictures.ingest_pictures(recipe.data, recipe.folder)
        return ingest.ingest(recipe.data, recipe.folder, plan.frame)
    if stage == "split":
        return split.split(recipe.data, _task(plan), recipe.seed, files["ingest"])
    if stage == "clean":
        return clean.clean(recipe.clean, recipe.data, recipe.seed, *earlier("ingest", "split"))
    if stage in ("train", "evaluate"):
        evaluate.refuse_early(recipe.evaluate, recipe.data.balance, files["ingest"], files["split"])
    if stage == "train":
        return train.train(
            recipe.model,
            _way(plan, place),
            files["ingest"],
            files["split"],
            files["clean"],
            stopped,
            lambda what, data: emit(Event("train", what, data)),
        )
    line = earlier("ingest", "split", "clean", "train")
    if stage == "evaluate":
        return evaluate.evaluate(recipe.evaluate, recipe.seed, *line)
    if stage == "explain":
        return explain.explain(recipe.explain, recipe.evaluate, recipe.seed, *line)
    if stage == "package":
        card = facts.card(plan, files)
        metrics = json_of(files["evaluate"], "metrics.json")
        return package.package(
            recipe.package, recipe.name, plan.text, card, metrics, *line, read=recipe.data.read, image=recipe.data.image
        )
    return facts.report(plan, files)


def _way(plan: Plan, place: Scratch) -> dict[str, Any]:
    recipe = plan.recipe
    network = learns_by_network(recipe.modality, recipe.model.use)
    timed = recipe.model.use in ("auto", "ensemble") or "time" in recipe.budget.model_fields_set
    way = {
        "numeric": recipe.clean.missing.numeric,
        "categorical": recipe.clean.missing.categorical,
        "balance": recipe.data.balance,
        "seed": recipe.seed,
        "budget_s": recipe.budget.time if timed else None,
        "preset": recipe.preset,
    }
    if not network:
        return way
    if "time" not in recipe.budget.model_fields_set:
        way["budget_s"] = None
    return {
        **way,
        "threads": min(2, os.cpu_count() or 1),
        "train": recipe.train,
        "augment": recipe.augment,
        "scratch": place.path(),
        "folder": recipe.folder,
    }


def all_entries(files: dict[str, Files]) -> list[Entry]:
    """The whole ledger, in the order of the stages."""
    return [entry for stage in ("ingest", "split", "clean") if stage in files for entry in ledger_of(files[stage])]


def row_counts(files: dict[str, Files]) -> tuple[int, int]:
    """Samples that came in (unreadable lines included) and samples that some split keeps."""
    came = len(json_of(files["ingest"], "given.json")) + sum(
        entry.action == "dropped" for entry in ledger_of(files["ingest"])
    )
    last = files.get("clean", files.get("split", {}))
    part = json_of(last, "part.json") if last else json_of(files["ingest"], "given.json")
    kept = sum(1 for name in part if name) if last else len(part)
    return came, kept


def _conserved(files: dict[str, Files]) -> None:
    if "split" in files:
        conserve(*row_counts(files), all_entries(files))


def _write(folder: Path, plan: Plan, done: Run) -> None:
    """Every file of the run folder; the plan last, since it says that the rest is whole."""
    made = any(stage["status"] == "made" for stage in done.stages)
    if not made and _is_whole(folder, [step.key for step in plan.steps]):
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = done.files
    bundle = files["package"]
    with atomic.new_folder(folder / "bundle") as scratch:
        for name, data in bundle.items():
            (scratch / name).write_bytes(data)
    if Bundle.open(folder / "bundle").predictor() is None:
        raise GateError("parity", "the bundle cannot be opened", where=str(folder))
    entries = all_entries(files)
    kinds = ["VARCHAR", "VARCHAR", "BIGINT", *["VARCHAR"] * 6]
    rows = [[entry.as_json()[column] for column in COLUMNS] for entry in entries]
    atomic.write_bytes(folder / "ledger.parquet", parquet_bytes(COLUMNS, kinds, rows))
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
    atomic.write_text(folder / "recipe.yaml", plan.text)
    saved = {
        "keys": [s.key for s in plan.steps],
        "stages": done.stages,
        "rows": dict(zip(("in", "kept"), row_counts(files), strict=True)),
        "folder": str(plan.recipe.folder),
    }
    atomic.write_text(folder / "plan.json", json.dumps(saved, indent=1))


def _point(link: Path, name: str) -> None:
    """`latest` -> the run, by one rename."""
    if link.is_symlink() and os.readlink(link) == name:
        return
    temp = link.with_name(f".latest.{os.getpid()}")
    if temp.is_symlink():
        temp.unlink()
    temp.symlink_to(name)
    os.replace(temp, link)
