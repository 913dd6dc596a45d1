"""The fitted preparation: JSON rules that turn a table of text into a float32 matrix; executed here, fitted upstairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault
from keepfit.runtime import coerce
from keepfit.runtime.arrays import unpack
from keepfit.runtime.blocks import BlockNumbers, BlockTable, NumberFeatures
from keepfit.runtime.coded import Coded
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.spread import Numbers, Spread
from keepfit.runtime.table import Column, Table, mapped
from keepfit.runtime.words import figures, part_of, tokens, weigh

VERSION = 1
Matrix = NDArray[np.float32]


@dataclass
class Coerced:
    """A table after coercion. `errors` [n] says why a row cannot be answered, empty where it can."""

    numbers: MutableMapping[str, NDArray[np.float64]] = field(default_factory=Numbers)
    categories: dict[str, Column] = field(default_factory=dict)
    dates: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    texts: dict[str, Column] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    by_code: dict[str, tuple[Coded, ColumnRule]] = field(default_factory=dict)
    _spreads: dict[str, Spread] = field(default_factory=dict, repr=False)

    def spread(self, name: str) -> Spread:
        """The numbers of a column, or the days of its dates, by level; from its distinct cells where it is held by codes."""
        if name not in self._spreads:
            if name in self.by_code:
                column, rule = self.by_code[name]
                values, _ = coerce.by_code(column, rule)
                self._spreads[name] = Spread.of_codes(values, column, ("levels", rule))
            else:
                self._spreads[name] = Spread.of(self.numbers[name] if name in self.numbers else self.dates[name][:, 0])
        return self._spreads[name]

    def at(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers of these rows, or the days of dates."""
        if name in self.dates:
            return np.asarray(self.dates[name][rows, 0])
        if isinstance(self.numbers, Numbers):
            return self.numbers.at(name, rows)
        return np.asarray(self.numbers[name][rows])


def coerced(
    table: Table, rules: Sequence[ColumnRule], spared: Mapping[str, NDArray[np.bool_]] | None = None
) -> Coerced:
    """Every used column in its own type. Unparsable cells are errors of their row.

    `spared` has masks [n] of cells, by column, that the rule's repairs leave as they are.
    """
    if spared:
        return _sparing(table, rules, spared)
    out = Coerced(errors=[""] * len(table))
    if isinstance(table, BlockTable) and table.layout.rules is rules:
        out.numbers, rules, columns = BlockNumbers(table), table.layout.rest, table.rest
    else:
        columns = table.columns
    for rule in rules:
        if rule.kind == "ignore":
            continue
        column = columns[rule.name]
        if rule.kind == "numeric" and isinstance(column, Coded):
            found, odd = coerce.by_code(column, rule)
            out.by_code[rule.name] = column, rule
            if isinstance(out.numbers, Numbers):
                out.numbers.by_code(rule.name, found, column)
            else:
                out.numbers[rule.name] = found[column.codes]
            bad = odd[column.codes] if odd.any() else odd[:0]
        elif rule.kind == "numeric":
            out.numbers[rule.name], bad = coerce.numbers(column, rule)
        elif rule.kind == "datetime":
            out.dates[rule.name], bad = coerce.dates(column, rule)
        else:
            (out.texts if rule.kind == "text" else out.categories)[rule.name] = coerce.categories(column, rule)
            continue
        for row in np.flatnonzero(bad):
            noun = "a number" if rule.kind == "numeric" else "a date"
            out.errors[row] = out.errors[row] or f"column {rule.name!r}: {str(column[row])[:60]!r} is not {noun}"
    return out


def _sparing(table: Table, rules: Sequence[ColumnRule], spared: Mapping[str, NDArray[np.bool_]]) -> Coerced:
    out = coerced(table, rules)
    bare = coerced(table, [rule.bare() for rule in rules if rule.name in spared])
    for name, mask in spared.items():
        for repaired, plain in ((out.numbers, bare.numbers), (out.categories, bare.categories)):
            if name in plain:
                repaired[name][mask] = plain[name][mask]
    return out


@dataclass(frozen=True)
class Preparation:
    """Column rules and features, both JSON; `apply` is pure."""

    rules: tuple[ColumnRule, ...]
    features: tuple[dict[str, Any], ...]
    _laid_out: NumberFeatures | None = field(default=None, init=False, repr=False, compare=False)

    def apply(self, data: Coerced, unseen: dict[str, int] | None = None) -> Matrix:
        """float32 [n, d]. Counts unseen categories by column into `unseen`."""
        counted = {} if unseen is None else unseen
        if isinstance(data.numbers, BlockNumbers):
            return self._of_block(data, data.numbers, counted)
        blocks = [_OPS[feature["op"]](feature, data, counted) for feature in self.features]
        if not blocks:
            return np.zeros((len(data.errors), 0), np.float32)
        with np.errstate(over="ignore"):
            matrix = np.concatenate([b if b.ndim == 2 else b[:, None] for b in blocks], axis=1).astype(np.float32)
        matrix[np.isinf(matrix)] = np.nan
        return np.ascontiguousarray(matrix)

    def _of_block(self, data: Coerced, numbers: BlockNumbers, unseen: dict[str, int]) -> Matrix:
        """`apply` where the numbers stand in a block; the same bits."""
        laid_out = self._laid_out
        if laid_out is None or laid_out.layout is not numbers.layout:
            laid_out = NumberFeatures(self.features, numbers.layout)
            object.__setattr__(self, "_laid_out", laid_out)
        matrix = np.empty((len(data.errors), laid_out.width), np.float32)
        with np.errstate(over="ignore"):
            laid_out.fill(matrix, numbers.block)
            for start, feature in laid_out.others:
                made = _OPS[feature["op"]](feature, data, unseen)
                made = made if made.ndim == 2 else made[:, None]
                matrix[:, start : start + made.shape[1]] = made
        matrix[np.isinf(matrix)] = np.nan
        return matrix

    def feature_names(self) -> list[str]:
        """One name for each column of the matrix."""
        return [name for feature in self.features for name in feature["names"]]

    def to_bytes(self) -> bytes:
        """preparation.json."""
        return digest.canonical(
            {"version": VERSION, "columns": [rule.as_json() for rule in self.rules], "features": list(self.features)}
        )

    @classmethod
    def from_bytes(cls, raw: bytes, where: str = "preparation.json") -> Preparation:
        """Inverse of `to_bytes`; arrays and vocabularies are unpacked once. Raises EnvironmentFault."""
        try:
            value = json.loads(raw)
            if value["version"] != VERSION:
                raise EnvironmentFault(
                    "newer_format",
                    "this preparation has another format version",
                    where=where,
                    seen=str(value["version"]),
                    hint="install a newer keepfit",
                )
            features = tuple(_opened(feature, where) for feature in value["features"])
            return cls(tuple(ColumnRule.from_json(rule) for rule in value["columns"]), features)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
            raise EnvironmentFault(
                "damaged_preparation",
                "preparation.json cannot be read",
                where=where,
                seen=repr(error),
                hint="package the run again, or take the bundle from its source",
            ) from None


def opened(features: Sequence[dict[str, Any]], rules: Sequence[ColumnRule]) -> Preparation:
    """A preparation ready to apply from features as fitted."""
    return Preparation.from_bytes(Preparation(tuple(rules), tuple(features)).to_bytes())


def _opened(feature: dict[str, Any], where: str) -> dict[str, Any]:
    if feature["op"] not in _OPS:
        raise EnvironmentFault(
            "unknown_op",
            "the preparation names a step that this version does not know",
            where=where,
            seen=str(feature["op"]),
            hint="install a newer keepfit",
        )
    return _OpenFeature(feature)


class _OpenFeature(dict[str, Any]):
    """A feature whose packed arrays and lookup tables are built once; serializes as the JSON it came from."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.arrays = {
            key: unpack(value)
            for key, value in raw.items()
            if isinstance(value, dict) and set(value) == {"dtype", "shape", "data"}
        }
        names = raw.get("categories") or raw.get("vocabulary") or []
        self.index = {name: place for place, name in enumerate(names)}


def _number(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    values = data.numbers[feature["column"]]
    return _scaled(feature, values if feature["fill"] is None else np.where(np.isnan(values), feature["fill"], values))


def _indicator(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    return np.isnan(data.numbers[feature["column"]]).astype(np.float64)


def _lookup(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    """Category -> vector; the last two rows of `vectors` are for missing and for unseen categories."""
    vectors, index = feature.arrays["vectors"], feature.index
    count = len(index)
    column = (
        part_of(data.texts[feature["column"]], feature["part"])
        if "part" in feature
        else data.categories[feature["column"]]
    )
    codes = mapped(column, lambda cell: count if cell is None else index.get(cell, count + 1), np.int64)
    new = int((codes == count + 1).sum())
    if new and feature.get("counts", True):
        unseen[feature["column"]] = new
    return np.asarray(vectors[codes])


def _date(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    values = data.dates[feature["column"]][:, feature["parts"]]
    if "fills" in feature:
        values = np.where(np.isnan(values), feature.arrays["fills"], values)
    return _scaled(feature, values)


def _words(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    column = data.texts[feature["column"]]
    return weigh(list(column), feature.index, feature.arrays["idf"], feature.arrays["components"])


def _length(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    column = data.texts[feature["column"]]
    return np.array([[np.nan, np.nan] if t is None else [len(t), t.count(" ") + 1] for t in column]).reshape(-1, 2)


def _bag(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    """1 where the text has the word."""
    out = np.zeros((len(data.errors), len(feature.index)))
    for row, text in enumerate(data.texts[feature["column"]]):
        for word in tokens(text or ""):
            if word in feature.index:
                out[row, feature.index[word]] = 1.0
    return out


def _figure(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    """The last run of digits in the text, NaN where there is none."""
    return figures(data.texts[feature["column"]])


def _steps(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    return np.asarray(data.numbers[feature["column"]][:, None] > np.asarray(feature["steps"]), np.float64)


def pair(feature: Any, data: Coerced, unseen: dict[str, int]) -> NDArray[Any]:
    """A ratio `a / (b + add)`, or one axis of the standardized plane of two numeric columns after a rotation."""
    a, b = data.numbers[feature["a"]], data.numbers[feature["b"]]
    if feature["how"] == "ratio":
        under = b + feature["add"]
        return np.where(under == 0, np.nan, a / np.where(under == 0, 1.0, under))
    left = (a - feature["mean_a"]) / feature["scale_a"] * feature["weight_a"]
    return np.asarray(left + (b - feature["mean_b"]) / feature["scale_b"] * feature["weight_b"])


def _scaled(feature: Any, values: NDArray[Any]) -> NDArray[Any]:
    if "mean" not in feature:
        return values
    if feature.get("log"):
        values = np.log1p(np.maximum(values, 0.0))
    mean, scale = (np.asarray(feature[key], np.float64) for key in ("mean", "scale"))
    clip = feature.get("clip", 1e6)
    return np.clip((values - mean) / scale, -clip, clip)


_Op = Callable[[Any, Coerced, dict[str, int]], NDArray[Any]]
_OPS: dict[str, _Op] = {
    "number": _number,
    "indicator": _indicator,
    "lookup": _lookup,
    "date": _date,
    "words": _words,
    "length": _length,
    "pair": pair,
    "bag": _bag,
    "figure": _figure,
    "steps": _steps,
}
