"""Turns rows into features that can be compared: columns of tables; what pictures look like; what texts are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError
from keepfit.monitor.features import Values
from keepfit.runtime import coerce
from keepfit.runtime.arrays import pack, unpack
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.pictures import decode
from keepfit.runtime.table import Column, Table
from keepfit.runtime.texts import words

_AXES, _VOCABULARY, _LEAST, _SIDE, _ROWS = 6, 400, 5, 8, 2000
Lens = Mapping[str, Any]


def describe(table: Table, rules: Sequence[ColumnRule], lens: Lens) -> dict[str, Values]:
    """Features [n] by name. A column that is not there is missing in every row; `quality` says that it is not there."""
    found: dict[str, Values] = {}
    for rule in rules:
        column = table.columns.get(rule.name)
        if column is None:
            column = np.full(len(table), None, object)
        if rule.kind == "numeric":
            numbers, bad = coerce.numbers(column, rule)
            found[rule.name] = Values(numbers, bad, rule.name)
        elif rule.kind == "categorical":
            found[rule.name] = Values(coerce.categories(column, rule), np.zeros(len(column), bool), rule.name)
        elif rule.kind == "datetime":
            dates, bad = coerce.dates(column, rule)
            # days go on for ever: that they are later than the reference's is no finding
            for part in ("weekday", "hour"):
                found[f"{rule.name} {part}"] = Values(dates[:, coerce.DATE_PARTS.index(part)], bad, rule.name)
        elif rule.kind == "text":
            found |= _texts(column, rule.name, lens)
        elif rule.kind == "image":
            found |= _pictures(np.asarray(column), rule.name, lens)
    return found


def fit_lens(table: Table, rules: Sequence[ColumnRule]) -> dict[str, Any]:
    """What `describe` needs to know of the reference: frequent words and axes of topics per text column, axes of pictures."""
    rows = np.linspace(0, len(table) - 1, min(len(table), _ROWS), dtype=int) if len(table) else np.zeros(0, int)
    lens: dict[str, Any] = {}
    for rule in rules:
        if rule.kind == "text":
            lens[rule.name] = _fit_texts(table.columns[rule.name][rows])
        elif rule.kind == "image":
            small = [
                _small(decode(picture)[0]) for picture in table.columns[rule.name][rows[:: max(1, len(rows) // 1000)]]
            ]
            lens[rule.name] = _axes(np.array(small))
    return lens


def _axes(matrix: NDArray[np.float64]) -> dict[str, Any]:
    """Mean and the first principal axes, signs fixed so that equal data gives equal bytes."""
    mean = matrix.mean(0) if len(matrix) else np.zeros(matrix.shape[1])
    many = min(_AXES, matrix.shape[1], max(len(matrix) - 1, 0))
    if not many:
        return {"mean": pack(mean), "axes": pack(np.zeros((0, matrix.shape[1])))}
    axes = np.linalg.svd(matrix - mean, full_matrices=False)[2][:many]
    largest = np.abs(axes).argmax(1)
    axes = axes * np.sign(axes[np.arange(many), largest])[:, None]
    return {"mean": pack(mean.round(6)), "axes": pack(axes.round(5))}


def _fit_texts(column: Column) -> dict[str, Any]:
    bags = [Counter(words(text)) for text in column if text is not None]
    often = Counter(word for bag in bags for word in bag)
    size = max(len(bags), 1)
    vocabulary = [word for word, n in sorted(often.items(), key=lambda item: (-item[1], item[0])) if n >= _LEAST][
        :_VOCABULARY
    ]
    shares = [round(often[word] / size, 5) for word in vocabulary]
    found = {"words": vocabulary, "shares": shares, **_axes(_weights(bags, vocabulary, shares))}
    axes = unpack(found["axes"])
    return found | {"topics": [[vocabulary[n] for n in np.argsort(-axis)[:3]] for axis in axes]}


def grown_words(column: Column, name: str, lens: Lens) -> list[str]:
    """At most six words that more texts of a window hold than of the reference, those that grew most first."""
    bags = [Counter(words(text)) for text in column if text is not None]
    before = dict(zip(lens[name]["words"], lens[name]["shares"], strict=True))
    size = max(len(bags), 1)
    often = Counter(word for bag in bags for word in bag)
    grown = {word: n / size - before.get(word, 0.0) for word, n in often.items()}
    return [word for word, more in sorted(grown.items(), key=lambda item: (-item[1], item[0]))[:6] if more > 0.03]


def novel_texts(column: Column, name: str, lens: Lens) -> float:
    """Share of rows that hold a word which next to no text of the reference held, and many of this window do."""
    bags = [set(words(text)) for text in column if text is not None]
    before = dict(zip(lens[name]["words"], lens[name]["shares"], strict=True))
    size = max(len(bags), 1)
    often = Counter(word for bag in bags for word in bag)
    novel = {
        word
        for word, n in often.items()
        if before.get(word, 0.0) < 0.01 and n / size > 0.02 + 2 * before.get(word, 0.0) + 3 / size
    }
    return sum(not novel.isdisjoint(bag) for bag in bags) / size


def _weights(bags: Sequence[Counter[str]], vocabulary: Sequence[str], shares: Sequence[float]) -> NDArray[np.float64]:
    """Unit rows [n, v] of logged counts; words that many texts have weigh less."""
    rarity = 1 - np.log(np.maximum(np.asarray(shares, np.float64), 1e-5))
    place = {word: n for n, word in enumerate(vocabulary)}
    out = np.zeros((len(bags), len(vocabulary)))
    for row, bag in enumerate(bags):
        for word, times in bag.items():
            if word in place:
                out[row, place[word]] = (1 + np.log(times)) * rarity[place[word]]
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9))


def _texts(column: Column, name: str, lens: Lens) -> dict[str, Values]:
    lost = np.array([text is None or not text.strip() for text in column], bool)
    bags = [Counter(words(text or "")) for text in column]
    sizes = np.array([bag.total() for bag in bags], float)
    seen = lens.get(name, {"words": []})
    known = set(seen["words"])
    facts = {
        "characters": np.array([len(text or "") for text in column], float),
        "words": sizes,
        "less frequent words": np.array(
            [sum(n for word, n in bag.items() if word not in known) / max(bag.total(), 1) for bag in bags]
        ),
        "odd letters": np.array([_odd(text or "") for text in column]),
    }
    if seen["words"]:
        projected = (_weights(bags, seen["words"], seen["shares"]) - unpack(seen["mean"])) @ unpack(seen["axes"]).T
        for n in range(projected.shape[1]):
            facts[f"topic {', '.join(seen['topics'][n])}"] = projected[:, n].round(9)
    none = np.zeros(len(column), bool)
    return {f"{name}: {fact}": Values(np.where(lost, np.nan, data), none, name) for fact, data in facts.items()}


def _odd(text: str) -> float:
    """Share of letters that wrong encodings leave behind."""
    marks = sum(text.count(mark) for mark in ("\ufffd", "Ã", "Â", "â€", "Ð", "æ\x96"))
    return marks / max(len(text), 1)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey means [64] of an 8 x 8 grid, less their mean: what is where, whatever the light."""
    grey = picture.mean(2) / 255
    rows, columns = (np.array_split(np.arange(size), _SIDE) for size in grey.shape)
    cells = [[grey[np.ix_(r, c)].mean() if len(r) and len(c) else 0.0 for c in columns] for r in rows]
    flat = np.array(cells).ravel()
    return np.asarray((flat - flat.mean()) / max(float(flat.std()), 1e-3))


def _pictures(column: NDArray[Any], name: str, lens: Lens) -> dict[str, Values]:
    names = ("brightness", "contrast", "sharpness", "redness", "height", "width")
    facts = np.full((len(column), len(names)), np.nan)
    seen = lens.get(name)
    axes = unpack(seen["axes"]) if seen else np.zeros((0, _SIDE**2))
    spots = np.full((len(column), len(axes)), np.nan)
    bad = np.zeros(len(column), bool)
    for row, data in enumerate(column):
        if not isinstance(data, bytes):
            bad[row] = data is not None
            continue
        try:
            picture = decode(data)[0]
        except DataError:
            bad[row] = True
            continue
        facts[row] = _looks(picture)
        if seen:
            spots[row] = (_small(picture) - unpack(seen["mean"])) @ axes.T
    found = {f"{name}: {fact}": Values(facts[:, n], bad, name) for n, fact in enumerate(names)}
    return found | {f"{name}: shape {n + 1}": Values(spots[:, n], bad, name) for n in range(len(axes))}


def _looks(picture: NDArray[np.uint8]) -> tuple[float, ...]:
    """Brightness and contrast 0..1; sharpness: log of the Laplacian's deviation over the contrast; red share; sides."""
    grey = picture.mean(2) / 255
    if min(grey.shape) < 3:
        edge = 0.0
    else:
        edge = float((4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]).std())
    total = float(picture.sum()) or 1.0
    contrast = float(grey.std())
    sharp = np.log((edge + 1e-4) / (contrast + 1e-3))
    return float(grey.mean()), contrast, float(sharp), float(picture[..., 0].sum()) / total, *map(float, grey.shape)
