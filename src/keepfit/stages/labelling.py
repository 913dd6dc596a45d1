"""Suspected wrong labels of the training split: told, or dropped or relabelled where a comparison says that nothing gets worse."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning import labels, plain_features
from keepfit.cleaning.crossed import features_of
from keepfit.cleaning.findings import Cell, Finding
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.picture_predictor import COLUMN as PICTURE
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.stages.results import truth_of
from keepfit.store.ledger import Entry, place_of, without
from keepfit.tasks.task import Task

REPORTED_ON = 2000  # rows looked at where suspects are only told: a second on a laptop
COMPARED_ON = 6000
_TREES = 40


@dataclass(frozen=True)
class Labelled:
    """What came of it: findings, ledger entries, and the answers that training rows get instead of their own, by id."""

    findings: list[Finding] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    mended: dict[str, str] = field(default_factory=dict)

    def less(self, undo: Collection[str]) -> Labelled:
        """Without the entries that were taken back."""
        kept = without(self.entries, undo)
        ids = {entry.id for entry in kept}
        return Labelled(self.findings, kept, {sample: text for sample, text in self.mended.items() if sample in ids})


def labelling(
    way: str, table: Table, part: NDArray[np.object_], rules: list[ColumnRule], room: str, task: Task, seed: int
) -> Labelled:
    """Look for wrong labels among the rows whose `part` [n] is train; `way` is drop, relabel, report or off.

    Only with drop and relabel are all rows looked at. They are applied where errors on rows that nobody mended do not
    rise by more than one standard error; otherwise they stay a proposal.
    """
    rows = np.flatnonzero(part == "train")
    if way == "off" or len(rows) < 40:
        return Labelled()
    some = _drawn(rows, REPORTED_ON, seed) if way == "report" else rows
    held = _drawn(np.flatnonzero(part == "validation"), COMPARED_ON // 4, seed) if way != "report" else rows[:0]
    both = table.take(np.concatenate([some, held]))
    features, truth = features_seen(both, room, rules), truth_of(both.columns[task.target], task)
    count, classes = len(some), len(task.classes)
    found = labels.suspects_of(features[:count], truth[:count], classes, seed, _TREES if way == "report" else 100)
    told = _Told(table, some, task, found, truth)
    if not found.blind and not len(found.rows):
        return Labelled()
    if way == "report" or found.blind:
        return Labelled([told.finding(way, None)])
    if way == "relabel" and not classes:
        return Labelled([told.finding(way, None)])
    few = _drawn(np.arange(count), COMPARED_ON, seed)
    scores = labels.compared(way, features[few], truth[few], features[count:], truth[count:], classes, seed)
    if not is_no_worse(scores, found.overlapping):
        return Labelled([told.finding(way, scores)])
    return Labelled([told.finding(way, scores)], told.entries(way), told.mended() if way == "relabel" else {})


def is_no_worse(scores: dict[str, float], overlapping: bool) -> bool:
    """Whether the errors after rise by no more than a standard error of the paired difference; where classes overlap, they
    must fall by one, since rows that are right and rare would go."""
    error = scores["deviation"] / math.sqrt(scores["rows"])
    return scores["after"] <= scores["before"] + (-error if overlapping else error)


def _drawn(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def features_seen(table: Table, room: str, rules: list[ColumnRule]) -> Any:
    """Plain features [n, d] by which labels are judged: dense for tables and pictures, sparse for texts."""
    if room == "image":
        return plain_features.of_pictures(list(table.columns[PICTURE]))
    if room == "text":
        return plain_features.of_texts(list(table.columns[TEXT]))
    return features_of(coerced(table, rules), np.arange(len(table)))


@dataclass(frozen=True)
class _Told:
    """How suspects are told of: `rows` are the positions in the table that were looked at."""

    table: Table
    rows: NDArray[np.int64]
    task: Task
    found: labels.Suspects
    truth: NDArray[Any]

    def _cells(self) -> list[Cell]:
        cells = []
        for place, proposed in zip(self.found.rows, self.found.proposed, strict=True):
            row = self.rows[place]
            after = self.task.names[int(proposed)] if self.task.classes else f"{proposed:.6g}"
            before = self.table.columns[self.task.target][row]
            cells.append(Cell(str(self.table.ids[row]), self.task.target, before, after))
        return cells

    def mended(self) -> dict[str, str]:
        """The proposed answer of each suspect."""
        return {cell.id: str(cell.after) for cell in self._cells()}

    def entries(self, way: str) -> list[Entry]:
        """One ledger entry per suspect."""
        action, rule = ("dropped", "suspected wrong label") if way == "drop" else ("changed", "relabelled")
        return [
            Entry(
                *(cell.id, *place_of(cell.id), cell.column, rule, cell.before or ""),
                *("" if way == "drop" else str(cell.after), "clean", action),
            )
            for cell in self._cells()
        ]

    def finding(self, way: str, scores: dict[str, float] | None) -> Finding:
        """What was seen and done."""
        looked, whole = len(self.rows), len(self.found.rows)
        what = "labels" if self.task.classes else "values of the target"
        message = f"{whole} of {looked} {what} of training rows looked at are doubted"
        if self.found.blind:
            message = f"wrong {what} cannot be told: plain models know too little of {self.task.target!r}"
        if self.task.classes and not self.found.blind:
            message += f"; plain models agree with {self.found.agreement:.1%} of all"
            if whole and self.found.overlapping:
                message += ", and classes overlap: most of the doubted may be right"
        share = whole / max(looked, 1)
        return Finding(
            rule="wrong_labels",
            columns=(self.task.target,),
            ids=tuple(cell.id for cell in self._cells()),
            message=message,
            proposal=self._proposal(way, scores, whole),
            override="clean.labels=relabel" if whole and way == "report" and self.task.classes else "",
            level="warning" if share > 0.02 and not self.found.overlapping else "note",
            cells=tuple(self._cells()),
            share=share,
        )

    def _proposal(self, way: str, scores: dict[str, float] | None, whole: int) -> str:
        if not whole:
            return "nothing to do"
        if scores is None:
            more = "" if self.task.classes or way != "relabel" else ": a number is not relabelled, say drop"
            return f"kept, and told of{more}; drop or relabel are applied where a comparison does not get worse"
        unit = "of answers wrong" if self.task.classes else "mean absolute error"
        said = f"{scores['before']:.4g} {unit} before, {scores['after']:.4g} after, on {scores['rows']:.0f} rows not mended"
        if is_no_worse(scores, self.found.overlapping):
            return f"{'dropped' if way == 'drop' else 'relabelled'}: {said}"
        why = "no better, and classes overlap" if self.found.overlapping else "worse"
        return f"kept, since a model learned so is {why}: {said}"
