"""The records of a service: answers, the truth that came later, and sketches; read back as rows joined by request id.

What is kept lies in a Backend: `FileRecords` (segments under `.keepfit/records/NAME/`) or `SqlRecords` (a database).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import DataError, UsageError, nearest
from keepfit.runtime.table import text_column
from keepfit.store.record_files import Backend, FileRecords
from keepfit.store.request_ids import RequestIds
from keepfit.store.segments import Entry

_LONGEST_CLASS = 200
log = logging.getLogger("keepfit.records")


@dataclass(frozen=True)
class Row:
    """One answered row. `inputs` are cells as text (None is missing), or None where only sketches are kept, or where nothing says
    which columns its numbers are of; `at` and `labelled_at` are Unix seconds; `probabilities` [k] stand in the order of the
    model's classes; `label` is None until known."""

    request_id: str
    row: int
    at: float
    name: str
    version: str
    sha256: str
    inputs: dict[str, Any] | None
    prediction: Any
    probabilities: tuple[float, ...] | None
    label: Any = None
    labelled_at: float | None = None


class Records:
    """Reads a service's records."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._blocks: dict[str, list[str]] = {}
        self._lost: set[str] = set()

    @classmethod
    def open(cls, place: str | Path, workspace: str | Path = ".") -> Records:
        """The records of a served model's name in a workspace, of a folder, or of a database URL. Raises UsageError."""
        if "://" in str(place):
            from keepfit.store.sql_records import SqlRecords

            return cls(SqlRecords(str(place)))
        home = records_folder(workspace)
        folder = Path(place) if (Path(place) / "key").is_file() else home / str(place)
        if not (folder / "key").is_file():
            known = [path.parent.name for path in sorted(home.glob("*/key"))]
            raise UsageError(
                "no_records",
                "there are no records here",
                where=str(folder),
                hint=nearest(str(place), known)
                or "keepfit serve keeps them; give the served model's name, or a folder",
            )
        return cls(FileRecords(folder))

    def models(self) -> dict[str, Entry]:
        """The models that answered, by SHA-256: name, version, task, modality, target, classes, columns."""
        return self.backend.models()

    def rows(
        self, since: float | None = None, until: float | None = None, *, labelled: bool | None = None
    ) -> Iterator[Row]:
        """Rows answered with since <= at < until, by time, with the last label that came for each; `labelled` True gives only
        those with a label, False only those without. Memory grows with the labels of that time, not with the answers."""
        truth = self._truth(since, until)
        self._look_again()
        for answer in self.backend.read("answers", since, until):
            for row in self._rows_of(answer, truth.get(answer["id"])):
                if labelled is None or labelled == (row.label is not None):
                    yield row

    def labelled(self, since: float | None = None, until: float | None = None) -> Iterator[Row]:
        """Rows whose label came with since <= t < until, however long ago they were answered, by time of answer."""
        truth: dict[str, Entry] = {}
        for entry in self.backend.read("feedback", since, until):
            truth[entry["id"]] = entry
        if not truth:
            return
        self._look_again()
        ids = RequestIds(self.backend.key())
        times = [given.at for given in map(ids.read, truth) if given is not None]
        if not times:
            return
        for answer in self.backend.read("answers", min(times) - 60.0, max(times) + 60.0):
            if answer["id"] in truth:
                yield from (row for row in self._rows_of(answer, truth[answer["id"]]) if row.label is not None)

    def windows(self, rows: int, since: float | None = None) -> Iterator[list[Row]]:
        """`rows` answered rows at a time, in order; what is left at the end is a shorter window."""
        window: list[Row] = []
        for row in self.rows(since):
            window.append(row)
            if len(window) == rows:
                yield window
                window = []
        if window:
            yield window

    def feedback(self, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Feedback as it came: `id`, `t` and `labels`, doubles too."""
        return self.backend.read("feedback", since, until)

    def sketches(self, since: float | None = None, until: float | None = None) -> Iterator[Entry]:
        """Sketches as they were flushed: `t`, `sha256`, and what `keepfit.store.sketches.Sketch.from_json` reads."""
        return self.backend.read("sketches", since, until)

    def find(self, request_id: str) -> list[Row]:
        """The rows of one answer; empty where it was given elsewhere or is not kept any more."""
        given = RequestIds(self.backend.key()).read(request_id)
        if given is None:
            return []
        self._look_again()
        for answer in self.backend.read("answers", given.at - 5.0, given.at + 60.0):
            if answer["id"] == request_id:
                return list(self._rows_of(answer, self._truth(given.at - 5.0, None).get(request_id)))
        return []

    def _rows_of(self, answer: Entry, feedback: Entry | None) -> Iterator[Row]:
        block = answer.get("block")
        if block is None:
            return _rows_of(answer, feedback)
        rows, names = len(answer["predictions"]), self._names(answer["model"])
        numbers = np.frombuffer(base64.b64decode(block), "<f8")
        if len(numbers) != rows * len(names):
            return _rows_of({**answer, "inputs": None}, feedback)
        columns = numbers.reshape(rows, len(names)).T
        cells = {name: text_column(column.tolist()).tolist() for name, column in zip(names, columns, strict=True)}
        return _rows_of({**answer, "inputs": {**answer["inputs"], **cells}}, feedback)

    def _look_again(self) -> None:
        """A description that was not there may have come since: it is looked for once in each reading, not for each row."""
        self._blocks = {sha256: names for sha256, names in self._blocks.items() if names}

    def _names(self, model: Sequence[str]) -> list[str]:
        """The columns of a model's blocks; none, and said once, where its description is lost."""
        name, version, sha256 = model
        if sha256 not in self._blocks:
            self._blocks[sha256] = self.models().get(sha256, {}).get("block", [])
            if not self._blocks[sha256] and sha256 not in self._lost:
                self._lost.add(sha256)
                log.warning(
                    "the description of %s %s (%s) is not with its records: their inputs cannot be read, the answers can;"
                    " serve that model once more to have it again",
                    name,
                    version,
                    sha256[:12],
                )
        return self._blocks[sha256]

    def _truth(self, since: float | None, until: float | None) -> dict[str, Entry]:
        """Request id -> the last feedback for answers of that time."""
        ids = RequestIds(self.backend.key())
        truth: dict[str, Entry] = {}
        for entry in self.backend.read("feedback", since, None):
            given = ids.read(entry["id"])
            if given is not None and (until is None or given.at < until + 1.0):
                truth[entry["id"]] = entry
        return truth


def records_folder(workspace: str | Path) -> Path:
    """Where a workspace keeps records, one folder per served name."""
    return Path(workspace) / ".keepfit" / "records"


def _rows_of(answer: Entry, feedback: Entry | None) -> Iterator[Row]:
    name, version, sha256 = answer["model"]
    inputs, shares = answer.get("inputs"), answer.get("probabilities")
    labels = feedback["labels"] if feedback is not None else []
    for place, prediction in enumerate(answer["predictions"]):
        label = labels[place] if place < len(labels) else None
        yield Row(
            answer["id"],
            place,
            answer["t"],
            name,
            version,
            sha256,
            None if inputs is None else {column: cells[place] for column, cells in inputs.items()},
            prediction,
            None if shares is None else tuple(shares[place]),
            label,
            feedback["t"] if feedback is not None and label is not None else None,
        )


def checked_labels(
    labels: Sequence[Any], task: str, classes: Sequence[Any], named: Callable[[Any], str], more: bool = False
) -> list[Any]:
    """Labels in the JSON type of the classes (a class may also be given as its text), numbers for a regression; None is not
    known. With `more` a class that the model does not know is taken, where it is of their type. Raises DataError that names the
    first that is none."""
    by_name = {named(one): one for one in classes}
    found: list[Any] = []
    for place, label in enumerate(labels):
        where = f"labels, row {place}"
        if label is None:
            found.append(None)
        elif task == "regression":
            if isinstance(label, bool) or not isinstance(label, int | float):
                raise DataError(
                    "label_type",
                    "the label must be a number",
                    where=where,
                    seen=str(label)[:60],
                    hint="for example 3.5",
                )
            found.append(float(label))
        else:
            whole = isinstance(label, float) and label.is_integer() and named(label) not in by_name
            label = int(label) if whole else label  # frames turn whole numbers beside missing ones into floats
            key = label if isinstance(label, str) else named(label) if isinstance(label, bool | int | float) else None
            if more and key is not None and key not in by_name and is_like(label, classes):
                found.append(label)
                continue
            if key is None or key not in by_name:
                raise DataError(
                    "label_unknown",
                    "the label is none of the model's classes",
                    where=where,
                    seen=str(label)[:60],
                    hint=nearest(str(label)[:60], by_name),
                )
            found.append(by_name[key])
    return found


def is_like(label: Any, classes: Sequence[Any]) -> bool:
    """Whether a label could be one more class: a text of at most 200 characters among texts, a whole number among such."""
    if all(isinstance(one, str) for one in classes):
        return isinstance(label, str) and 0 < len(label.strip()) <= _LONGEST_CLASS and label == label.strip()
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in classes)
    return whole and isinstance(label, int) and not isinstance(label, bool)
