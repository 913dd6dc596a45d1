"""Outliers: numbers far outside the quartiles (Tukey's fences), or rows that an isolation forest sets apart quickly.

Liu, Ting, Zhou, "Isolation Forest" (2008), written here on numpy.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from keepfit.cleaning.findings import Cell, Cells, Finding
from keepfit.cleaning.view import View
from keepfit.core.options import Options
from keepfit.runtime.coded import objects
from keepfit.runtime.spread import Spread, quantiles
from keepfit.store.ledger import counted

_TREES, _SUBSAMPLE = 100, 256
_LEAST = 20
Values = NDArray[np.float64]


class OutlierOptions(Options):
    """Outliers of numeric columns. Clipped, the served model clips too; dropping touches training rows only."""

    impl: ClassVar[str] = "keepfit.cleaning.outliers:look"
    do: Literal["clip", "drop", "report", "off"] = Field(
        "report", description="clip to the fence, drop the row, report"
    )
    use: Literal["iqr", "isolation_forest"] = Field("iqr", description="column by column, or rows as a whole")
    fold: float = Field(3.0, gt=0, description="iqr: fences lie so many interquartile ranges outside the quartiles")
    score: float = Field(0.65, gt=0.5, lt=1, description="isolation_forest: least anomaly score of an outlier")

    @model_validator(mode="after")
    def _check(self) -> OutlierOptions:
        if self.do == "clip" and self.use == "isolation_forest":
            raise ValueError("a row that stands apart as a whole cannot be clipped: say do: drop, or use: iqr")
        return self


def look(view: View, options: OutlierOptions, seed: int = 0) -> list[Finding]:
    """One finding per column (iqr), or one for the rows (isolation_forest)."""
    return _rows(view, options, seed) if options.use == "isolation_forest" else _columns(view, options)


def fences(found: Spread, fold: float) -> tuple[float, float] | None:
    """Lowest and highest usual number; None where the quartiles are equal or there are too few numbers to tell."""
    counts = found.counts()
    if counts.sum() < _LEAST or (counts > 0).sum() < 10:
        return None
    low, high = quantiles(found.levels[counts > 0], counts[counts > 0], [0.25, 0.75])
    if high <= low:
        return None
    return float(low - fold * (high - low)), float(high + fold * (high - low))


def _columns(view: View, options: OutlierOptions) -> list[Finding]:
    found = []
    for rule in view.named("numeric"):
        found_at = view.data.spread(rule.name)
        bounds = fences(found_at, options.fold)
        if bounds is None:
            continue
        values = np.append(found_at.levels, np.nan)[found_at.level_of]
        beyond = (values < bounds[0]) | (values > bounds[1])
        rows = np.flatnonzero(beyond[found_at.codes]) if beyond.any() else np.zeros(0, np.int64)
        if not len(rows):
            continue
        far_values = values[found_at.codes[rows]]
        clipped = objects([repr(float(np.clip(value, *bounds))) for value in far_values.tolist()])
        cells = Cells(view.table.ids[rows], rule.name, view.table.columns[rule.name][rows], clipped)
        times = found_at.counts()
        (median,) = quantiles(found_at.levels[times > 0], times[times > 0], [0.5])
        far = far_values[np.argmax(np.abs(far_values - median))]
        low, high, farthest = _said(bounds[0], bounds[1], far)
        found.append(
            Finding(
                "outlier",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} has {counted(len(rows), 'value')} outside {low} to {high}, the farthest {farthest}",
                {"clip": "clipped, here and by the served model", "drop": "dropped from training"}.get(
                    options.do, "kept"
                ),
                "clean.outliers: clip" if options.do == "report" else "clean.outliers: report",
                cells=cells,
                share=len(rows) / len(view.table),
            )
        )
    return found


def _rows(view: View, options: OutlierOptions, seed: int) -> list[Finding]:
    columns = [np.where(np.isnan(v), np.nanmedian(v), v) for v in view.data.numbers.values() if not np.isnan(v).all()]
    if not columns or len(view.table) < _LEAST:
        return []
    scores = anomaly(np.stack(columns, axis=1), seed)
    rows = np.flatnonzero(scores >= options.score)
    if not len(rows):
        return []
    return [
        Finding(
            "outlier",
            tuple(view.data.numbers),
            view.ids(rows),
            f"{counted(len(rows), 'row')} far from the others in the numbers as a whole",
            "dropped from training" if options.do == "drop" else "kept",
            "clean.outliers: report" if options.do == "drop" else "clean.outliers: {use: isolation_forest, do: drop}",
            cells=tuple(Cell(str(view.table.ids[row]), "", f"score {scores[row]:.3f}") for row in rows),
            share=len(rows) / len(scores),
        )
    ]


def anomaly(matrix: Values, seed: int) -> Values:
    """Anomaly scores [n] in 0..1 of rows [n, d]: near 1 where few random cuts set a row apart."""
    rng = np.random.default_rng(seed)
    size = min(_SUBSAMPLE, len(matrix))
    depth = int(np.ceil(np.log2(max(size, 2))))
    total = np.zeros(len(matrix))
    for _ in range(_TREES):
        sample = matrix[rng.choice(len(matrix), size, replace=False)]
        _descend(matrix, np.arange(len(matrix)), sample, 0, depth, total, rng)
    return np.asarray(2 ** (-total / _TREES / max(_average(size), 1e-9)))


def _descend(
    matrix: Values,
    rows: NDArray[np.int64],
    sample: Values,
    at: int,
    depth: int,
    total: Values,
    rng: np.random.Generator,
) -> None:
    """Cut sample and rows alike until the sample is used up, and add the length of the path."""
    spread = np.ptp(sample, axis=0) if len(sample) else np.zeros(matrix.shape[1])
    if at >= depth or len(sample) <= 1 or not spread.any() or not len(rows):
        total[rows] += at + _average(len(sample))
        return
    column = int(rng.choice(np.flatnonzero(spread)))
    cut = rng.uniform(sample[:, column].min(), sample[:, column].max())
    left, below = matrix[rows, column] < cut, sample[:, column] < cut
    _descend(matrix, rows[left], sample[below], at + 1, depth, total, rng)
    _descend(matrix, rows[~left], sample[~below], at + 1, depth, total, rng)


def _average(size: int) -> float:
    """The mean path length of an unsuccessful search in a tree of `size` leaves."""
    if size <= 1:
        return 0.0
    return 2.0 * (np.log(size - 1) + 0.5772156649) - 2.0 * (size - 1) / size if size > 2 else 1.0


def _said(low: float, high: float, far: float) -> tuple[str, str, str]:
    """Fences and the farthest value with as many digits as tell the fences apart, and no more than say something."""
    if high <= low or max(abs(low), abs(high), abs(far)) >= 1e15:
        return f"{low:.6g}", f"{high:.6g}", f"{far:.6g}"
    digits = max(0, 2 - math.floor(math.log10(high - low)))
    low_said, high_said, far_said = (f"{round(float(value), digits):.{digits}f}" for value in (low, high, far))
    return _short(low_said), _short(high_said), _short(far_said)


def _short(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
