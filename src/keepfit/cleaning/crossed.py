"""Out-of-fold answers of a forest and a linear model on plain features: the second opinion of the checks on labels and leaks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import missing_extra
from keepfit.runtime.preparation import Coerced
from keepfit.runtime.table import Column

_COMMON = 20
_FOLDS = 5
_TREES = 100
_HASHED = 256
_WIDE = 1000  # features; forests look at few of them at once, so a linear model has a say too
_ROUNDS = 60


def features_of(data: Coerced, rows: NDArray[np.int64], without: frozenset[str] = frozenset()) -> NDArray[np.float32]:
    """Plain features [len(rows), d]: numbers with medians where missing and a column that says so, dates as days, the
    commonest categories as 0 and 1, words of texts counted into a few columns."""
    found: list[NDArray[Any]] = []
    for name, values in data.numbers.items():
        if name not in without:
            found += _filled(values[rows])
    for name, dates in data.dates.items():
        if name not in without:
            found += _filled(dates[rows, 0])
    for name, cells in data.categories.items():
        if name not in without:
            common = [cell for cell, _ in Counter(cells[rows]).most_common(_COMMON)]
            found += [(cells[rows] == cell).astype(np.float32) for cell in common]
    for name, texts in data.texts.items():
        if name not in without:
            found += list(_counted(texts[rows]).T)
    return np.stack(found, 1).astype(np.float32) if found else np.zeros((len(rows), 1), np.float32)


def _filled(values: NDArray[np.float64]) -> list[NDArray[Any]]:
    gone = np.isnan(values)
    if not gone.any():
        return [values]
    return [np.where(gone, np.median(values[~gone]) if not gone.all() else 0.0, values), gone.astype(np.float32)]


def _counted(texts: Column) -> NDArray[np.float32]:
    _need_the_extra()
    from sklearn.feature_extraction.text import HashingVectorizer

    return np.asarray(HashingVectorizer(n_features=_HASHED).transform([text or "" for text in texts]).toarray())


def folds_for(truth: NDArray[Any], classes: int, seed: int, count: int = _FOLDS) -> NDArray[np.int64]:
    """A fold per row [n], even within each class."""
    order = np.random.default_rng(seed).permutation(len(truth))
    if classes:
        order = order[np.argsort(truth[order], kind="stable")]
    folds = np.empty(len(truth), np.int64)
    folds[order] = np.arange(len(truth)) % count
    return folds


def crossed(features: Any, truth: NDArray[Any], classes: int, seed: int, trees: int = _TREES) -> NDArray[np.float64]:
    """Answers [n, k] of models that have not seen the row: probabilities, or a value where `classes` is 0.

    `features` is dense [n, d], or sparse for texts, which a linear model alone judges. Deterministic. Needs scikit-learn.
    """
    folds = folds_for(truth, classes, seed)
    out = np.zeros((len(truth), max(classes, 1)))
    for fold in range(_FOLDS):
        inside = folds == fold
        if inside.any():
            out[inside] = fitted(features[~inside], truth[~inside], features[inside], classes, seed, trees)
    return out


def fitted(
    features: Any, truth: NDArray[Any], asked: Any, classes: int, seed: int, trees: int = _TREES
) -> NDArray[np.float64]:
    """Answers [m, k] to `asked` of models fitted on `features` [n, d]: a forest's for tables, a linear model's for texts,
    and the mean of both where there are many dense features."""
    out = np.zeros((asked.shape[0], max(classes, 1)))
    if classes and len(known := np.unique(truth)) < 2:  # a rare class may stand in the asked rows alone
        out[:, known.astype(int)] = 1.0
        return out
    for model in (models := _opinion(classes, seed, trees, features)):
        model.fit(features, truth)
        if classes:
            out[:, model.classes_.astype(int)] += model.predict_proba(asked) / len(models)
        else:
            out[:, 0] += model.predict(asked) / len(models)
    return out


def _opinion(classes: int, seed: int, trees: int, features: Any) -> list[Any]:
    """The models whose mean is the second opinion."""
    if hasattr(features, "tocsr"):
        return [_linear(classes, seed, sparse=True)]
    forest = _forest(classes, seed, trees, features.shape[1])
    return [forest, _linear(classes, seed, sparse=False)] if features.shape[1] > _WIDE else [forest]


def judges(classes: int, seed: int, trees: int, features: Any) -> dict[str, Any]:
    """Models of different kinds, by name, that say whether a change of labels does good: what helps one may harm another."""
    if hasattr(features, "tocsr"):
        return {"a linear model": _linear(classes, seed, sparse=True)}
    forest = {"a forest": _forest(classes, seed, trees, features.shape[1])}
    if features.shape[1] > _WIDE:
        return forest | {"a linear model": _linear(classes, seed, sparse=False)}
    return forest | {"boosted trees": _boosted(classes, seed)}


def _linear(classes: int, seed: int, sparse: bool) -> Any:
    _need_the_extra()
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if sparse:
        return LogisticRegression(C=10.0, max_iter=300) if classes else Ridge(alpha=1.0, random_state=seed)
    held = LogisticRegression(C=0.003, max_iter=200) if classes else Ridge(alpha=1000.0, random_state=seed)
    return make_pipeline(StandardScaler(), held)


def _forest(classes: int, seed: int, trees: int, width: int) -> Any:
    _need_the_extra()
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    if not classes:
        return ExtraTreesRegressor(trees, min_samples_leaf=3, random_state=seed, n_jobs=1)
    features = "sqrt" if width > 4 else None
    return ExtraTreesClassifier(trees, min_samples_leaf=2, max_features=features, random_state=seed, n_jobs=1)


def _boosted(classes: int, seed: int) -> Any:
    _need_the_extra()
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    made = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return made(max_iter=_ROUNDS, early_stopping=False, random_state=seed)


def crossed_by_trees(features: Any, truth: NDArray[np.float64], seed: int) -> NDArray[np.float64] | None:
    """Out-of-fold values [n] of boosted trees; None where features are sparse or very many, which they are not made for."""
    folds, out = folds_for(truth, 0, seed), np.zeros(len(truth))
    for fold in range(_FOLDS):
        inside = folds == fold
        answers = by_trees(features[~inside], truth[~inside], features[inside], seed)
        if answers is None:
            return None
        out[inside] = answers
    return out


def by_trees(features: Any, truth: NDArray[np.float64], asked: Any, seed: int) -> NDArray[np.float64] | None:
    """Values [m] that boosted trees fitted on `features` [n, d] give the `asked` rows; None as above."""
    if hasattr(features, "tocsr") or features.shape[1] > _WIDE:
        return None
    return np.asarray(_boosted(0, seed).fit(features, truth).predict(asked))


def _need_the_extra() -> None:
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        raise missing_extra("tables", "sklearn") from None
