"""Suspected wrong labels: confident learning in two passes, with a count that easy rows alone decide.

Northcutt, Jiang, Chuang, "Confident Learning" (2021): out-of-fold probabilities, per-class thresholds. The second pass learns
without the suspects of the first. How many labels are wrong is read from the rows that the models are surest of: there
overlap of classes is rare, so that disagreement is mostly error. In plain confident learning, a hard set looks dirty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.crossed import by_trees, crossed, crossed_by_trees, fitted, folds_for, judges

_SURE = 0.6  # the share of rows, by confidence, from which the share of wrong labels is read
_MORE = 1.2
_MARGIN = 0.25
_BORROWED = 30  # rows
_KNOWN = 10  # rows of a class, with fewer of which it is not doubted in others
_BLIND = 0.4  # where labels disagree this often among the surest rows, models cannot judge labels
_DEVIATIONS = 3.0
_FAR = 6.0
_BINS = 10
_FEWEST = 40
_NESTED = 3
_AGAIN, _WORK, _NARROW = 3, 5_000_000, 500  # turns, rows times features
_TREES = 100


@dataclass(frozen=True)
class Suspects:
    """`rows` are positions, the surest first; `proposed` class codes (values for numbers) and `sure` how far the
    proposal is more probable than the label (for numbers: deviations). `agreement` is the share of all labels that the
    models agree with; `blind`: they know too little to judge."""

    rows: NDArray[np.int64]
    proposed: NDArray[Any]
    sure: NDArray[np.float64]
    agreement: float
    blind: bool = False
    overlapping: bool = False


def wrong_labels(features: Any, truth: NDArray[Any], classes: int, seed: int, trees: int = 60) -> Suspects:
    """Rows of [n, d] features (dense, or sparse for texts) whose class code is probably wrong."""
    first = crossed(features, truth, classes, seed, trees)
    suspected = _disagree(first, truth, classes)
    agreement = float((first.argmax(1) == truth).mean())
    if suspected.mean() < 0.002 and agreement > 0.5:
        again = first
    else:
        again = _without(features, truth, classes, seed + 1, suspected, trees)
    rated = _rates(again, truth, classes)
    if len(truth) < _FEWEST or rated.easy > _BLIND or not _is_above_chance(first.argmax(1), truth, classes):
        return _nothing(agreement, classes, blind=True)
    return replace(_doubted(again, truth, classes), agreement=agreement)


def _doubted(scores: NDArray[np.float64], truth: NDArray[Any], classes: int) -> Suspects:
    """The rows whose label is less probable than another, as many as the surest rows say that there are."""
    best, rated = scores.argmax(1), _rates(scores, truth, classes)
    margin = scores.max(1) - scores[np.arange(len(truth)), truth]
    found = _surest(best, truth, margin, rated.of_class)
    order = np.array(sorted(found, key=lambda row: (-margin[row], row)), np.int64)
    disagree = float((best != truth).mean())
    return Suspects(order, best[order], margin[order], 1 - disagree, overlapping=disagree > max(0.1, 1.5 * rated.easy))


def _is_above_chance(best: NDArray[np.int64], truth: NDArray[Any], classes: int) -> bool:
    """Whether answers agree with labels clearly more often than if they had nothing to do with each other."""
    shares = [np.bincount(codes, minlength=classes) / len(truth) for codes in (best, truth.astype(int))]
    chance = float(shares[0] @ shares[1])
    return float((best == truth).mean()) > chance + _DEVIATIONS * float(np.sqrt(chance * (1 - chance) / len(truth)))


def _surest(
    best: NDArray[np.int64], truth: NDArray[Any], margin: NDArray[np.float64], rates: NDArray[np.float64]
) -> list[int]:
    """As many doubted rows of each answered class as its rate allows, the surest; parts of a row are put together over the
    classes, so that ten classes of a clean set are not allowed a row each."""
    found: list[int] = []
    next_ones: list[int] = []
    parts = 0.0
    for label, rate in enumerate(rates):
        rows = np.flatnonzero(best == label)
        allowed = _MORE * len(rows) * float(rate)
        wrong = rows[(truth[rows] != label) & (margin[rows] > _MARGIN)]
        wrong = wrong[np.argsort(-margin[wrong], kind="stable")]
        found += wrong[: int(allowed)].tolist()
        next_ones += wrong[int(allowed) : int(allowed) + 1].tolist()
        parts += allowed % 1
    return found + sorted(next_ones, key=lambda row: (-margin[row], row))[: round(parts)]


@dataclass(frozen=True)
class _Rates:
    """The share of wrong labels among the surest rows, `easy` over all and `of_class` [k] by answered class."""

    easy: float
    of_class: NDArray[np.float64]


def _rates(scores: NDArray[np.float64], truth: NDArray[Any], classes: int) -> _Rates:
    """A class of few rows borrows from the rate of all, since one wrong label more or less would make half of its own."""
    best = scores.argmax(1)
    sure, off = np.zeros(classes), np.zeros(classes)
    for label in range(classes):
        rows = np.flatnonzero(best == label)
        top = rows[np.argsort(-scores[rows, label], kind="stable")][: int(np.ceil(_SURE * len(rows)))]
        sure[label], off[label] = len(top), (truth[top] != label).sum()
    easy = float(off.sum() / max(sure.sum(), 1))
    return _Rates(easy, (off + _BORROWED * easy) / (sure + _BORROWED))


def _nothing(agreement: float, classes: int, blind: bool) -> Suspects:
    return Suspects(np.zeros(0, np.int64), np.zeros(0, np.int64 if classes else float), np.zeros(0), agreement, blind)


def _disagree(scores: NDArray[np.float64], truth: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Rows off the diagonal of the confident joint: another class reaches the mean confidence of its own rows."""
    means = [scores[truth == label, label].mean() if (truth == label).any() else 1.0 for label in range(classes)]
    reached = np.where(scores >= np.array(means), scores, -1.0)
    return np.asarray((reached.max(1) >= 0) & (reached.argmax(1) != truth))


def _without(
    features: Any, truth: NDArray[Any], classes: int, seed: int, left_out: NDArray[np.bool_], trees: int
) -> NDArray[np.float64]:
    """Out-of-fold answers [n, k] for all rows, of models that learned from other folds less some rows."""
    folds = folds_for(truth, classes, seed)
    out = np.zeros((len(truth), max(classes, 1)))
    for fold in np.unique(folds):
        inside = folds == fold
        around = ~inside & ~left_out
        out[inside] = fitted(features[around], truth[around], features[inside], classes, seed, trees)
    return out


def wrong_values(features: Any, truth: NDArray[np.float64], seed: int, trees: int = 60) -> Suspects:
    """Rows whose number is far from what other rows tell, in deviations of rows with like answers (median and MAD).

    A forest errs most at the ends of a range, so that boosted trees must find them far too.
    """
    answers = crossed(features, truth, 0, seed, trees)[:, 0]
    spread = float(np.var(truth)) or 1.0
    agreement = max(0.0, 1 - float(np.mean((truth - answers) ** 2)) / spread)
    if len(truth) < _FEWEST or agreement < 0.2:
        return _nothing(agreement, 0, blind=True)
    return replace(_far(truth, answers, lambda: crossed_by_trees(features, truth, seed)), agreement=agreement)


def _far(
    truth: NDArray[np.float64], answers: NDArray[np.float64], others: Callable[[], NDArray[np.float64] | None]
) -> Suspects:
    scaled = _deviations(truth, answers)
    if (scaled > _FAR).any() and (second := others()) is not None:
        scaled = np.minimum(scaled, _deviations(truth, second))
    rows = np.flatnonzero(scaled > _FAR)
    rows = rows[np.argsort(-scaled[rows], kind="stable")]
    return Suspects(rows, answers[rows], scaled[rows], 1.0)


def _deviations(truth: NDArray[np.float64], answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each number is from its answer [n], in deviations of rows with like answers."""
    apart = truth - answers
    order = np.argsort(answers, kind="stable")
    scaled = np.zeros(len(truth))
    overall = 1.4826 * float(np.median(np.abs(apart - np.median(apart))))
    for some in np.array_split(order, max(1, min(_BINS, len(order) // 30))):
        own = apart[some] - np.median(apart[some])
        scaled[some] = np.abs(own) / max(1.4826 * float(np.median(np.abs(own))), overall, 1e-12)
    return scaled


@dataclass(frozen=True)
class Compared:
    """Mean errors of one kind of model `before` and `after` the labels are mended, on `rows` whose labels nobody mended;
    `error` is the standard error of the paired difference. For classes the share of wrong answers, else the mean absolute
    error."""

    judge: str
    before: float
    after: float
    error: float
    rows: int


def compared(
    way: str, features: Any, truth: NDArray[Any], held: Any, held_truth: NDArray[Any], classes: int, seed: int
) -> list[Compared]:
    """What mending does to models of different kinds.

    Three folds, in each of which suspects are looked for and mended outside, and the rows inside are answered by models of
    both labels; that again with other folds, as often as the size allows; then the `held` rows likewise.
    """
    again = max(1, min(_AGAIN, _WORK // (len(truth) * _cost(features))))
    found: dict[str, list[NDArray[np.float64]]] = {}
    for turn in range(again):
        folds = folds_for(truth, classes, seed + 7 + turn, _NESTED)
        rows: dict[str, NDArray[np.float64]] = {}
        for n in range(_NESTED):
            inside = folds == n
            one = _both(way, features[~inside], truth[~inside], features[inside], truth[inside], classes, seed)
            for judge, errors in one.items():
                rows.setdefault(judge, np.zeros((len(truth), 2)))[inside] = errors
        for judge, errors in rows.items():
            found.setdefault(judge, []).append(errors)
    means = {judge: np.mean(turns, 0) for judge, turns in found.items()}
    if len(held_truth):
        last = _both(way, features, truth, held, held_truth, classes, seed)
        means = {judge: np.concatenate([errors, last[judge]]) for judge, errors in means.items()}
    return [_told(judge, errors) for judge, errors in means.items()]


def _cost(features: Any) -> int:
    return _NARROW if hasattr(features, "tocsr") else max(int(features.shape[1]), _NARROW)


def _told(judge: str, errors: NDArray[np.float64]) -> Compared:
    before, after = errors.mean(0)
    error = (errors[:, 1] - errors[:, 0]).std() / np.sqrt(len(errors))
    return Compared(judge, float(before), float(after), float(error), len(errors))


def _both(
    way: str, known: Any, labels: NDArray[Any], asked: Any, right: NDArray[Any], classes: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Judge -> errors [m, 2] on the asked rows of a model of the labels as they are, and as they are mended."""
    mended, after = mend(way, known, labels, suspects_of(known, labels, classes, seed))
    out: dict[str, NDArray[np.float64]] = {}
    for features, truth in ((known, labels), (mended, after)):
        for judge, model in judges(classes, seed, _TREES, features).items():
            one = _errors(model, features, truth, asked, right, classes)
            out[judge] = np.stack([out[judge], one], 1) if judge in out else one
    return out


def _errors(
    model: Any, features: Any, truth: NDArray[Any], asked: Any, right: NDArray[Any], classes: int
) -> NDArray[np.float64]:
    if classes and len(known := np.unique(truth)) < 2:
        return np.asarray(right != known[0], float)
    said = model.fit(features, truth).predict(asked)
    return np.asarray(said != right if classes else np.abs(said - right), float)


def suspects_of(features: Any, truth: NDArray[Any], classes: int, seed: int, trees: int = 60) -> Suspects:
    """Wrong labels, or far numbers where `classes` is 0."""
    if classes:
        return wrong_labels(features, truth, classes, seed, trees)
    return wrong_values(features, truth, seed, trees)


def suspects_among(
    known: Any, mended: NDArray[Any], asked: Any, truth: NDArray[Any], classes: int, seed: int
) -> Suspects:
    """The same for `asked` rows [m, d] with labels `truth` [m], by models of `known` rows [n, d] with `mended` labels [n].

    Nothing is learned from the asked rows but the share of them that is wrong. A class of which few rows are known is not
    doubted, and nothing is where the asked rows say mostly otherwise: they may be of another kind.
    """
    if len(truth) < _FEWEST:
        return _nothing(0.0, classes, blind=True)
    answers = fitted(known, mended, asked, classes, seed, _TREES)
    if not classes:
        return _far(truth, answers[:, 0], lambda: by_trees(known, mended, asked, seed))
    best = answers.argmax(1)
    if _rates(answers, truth, classes).easy > _BLIND or not _is_above_chance(best, truth, classes):
        return _nothing(float((best == truth).mean()), classes, blind=True)
    found = _doubted(answers, truth, classes)
    judged = np.bincount(mended, minlength=classes)[truth[found.rows]] >= _KNOWN
    return replace(found, rows=found.rows[judged], proposed=found.proposed[judged], sure=found.sure[judged])


def mend(way: str, features: Any, truth: NDArray[Any], found: Suspects) -> tuple[Any, NDArray[Any]]:
    """Features and labels with the suspects dropped, or relabelled as proposed."""
    if way == "relabel":
        mended = truth.copy()
        mended[found.rows] = found.proposed
        return features, mended
    kept = np.ones(len(truth), bool)
    kept[found.rows] = False
    return features[kept], truth[kept]
