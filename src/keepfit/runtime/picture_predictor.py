"""Answers pictures: decoding, preparation, network, labels; the same object in training's gate and in serving."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.runtime.answers import Answers, answers_of
from keepfit.runtime.network import Network
from keepfit.runtime.pictures import PicturePreparation, decode, encode_array
from keepfit.runtime.table import Table

COLUMN = "image"
_AT_ONCE = 32
_SHAPE = 'send {"image": "<base64 of a file>"} or a nested list of 0..255, height x width or height x width x 3'


@dataclass(frozen=True)
class PicturePredictor:
    """A bundle's preparation and network for pictures. Rows are tables whose column `image` holds bytes of files.

    Text in place of bytes is the reason why there are none.
    """

    preparation: PicturePreparation
    network: Network
    task: str
    classes: list[Any]
    ignored: frozenset[str] = frozenset()

    def scores(self, table: Table) -> tuple[NDArray[np.float32], list[str], dict[str, int]]:
        """Scores [n, k], the error of each row, and no unseen categories. Raises DataError for an absent column."""
        if COLUMN not in table.columns:
            raise DataError(
                "column_missing",
                "the data has no pictures",
                where=f"column {COLUMN!r}",
                seen=", ".join(table.names)[:300],
                hint="give a folder, a .zip, a picture, or a table with a column of paths",
            )
        pictures = table.columns[COLUMN]
        errors = [""] * len(pictures)
        found = []
        for start in range(0, max(len(pictures), 1), _AT_ONCE):
            some = [
                self._sized(picture, errors, start + n) for n, picture in enumerate(pictures[start : start + _AT_ONCE])
            ]
            if some:
                found.append(self.network.scores(self.preparation.to_input(np.stack(some))))
        width = max(len(self.classes), 1)
        return (np.concatenate(found) if found else np.zeros((0, width), np.float32)), errors, {}

    def _sized(self, picture: bytes | str | None, errors: list[str], row: int) -> NDArray[np.uint8]:
        prepared = self.preparation
        try:
            if picture is None:
                raise DataError("picture_missing", "there is no picture", where=f"row {row}", hint=_SHAPE)
            if isinstance(picture, str):
                raise DataError("picture_missing", picture, where=f"row {row}", hint=_SHAPE)
            return prepared.fit_size(decode(picture)[0])
        except DataError as error:
            errors[row] = error.what + (f" ({error.seen})" if error.seen else "")
            return np.zeros((prepared.height, prepared.width, prepared.channels), np.uint8)

    def predict(self, table: Table) -> Answers:
        """Answers in the order of the rows; a picture that cannot be read has its reason in `errors`."""
        return answers_of(*self.scores(table), self.task, self.classes)

    def check_rows(self, rows: Sequence[Any]) -> Table:
        """JSON inputs as a table: an object with `image` (base64 of a file, or numbers), or the numbers themselves."""
        column = np.empty(len(rows), object)
        column[:] = [self._picture(row, f"row {place}") for place, row in enumerate(rows)]
        return Table({COLUMN: column})

    def _picture(self, row: Any, where: str) -> bytes:
        if isinstance(row, Mapping):
            for name in row:
                if name != COLUMN and name not in self.ignored:
                    raise DataError("unknown_column", f"there is no input {name!r}", where=where, hint=_SHAPE)
            row = row.get(COLUMN)
        if isinstance(row, str):
            text = row.partition(",")[2] if row.startswith("data:") else row
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError(
                    "not_base64", "the picture is not base64", where=where, seen=str(error)[:80], hint=_SHAPE
                ) from None
        if isinstance(row, list):
            return _from_numbers(row, where)
        raise DataError(
            "wrong_type",
            "the picture must be base64 text or numbers",
            where=where,
            seen=type(row).__name__,
            hint=_SHAPE,
        )

    def table_of(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Golden rows as a table."""
        return self.check_rows(rows)

    def check_fit(self) -> None:
        """Raises ValueError where network and preparation do not fit together."""
        prepared = self.preparation
        wanted = [prepared.channels, prepared.height, prepared.width]
        shape = self.network.shape[1:]
        if len(shape) != 3 or any(isinstance(n, int) and n != w for n, w in zip(shape, wanted, strict=True)):
            raise ValueError(f"model.onnx reads {shape}, preparation.json makes {wanted}")


def _from_numbers(rows: list[Any], where: str) -> bytes:
    try:
        array = np.array(rows)  # text stays text, and is refused
    except ValueError:
        raise DataError("wrong_type", "the picture's rows have different lengths", where=where, hint=_SHAPE) from None
    try:
        return encode_array(array)
    except DataError as error:
        raise DataError(error.code, error.what, where=where, seen=error.seen, hint=_SHAPE) from None
