"""The train stage in several processes: each one reads the same inputs, builds the same network and takes its share of every step.

Run as a program (`python -m keepfit.stages.processes FOLDER`) it is one of these processes. Inputs and results go through files:
the bytes of the stages before, and JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.core.catalog import load, options_of
from keepfit.core.errors import KeepfitError
from keepfit.core.options import Options
from keepfit.recipe.train import train_class
from keepfit.stages import train as alone
from keepfit.stages.results import room_of
from keepfit.store.artifacts import Files

_INPUTS = ("ingested", "parted", "cleaned")
_FAILED = 3


@dataclass(frozen=True)
class Group:
    """This process among those that the user's own launcher has started."""

    rank: int
    world: int


def group() -> Group | None:
    """The group by the launcher's variables; None for a process that was started by itself."""
    try:
        found = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    except (KeyError, ValueError):
        return None
    return found if found.world > 1 and "MASTER_ADDR" in os.environ else None


@contextmanager
def joined(found: Group | None, *, todo: bool) -> Iterator[bool]:
    """Inside, the group can talk. Gives whether there is anything to do: process 0 may have kept what was made."""
    if found is None:
        yield todo
        return
    first = load("keepfit.training.ranks:first")
    with load("keepfit.training.ranks:joined")():
        yield first(lambda: b"y" if todo else b"n") == b"y"


def train(
    learner: Options,
    way: dict[str, Any],
    ingested: Files,
    parted: Files,
    cleaned: Files,
    stopped: Callable[[], bool],
    say: Callable[[str, dict[str, Any]], None],
) -> Files:
    """As `stages.train`, in as many processes as the recipe says; no files on a host that is not the first one."""
    said = way["train"].distributed
    alone.need_the_extra()
    folder = Path(way["scratch"]) / "together"
    shutil.rmtree(folder, ignore_errors=True)
    for name, files in zip(_INPUTS, (ingested, parted, cleaned), strict=True):
        _write(folder / name, files)
    job = {
        "learner": learner.model_dump(mode="json", by_alias=True),
        "way": {
            **way,
            "train": way["train"].model_dump(mode="json"),
            "augment": [part.model_dump(mode="json") for part in way["augment"]],
            "scratch": str(Path(way["scratch"]).resolve()),
            "folder": str(Path(way["folder"]).resolve()),
        },
    }
    (folder / "job.json").write_text(json.dumps(job))
    load("keepfit.training.launching:start")(said, ["-m", __name__, str(folder.resolve())], folder, stopped, say)
    found = _read(folder / "made") if said.node_rank == 0 else {}
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True)
    for number, data in enumerate(files.values()):
        (folder / str(number)).write_bytes(data)
    (folder / "names.json").write_text(json.dumps(list(files)))


def _read(folder: Path) -> Files:
    names = json.loads((folder / "names.json").read_text())
    return {name: (folder / str(number)).read_bytes() for number, name in enumerate(names)}


def _share(folder: Path, rank: int) -> None:
    """The work of one process."""
    job = json.loads((folder / "job.json").read_text())
    ingested, parted, cleaned = (_read(folder / name) for name in _INPUTS)
    way = job["way"]
    way["train"] = train_class().model_validate(way["train"])
    way["augment"] = [options_of("augment", part["use"]).model_validate(part) for part in way["augment"]]
    way["scratch"], way["folder"] = Path(way["scratch"]), Path(way["folder"])
    learner = options_of(room_of(ingested), job["learner"]["use"]).model_validate(job["learner"])
    stop, say = folder / "stop", load("keepfit.training.launching:speaker")(folder, rank)
    made = alone.train(learner, way, ingested, parted, cleaned, stop.exists, say)
    if rank == 0:
        _write(folder / "made", made)


def main(folder: Path) -> int:
    """One process of the training; its errors are files for the one that started it."""
    load("keepfit.training.launching:hold_lifeline")()
    rank = int(os.environ["RANK"])
    try:
        with load("keepfit.training.ranks:joined")():
            _share(folder, rank)
    except KeepfitError as error:
        load("keepfit.training.launching:write_error")(folder, rank, error)
        return _FAILED
    except Exception:  # the border of the process: what nobody foresaw is printed, and the parent tells of it
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of the process group may wait for one that has died
