"""Fits the preparation that runtime executes: encodings, vocabularies, derived columns; on the rows it is given only.

The matrix has two blocks: one for trees (missing stays NaN) and one for linear models (filled, scaled, one-hot).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.missing import fill_of
from keepfit.modalities.tabular import derive
from keepfit.modalities.tabular.encode import Encoded, means, out_of_fold
from keepfit.runtime.arrays import pack
from keepfit.runtime.coerce import DATE_PARTS, ColumnRule
from keepfit.runtime.preparation import Coerced, Matrix, Preparation, coerced, opened
from keepfit.runtime.table import Column, Table
from keepfit.runtime.words import part_of, tokens

_ENCODE_FROM = 10
_ONE_HOT_MOST = 64
_MANY = 64
_LONG_WORDS = 6.0


@dataclass(frozen=True)
class Fitted:
    """A preparation, the matrix of its own rows with out-of-fold encodings, and the columns of each block.

    `codes` are columns of category numbers with how many there are, `dense` the linear block less what they stand for;
    `plain` is the block for trees, `pairs` holds derived columns that trees may have besides, `encoded` are the
    target means among the columns, with the code of each of its own rows.
    """

    preparation: Preparation
    matrix: Matrix
    plain: list[int]
    pairs: list[int]
    linear: list[int]
    dense: list[int]
    codes: list[tuple[int, int]]
    encoded: tuple[Encoded, ...] = ()
    keys: tuple[dict[str, Any], ...] = ()

    def encoded_of(self, data: Coerced) -> tuple[Encoded, ...]:
        """The same for other rows."""
        return tuple(
            Encoded(own.columns, _codes(_keys(data, feature), feature["categories"]), own.count)
            for own, feature in zip(self.encoded, self.keys, strict=True)
        )


@dataclass(frozen=True)
class Missing:
    """The recipe's `clean.missing`."""

    numeric: str = "auto"
    categorical: str = "missing"
    constant: float = 0.0
    indicator: str | bool = "auto"


def masks(table: Table, spared: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.bool_]]:
    """Column -> mask [n] of the rows with these sample ids."""
    ids = [str(sample) for sample in table.ids]
    return {name: np.isin(ids, list(samples)) for name, samples in spared.items()}


@dataclass
class _Context:
    data: Coerced
    truth: NDArray[np.float64]
    folds: NDArray[np.int64]
    features: list[dict[str, Any]]
    replaced: dict[int, NDArray[np.float64]]
    missing: Missing
    codes: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, block: str, **feature: Any) -> None:
        """One more feature of a block."""
        self.features.append({"block": block, **feature})


def fit(
    table: Table,
    rules: Sequence[ColumnRule],
    truth: NDArray[np.float64],
    folds: NDArray[np.int64],
    *,
    missing: Missing = Missing(),
    spared: Mapping[str, NDArray[np.bool_]] | None = None,
    seed: int,
    classes: int,
) -> Fitted:
    """`truth` is [n, k] (one-hot for many classes, else one column), `folds` [n] for out-of-fold encodings.

    `spared` (masks [n] by column) are cells that repairs and fills leave as they are.
    """
    context = _Context(coerced(table, rules, spared), truth, folds, [], {}, missing)
    for rule in rules:
        if rule.kind == "numeric":
            _numeric(context, rule)
        elif rule.kind == "categorical":
            _categorical(context, rule)
        elif rule.kind == "datetime":
            _datetime(context, rule)
        elif rule.kind == "text":
            _text(context, rule, seed)
    context.features += derive.pairs(context.data.numbers, truth, classes, seed)
    preparation = opened(context.features, rules)
    widths = [len(feature["names"]) for feature in context.features]
    starts = np.concatenate([[0], np.cumsum(widths)])
    matrix = preparation.apply(context.data)
    _leave_missing(matrix, context, starts, spared or {})
    for place, values in context.replaced.items():
        matrix[:, starts[place] : starts[place] + widths[place]] = values
    blocks = _blocks(context.features, starts)
    encoded = tuple(
        Encoded(list(range(int(starts[n]), int(starts[n + 1]))), codes, len(context.features[n]["categories"]))
        for n, codes in context.codes.items()
    )
    keys = tuple(context.features[n] for n in context.codes)
    dense, codes = _for_networks(context.features, starts)
    return Fitted(preparation, matrix, blocks["trees"], blocks["pairs"], blocks["linear"], dense, codes, encoded, keys)


def reopened(raw: bytes, table: Table, spared: Mapping[str, NDArray[np.bool_]] | None = None) -> Fitted:
    """A preparation that was fitted before (preparation.json) as for rows of its own; target means are as they were."""
    preparation = Preparation.from_bytes(raw)
    features = [dict(feature) for feature in preparation.features]
    starts = np.concatenate([[0], np.cumsum([len(feature["names"]) for feature in features])])
    blocks, (dense, codes) = _blocks(features, starts), _for_networks(features, starts)
    matrix = preparation.apply(coerced(table, preparation.rules, spared))
    return Fitted(preparation, matrix, blocks["trees"], blocks["pairs"], blocks["linear"], dense, codes)


def _blocks(features: Sequence[dict[str, Any]], starts: NDArray[np.int64]) -> dict[str, list[int]]:
    """The columns of each block."""
    found: dict[str, list[int]] = {"trees": [], "linear": [], "pairs": []}
    for place, feature in enumerate(features):
        found[feature["block"]] += range(int(starts[place]), int(starts[place + 1]))
    return found


def _leave_missing(
    matrix: Matrix, context: _Context, starts: NDArray[np.int64], spared: Mapping[str, NDArray[np.bool_]]
) -> None:
    """Spared cells that are missing stay so for trees; the linear block cannot do without a number."""
    for feature, start in zip(context.features, starts, strict=False):
        name = str(feature.get("column"))
        if name not in spared or feature["block"] != "trees" or feature["op"] not in ("number", "lookup"):
            continue
        data = context.data
        if name in data.numbers:
            matrix[spared[name] & np.isnan(data.numbers[name]), start] = np.nan
        elif name in data.categories:
            gaps = np.array([value is None for value in data.categories[name]], bool)
            matrix[spared[name] & gaps, start] = np.nan


def _keys(data: Coerced, feature: dict[str, Any]) -> Column:
    column = feature["column"]
    return part_of(data.texts[column], feature["part"]) if "part" in feature else data.categories[column]


def _codes(keys: Column, categories: list[str]) -> NDArray[np.int64]:
    place = {category: n for n, category in enumerate(categories)}
    return np.array([-1 if key is None else place.get(key, len(categories)) for key in keys], np.int64)


def _for_networks(features: list[dict[str, Any]], starts: NDArray[np.int64]) -> tuple[list[int], list[tuple[int, int]]]:
    """The linear block without one-hot columns, and the columns of category numbers."""
    dense: list[int] = []
    codes: list[tuple[int, int]] = []
    for feature, start in zip(features, starts, strict=False):
        if feature["op"] != "lookup" and feature["block"] == "linear":
            dense += range(int(start), int(start) + len(feature["names"]))
        elif feature["names"] == [f"{feature.get('column')} code"] and "part" not in feature:
            codes.append((int(start), len(feature["categories"])))
    return dense, codes


def _numeric(context: _Context, rule: ColumnRule) -> None:
    values = context.data.numbers[rule.name]
    known = values[~np.isnan(values)]
    if not len(known):
        return
    missing = context.missing
    fill = None if missing.numeric in ("auto", "none") else fill_of(known, missing.numeric, missing.constant)
    context.add("trees", op="number", column=rule.name, names=[rule.name], fill=fill)
    filled = fill_of(known, "median") if fill is None else fill
    log = bool(known.min() >= 0 and abs(_skew(known)) > 2)
    scaled = np.log1p(known) if log else known
    context.add(
        "linear",
        op="number",
        column=rule.name,
        names=[f"{rule.name} (scaled)"],
        fill=filled,
        log=log,
        mean=float(scaled.mean()),
        scale=float(scaled.std() or 1.0),
        clip=5.0,
    )
    steps = [
        float(q) for q in np.unique(np.quantile(known, [0.1, 0.25, 0.5, 0.75, 0.9])) if known.min() < q < known.max()
    ]
    if len(np.unique(known)) > 2 and steps:
        context.add("linear", op="steps", column=rule.name, names=[f"{rule.name} > {q:g}" for q in steps], steps=steps)
    said, gaps = context.missing.indicator, len(values) - len(known)
    if gaps >= 5 if said == "auto" else said and gaps:
        context.add("linear", op="indicator", column=rule.name, names=[f"{rule.name} missing"])
        if fill is not None:
            context.add("trees", op="indicator", column=rule.name, names=[f"{rule.name} missing"])


def _skew(values: NDArray[np.float64]) -> float:
    spread = float(values.std())
    return float(((values - values.mean()) ** 3).mean() / spread**3) if spread else 0.0


def _lookup(
    context: _Context,
    block: str,
    rule: ColumnRule,
    categories: list[str],
    vectors: NDArray[np.float64],
    label: str,
    **more: Any,
) -> None:
    names = (
        [f"{rule.name} {label}".strip()]
        if vectors.shape[1] == 1
        else [f"{rule.name} {label} {place}" for place in range(vectors.shape[1])]
    )
    context.add(
        block,
        op="lookup",
        column=rule.name,
        names=more.pop("names", names),
        categories=categories,
        vectors=pack(vectors),
        **more,
    )


def _by_count(keys: Column, least: int = 1, most: int = 5000) -> list[str]:
    counts = Counter(key for key in keys if key is not None)
    return [key for key, times in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])) if times >= least][:most]


def _categorical(context: _Context, rule: ColumnRule) -> None:
    keys = context.data.categories[rule.name]
    categories = _by_count(keys)
    if len(categories) > _MANY:
        categories = _by_count(keys, least=2)  # a name seen once is of no use, and it is somebody's
    if not categories:
        return
    count = len(categories)
    frequent = context.missing.categorical == "most_frequent"
    missing = 0.0 if frequent else np.nan
    _lookup(context, "trees", rule, categories, np.array([*range(count), missing, count], float)[:, None], "code")
    if count >= _ENCODE_FROM:
        _encoded(context, rule, keys, categories, "mean")
    shown = _by_count(keys, least=5)[:_ONE_HOT_MOST] or categories[:_ONE_HOT_MOST]
    width = len(shown)
    gaps = not frequent and sum(key is None for key in keys) >= 5
    vectors = np.zeros((width + 2, width + gaps))
    vectors[:width, :width] = np.eye(width)
    if gaps:
        vectors[width, width] = 1.0
    elif frequent and width:
        vectors[width, 0] = 1.0
    names = [f"{rule.name} = {c}" for c in shown] + ([f"{rule.name} missing"] if gaps else [])
    _lookup(context, "linear", rule, shown, vectors, "", names=names, counts=False)


def _encoded(context: _Context, rule: ColumnRule, keys: Column, categories: list[str], label: str, **more: Any) -> None:
    """The smoothed mean of the target per category; training rows get the mean of the other folds."""
    codes, count = _codes(keys, categories), len(categories)
    table = means(codes, context.truth, count, least=2)
    vectors = np.vstack([table[:-1], np.full(table.shape[1], np.nan), table[-1]])
    context.codes[len(context.features)] = codes
    context.replaced[len(context.features)] = out_of_fold(codes, context.truth, count, context.folds)
    _lookup(context, "trees", rule, categories, vectors, label, counts=False, **more)


def _datetime(context: _Context, rule: ColumnRule) -> None:
    values = context.data.dates[rule.name]
    known = values[~np.isnan(values[:, 0])]
    parts = [n for n in range(len(DATE_PARTS)) if len(known) and len(np.unique(known[:, n])) > 1]
    if not parts:
        return
    names = [f"{rule.name} {DATE_PARTS[n]}" for n in parts]
    fills, mean, scale = np.median(known[:, parts], 0), known[:, parts].mean(0), known[:, parts].std(0)
    context.add("trees", op="date", column=rule.name, names=names, parts=parts)
    context.add(
        "linear",
        op="date",
        column=rule.name,
        names=[f"{n} (scaled)" for n in names],
        parts=parts,
        fills=pack(fills, "f8"),
        mean=mean.tolist(),
        scale=np.where(scale > 0, scale, 1.0).tolist(),
    )


def _text(context: _Context, rule: ColumnRule, seed: int) -> None:
    column = context.data.texts[rule.name]
    context.add("trees", op="length", column=rule.name, names=[f"{rule.name} length", f"{rule.name} words"])
    sets = [set(tokens(text or "")) for text in column]
    if np.mean([len(words) for words in sets if words] or [0]) > _LONG_WORDS:
        _long_text(context, rule, column, sets, seed)
        return
    counts = Counter(word for words in sets for word in words if not word.isdigit())
    least = max(4, int(0.005 * len(column)))
    shown = [w for w, times in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])) if times >= least][:48]
    if shown:
        for block in ("trees", "linear"):
            context.add(
                block, op="bag", column=rule.name, names=[f"{rule.name} has {w}" for w in shown], vocabulary=shown
            )
    context.add("trees", op="figure", column=rule.name, names=[f"{rule.name} number"])
    lead = part_of(column, "lead")
    initials = _by_count(lead, least=max(2, int(0.002 * len(column))), most=40)
    codes = np.array([*range(len(initials)), np.nan, len(initials)], float)[:, None]
    _lookup(context, "trees", rule, initials, codes, "initial", part="lead", counts=False)
    for part in ("whole", "first"):
        keys = part_of(column, part)
        # a text seen once stays out: the bundle would hold it, and its mean would be the answer of its row
        categories = _by_count(keys, least=2, most=50_000)
        if not categories:
            continue
        times = Counter(key for key in keys if key is not None)
        vectors = np.array([*(times[c] for c in categories), 0, 0], float)[:, None]
        context.replaced[len(context.features)] = np.array([[0.0] if k is None else [times[k] - 1.0] for k in keys])
        _lookup(context, "trees", rule, categories, vectors, f"{part} count", part=part, counts=False)
        _encoded(context, rule, keys, categories, f"{part} mean", part=part)


def _long_text(context: _Context, rule: ColumnRule, column: Column, sets: list[set[str]], seed: int) -> None:
    """TF-IDF of at most 20,000 words, then truncated SVD to at most 128 components (latent semantic analysis)."""
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    from keepfit.runtime.words import weights

    counts = Counter(word for words in sets for word in words)
    least = 2 if len(column) < 2000 else 3
    shown = sorted(w for w, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:20_000] if n >= least)
    if len(shown) < 3:
        return
    idf = (np.log((1 + len(column)) / (1 + np.array([counts[w] for w in shown]))) + 1).astype(np.float32)
    index = {word: place for place, word in enumerate(shown)}
    found = [weights(text, index, idf) for text in column]
    ends = np.concatenate([[0], np.cumsum([len(where) for where, _ in found])])
    sparse = csr_matrix(
        (np.concatenate([w for _, w in found]), np.concatenate([i for i, _ in found]), ends),
        shape=(len(column), len(shown)),
    )
    size = max(1, min(128, len(shown) - 1, len(column) - 1))
    components = TruncatedSVD(size, random_state=seed).fit(sparse).components_.T.astype(np.float32)
    for block in ("trees", "linear"):
        context.add(
            block,
            op="words",
            column=rule.name,
            names=[f"{rule.name} topic {n}" for n in range(size)],
            vocabulary=shown,
            idf=pack(idf),
            components=pack(components),
        )
