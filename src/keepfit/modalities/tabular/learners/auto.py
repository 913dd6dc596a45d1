"""Tries learners within the budget, scores each on rows it has not seen, blends the good ones, fits again on everything.

The blend is greedy forward selection (Caruana et al. 2004). Up to 50,000 rows are scored by 5-fold cross-validation, more
on the validation rows alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.modalities.tabular.learners import forest, gbdt, linear
from keepfit.modalities.tabular.learners.balance import balanced
from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member, Scores, constant
from keepfit.modalities.tabular.options import ForestParams, GbdtParams, LinearParams

_CROSS_UP_TO = 50_000
_FOLDS = 5
_LARGE_BYTES = 6_000_000
_FILE_BYTES = 9_000_000  # more copies of a candidate are grown up to this size of the whole network
_NO_BETTER = 1.002  # loss with derived pairs over the loss without, on the first fold: above it the trial ends
_STARTING, _TRYING, _FITTING = 0.4, 0.6, 0.9  # shares of the budget: last start of a trial, its end, the last fit
Fit = Callable[[Any, Fold, Fold | None, Settings], Member]


@dataclass(frozen=True)
class Candidate:
    """A learner with parameters; `seeds` copies are grown when it is fitted for good; `pairs`: it sees the derived
    columns too."""

    name: str
    fit: Fit
    params: Any
    seeds: int = 1
    pairs: bool = False

    def settings(self, settings: Settings) -> Settings:
        """The settings with the derived columns added to the trees' block where this candidate wants them."""
        return replace(settings, trees=settings.trees + settings.pairs) if self.pairs else settings

    def fitted(self, params: Any, train: Fold, valid: Fold | None, settings: Settings) -> Member:
        """The member that the learner makes of these rows; rows of one class only make a constant."""
        if settings.classes and len(np.unique(train.truth)) == 1:
            return constant(int(train.truth[0]), settings.classes)
        if settings.classes:
            train = balanced(train, settings.balance, settings.seed)
        return self.fit(params, train, valid, settings)


@dataclass
class Trial:
    """A scored candidate: answers [m, k] on the held rows, what it costs, where boosting was best."""

    candidate: Candidate
    scores: Scores
    seconds: float
    rounds: int | None
    curve: dict[str, Any] | None
    size_bytes: int


@dataclass(frozen=True)
class Ended:
    """A trial that was stopped early, and why."""

    candidate: Candidate
    why: str
    seconds: float


@dataclass
class Outcome:
    """The members of the final model with weights that sum to one, and how they were chosen.

    `held` are the rows of the pool on which the trials were scored, `blend` the final blend's answers on them.
    """

    members: list[Member]
    weights: list[float]
    trials: list[Trial]
    chosen: str
    held: NDArray[np.int64]
    blend: Scores
    said: dict[str, Any] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)


def candidates(rows: int, preset: str) -> list[Candidate]:
    """What auto tries, safest first."""
    small = rows < 3000

    def trees(**said: Any) -> GbdtParams:
        return GbdtParams(rounds=4000, bagging_fraction=0.8, **said)

    if small:
        boosts = [
            trees(learning_rate=0.03, num_leaves=7, feature_fraction=0.3, min_data_in_leaf=8, lambda_l2=1.0),
            trees(learning_rate=0.03, num_leaves=15, feature_fraction=0.5, min_data_in_leaf=5, lambda_l2=3.0),
        ]
    else:
        boosts = [
            trees(learning_rate=0.04, num_leaves=31, feature_fraction=0.3, min_data_in_leaf=10, lambda_l2=0.0),
            trees(learning_rate=0.05, num_leaves=15, feature_fraction=0.3, min_data_in_leaf=20, lambda_l2=0.0),
        ]
    seeds = {"fast": 1 + small, "balanced": 5, "best": 7}[preset]
    depth = 12 if rows > 10_000 else 16
    found = [
        Candidate("gbdt", gbdt.fit, boosts[0], seeds),
        Candidate("gbdt_pairs", gbdt.fit, boosts[0], seeds, pairs=True),
        Candidate("gbdt_shallow", gbdt.fit, boosts[1], seeds),
        Candidate("linear", linear.fit, LinearParams(c=0.1 if small else 1.0)),
        Candidate(
            "forest",
            forest.fit,
            ForestParams(trees=60 if rows > 10_000 else 200, max_depth=depth, min_leaf=5 if rows > 10_000 else 2),
        ),
    ]
    if preset == "best" and not small:
        deep = trees(learning_rate=0.03, num_leaves=63, feature_fraction=0.25, min_data_in_leaf=10, lambda_l2=1.0)
        found.append(Candidate("gbdt_deep", gbdt.fit, deep, 2))
    return found


@dataclass(frozen=True)
class Limits:
    """What bounds a search: seconds (None is no limit), whether to blend, whether to fit again on all rows, and a stop."""

    budget_s: float | None
    blend: bool
    refit: bool
    stopped: Callable[[], bool]
    say: Callable[[str, dict[str, Any]], None]
    start: float = field(default_factory=time.monotonic)

    def left(self, share: float = 1.0) -> float:
        """Seconds until a share of the budget is used up."""
        return float("inf") if self.budget_s is None else self.start + share * self.budget_s - time.monotonic()


def search(tried: list[Candidate], train: Fold, valid: Fold, settings: Settings, limits: Limits) -> Outcome:
    """Score every candidate that fits into the budget, choose, fit for good. The first candidate is always tried."""
    pool = train.with_rows(valid) if limits.refit else train
    cross = limits.blend and len(pool.truth) < _CROSS_UP_TO
    found = _tried(tried, train, valid, pool if cross else None, settings, limits)
    trials = [trial for trial in found if isinstance(trial, Trial)]
    held_truth = pool.truth if cross else valid.truth
    if limits.blend and len(trials) > 1:
        weights = _blend(trials, held_truth, settings.classes)
    else:
        weights = _only_best(trials, held_truth, settings)
    used = [(w, t) for w, t in zip(weights, trials, strict=True) if w > 0]
    grown = _for_good([trial for _, trial in used], pool, settings, cross, limits)
    members = [member for copies in grown for member in copies]
    final = [weight / len(copies) for (weight, _), copies in zip(used, grown, strict=True) for _ in copies]
    held = np.arange(len(pool.truth)) if cross else np.arange(len(train.truth), len(train.truth) + len(valid.truth))
    said = {
        "weights": {t.candidate.name: round(w, 4) for w, t in used},
        "rounds": {t.candidate.name: t.rounds for _, t in used},
        "copies": {t.candidate.name: len(copies) for (_, t), copies in zip(used, grown, strict=True)},
        "scored_by": f"{_FOLDS}-fold cross-validation" if cross else "the validation rows",
        "tried": [t.candidate.name for t in trials],
    }
    mixed = np.asarray(sum(w * t.scores for w, t in zip(weights, trials, strict=True)))
    chosen = used[0][1].candidate.name if len(used) == 1 else "ensemble"
    ended = [trial for trial in found if isinstance(trial, Ended)]
    return Outcome(members, final, trials, chosen, held, mixed, said, ended)


def _tried(
    tried: list[Candidate], train: Fold, valid: Fold, pool: Fold | None, settings: Settings, limits: Limits
) -> list[Trial | Ended]:
    """Trials by cross-validation on `pool`, or on the validation rows where there is none."""
    found: list[Trial | Ended] = []
    timed = replace(settings, extra={"late": lambda: limits.stopped() or limits.left(_TRYING) < 0})
    for candidate in tried:
        if (candidate.pairs and not settings.pairs) or any(candidate is done.candidate for done in found):
            continue
        if found and (limits.stopped() or limits.left(_STARTING) < 0):
            limits.say("skipped", {"name": candidate.name, "why": "stopped" if limits.stopped() else "the time budget"})
            continue
        if pool is None:
            some: list[Trial | Ended] = [_held_out(candidate, train, valid, candidate.settings(timed))]
        else:
            rival = next((c for c in tried if settings.pairs and _is_plain(candidate, c)), None)
            some = _crossed(candidate, pool, timed, rival, may_end=bool(found))
        for last in some:
            data = {"name": last.candidate.name, "seconds": round(last.seconds, 2)}
            limits.say(*("tried", data) if isinstance(last, Trial) else ("ended", {**data, "why": last.why}))
        found += some
    return found


def _is_plain(one: Candidate, other: Candidate) -> bool:
    """Whether `one` is `other` without the derived pairs."""
    return other.pairs and not one.pairs and one.fit is other.fit and one.params == other.params


def _held_out(candidate: Candidate, train: Fold, valid: Fold, settings: Settings) -> Trial:
    start = time.monotonic()
    member = candidate.fitted(candidate.params, train, valid, settings)
    rounds = member.curve["best"] if member.curve else None
    return Trial(
        candidate,
        member.predict(valid.features),
        time.monotonic() - start,
        rounds,
        member.curve,
        sum(map(len, member.files.values())),
    )


class _Crossing:
    """The cross-validation of one candidate, a fold at a time.

    Scores of every row are by a model that has not seen it, nor have the target means that either was given. Derived
    pairs were chosen on all training rows: choosing them again in each fold would cost as much as a trial.
    """

    def __init__(self, candidate: Candidate, pool: Fold, settings: Settings) -> None:
        self.candidate, self.pool, self.settings = candidate, pool, candidate.settings(settings)
        self.folds = folds_of(pool.truth, settings.classes, settings.seed)
        self.scores = np.zeros((len(pool.truth), max(settings.classes, 1)))
        self.late = settings.extra.get("late", lambda: False)
        self.rounds: list[int] = []
        self.curve: dict[str, Any] | None = None
        self.done, self.size_bytes, self.seconds, self.first_loss = 0, 0, 0.0, 0.0

    def step(self) -> None:
        """The next fold."""
        start, inside = time.monotonic(), self.folds == self.done
        around, held = self.pool.held_out(self.folds, self.done, self.settings.classes)
        member = self.candidate.fitted(self.candidate.params, around, held, self.settings)
        self.scores[inside] = member.predict(held.features)
        self.size_bytes = sum(map(len, member.files.values()))
        if member.curve and not (self.rounds and self.late()):  # a fold cut short says nothing of the best round
            self.rounds.append(member.curve["best"])
            self.curve = member.curve
        if not self.done:
            self.first_loss = loss(self.scores[inside], held.truth, self.settings.classes)
        self.done += 1
        self.seconds += time.monotonic() - start

    def finished(self, may_end: bool) -> Trial | Ended:
        """All folds; with `may_end` it ends without scores where time is up."""
        while self.done < _FOLDS:
            if may_end and self.done and self.late():
                return self.ended("the time budget")
            self.step()
        rounds = int(np.mean(self.rounds)) if self.rounds else None
        return Trial(self.candidate, self.scores, self.seconds, rounds, self.curve, self.size_bytes)

    def ended(self, why: str) -> Ended:
        """What is left to say of it."""
        return Ended(self.candidate, f"stopped early: {why}", self.seconds)


def _crossed(
    candidate: Candidate, pool: Fold, settings: Settings, rival: Candidate | None = None, may_end: bool = False
) -> list[Trial | Ended]:
    """Trials of a candidate and of its rival, the same with derived pairs.

    The rival ends after the first fold where it is no better; where it is clearly better, it goes first, since time
    may last for one of them only.
    """
    one = _Crossing(candidate, pool, settings)
    if rival is None:
        return [one.finished(may_end)]
    one.step()
    two = _Crossing(rival, pool, settings)
    if one.late():
        return [one.finished(may_end), two.ended("the time budget")]
    two.step()
    if two.first_loss > _NO_BETTER * one.first_loss:
        return [one.finished(may_end), two.ended("no better on the first fold")]
    if two.first_loss * _NO_BETTER < one.first_loss:
        better = two.finished(may_end)
        return [one.finished(True), better]
    return [one.finished(may_end), two.finished(True)]


def folds_of(truth: NDArray[Any], classes: int, seed: int, count: int = _FOLDS) -> NDArray[np.int64]:
    """A fold number for each row; within each class as even as can be."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(truth))
    if classes:
        order = order[np.argsort(truth[order], kind="stable")]
    folds = np.empty(len(truth), np.int64)
    folds[order] = np.arange(len(truth)) % count
    return folds


def loss(scores: Scores, truth: NDArray[Any], classes: int) -> float:
    """Log loss, or root mean squared error: what the blend makes small."""
    if not classes:
        return float(np.sqrt(np.mean((scores[:, 0] - truth) ** 2)))
    picked = scores[np.arange(len(truth)), truth.astype(int)] / scores.sum(1)
    return float(-np.log(np.clip(picked, 1e-12, None)).mean())


def _only_best(trials: list[Trial], truth: NDArray[Any], settings: Settings) -> list[float]:
    losses = [loss(trial.scores, truth, settings.classes) for trial in trials]
    return [float(place == int(np.argmin(losses))) for place in range(len(trials))]


def _blend(trials: list[Trial], truth: NDArray[Any], classes: int, steps: int = 25) -> list[float]:
    """Weights by greedy selection with replacement; bulky members only where nothing else is near."""
    losses = [loss(trial.scores, truth, classes) for trial in trials]
    best = min(losses)
    open_to = [
        n
        for n, t in enumerate(trials)
        if t.size_bytes <= _LARGE_BYTES
        or (losses[n] == best and "forest" not in t.candidate.name)
        or t.candidate.fit is gbdt.fit
        or best < 0.98 * min((x for m, x in enumerate(losses) if m != n), default=best)
    ]
    counts = np.zeros(len(trials))
    total = np.zeros_like(trials[0].scores)
    for step in range(1, steps + 1):
        trial_losses = {n: loss((total + trials[n].scores) / step, truth, classes) for n in open_to}
        pick = min(trial_losses, key=lambda n: (trial_losses[n], n))
        counts[pick] += 1
        total = total + trials[pick].scores
    weights = counts / counts.sum()
    weights[weights < 0.06] = 0.0
    return [float(w) for w in weights / weights.sum()]


def _for_good(used: list[Trial], pool: Fold, settings: Settings, cross: bool, limits: Limits) -> list[list[Member]]:
    """The chosen candidates on all rows; boosting runs as many rounds as were best, a little more for more rows.

    Each is grown once; then in turn copies with other seeds, while time lasts and the network stays small.
    """
    more = _FOLDS / (_FOLDS - 1) if cross else 1.1 if limits.refit else 1.0
    grown: list[list[Member]] = [[] for _ in used]
    seconds, sizes = [0.0] * len(used), [0] * len(used)
    for copy in range(max(trial.candidate.seeds for trial in used)):
        for place, trial in enumerate(used):
            candidate, params = trial.candidate, trial.candidate.params
            total = sum(size * len(members) for size, members in zip(sizes, grown, strict=True))
            late = limits.stopped() or limits.left(_FITTING) < seconds[place]
            if copy >= candidate.seeds or (copy and (late or total + sizes[place] > _FILE_BYTES)):
                continue
            if trial.rounds is not None:
                params = params.model_copy(update={"rounds": max(1, int(trial.rounds * more**0.5))})
            plain = replace(candidate.settings(settings), extra={}, seed=settings.seed + 1000 * copy)
            begun = time.monotonic()
            member = candidate.fitted(params, pool, None, plain)
            sizes[place] = max(sizes[place], member.onnx().ByteSize()) if candidate.seeds > 1 else 0
            grown[place].append(member)
            seconds[place] = time.monotonic() - begun
    return grown
