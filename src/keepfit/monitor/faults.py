"""Bug or shift: the signs that a broken feed leaves, and a world that has changed does not."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.drift import Change
from keepfit.monitor.features import Feature, Values

Mask = NDArray[np.bool_]
_FACTORS = {
    "a thousand times": 1000.0,
    "a thousandth": 1e-3,
    "a million times": 1e6,
    "a millionth": 1e-6,
    "a hundred times": 100.0,
    "a hundredth": 0.01,
    "ten times": 10.0,
    "a tenth": 0.1,
    "60 times (minutes for hours)": 60.0,
    "a 60th": 1 / 60,
    "3,600 times (seconds for hours)": 3600.0,
    "a 3,600th": 1 / 3600,
    "inches for centimetres": 1 / 2.54,
    "centimetres for inches": 2.54,
    "kilograms for pounds": 0.45359,
    "pounds for kilograms": 2.20462,
    "kilometres for miles": 1.60934,
    "miles for kilometres": 0.62137,
    "feet for metres": 3.28084,
    "metres for feet": 0.3048,
    "12 times (months for years)": 12.0,
    "a 12th": 1 / 12,
    "24 times (hours for days)": 24.0,
    "a 24th": 1 / 24,
    "the sign turned": -1.0,
}
SIGNS = ("nulls", "format", "time zone", "encoding", "unit", "stuck", "filler", "relabelled", "swapped")
_NULLS, _UNREADABLE, _SENTINEL, _STUCK, _LEAST = 0.15, 0.02, 0.04, 0.9, 30


@dataclass(frozen=True)
class Fault:
    """A sign of a broken feed: the feature, what it looks like, and the rows [n] that show it."""

    name: str
    column: str
    sign: str
    said: str
    rows: Mask

    def as_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "feature": self.name,
            "column": self.column,
            "sign": self.sign,
            "said": self.said,
            "rows": int(self.rows.sum()),
        }


def find_faults(
    features: Mapping[str, Feature], values: Mapping[str, Values], changes: Sequence[Change], named: Sequence[str]
) -> list[Fault]:
    """The faults of the features that ring, clearest first; at most one per feature."""
    alone = len({features[name].column for name in named if name in features}) <= 2
    found: list[Fault] = []
    for change in changes:
        if change.name not in named or change.name not in values:
            continue
        feature, data = features[change.name], values[change.name]
        made = feature.name.startswith(
            f"{feature.column}: "
        )  # what a picture or a text is like has no unit or spelling
        fault = None if made else _swapped(feature, data, features, values, named)
        for sign in (_lost, _garbled) if made else _SIGNS:
            fault = fault or sign(feature, data, alone)
        if fault is not None:
            found.append(fault)
    return found


def distance(feature: Feature, tally: NDArray[np.float64]) -> float:
    """Total variation 0..1 of the known values' shares from the reference's."""
    before = feature.counts[:-2] / max(feature.counts[:-2].sum(), 1.0)
    now = tally[:-2] / max(tally[:-2].sum(), 1.0)
    return float(np.abs(before - now).sum() / 2)


def _fault(feature: Feature, sign: str, said: str, rows: Mask) -> Fault:
    return Fault(feature.name, feature.column, sign, said, rows)


def _lost(feature: Feature, values: Values, alone: bool) -> Fault | None:
    tally = feature.tally(values)
    size = max(float(tally.sum()), 1.0)
    codes = feature.code(values)
    before, now = feature.counts[-2:] / max(feature.counts.sum(), 1.0), tally[-2:] / size
    if now[1] - before[1] > _UNREADABLE and tally[-1] >= 3:
        return _fault(feature, "format", f"{now[1]:.0%} of the cells cannot be read", codes == feature.bins + 1)
    if now[0] - before[0] > _NULLS:
        return _fault(feature, "nulls", f"{now[0]:.0%} missing where {before[0]:.1%} were", codes == feature.bins)
    return None


def _stuck(feature: Feature, values: Values, alone: bool) -> Fault | None:
    known = _known(values)
    if len(known) < _LEAST:
        return None
    value, times = Counter(known.tolist()).most_common(1)[0]
    same = values.data == value
    share = times / len(known)
    before = _share_of(feature, value, values)
    many = feature.bins > 8 and feature.counts[:-2].max() < 0.5 * feature.counts[:-2].sum()
    if share >= _STUCK and before < 0.5 and (alone or many):
        return _fault(feature, "stuck", f"{share:.0%} of the cells are {value!r} where {before:.1%} were", same)
    if values.is_numeric and share >= _SENTINEL and feature.edges is not None and times >= 5:
        outside = value > feature.edges[-1] or value <= feature.edges[0]
        if outside:
            return _fault(feature, "filler", f"{share:.0%} of the cells are {value:g}, which never came before", same)
    longest = _longest_run(values.data)
    if many and longest >= max(20, 0.1 * len(values)) and before < 0.2:
        return _fault(feature, "stuck", f"the same value {longest} times in a row", same)
    return None


def _share_of(feature: Feature, value: Any, values: Values) -> float:
    one = Values(np.array([value], values.data.dtype), np.zeros(1, bool), values.column)
    code = int(feature.code(one)[0])
    return float(feature.counts[code] / max(feature.counts.sum(), 1.0)) if code < feature.bins else 0.0


def _longest_run(data: Any) -> int:
    """Rows of the longest run of one value, gaps apart."""
    same = data[1:] == data[:-1]
    ends = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
    return int(np.diff(ends).max()) if len(data) > 1 else len(data)


def _unit(feature: Feature, values: Values, alone: bool) -> Fault | None:
    """A known factor after which the numbers are those of the reference; for all rows, or for those outside its range."""
    if feature.edges is None or not values.is_numeric:
        return None
    ok = ~np.isnan(values.data) & ~values.bad
    known = values.data[ok]
    if len(known) < _LEAST:
        return None
    before = distance(feature, feature.tally(values))
    # a factor near one can be a change of the world, which other columns show as well
    tries = [
        (said, known / factor) for said, factor in _FACTORS.items() if alone or abs(factor) > 5 or abs(factor) < 0.2
    ]
    tries += [("Fahrenheit for Celsius", (known - 32) / 1.8), ("Celsius for Fahrenheit", known * 1.8 + 32)]
    tries += [("logarithms", np.exp(np.minimum(known, 50.0))), ("no logarithms", np.log(np.maximum(known, 1e-12)))]
    scored = [(distance(feature, feature.tally(_as(values, mended))), said) for said, mended in tries]
    after, said = min(scored)
    noise = 0.6 * np.sqrt(feature.bins / len(known))
    if before > 0.35 and after < max(0.3 * before, min(noise, 0.5 * before)):
        return _fault(feature, "unit", f"the numbers are those of the reference by another unit: {said}", ok)
    low, high = feature.edges[0], feature.edges[-1]
    out = ok & ((values.data > high) | (values.data <= low))
    if out.sum() >= max(5, 0.02 * len(known)):
        for name, factor in _FACTORS.items():
            mended = values.data[out] / factor
            inside = ((mended > feature.edges[1]) & (mended <= feature.edges[-2])).mean()
            if abs(np.log10(abs(factor))) >= 1 and inside > 0.9:
                return _fault(feature, "unit", f"{out.sum()} cells are in another unit: {name}", out)
    return None


def _as(values: Values, data: Any) -> Values:
    return Values(data, np.zeros(len(data), bool), values.column)


def _swapped(
    feature: Feature, data: Values, features: Mapping[str, Feature], values: Mapping[str, Values], named: Sequence[str]
) -> Fault | None:
    """Another feature that rings holds what this one held, and the other way round."""
    before = distance(feature, feature.tally(data))
    for other in named:
        if other == feature.name or other not in values or features[other].is_numeric != feature.is_numeric:
            continue
        there = distance(features[other], features[other].tally(values[other]))
        here, back = (
            distance(feature, feature.tally(values[other])),
            distance(features[other], features[other].tally(data)),
        )
        if min(before, there) > 0.25 and here < 0.4 * before and back < 0.4 * there:
            said = f"its values are those of {other}, and the other way round"
            return _fault(feature, "swapped", said, np.ones(len(data), bool))
    return None


def _spelling(feature: Feature, values: Values, alone: bool) -> Fault | None:
    """Values that never came, most of which are known ones in another spelling, encoding or type."""
    if feature.is_numeric or not feature.values:
        return None
    codes = feature.code(values)
    strange = codes == feature.bins - 1
    before = feature.counts[feature.bins - 1] / max(feature.counts.sum(), 1.0)
    if strange.mean() - before < 0.03:
        return None
    known = {_folded(value) for value in feature.values} - {""}
    cells = Counter(values.data[strange].tolist())
    total = max(sum(cells.values()), 1)
    alike = sum(n for text, n in cells.items() if _is_spelling(text, known)) / total
    if alike > 0.5:
        text = next(text for text in cells if _is_spelling(text, known))
        return _fault(
            feature, "encoding", f"{strange.mean():.0%} are known values in another spelling: {text!r}", strange
        )
    coded = sum(n for text, n in cells.items() if _is_number(text)) / total
    if coded > 0.9 and not any(_is_number(value) for value in feature.values):
        return _fault(feature, "format", f"{strange.mean():.0%} are numbers where words were", strange)
    return None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()


def _is_spelling(text: str, known: set[str]) -> bool:
    folded = _folded(text)
    if folded in known:
        return True
    for mended in _reencoded(text):
        if _folded(mended) in known:
            return True
    if len(folded) >= 3 and sum(name.startswith(folded) for name in known) == 1:
        return True
    gaps = [n for n, mark in enumerate(text) if mark in "?\ufffd"]
    return bool(gaps) and any(
        len(name) == len(text)
        and all(a == b or n in gaps for n, (a, b) in enumerate(zip(text.lower(), name, strict=True)))
        for name in known
    )


def _folded(text: str) -> str:
    """Letters and digits alone, without case and accents."""
    plain = unicodedata.normalize("NFKD", text).casefold().strip().removesuffix(".0")
    return "".join(mark for mark in plain if mark.isalnum()).lstrip("0")


def _reencoded(text: str) -> list[str]:
    found = []
    for wrong, right in (
        ("cp1252", "utf-8"),
        ("latin-1", "utf-8"),
        ("utf-8", "latin-1"),
        ("utf-8", "cp1252"),
        ("gbk", "utf-8"),
    ):
        try:
            found.append(text.encode(wrong).decode(right))
        except UnicodeError:
            continue
    return found


def _relabelled(feature: Feature, values: Values, alone: bool) -> Fault | None:
    """The same shares under other names: codes were given anew."""
    tally = feature.tally(values)
    if feature.is_numeric or len(feature.values) < 4 or tally.sum() < 100:
        return None
    before = feature.counts[:-2] / max(feature.counts[:-2].sum(), 1.0)
    now = tally[:-2] / max(tally[:-2].sum(), 1.0)
    if distance(feature, tally) > 0.3 and np.abs(np.sort(before) - np.sort(now)).sum() / 2 < 0.06 and alone:
        return _fault(feature, "relabelled", "the shares are the same under other names", np.ones(len(values), bool))
    return None


def _zone(feature: Feature, values: Values, alone: bool) -> Fault | None:
    """Hours of the reference, all moved by the same number."""
    if not feature.name.endswith(" hour") or feature.edges is None:
        return None
    before = distance(feature, feature.tally(values))
    ok = ~np.isnan(values.data)
    moved = [(distance(feature, feature.tally(_as(values, (values.data[ok] - h) % 24))), h) for h in range(1, 24)]
    after, hours = min(moved)
    noise = 0.6 * np.sqrt(feature.bins / max(ok.sum(), 1))
    if before > 0.1 and after < max(0.4 * before, min(noise, 0.6 * before)):
        hours = hours if hours <= 12 else hours - 24
        return _fault(feature, "time zone", f"every time is moved by {hours} hours", ok)
    return None


def _garbled(feature: Feature, values: Values, alone: bool) -> Fault | None:
    """Texts with the marks of a wrong encoding; pictures without light or detail."""
    if feature.name.endswith(": odd letters"):
        odd = np.nan_to_num(values.data) > 0.01
        if odd.mean() > 0.05:
            return _fault(feature, "encoding", f"{odd.mean():.0%} of the texts have marks of a wrong encoding", odd)
    if feature.name.endswith(": contrast"):
        blank = values.data < 0.005
        if blank.mean() > 0.3 and feature.edges is not None and feature.edges[1] > 0.005:
            return _fault(feature, "stuck", f"{blank.mean():.0%} of the pictures are of one colour", blank)
    return None


def _known(values: Values) -> Any:
    if values.is_numeric:
        return values.data[~np.isnan(values.data) & ~values.bad]
    return np.array([text for text in values.data if text is not None], object)


_SIGNS: tuple[Callable[[Feature, Values, bool], Fault | None], ...] = (
    _lost,
    _zone,
    _garbled,
    _unit,
    _stuck,
    _spelling,
    _relabelled,
)
