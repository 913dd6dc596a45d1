"""Plans of hosts and processes that help another one to train: they end after the train stage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from keepfit.core.catalog import load
from keepfit.core.errors import RecipeError
from keepfit.core.events import silent
from keepfit.engine.plan import STAGES, Plan
from keepfit.engine.run import Run, run
from keepfit.recipe.model import learns_by_network
from keepfit.recipe.train import processes_of
from keepfit.stages.processes import Group, group
from keepfit.store.artifacts import Store


def is_helper(recipe: Any) -> bool:
    """Whether this host is not the first of several."""
    if not learns_by_network(recipe.modality, recipe.model.use) or recipe.train.distributed is None:
        return False
    return int(recipe.train.distributed.node_rank) > 0


def told(recipe: Any, rows: int) -> dict[str, Any] | None:
    """What `check` says of a training in several processes on `rows` training rows; None for one process."""
    if not learns_by_network(recipe.modality, recipe.model.use) or processes_of(recipe.train) == 1:
        return None
    said = recipe.train.distributed
    fitting = load("keepfit.training.job:for_rows")(recipe.train, rows)
    return {
        "use": said.use,
        "processes": said.world,
        "step_rows": fitting.batch_size * said.world,
        "batch_norm": "mean and variance over the rows of a step in all processes, as one process has them",
    }


def shared_plan(plan: Plan, group: Group | None) -> Plan:
    """The plan of this process. Raises RecipeError where the launcher started another number of processes than the recipe says."""
    recipe = plan.recipe
    said = processes_of(recipe.train) if learns_by_network(recipe.modality, recipe.model.use) else 1
    if group is not None and said != group.world:
        raise RecipeError(
            "other_processes",
            f"a launcher has started {group.world} processes, the recipe says {said}",
            where="train.distributed",
            seen=f"RANK={group.rank} WORLD_SIZE={group.world} in the environment",
            hint=f"train.distributed.processes times nodes must be {group.world}; without a launcher `keepfit run` starts them",
        )
    if group is None or group.rank > 0:
        until = STAGES.index("train") + 1
        return replace(plan, steps=tuple(step for step in plan.steps if step.stage in STAGES[:until]))
    return plan


def helped(plan: Plan, found: Group, stopped: Callable[[], bool]) -> Run:
    """The share of a process that is not the first: everything until training, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="keepfit-") as place:
        made = shared_plan(plan, found)
        return run(made, Store(Path(place)), Path(place) / "runs", silent, stopped=stopped, group=found)


__all__ = ["group", "helped", "is_helper", "shared_plan", "told"]
