"""Gradient boosted trees (LightGBM, Ke et al. 2017), stopped early on the validation rows; exact in float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import Member, Scores, floor_thresholds
from keepfit.modalities.tabular.options import GbdtParams

_PATIENCE = 100


def fit(params: GbdtParams, train: Fold, valid: Fold | None, settings: Settings) -> Member:
    """With `valid`, the best number of rounds is found on it; without, all `params.rounds` are grown."""
    booster, curve = boosted(params, train, valid, settings)
    return member("gbdt", booster, settings, curve)


def boosted(
    params: GbdtParams, train: Fold, valid: Fold | None, settings: Settings
) -> tuple[Any, dict[str, Any] | None]:
    """A booster with float32 thresholds, and its curve. `settings.extra["late"]()` true stops growing."""
    import lightgbm

    columns = settings.trees
    metric = "multi_logloss" if settings.classes > 2 else "binary_logloss" if settings.classes else "rmse"
    data = lightgbm.Dataset(train.features[:, columns], train.truth, weight=train.weights)
    seen: dict[str, Any] = {}
    calls: list[Any] = []
    sets = []
    if valid is not None:
        sets = [lightgbm.Dataset(valid.features[:, columns], valid.truth, weight=valid.weights, reference=data)]
        calls = [
            lightgbm.record_evaluation(seen),
            lightgbm.early_stopping(_PATIENCE, verbose=False, first_metric_only=True),
        ]
    late = settings.extra.get("late")
    if late is not None:
        calls.append(_Stopper(late))
    grown = lightgbm.train(
        lightgbm_params(params, settings, metric),
        data,
        params.rounds,
        valid_sets=sets,
        valid_names=["validation"] * len(sets),
        callbacks=calls,
    )
    best = grown.best_iteration if valid is not None and grown.best_iteration > 0 else grown.current_iteration()
    booster = lightgbm.Booster(model_str=floor_thresholds(grown.model_to_string(num_iteration=best)))
    values = seen.get("validation", {}).get(metric)
    curve = {"metric": metric, "validation": values, "best": best} if values else None
    return booster, curve


class _Stopper:
    """Ends growing when time is up, through LightGBM's own early stop."""

    order = 40
    before_iteration = False

    def __init__(self, late: Any) -> None:
        self.late = late

    def __call__(self, env: Any) -> None:
        import lightgbm

        if env.iteration >= 20 and self.late():
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)


def lightgbm_params(params: GbdtParams, settings: Settings, metric: str) -> dict[str, Any]:
    """Our parameters in LightGBM's words."""
    said = params.model_dump(exclude={"rounds"})
    more = {"num_class": settings.classes} if settings.classes > 2 else {}
    objective = "multiclass" if settings.classes > 2 else "binary" if settings.classes else "regression"
    return {
        **said,
        **more,
        "objective": objective,
        "metric": metric,
        "bagging_freq": 1,
        "seed": settings.seed,
        "num_threads": settings.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }


def member(name: str, booster: Any, settings: Settings, curve: dict[str, Any] | None = None) -> Member:
    """The booster as a member: its ONNX trees, its own predict, its model text."""
    columns = settings.trees

    @cache
    def onnx() -> Any:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        options = {"zipmap": False} if settings.classes else {}
        kinds = [("x", FloatTensorType([None, len(columns)]))]
        return convert_lightgbm(booster, name="keepfit", initial_types=kinds, target_opset=15, **options)

    def predict(features: Any) -> Scores:
        raw = np.asarray(booster.predict(features[:, columns], num_threads=settings.threads))
        if settings.classes == 2:
            return np.stack([1 - raw, raw], 1)
        return raw if settings.classes else raw[:, None]

    return Member(name, onnx, columns, predict, {f"{name}.lightgbm.txt": booster.model_to_string().encode()}, curve)
