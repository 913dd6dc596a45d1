"""Fits preparation and learner on a table and returns a trained model: bytes and JSON, nothing that must be unpickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import missing_extra
from keepfit.core.options import Options
from keepfit.modalities.room import Sample, Trained, Way, class_weights, evened
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.preparation import coerced
from keepfit.runtime.table import Table

if TYPE_CHECKING:
    from keepfit.modalities.tabular import prepare


def fit(
    options: Options,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Callable[[str, dict[str, Any]], None],
) -> Trained:
    """Everything fitted here sees `train` only, but for choosing (`valid`) and, with `refit`, the last fit (both)."""
    _need_the_extra()
    from keepfit.modalities.tabular.learners import auto
    from keepfit.modalities.tabular.learners.data import Fold, Settings
    from keepfit.modalities.tabular.learners.graph import joined

    limits = _limits(options, way, say)
    weigh = class_weights(train.truth, classes, way)
    pool = np.concatenate([train.truth, valid.truth]) if getattr(options, "refit", True) else train.truth
    folds = auto.folds_of(pool, classes, way.seed)[: len(train.truth)]  # the folds that auto scores on
    fitted = _prepared(train, rules, folds, classes, way)
    choosing = coerced(valid.table, rules)
    seen = fitted.preparation.apply(choosing)
    network = _network_way(way, say, train) if way.train else None
    blocks = (fitted.plain, fitted.linear, fitted.pairs)
    settings = Settings(
        classes,
        way.seed,
        way.threads,
        *blocks,
        dense=fitted.dense,
        codes=fitted.codes,
        network=network,
        balance=way.balance,
    )
    parts = (
        Fold(fitted.matrix, train.truth, _weights(train.truth, weigh), fitted.encoded),
        Fold(seen, valid.truth, _weights(valid.truth, weigh), fitted.encoded_of(choosing)),
    )
    if way.train is not None:
        found = _network(options, *parts, settings)
    else:
        found = auto.search(_candidates(options, len(train.truth), way.preset), *parts, settings, limits)
    onnx = joined(found.members, found.weights, fitted.matrix.shape[1])
    features = fitted.preparation.apply(coerced(probe, rules))
    native = np.asarray(sum(w * m.predict(features) for w, m in zip(found.weights, found.members, strict=True)))
    ids = np.concatenate([train.table.ids, valid.table.ids])
    files = {f"{n:02d}-{name}": data for n, member in enumerate(found.members) for name, data in member.files.items()}
    facts = {
        **_said(found),
        "notes": evened(way.balance, train.truth, classes),
        "features": int(fitted.matrix.shape[1]),
        "onnx_bytes": len(onnx),
        "class_weights": None if weigh is None else [round(float(w), 6) for w in weigh],
    }
    scored = np.stack([*(t.scores for t in found.trials), found.blend])
    return Trained(fitted.preparation.to_bytes(), onnx, files, native, facts, [str(i) for i in ids[found.held]], scored)


def _prepared(
    train: Sample, rules: Sequence[ColumnRule], folds: NDArray[np.int64], classes: int, way: Way
) -> prepare.Fitted:
    from keepfit.modalities.tabular import prepare
    from keepfit.modalities.tabular.encode import answers

    if way.warm is not None and way.warm.preparation is not None:
        return prepare.reopened(way.warm.preparation, train.table, prepare.masks(train.table, way.spared))
    return prepare.fit(
        train.table,
        rules,
        answers(train.truth, classes),
        folds,
        missing=prepare.Missing(way.numeric, way.categorical, way.constant, way.indicator),
        spared=prepare.masks(train.table, way.spared),
        seed=way.seed,
        classes=classes,
    )


def rehearse(options: Any, rules: Sequence[ColumnRule], train: Sample, classes: int, way: Way) -> dict[str, Any]:
    """What would be trained: the columns are encoded, the network is made and fed once. Raises as training would."""
    _need_the_extra()
    from keepfit.core.catalog import load
    from keepfit.modalities.tabular.learners.data import Settings

    folds = np.arange(len(train.truth)) % 2  # of target means, which no network here reads
    fitted = _prepared(train, rules, folds, classes, way)
    blocks = (fitted.plain, fitted.linear, fitted.pairs)
    settings = Settings(
        classes, way.seed, way.threads, *blocks, network=_network_way(way, lambda what, data: None, train)
    )
    features = len(fitted.linear or [0])
    network = load(options.impl.replace(":fit", ":opened"))(options, features, settings)
    return {
        "name": options.class_.rpartition(":")[2],
        "input": [features],
        "outputs": max(classes, 1),
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }


def _network_way(way: Way, say: Callable[[str, dict[str, Any]], None], train: Sample) -> Any:
    from keepfit.modalities.tabular.learners.data import NetworkWay

    more = {"warm": way.warm, "ids": [str(i) for i in train.table.ids]}
    return NetworkWay(way.train, way.threads, way.scratch, way.budget_s, way.stopped, say, way.folder, **more)


def _network(options: Any, train: Any, valid: Any, settings: Any) -> Any:
    """The outcome of one network, judged on the validation rows and not fitted again."""
    from keepfit.core.catalog import load
    from keepfit.modalities.tabular.learners.auto import Candidate, Outcome, Trial
    from keepfit.modalities.tabular.learners.balance import balanced

    use, fit_one = options.use, load(options.impl)
    params = getattr(options, "params", options)
    count = len(train.truth)
    if settings.classes and settings.network.warm is None:  # what is remembered is balanced already
        train = balanced(train, settings.balance, settings.seed)
    member = fit_one(params, train, valid, settings)
    scores = member.predict(valid.features)
    size = sum(map(len, member.files.values()))
    best = member.curve["best"]
    trial = Trial(Candidate(use, fit_one, params), scores, 0.0, best, member.curve, size)
    said = {"weights": {use: 1.0}, "rounds": {use: best}, "copies": {use: 1}, "tried": [use]}
    held = np.arange(count, count + len(valid.truth))
    return Outcome([member], [1.0], [trial], use, held, scores, {**said, "scored_by": "the validation rows"})


def _limits(options: Options, way: Way, say: Callable[[str, dict[str, Any]], None]) -> Any:
    """What bounds the search; its clock starts at this moment."""
    from keepfit.modalities.tabular.learners.auto import Limits

    return Limits(
        way.budget_s,
        blend=getattr(options, "use", "") in ("auto", "ensemble"),
        refit=getattr(options, "refit", True),
        stopped=way.stopped,
        say=say,
    )


def _need_the_extra() -> None:
    try:
        import lightgbm  # noqa: F401
        import matplotlib  # noqa: F401  the report needs it: said before hours of training
        import onnxmltools  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra("tables", str(error.name)) from None


def _said(found: Any) -> dict[str, Any]:
    """What the search says of itself, for leaderboard, report and card."""
    return {
        **found.said,
        "chosen": found.chosen,
        "members": [{"name": m.name, "weight": w} for m, w in zip(found.members, found.weights, strict=True)],
        "trials": [
            {
                "name": t.candidate.name,
                "params": t.candidate.params.model_dump(by_alias=True),
                "rounds": t.rounds,
                "size_bytes": t.size_bytes,
                "scores_at": n,
            }
            for n, t in enumerate(found.trials)
        ],
        "ended": [
            {"name": e.candidate.name, "params": e.candidate.params.model_dump(), "why": e.why} for e in found.ended
        ],
        "curve": next((t.curve for t in found.trials if t.curve), None),
    }


def _candidates(options: Options, rows: int, preset: str) -> list[Any]:
    from keepfit.core.catalog import load
    from keepfit.modalities.tabular.learners import auto

    use = str(getattr(options, "use", "auto"))
    if use in ("auto", "ensemble"):
        return auto.candidates(rows, preset)
    one = auto.Candidate(use, load(options.impl), getattr(options, "params", None))
    return [one, replace(one, name="gbdt_pairs", pairs=True)] if use == "gbdt" else [one]


def _weights(truth: NDArray[Any], by_class: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.ones(len(truth)) if by_class is None else by_class[truth.astype(int)]
