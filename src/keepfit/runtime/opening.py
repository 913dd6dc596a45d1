"""Makes the predictor that a preparation asks for: tables, pictures or texts."""

from __future__ import annotations

import json
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import EnvironmentFault
from keepfit.runtime.answers import Answers
from keepfit.runtime.network import Network
from keepfit.runtime.picture_predictor import PicturePredictor
from keepfit.runtime.pictures import PicturePreparation
from keepfit.runtime.predictor import Predictor as TablePredictor
from keepfit.runtime.preparation import Preparation
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import TextPredictor
from keepfit.runtime.texts import TextPreparation
from keepfit.runtime.tokens import TokenPreparation


class Predictor(Protocol):
    """The thing that answers, whatever goes in."""

    @property
    def task(self) -> str:
        """classification or regression."""
        ...

    @property
    def classes(self) -> list[Any]:
        """Classes in score order."""
        ...

    @property
    def ignored(self) -> frozenset[str]:
        """Inputs that may be given and are not read."""
        ...

    def scores(self, table: Table) -> tuple[NDArray[np.float32], list[str], dict[str, int]]:
        """Scores [n, k], the error of each row, unseen categories by column."""
        ...

    def predict(self, table: Table) -> Answers:
        """Answers in the order of the rows."""
        ...

    def check_rows(self, rows: Any) -> Table:
        """JSON inputs as a table, strictly checked. Raises DataError."""
        ...

    def table_of(self, rows: Any) -> Table:
        """Golden rows as a table."""
        ...

    def check_fit(self) -> None:
        """Raises ValueError where network and preparation do not fit together."""
        ...


def predictor_from(
    preparation: bytes,
    model: bytes,
    task: str,
    classes: list[Any],
    ignored: frozenset[str] = frozenset(),
    *,
    threads: int = 1,
    place: str = "",
    tokenizer: bytes | None = None,
) -> Predictor:
    """The predictor of two files, and of tokenizer.json where a network reads texts; `place` is the folder that errors name.

    Raises EnvironmentFault for damaged ones.
    """
    where = f"{place}/preparation.json" if place else "preparation.json"
    network = Network(model, threads, f"{place}/model.onnx" if place else "model.onnx")
    try:
        raw = json.loads(preparation)
        kind = raw.get("kind", "table")
        if kind == "image":
            return PicturePredictor(PicturePreparation.from_json(raw), network, task, classes, ignored)
        if kind == "text":
            return TextPredictor(TextPreparation.from_json(raw), network, task, classes, ignored)
        if kind == "tokens":
            return TextPredictor(TokenPreparation.from_json(raw, tokenizer), network, task, classes, ignored)
        if kind != "table":
            raise ValueError(f"kind {kind!r}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        raise EnvironmentFault(
            "damaged_preparation",
            "preparation.json cannot be read",
            where=where,
            seen=repr(error)[:300],
            hint="take the bundle from its source again, or install a newer keepfit",
        ) from None
    return TablePredictor(Preparation.from_bytes(preparation, where), network, task, classes, ignored)
