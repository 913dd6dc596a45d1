"""What the report shows of pictures: samples as training saw them, and the surest mistakes on the test split."""

from __future__ import annotations

import base64
import html
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.catalog import load
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import decode
from keepfit.runtime.table import Table
from keepfit.stages.results import as_json
from keepfit.store.artifacts import Files
from keepfit.tasks.task import Task

_SHOWN, _COLUMNS = 16, 8


def mistakes(test: Table, truth: NDArray[Any], scores: NDArray[Any], task: Task) -> Files:
    """`mistakes.png`, a sheet of the surest wrong answers or largest errors, and `mistakes.json` with their captions."""
    if task.kind == "classification":
        answered, sure = scores.argmax(1), scores.max(1)
        rows = np.flatnonzero(answered != truth)
        rows = rows[np.argsort(-sure[rows], kind="stable")][:_SHOWN]
        said = [f"{task.names[truth[n]]} taken for {task.names[answered[n]]} ({sure[n]:.0%})" for n in rows]
    else:
        rows = np.argsort(-np.abs(scores[:, 0] - truth), kind="stable")[:_SHOWN]
        said = [f"{truth[n]:g} answered as {scores[n, 0]:.4g}" for n in rows]
    if not len(rows):
        return {}
    sheet: bytes = load("keepfit.modalities.image.augment:contact_sheet")(
        [decode(test.columns[COLUMN][n])[0] for n in rows], _COLUMNS
    )
    named = [{"name": str(test.ids[n]).rpartition("#")[0], "said": text} for n, text in zip(rows, said, strict=True)]
    return {"mistakes.png": sheet, "mistakes.json": as_json(named)}


def figure(name: str, sheet: bytes, title: str, words: str) -> str:
    """A sheet as a figure that needs no other file."""
    data = base64.b64encode(sheet).decode()
    return (
        f'<figure id="fig-{name}"><img alt="{html.escape(words)}" src="data:image/png;base64,{data}" '
        f'style="max-width:100%;height:auto"><figcaption><b>{html.escape(title)}.</b> {html.escape(words)}</figcaption></figure>'
    )
