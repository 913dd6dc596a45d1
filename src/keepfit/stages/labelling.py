"""Suspected wrong labels of the training split: told, or dropped or relabelled where a comparison says that nothing gets worse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning import labels, plain_features
from keepfit.cleaning.crossed import features_of
from keepfit.cleaning.findings import Cell, Finding
from keepfit.core.catalog import load
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.picture_predictor import COLUMN as PICTURE
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Column, Table
from keepfit.runtime.text_predictor import COLUMN as TEXT
from keepfit.stages.results import truth_of
from keepfit.store.ledger import BACK, Entry, place_of, without
from keepfit.tasks.task import Task

REPORTED_ON = 2000  # rows looked at where suspects are only told: a second on a laptop
COMPARED_ON = 6000
_TREES = 40
_MANY = 10_000  # pictures of which two kinds of features would take too much memory


@dataclass(frozen=True)
class Labelled:
    """What came of it: findings, ledger entries, and the answers that training rows get instead of their own, by id."""

    findings: list[Finding] = field(default_factory=list)
    entries: Sequence[Entry] = field(default_factory=list)
    mended: dict[str, str] = field(default_factory=dict)

    def less(self, undo: Collection[str]) -> Labelled:
        """Without the entries that were taken back."""
        kept = without(self.entries, undo)
        ids = {entry.id for entry in kept if entry.action == "changed"}
        back = sum(entry.rule.endswith(BACK) for entry in kept)
        return Labelled(
            [finding.less(back) for finding in self.findings],
            kept,
            {sample: text for sample, text in self.mended.items() if sample in ids},
        )


def labelling(
    way: str, table: Table, part: Column, rules: list[ColumnRule], room: str, task: Task, seed: int
) -> Labelled:
    """Look for wrong labels among the rows whose `part` [n] is train; `way` is drop, relabel, report or off.

    Only with drop and relabel are all rows looked at, pictures by a pretrained network's features too. They are applied where
    errors on rows that nobody mended do not rise for any kind of model, and then the validation rows are mended too, by what
    was learned from training rows alone; otherwise they stay a proposal. Test rows are never looked at.
    """
    rows = np.flatnonzero(part == "train")
    if way == "off" or len(rows) < 40:
        return Labelled()
    some = _drawn(rows, REPORTED_ON, seed) if way == "report" else rows
    valid = np.flatnonzero(part == "validation") if way != "report" else rows[:0]
    both = table.take(np.concatenate([some, valid]))
    count, classes = len(some), len(task.classes)
    features = features_seen(both, room, rules, way != "report", many=count > _MANY)
    truth = truth_of(both.columns[task.target], task)
    found = labels.suspects_of(features[:count], truth[:count], classes, seed, _TREES if way == "report" else 100)
    told = _Told(table, some, task, found)
    if not found.blind and not len(found.rows):
        return Labelled()
    if way == "report" or found.blind:
        return Labelled([told.finding(way, None)])
    if way == "relabel" and not classes:
        return Labelled([told.finding(way, None)])
    few, held = (
        _drawn(np.arange(count), COMPARED_ON, seed),
        _drawn(np.arange(len(valid)), COMPARED_ON // 4, seed) + count,
    )
    scores = labels.compared(way, features[few], truth[few], features[held], truth[held], classes, seed)
    if not is_no_worse(scores, found.overlapping):
        return Labelled([told.finding(way, scores)])
    choosing = _Told(table, valid, task, _choosing(way, features, truth, found, count, classes, seed))
    mended = {**told.mended(), **choosing.mended()} if way == "relabel" else {}
    finding = told.finding(way, scores, len(choosing.found.rows), len(valid))
    return Labelled([finding], told.entries(way) + choosing.entries(way, " (validation)"), mended)


def _choosing(
    way: str, features: Any, truth: NDArray[Any], found: labels.Suspects, count: int, classes: int, seed: int
) -> labels.Suspects:
    """Suspects among the rows from `count` on, which choose between models and end their training: where the trained rows
    are mended and these are not, a model that is surer is worse by them, and training ends too soon."""
    known, mended = labels.mend(way, features[:count], truth[:count], found)
    return labels.suspects_among(known, mended, features[count:], truth[count:], classes, seed)


def is_no_worse(scores: Sequence[labels.Compared], overlapping: bool) -> bool:
    """Whether no kind of model errs more after than before; where classes overlap, errors must fall by a standard error on
    average too, since rows that are right and rare would go."""
    if any(one.after > one.before + 1e-12 for one in scores):
        return False
    gains = [one.before - one.after - one.error for one in scores]
    return not overlapping or sum(gains) >= 0


def _drawn(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def features_seen(table: Table, room: str, rules: list[ColumnRule], thorough: bool = True, many: bool = False) -> Any:
    """Features [n, d] by which labels are judged: dense for tables and pictures, sparse for texts. `thorough`: pictures by
    a pretrained network too, where one is installed, which takes seconds for a thousand; `many`: by that one alone."""
    if room == "image":
        return _of_pictures(list(table.columns[PICTURE]), thorough, many)
    if room == "text":
        return plain_features.of_texts(list(table.columns[TEXT]))
    return features_of(coerced(table, rules), np.arange(len(table)))


def _of_pictures(pictures: list[bytes], thorough: bool, many: bool) -> NDArray[np.float32]:
    shown = load("keepfit.modalities.image.embed:embedded")(pictures) if thorough else None
    if shown is not None and many:
        return np.asarray(shown)
    plain = plain_features.of_pictures(pictures)
    return plain if shown is None else np.concatenate([plain, shown], 1)


@dataclass(frozen=True)
class _Told:
    """How suspects are told of: `rows` are the positions in the table that were looked at."""

    table: Table
    rows: NDArray[np.int64]
    task: Task
    found: labels.Suspects

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

    def entries(self, way: str, split: str = "") -> list[Entry]:
        """One ledger entry per suspect."""
        action, said = ("dropped", "suspected wrong label") if way == "drop" else ("changed", "relabelled")
        rule = said + split
        return [
            Entry(
                *(cell.id, *place_of(cell.id), cell.column, rule, cell.before or ""),
                *("" if way == "drop" else str(cell.after), "clean", action),
            )
            for cell in self._cells()
        ]

    def finding(self, way: str, scores: Sequence[labels.Compared] | None, choosing: int = 0, valid: int = 0) -> Finding:
        """What was seen and done; `choosing` of `valid` validation rows were mended too."""
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
        more = f"; so are {choosing} of {valid} validation rows, which choose the model" if choosing else ""
        return Finding(
            rule="wrong_labels",
            columns=(self.task.target,),
            ids=tuple(cell.id for cell in self._cells()),
            message=message,
            proposal=self._proposal(way, scores, whole) + more,
            override=self._override() if whole and way == "report" else "",
            level="warning" if share > 0.02 and not self.found.overlapping else "note",
            cells=tuple(self._cells()),
            share=share,
            scores=tuple(
                {"judge": one.judge, "before": one.before, "after": one.after, "rows": one.rows} for one in scores or ()
            ),
        )

    def _override(self) -> str:
        return "clean.labels=relabel" if self.task.classes else "clean.labels=drop"

    def _proposal(self, way: str, scores: Sequence[labels.Compared] | None, whole: int) -> str:
        if not whole:
            return "nothing to do"
        if scores is None:
            if not self.task.classes:
                more = ": a number is not relabelled, say drop" if way == "relabel" else ""
                return f"kept, and told of{more}; drop is applied where a comparison does not get worse"
            return "kept, and told of; drop or relabel are applied where a comparison does not get worse"
        unit = "of answers wrong" if self.task.classes else "mean absolute error"
        said = "; ".join(f"{one.judge} {one.before:.4g} {unit} before, {one.after:.4g} after" for one in scores)
        said += f", on {scores[0].rows} rows not mended"
        if is_no_worse(scores, self.found.overlapping):
            return f"{'dropped' if way == 'drop' else 'relabelled'}: {said}"
        worse = any(one.after > one.before for one in scores)
        why = "worse for one kind of model" if worse else "not clearly better, and classes overlap"
        return f"kept, since what is learned so is {why}: {said}"
