"""Measures an opened bundle on labelled raw data, and accounts for every row that this leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit import raw
from keepfit.core.errors import DataError, nearest
from keepfit.runtime.sources import Rejects
from keepfit.stages.results import matched_truth, missing_target
from keepfit.tasks.metrics import METRICS, score
from keepfit.tasks.task import Task

if TYPE_CHECKING:
    from keepfit.api import Model
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.table import Table

_REASONS, _NO_ANSWER = 20, "no answer: "


class _Answered:
    """The answers, labels and names of rows, gathered chunk by chunk."""

    def __init__(self) -> None:
        self.answers: list[Answers] = []
        self.labels: list[Any] = []
        self.names: list[str] = []

    def add(self, answers: Answers, table: Table, target: str) -> None:
        self.answers.append(answers)
        self.labels += table.columns[target].tolist()
        self.names += [str(name) for name in table.ids]

    @property
    def errors(self) -> list[str]:
        return [error for part in self.answers for error in part.errors]

    def scores(self, kind: str) -> NDArray[Any]:
        if kind == "classification":
            return np.concatenate([part.probabilities for part in self.answers if part.probabilities is not None])
        return np.array([np.nan if v is None else v for part in self.answers for v in part.labels])


def evaluate(model: Model, data: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What `api.evaluate` gives. Raises DataError where no row, or less than half of the lines, can be measured."""
    bundle, rejects, found = model.bundle, Rejects(), _Answered()
    task = Task(
        "classification" if bundle.task == "classification" else "regression", bundle.target, tuple(bundle.classes)
    )
    tables, missing = raw.tables(bundle, data, overrides, rejects)
    for table in tables:
        if task.target not in table.columns:
            raise DataError(
                "no_target",
                f"the data has no column {task.target!r}",
                where=str(data),
                seen=", ".join(table.names)[:300],
                hint=nearest(task.target, table.names),
            )
        found.add(model.answer(table), table, task.target)
    _refuse_mostly_unreadable(rejects, len(found.labels))
    labels = np.empty(len(found.labels), object)
    labels[:] = found.labels
    truth, matches, known = matched_truth(labels, task, missing)
    errors = found.errors
    good = known & np.array([not error for error in errors], bool)
    out = _left_out(rejects, found.names, _reasons(labels, task, missing, known, errors))
    if not good.any():
        said = "; ".join(f"{one['rows']} rows: {one['why']}" for one in out[:3])
        hint = "give rows that have both; keepfit predict says what is wrong with each row"
        raise DataError("no_rows", "no row has both an answer and a label", where=str(data), seen=said, hint=hint)
    return {
        "metrics": score(task, truth[good], found.scores(task.kind)[good], list(METRICS[task.kind])),
        "in": len(labels) + len(rejects.lines),
        "rows": int(good.sum()),
        "label_matches": matches,
        "errors": sum(one["rows"] for one in out),
        "left_out": out,
    }


def _refuse_mostly_unreadable(rejects: Rejects, read: int) -> None:
    bad = len(rejects.lines)
    if bad > 0.5 * (bad + read):
        file, line, reason, _ = rejects.lines[0]
        raise DataError(
            "mostly_unreadable",
            "most lines cannot be read",
            where=f"{file}:{line}",
            seen=f"{bad} of {bad + read} lines; first: {reason}",
            hint="say how they are separated, for example 'data.read.delimiter=;'",
        )


def _reasons(
    labels: NDArray[np.object_], task: Task, missing: frozenset[str], known: NDArray[np.bool_], errors: list[str]
) -> list[str]:
    """Why each row is left out; empty for those that are measured."""
    absent = missing_target(labels, missing)
    unlabelled = [f"no label in column {task.target!r}", f"the label in column {task.target!r} is not a number"]
    return [
        unlabelled[0] if gone else unlabelled[1] if not has else f"{_NO_ANSWER}{error}" if error else ""
        for gone, has, error in zip(absent, known, errors, strict=True)
    ]


def _left_out(rejects: Rejects, names: list[str], reasons: list[str]) -> list[dict[str, Any]]:
    """`why`, `rows` and `first` of every reason; the rare ones of very many are told together."""
    unread = (
        (f"cannot be read: {reason}", f"{file}, line {line}" if line else file)
        for file, line, reason, _ in rejects.lines
    )
    return _counted([*unread, *((why, name) for why, name in zip(reasons, names, strict=True) if why)])


def _counted(found: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for why, name in found:
        counts[why] += 1
        first.setdefault(why, name)
    # Reasons of rows without an answer name the cell, so that there may be as many as rows: the others come first.
    told = sorted(counts.items(), key=lambda one: (one[0].startswith(_NO_ANSWER), -one[1]))
    listed = [{"why": why, "rows": rows, "first": first[why]} for why, rows in told[:_REASONS]]
    if rest := told[_REASONS:]:
        why = f"{len(rest)} other reasons"
        listed.append({"why": why, "rows": sum(rows for _, rows in rest), "first": first[rest[0][0]]})
    return listed
