"""Which rows a challenger learns from: all, those after the change, or remembered ones beside the new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import RecipeError
from keepfit.recipe.model import Recipe, learns_by_network
from keepfit.recipe.train import processes_of
from keepfit.runtime.table import Column, Table, concat

LEARN_ON = ("replay", "ewc", "lwf")
"""Kinds that start from the champion's weights, where it is a network; replay of other learners is a choice of rows."""
_NETWORKS = ("mlp", "cnn", "pretrained", "custom")


def learns_on(recipe: Recipe) -> bool:
    """Whether the learner is a network whose weights another run can start from."""
    model = recipe.model
    plain = model.use in _NETWORKS and getattr(model, "adapter", None) is None
    return plain and learns_by_network(recipe.modality, model.use) and processes_of(recipe.train) == 1


def kinds_of(strategy: str, recipe: Recipe, changed: bool) -> tuple[str, ...]:
    """The kinds of challenger that compete. Raises RecipeError for ewc and lwf where there is no network to hold.

    `changed`: whether the world did; else all rows are of the same world, and there is nothing to forget.
    """
    if strategy in ("ewc", "lwf") and not learns_on(recipe):
        adapter, model = getattr(recipe.model, "adapter", None), recipe.model.use
        raise RecipeError(
            "bad_value",
            f"retrain.strategy: {strategy} holds a network, trained by one process and without an adapter, near its champion",
            where="retrain.strategy",
            seen=f"model.use: {model}" + (" with an adapter" if adapter is not None else ""),
            hint="model.use: " + ", ".join(_NETWORKS[:3]) + "; or retrain.strategy: auto, full, fresh or replay",
        )
    if strategy != "auto":
        return (strategy,)
    if not changed:
        return ("full",)
    network = learns_by_network(recipe.modality, recipe.model.use)
    return ("replay", "full") if network else ("fresh", "full")


def training_table(
    kind: str, old: Table, past: Table, new: Table, target: str, memory: int, seed: int
) -> tuple[Table, int]:
    """The rows of one kind, and how many of them, the first, are remembered ones. `old` are the recipe's rows, `past` labelled
    answers before the change, `new` those after it."""
    known = before(old, past, new)
    if kind in ("fresh", "lwf") or not len(known):
        return Table(dict(new.columns)), 0
    if kind in ("replay", "ewc"):
        known = known.take(reservoir(known.columns[target], memory, seed))
    return concat([known, Table(dict(new.columns))]), len(known)


def before(old: Table, past: Table, new: Table) -> Table:
    """All rows from before the change, with the columns of the new ones; a column that they lack is empty."""
    parts = [
        Table({name: table.columns.get(name, np.full(len(table), None, object)) for name in new.names})
        for table in (old, past)
        if len(table)
    ]
    return concat(parts) if parts else Table({})


def reservoir(labels: Column, size: int, seed: int) -> NDArray[np.int64]:
    """Places of at most `size` rows, as many of each class as there are or as its share allows, in order.

    A number as label is one class of its own, so that a regression's rows are drawn evenly.
    """
    generator = np.random.default_rng(seed)
    classes = np.unique(labels.astype(str))
    if len(classes) > max(size // 2, 1):
        return np.sort(generator.permutation(len(labels))[:size])
    chosen: list[NDArray[np.int64]] = []
    left = size
    groups = sorted((np.flatnonzero(labels.astype(str) == one) for one in classes), key=len)
    for place, group in enumerate(groups):
        share = left // (len(groups) - place)
        drawn = generator.permutation(group)[:share]
        chosen.append(drawn)
        left -= len(drawn)
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
