"""Missing cells: what takes their place, fitted on the training rows.

Constants travel with the preparation. Neighbours and regressions fill training rows only, since to repeat them the bundle
would have to hold training rows; the served model then fills with the median.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Cells, Finding
from keepfit.cleaning.view import View, known_of
from keepfit.recipe.clean import MissingOptions
from keepfit.runtime.coded import Coded, objects, same
from keepfit.runtime.table import mapped

Values = NDArray[np.float64]
LEFT = "missing cell"
FILLED = "imputed"
_NEIGHBOURS, _ROUNDS, _RIDGE = 5, 10, 1e-3
_AT_ONCE = 2_000_000


def look(view: View, options: MissingOptions) -> list[Finding]:
    """One finding per column with missing cells, with what each becomes; None where it is left to the learner."""
    found = []
    fills = _numeric(view, options)
    for rule in view.named("numeric", "categorical", "datetime", "text"):
        rows = np.flatnonzero(_gaps(view, rule.name, rule.kind))
        if not len(rows) or len(rows) == len(view.table):
            continue
        how, texts = _after(view, rule.name, rule.kind, rows, options, fills)
        filled, after = texts is not None, same(None, len(rows)) if texts is None else texts
        text = view.table.columns[rule.name]
        found.append(
            Finding(
                f"{FILLED}: {how}" if filled else f"{LEFT}: {how}",
                (rule.name,),
                view.ids(rows),
                f"{rule.name} is missing in {len(rows)} of {len(view.table)} rows ({len(rows) / len(view.table):.1%})",
                _SAID.get(how, f"filled: {how}"),
                _OVERRIDES.get(rule.kind, "") if not filled else "",
                cells=Cells(view.table.ids[rows], rule.name, text[rows], after),
                share=len(rows) / len(view.table),
            )
        )
    return found


_OVERRIDES = {
    "numeric": "clean.missing: {numeric: median}",
    "categorical": "clean.missing: {categorical: most_frequent}",
}
_SAID = {
    "left to the learner": "learners that take missing values get them, others the median",
    "a category of its own": "a category of its own",
    "an empty text": "learned from as an empty text",
    "knn": "filled from the nearest training rows; the served model fills with the median",
    "iterative": "filled by regression on the other numbers; the served model fills with the median",
}


def _gaps(view: View, name: str, kind: str) -> NDArray[np.bool_]:
    if kind == "numeric":
        found = view.data.spread(name)
        gone = found.level_of == len(found.levels)
        return np.asarray(gone[found.codes]) if gone.any() else np.zeros(len(found.codes), bool)
    if kind == "datetime":
        return np.isnan(view.data.dates[name][:, 0])
    column = view.data.categories[name] if kind == "categorical" else view.data.texts[name]
    return mapped(column, lambda value: value is None, bool)


def _after(
    view: View, name: str, kind: str, rows: NDArray[np.int64], options: MissingOptions, fills: dict[str, Values | float]
) -> tuple[str, Coded | None]:
    fill = fills.get(name)
    if isinstance(fill, float):
        return options.numeric, same(_text(fill), len(rows))
    if fill is not None:
        levels, place = np.unique(fill[rows], return_inverse=True)
        return options.numeric, Coded(place.ravel(), objects([_text(value) for value in levels]))
    if kind == "categorical" and options.categorical == "most_frequent":
        counts = known_of(view.data.categories[name])
        common = min(counts, key=lambda value: (-counts[value], value))
        return "most_frequent", same(common, len(rows))
    return {"categorical": "a category of its own", "text": "an empty text"}.get(kind, "left to the learner"), None


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(float(value))


def _numeric(view: View, options: MissingOptions) -> dict[str, Values | float]:
    """Every numeric column whose cells are filled: the number that fills it, or filled [n]; empty for `auto` and `none`."""
    if options.numeric in ("auto", "none"):
        return {}
    known = {name: int(view.data.spread(name).counts().sum()) for name in view.data.numbers}
    numbers = {name: view.data.numbers[name] for name, count in known.items() if 0 < count < len(view.table)}
    if not numbers:
        return {}
    if options.numeric in ("knn", "iterative"):
        usable = {name: view.data.numbers[name] for name, count in known.items() if count}
        matrix = np.stack(list(usable.values()), axis=1)
        filled = neighbours(matrix) if options.numeric == "knn" else regressed(matrix)
        return {name: filled[:, place] for place, name in enumerate(usable) if name in numbers}
    return {name: fill_of(v[~np.isnan(v)], options.numeric, options.constant) for name, v in numbers.items()}


def fill_of(known: Values, how: str, constant: float = 0.0) -> float:
    """The number that stands for a missing one, from those that are known, by what the recipe says; not `auto`, `none`."""
    if how == "constant":
        return constant
    return float(known.mean() if how == "mean" else np.median(known))


def neighbours(matrix: Values) -> Values:
    """A copy of [n, d] whose NaN are the mean of the 5 nearest rows that know the column.

    The distance is Euclidean over the columns that both rows know, scaled up to all of them (Troyanskaya 2001).
    """
    mean, scale = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
    scaled = (matrix - mean) / np.where(scale > 0, scale, 1.0)
    known = ~np.isnan(scaled)
    zero = np.where(known, scaled, 0.0)
    out = matrix.copy()
    lacking = np.flatnonzero(~known.all(axis=1))
    step = max(1, _AT_ONCE // max(len(matrix), 1))
    for begin in range(0, len(lacking), step):
        rows = lacking[begin : begin + step]
        shared = known[rows].astype(float) @ known.T.astype(float)
        apart = (zero[rows] ** 2) @ known.T + known[rows] @ (zero**2).T - 2 * zero[rows] @ zero.T
        apart = np.where(shared > 0, np.maximum(apart, 0) * matrix.shape[1] / np.maximum(shared, 1), np.inf)
        for place, row in enumerate(rows):
            for column in np.flatnonzero(~known[row]):
                there = np.flatnonzero(known[:, column] & np.isfinite(apart[place]))
                near = there[np.argsort(apart[place][there], kind="stable")[:_NEIGHBOURS]]
                out[row, column] = matrix[near, column].mean() if len(near) else mean[column]
    return out


def regressed(matrix: Values) -> Values:
    """A copy of [n, d] whose NaN are predicted by ridge regression on the other columns, 10 rounds (MICE without draws)."""
    gaps = np.isnan(matrix)
    mean, scale = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    filled = np.where(gaps, 0.0, (matrix - mean) / scale)
    bound = np.abs(filled).max(axis=0)
    order = [int(column) for column in np.argsort(gaps.sum(axis=0), kind="stable") if gaps[:, column].any()]
    for _ in range(_ROUNDS if matrix.shape[1] > 1 else 0):
        for column in order:
            others = np.column_stack([np.ones(len(matrix)), np.delete(filled, column, axis=1)])
            known = ~gaps[:, column]
            gram = others[known].T @ others[known]
            weights = np.linalg.solve(
                gram + _RIDGE * known.sum() * np.eye(len(gram)), others[known].T @ filled[known, column]
            )
            filled[~known, column] = np.clip(others[~known] @ weights, -bound[column], bound[column])
    return np.where(gaps, filled * scale + mean, matrix)
