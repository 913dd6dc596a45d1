"""What a run may start from instead of nothing: the champion's trained files, and which of its rows are remembered ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.core.errors import RecipeError
from keepfit.runtime.coerce import ColumnRule
from keepfit.store.artifacts import Files
from keepfit.store.ledger import place_of
from keepfit.tasks.task import Task, class_name

FIRST = "first"


@dataclass(frozen=True)
class Start:
    """`method` is first (the run is to be learned on from later), replay, ewc or lwf. `files` are those of the champion's train
    stage, `classes` the champion's (their JSON values), `counts` rows of each class before, by name. The first `remembered` rows of
    the frame are old ones. `hold` multiplies the penalties of ewc and lwf."""

    method: str
    files: Files = field(default_factory=dict)
    classes: tuple[Any, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    remembered: int = 0
    hold: float = 1.0

    def key(self) -> dict[str, Any]:
        """What of it can change a result, as JSON."""
        sums = {name: digest.of_bytes(data) for name, data in sorted(self.files.items())}
        return {
            "method": self.method,
            "version": load("keepfit.continual:VERSION"),
            "champion": sums,
            "counts": dict(sorted(self.counts.items())),
            "remembered": self.remembered,
            "hold": self.hold,
        }

    def rules(self) -> list[ColumnRule] | None:
        """How the champion reads columns; None where there are no columns, or no champion."""
        said = json.loads(self.files["preparation.json"]) if self.files else {}
        return [ColumnRule.from_json(rule) for rule in said["columns"]] if "columns" in said else None


def warm_of(start: Start | None, task: Task, ids: Iterable[str]) -> Any:
    """What the rooms are given, for training rows with these ids; None for a run that starts from nothing.

    Raises RecipeError for numbers: learning on is for classes.
    """
    if start is None or (start.method == FIRST and task.kind == "regression"):
        return None
    if task.kind == "regression":
        raise RecipeError(
            "bad_value",
            f"{start.method} is for classes, and this is a regression",
            where="retrain.strategy",
            seen=f"the target {task.target!r} is a number",
            hint="retrain.strategy: auto, full or fresh",
        )
    before = [class_name(one) for one in start.classes]
    old = frozenset(one for one in map(str, ids) if 0 <= _place(one) < start.remembered)
    made: Any = load("keepfit.continual.warm:Warm")
    return made(start.method, start.files, before, task.names, start.counts, old, start.hold)


def _place(sample: str) -> int:
    """The number of a row in the frame that it came from: pictures are named by it."""
    source, row = place_of(sample)
    return int(source.removeprefix("row")) if source.removeprefix("row").isdigit() else row
