"""Exact and near duplicates among the training rows, and rows with too little in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Cell, Finding
from keepfit.cleaning.groups import members
from keepfit.cleaning.view import View
from keepfit.runtime.coerce import is_missing

REPEATS, NEAR, EMPTY = "repeats an earlier row", "nearly repeats an earlier row", "too many missing cells"


def exact(view: View, do: str) -> list[Finding]:
    """Rows whose content, by the digest in the sample id, an earlier row has.

    Pictures and texts are compared without the label: under another label they are noted and never dropped.
    """
    seen: dict[str, int] = {}
    contents = [sample.rpartition(":")[2] for sample in map(str, view.table.ids.tolist())]
    firsts = map(seen.setdefault, contents, range(len(contents)))
    again = [(row, first) for row, first in enumerate(firsts) if first != row]
    return _found(view, again, REPEATS, "repeat an earlier one", do, "clean.duplicates")


def near(view: View, first: NDArray[np.int64], do: str, already: frozenset[str]) -> list[Finding]:
    """Rows that are near to an earlier one, from the first row of each row's group; `already` are known to repeat exactly."""
    again = [
        (row, int(first[row]))
        for group in members(first)
        for row in group[1:]
        if str(view.table.ids[row]) not in already
    ]
    return _found(view, again, NEAR, "nearly repeat an earlier one", do, "clean.near_duplicates")


def _found(view: View, again: Sequence[tuple[int, int]], rule: str, said: str, do: str, key: str) -> list[Finding]:
    """A finding for rows with the label of their first, and one for those with another, which are only noted."""
    labels = view.table.columns[view.target]
    alike = [(row, first) for row, first in again if labels[row] == labels[first]]
    other = [(row, first) for row, first in again if labels[row] != labels[first]]
    out = []
    for pairs, name, what, level in (
        (alike, rule, said, "note"),
        (other, f"{rule.removesuffix('row')}one, with another label", f"{said}, with another label", "warning"),
    ):
        if not pairs:
            continue
        groups: dict[int, list[int]] = {}
        for row, first in pairs:
            groups.setdefault(first, [first]).append(row)
        dropped = do == "drop" and level == "note"
        out.append(
            Finding(
                name,
                (),
                view.ids(row for row, _ in pairs),
                f"{len(pairs)} training rows {what}" if len(pairs) != 1 else f"1 training row {_of_one(what)}",
                "dropped from training" if dropped else "kept" if level == "note" else "kept: which label is right?",
                f"{key}: report" if dropped else f"{key}: drop" if level == "note" else f"{key}: off",
                "note" if level == "note" else "warning",
                tuple(Cell(str(view.table.ids[r]), "", str(view.table.ids[f]), _label(labels, r, f)) for r, f in pairs),
                tuple(view.ids(group) for group in groups.values()),
                len(pairs) / max(len(view.table), 1),
            )
        )
    return out


def _of_one(said: str) -> str:
    return said.replace("repeat ", "repeats ", 1)


def _label(labels: NDArray[np.object_], row: int, first: int) -> str | None:
    return None if labels[row] == labels[first] else f"{labels[row]}, not {labels[first]}"


def sparse(view: View, most: float | None) -> list[Finding]:
    """Rows of which more than a share of the used cells is missing."""
    used = [rule for rule in view.rules if rule.kind not in ("ignore", "image")]
    if most is None or not used:
        return []
    gaps = np.mean(
        [[is_missing(text, rule.missing) for text in view.table.columns[rule.name]] for rule in used], axis=0
    )
    rows = np.flatnonzero(gaps > most)
    if not len(rows):
        return []
    return [
        Finding(
            EMPTY,
            (),
            view.ids(rows),
            f"in {len(rows)} training rows more than {most:g} of the cells are missing",
            "dropped from training",
            "clean.drop_rows_missing_over: 1.0",
            cells=tuple(Cell(str(view.table.ids[row]), "", f"{gaps[row]:.3f}") for row in rows),
            share=len(rows) / len(view.table),
        )
    ]
