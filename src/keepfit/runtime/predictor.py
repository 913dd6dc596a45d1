"""The thing that answers: coercion, preparation, network, labels; the same object in training's gate and in serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, nearest
from keepfit.runtime.answers import Answers, answers_of
from keepfit.runtime.blocks import BlockReader, BlockTable
from keepfit.runtime.coerce import ColumnRule, is_missing, parse_date, parse_number
from keepfit.runtime.figures import Form, in_form, number_as
from keepfit.runtime.network import Network
from keepfit.runtime.preparation import Preparation, coerced
from keepfit.runtime.table import Table, from_rows

_EXPECTED = {"numeric": "a number", "datetime": "a date", "categorical": "text, a number or a boolean", "text": "text"}
_EXAMPLES = {"numeric": "3.5", "datetime": '"2024-01-31"', "categorical": '"a"', "text": '"some words"'}


@dataclass(frozen=True)
class Predictor:
    """A bundle's preparation and network. `ignored` names columns that may be given and are not read."""

    preparation: Preparation
    network: Network
    task: str
    classes: list[Any]
    ignored: frozenset[str] = frozenset()

    def scores(self, table: Table) -> tuple[NDArray[np.float32], list[str], dict[str, int]]:
        """Scores [n, k], the error of each row, unseen categories by column. Raises DataError for an absent column."""
        is_ours = isinstance(table, BlockTable) and table.layout is self._reader.layout
        absent = [] if is_ours else [rule.name for rule in self._used() if rule.name not in table.columns]
        if absent:
            raise DataError(
                "column_missing",
                f"the data has no column {absent[0]!r}",
                where="the columns of the data",
                seen=", ".join(table.names)[:300],
                hint=nearest(absent[0], table.names),
            )
        data = coerced(table, self.preparation.rules)
        unseen: dict[str, int] = {}
        return self.network.scores(self.preparation.apply(data, unseen)), data.errors, unseen

    def predict(self, table: Table) -> Answers:
        """Answers in the order of the rows; a row that cannot be read has its reason in `errors`."""
        return answers_of(*self.scores(table), self.task, self.classes)

    def table_of(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Golden rows as a table."""
        return from_rows(self._in_form(rows), [rule.name for rule in self._used()])

    @cached_property
    def forms(self) -> dict[str, Form]:
        """Columns whose numbers have a unit or a mark of their own; a JSON number of such a column is the figure itself."""
        return {rule.name: rule.form for rule in self._used() if rule.form is not None}

    def _in_form(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        return [in_form(row, self.forms) for row in rows] if self.forms else rows

    def check_fit(self) -> None:
        """Raises ValueError where network and preparation do not fit together."""
        features, width = len(self.preparation.feature_names()), self.network.width
        if width not in (None, features):
            raise ValueError(f"model.onnx reads {width} features, preparation.json makes {features}")

    def _used(self) -> list[ColumnRule]:
        return [rule for rule in self.preparation.rules if rule.kind != "ignore"]

    def quick_body(self, body: bytes, most: int) -> tuple[Table, bool] | None:
        """The table of `{"input": ...}` or `{"inputs": ...}` with at most `most` rows, and whether it was the latter, without the
        way over text; None where only `check_rows` can tell."""
        return self._reader.read(body, most)

    @cached_property
    def _reader(self) -> BlockReader:
        # It may not hold this predictor: a model that was swapped away has to go by itself, not when garbage is next looked for.
        return BlockReader(self.preparation.rules, self.ignored, _check_cell)

    def check_rows(self, rows: Sequence[Any]) -> Table:
        """JSON objects of columns as a table. Raises DataError that names row and column."""
        used = self._used()
        known = {rule.name for rule in used}
        for place, row in enumerate(rows):
            where = f"row {place}"
            if not isinstance(row, Mapping):
                raise DataError(
                    "not_an_object",
                    "an input must be an object of columns",
                    where=where,
                    seen=type(row).__name__,
                    hint='for example {"' + (used[0].name if used else "x") + '": ...}',
                )
            for name in row:
                if name not in known and name not in self.ignored:
                    raise DataError(
                        "unknown_column",
                        f"there is no column {str(name)[:80]!r}",
                        where=f"{where}, column {str(name)[:80]!r}",
                        hint=nearest(str(name)[:80], known),
                    )
            for rule in used:
                _check_cell(rule, row, f"{where}, column {rule.name!r}")
        return from_rows(self._in_form(rows), [rule.name for rule in used])


def _check_cell(rule: ColumnRule, row: Mapping[str, Any], where: str) -> None:
    if rule.name not in row:
        raise DataError(
            "column_missing",
            f"column {rule.name!r} is not given",
            where=where,
            hint="send null where the value is not known",
        )
    value = row[rule.name]
    if value is None:
        return
    expected = _EXPECTED[rule.kind]
    good = isinstance(value, str | int | float)
    if good and rule.kind == "text":
        good = isinstance(value, str)
    if good and rule.kind == "numeric":
        number = isinstance(value, int | float) and (not isinstance(value, bool) or rule.boolean)
        good = number or (isinstance(value, str) and (is_missing(value, rule.missing) or _reads(value, rule)))
    if good and rule.kind == "datetime":
        good = isinstance(value, str) and (is_missing(value, rule.missing) or parse_date(value) is not None)
    if not good or (isinstance(value, int) and abs(value) > 10**300):
        raise DataError(
            "wrong_type",
            f"column {rule.name!r} must be {expected} or null",
            where=where,
            seen=f"{type(value).__name__} {str(value)[:60]!r}",
            hint=f"for example {_EXAMPLES[rule.kind]}; null where the value is not known",
        )


def _reads(value: str, rule: ColumnRule) -> bool:
    number = parse_number(value) if rule.form is None else number_as(value, rule.form)
    return number is not None or (rule.boolean and value.strip().lower() in ("true", "false"))
