"""Which rows a challenger learns from: all, those after the change, or remembered ones beside the new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import RecipeError
from keepfit.recipe.model import Recipe, learns_by_network
from keepfit.runtime.table import Table, concat

WARM = ("ewc", "lwf")


def kinds_of(strategy: str, recipe: Recipe, changed: bool) -> tuple[str, ...]:
    """The kinds of challenger that compete. Raises RecipeError for one that is not built yet.

    `changed`: whether the world did; else all rows are of the same world, and there is nothing to forget.
    """
    if strategy in WARM:
        raise RecipeError(
            "not_available",
            f"retrain.strategy: {strategy} is not available yet: to hold a network near the champion's weights",
            where="retrain.strategy",
            seen=strategy,
            hint="retrain.strategy: auto, full, fresh or replay",
        )
    network = learns_by_network(recipe.modality, recipe.model.use)
    if strategy != "auto":
        return (strategy,)
    if not changed:
        return ("full",)
    return ("replay", "full") if network else ("fresh", "full")


def training_table(kind: str, old: Table, past: Table, new: Table, target: str, memory: int, seed: int) -> Table:
    """The rows of one kind. `old` are the recipe's, `past` labelled answers before the change, `new` those after it."""
    columns = new.names
    before = [Table({name: table.columns[name] for name in columns}) for table in (old, past) if len(table)]
    if kind == "fresh" or not before:
        return Table(dict(new.columns))
    known = concat(before)
    if kind == "replay":
        known = known.take(reservoir(known.columns[target], memory, seed))
    return concat([known, Table(dict(new.columns))])


def reservoir(labels: NDArray[np.object_], size: int, seed: int) -> NDArray[np.int64]:
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
