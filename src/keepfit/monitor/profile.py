"""The reference that windows are compared with: counts in bins, levels and the model's known errors; nobody's row is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, EnvironmentFault
from keepfit.monitor.accuracy import Doubt, fit_doubt
from keepfit.monitor.describe import describe, fit_lens
from keepfit.monitor.drift import Levels, learn_levels
from keepfit.monitor.features import Feature, Values, feature_of
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table

FORMAT = 1
_LARGE = 0.9  # of the reference's losses are smaller than one that counts as an error of a regression


@dataclass(frozen=True)
class Profile:
    """`inputs` and `outputs` are binned features with their levels; `lens` is what `describe` needs; `errors` of `labels`
    held-out answers were wrong (a regression's: larger than `large`); `distinct` is the share of rows unlike all others."""

    rules: tuple[ColumnRule, ...]
    lens: Mapping[str, Any]
    inputs: tuple[Feature, ...]
    levels: Levels
    classes: tuple[str, ...] = ()
    outputs: tuple[Feature, ...] = ()
    output_levels: Levels | None = None
    doubt: Doubt | None = None
    errors: int = 0
    labels: int = 0
    large: float = 0.0
    distinct: float = 1.0

    @cached_property
    def by_name(self) -> dict[str, Feature]:
        """Every feature."""
        return {feature.name: feature for feature in (*self.inputs, *self.outputs)}

    def as_json(self) -> dict[str, Any]:
        """For profile.json, under `monitor`."""
        return {
            "format": FORMAT,
            "rules": [rule.as_json() for rule in self.rules],
            "lens": dict(self.lens),
            "inputs": {feature.name: feature.as_json() for feature in self.inputs},
            "levels": self.levels.as_json(),
            "classes": list(self.classes),
            "outputs": {feature.name: feature.as_json() for feature in self.outputs},
            "output_levels": self.output_levels.as_json() if self.output_levels else None,
            "doubt": self.doubt.as_json() if self.doubt else None,
            "errors": self.errors,
            "labels": self.labels,
            "large": self.large,
            "distinct": self.distinct,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Profile:
        """Inverse of `as_json`. Raises DataError for another format, EnvironmentFault for damage."""
        if raw.get("format") != FORMAT:
            raise DataError(
                "newer_format",
                "the reference has another format version",
                where="profile.json, key monitor",
                seen=str(raw.get("format")),
                hint="install a newer keepfit, or give --reference DATA",
            )
        try:
            return cls(
                tuple(ColumnRule.from_json(rule) for rule in raw["rules"]),
                raw["lens"],
                tuple(Feature.from_json(name, one) for name, one in raw["inputs"].items()),
                Levels.from_json(raw["levels"]),
                tuple(raw["classes"]),
                tuple(Feature.from_json(name, one) for name, one in raw["outputs"].items()),
                Levels.from_json(raw["output_levels"]) if raw["output_levels"] else None,
                Doubt.from_json(raw["doubt"]) if raw["doubt"] else None,
                int(raw["errors"]),
                int(raw["labels"]),
                float(raw["large"]),
                float(raw["distinct"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError) as error:
            raise EnvironmentFault(
                "damaged_bundle",
                "the reference for monitoring cannot be read",
                where="profile.json, key monitor",
                seen=repr(error)[:200],
                hint="package the run again, or give --reference DATA",
            ) from None


@dataclass(frozen=True)
class Held:
    """Held-out rows with the model's `scores` [n, k] on them and the truth [n]: class codes, or values where k is 1 and there
    are no classes; the truth may be None."""

    table: Table
    scores: NDArray[Any]
    truth: NDArray[Any] | None


def outputs_of(
    scores: NDArray[Any], classes: Sequence[str], answered: NDArray[np.bool_] | None = None
) -> dict[str, Values]:
    """What the model said as features: the answer and how sure it was; missing where a row was not `answered` [n]."""
    none = np.zeros(len(scores), bool)
    lost = none if answered is None else ~answered
    if not classes:
        return {"prediction": Values(np.where(lost, np.nan, _told(scores[:, 0])), none, "prediction")}
    names = np.array(classes, object)[scores.argmax(1)] if len(scores) else np.empty(0, object)
    names[lost] = None
    sure = np.round(scores.max(1).astype(np.float64), 4) if len(scores) else np.empty(0)
    return {
        "prediction": Values(names, none, "prediction"),
        "confidence": Values(np.where(lost, np.nan, sure), none, "prediction"),
    }


def _told(values: NDArray[Any]) -> NDArray[np.float64]:
    """Predicted values to five digits. Trees give the same few values again and again; those of the learner and of its ONNX form
    differ in the seventh digit, and would fall into different bins."""
    found = values.astype(np.float64)
    size = np.abs(np.where(np.isfinite(found) & (found != 0), found, 1.0))
    scale = 10.0 ** (4 - np.floor(np.log10(size)))
    return np.where(np.isfinite(found), np.round(found * scale) / scale, found)


def make_profile(
    train: Table, rules: Sequence[ColumnRule], held: Held | None, classes: Sequence[str] = (), seed: int = 0
) -> Profile:
    """The reference of training rows, and of the model's answers on held-out rows where those are given."""
    used = tuple(rule for rule in rules if rule.kind != "ignore")
    lens = fit_lens(train, used)
    inputs, levels, _ = _fitted(describe(train, used, lens), seed)
    plain = [rule.name for rule in used if rule.kind != "image"]
    rows = list(zip(*(train.columns[name][:5000] for name in plain), strict=True)) if plain else []
    distinct = len(set(rows)) / len(rows) if rows else 1.0
    made = Profile(used, lens, inputs, levels, tuple(classes), distinct=round(distinct, 4))
    return made if held is None or not len(held.scores) else _with_answers(made, held, seed)


def _fitted(
    values: Mapping[str, Values], seed: int
) -> tuple[tuple[Feature, ...], Levels, dict[str, NDArray[np.int64]]]:
    features = tuple(feature_of(name, one) for name, one in values.items())
    codes = {feature.name: feature.code(values[feature.name]) for feature in features}
    return features, learn_levels(features, list(codes.values()), seed), codes


def _with_answers(made: Profile, held: Held, seed: int) -> Profile:
    outputs, levels, codes = _fitted(outputs_of(held.scores, made.classes), seed)
    given = {**made.__dict__, "outputs": outputs, "output_levels": levels}
    given.pop("by_name", None)
    if held.truth is None:
        return Profile(**given)
    if not made.classes:
        losses = np.abs(held.scores[:, 0] - held.truth)
        large = float(np.quantile(losses, _LARGE))
        return Profile(**given | {"large": large, "errors": int((losses > large).sum()), "labels": len(losses)})
    right = held.scores.argmax(1) == held.truth
    given |= {"errors": int((~right).sum()), "labels": len(right)}
    if len(right) < 100 or right.all() or len(made.classes) > 50:
        return Profile(**given)
    values = describe(held.table, made.rules, made.lens)
    codes |= {feature.name: feature.code(values[feature.name]) for feature in made.inputs}
    features = [*outputs, *made.inputs]
    sure = held.scores.max(1).astype(np.float64)
    doubt = fit_doubt(features, [codes[f.name] for f in features], sure, right, held.truth.astype(np.int64), seed)
    return Profile(**given | {"doubt": doubt})
