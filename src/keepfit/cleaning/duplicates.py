"""Exact and near duplicates among the training rows, and rows with too little in them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import SHOWN, Cell, Cells, Finding
from keepfit.cleaning.view import View
from keepfit.runtime.coded import objects, same
from keepfit.runtime.coerce import is_missing
from keepfit.runtime.samples import first_of
from keepfit.runtime.table import Column, mapped

Places = NDArray[np.int64]

REPEATS, NEAR, EMPTY = "repeats an earlier row", "nearly repeats an earlier row", "too many missing cells"


def exact(view: View, do: str) -> list[Finding]:
    """Rows whose content, by the digest in the sample id, an earlier row has.

    Pictures and texts are compared without the label: under another label they are noted and never dropped.
    """
    first = first_of(view.table.ids)
    rows = np.flatnonzero(first != np.arange(len(first)))
    return _found(view, rows, first[rows], REPEATS, "repeat an earlier one", do, "clean.duplicates")


def near(view: View, first: NDArray[np.int64], do: str, already: NDArray[np.bool_]) -> list[Finding]:
    """Rows that are near to an earlier one, from the first row of each row's group; `already` [n] are known to repeat exactly."""
    rows = np.flatnonzero((first != np.arange(len(first))) & ~already)
    rows = rows[np.argsort(first[rows], kind="stable")]
    return _found(view, rows, first[rows], NEAR, "nearly repeat an earlier one", do, "clean.near_duplicates")


def _found(view: View, rows: Places, firsts: Places, rule: str, said: str, do: str, key: str) -> list[Finding]:
    """A finding for rows with the label of their first, and one for those with another, which are only noted."""
    labels = view.table.columns[view.target]
    alike = np.asarray(labels[rows] == labels[firsts], bool)
    out = []
    for some, name, what, level in (
        (alike, rule, said, "note"),
        (~alike, f"{rule.removesuffix('row')}one, with another label", f"{said}, with another label", "warning"),
    ):
        if not some.any():
            continue
        again, first = rows[some], firsts[some]
        ids, before = view.table.ids, objects(view.table.ids[first].tolist())
        dropped = do == "drop" and level == "note"
        out.append(
            Finding(
                name,
                (),
                view.ids(again),
                f"{len(again)} training rows {what}" if len(again) != 1 else f"1 training row {_of_one(what)}",
                "dropped from training" if dropped else "kept" if level == "note" else "kept: which label is right?",
                f"{key}: report" if dropped else f"{key}: drop" if level == "note" else f"{key}: off",
                "note" if level == "note" else "warning",
                Cells(
                    ids[again],
                    "",
                    before,
                    _labels(labels, again, first) if level == "warning" else same(None, len(again)),
                ),
                tuple(tuple(view.ids(group)) for group in _groups(again, first)),
                len(again) / max(len(view.table), 1),
            )
        )
    return out


def _of_one(said: str) -> str:
    return said.replace("repeat ", "repeats ", 1)


def _labels(labels: Column, rows: Places, firsts: Places) -> Column:
    return objects([f"{labels[row]}, not {labels[first]}" for row, first in zip(rows, firsts, strict=True)])


def _groups(rows: Places, firsts: Places) -> list[list[int]]:
    """The first SHOWN groups, by their first row's first copy: that row and the rows that repeat it."""
    groups: dict[int, list[int]] = {}
    heads = dict.fromkeys(firsts.tolist())
    wanted = set(list(heads)[:SHOWN])
    some = np.isin(firsts, list(wanted))
    for row, first in zip(rows[some].tolist(), firsts[some].tolist(), strict=True):
        groups.setdefault(first, [first]).append(row)
    return list(groups.values())


def sparse(view: View, most: float | None) -> list[Finding]:
    """Rows of which more than a share of the used cells is missing."""
    used = [rule for rule in view.rules if rule.kind not in ("ignore", "image")]
    if most is None or not used:
        return []
    gaps = np.mean(
        [mapped(view.table.columns[rule.name], partial(is_missing, extra=rule.missing), bool) for rule in used], axis=0
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
