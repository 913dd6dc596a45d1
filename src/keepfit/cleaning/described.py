"""What each column is like: range, distribution, outliers, near-constancy, link with the target, drift between splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning.findings import Finding
from keepfit.cleaning.guarded import Guarded
from keepfit.cleaning.single import skill, told
from keepfit.cleaning.view import known_of
from keepfit.runtime.coded import Coded, objects, side_by_side
from keepfit.runtime.pictures import decode
from keepfit.runtime.spread import Spread, quantiles
from keepfit.runtime.table import Column, counts_of

_BINS = 12
_BARS = " ▁▂▃▄▅▆▇█"
_CONSTANT = 0.99
_LINKED = 0.5
_DRIFT = 0.1
_SURE = 1e-4
_PICTURES = 300
_BLURRED = 0.0005
_PLAIN = 0.08  # of all words
_SHORT = {
    "English": "the of and to in is that it you for was with be this have are not but my on at",
    "German": "der die und das ist nicht ein eine ich sie den mit zu auf für es dem von sich auch",
    "French": "le la les et des est une pas que qui dans pour vous je du ce sur avec au il",
    "Spanish": "el la los que y en de un una por con para no es las su se lo como más",
    "Italian": "il che di e la per non un una sono con del della i le mi si è ma gli",
    "Portuguese": "o que de e do da em um uma para não com os no na por mais as se é",
    "Dutch": "de het een en van ik is dat niet op te zijn met voor die je maar aan er om",
    "Russian": "и в не на я что он с как это по но она к из у за то все так",
}
_SCRIPTS = (("Chinese", 0x4E00, 0x9FFF), ("Japanese", 0x3040, 0x30FF), ("Korean", 0xAC00, 0xD7AF),
            ("Cyrillic", 0x0400, 0x04FF), ("Arabic", 0x0600, 0x06FF), ("Greek", 0x0370, 0x03FF),
            ("Latin", 0x0041, 0x024F))  # fmt: skip


def described(case: Guarded) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Facts per column for people, and findings; distributions and ranges are of the training rows."""
    train, data = case.train, case.data

    def of_column(name: str) -> dict[str, Any]:
        if name in data.categories:
            return _of_categories(data.categories[name][train])
        if name in data.texts:
            return of_texts(data.texts[name][train])
        return _of_numbers(data.spread(name), train, name in data.dates)

    names = [*data.numbers, *data.dates, *data.categories, *data.texts]
    facts = dict(zip(names, side_by_side(of_column, names, len(train)), strict=True))
    found = [*_constant(facts), *_linked(case, facts), *_drifted(case), *_balance(case, train)]
    return facts, found


def of_target(case: Guarded) -> dict[str, Any]:
    """Facts of the training rows' answers: shares of classes, or the range of a number."""
    truth = case.truth[case.train]
    if not case.classes:
        return _of_numbers(Spread.of(truth.astype(float)), np.arange(len(truth)), dates=False)
    return _of_categories(Coded(truth.astype(np.int32), objects([str(name) for name in case.names])))


def bars(counts: Sequence[int] | NDArray[Any]) -> str:
    """Counts as a row of bars, the highest full."""
    top = max([*counts, 1])
    return "".join(_BARS[int(np.ceil(8 * count / top))] for count in counts)


def _of_numbers(found: Spread, rows: NDArray[np.int64], dates: bool) -> dict[str, Any]:
    """Facts of these rows' numbers."""
    counts = found.counts(rows)
    levels, counts = found.levels[counts > 0], counts[counts > 0]
    if not len(levels):
        return {"range": "", "picture": "", "outliers": 0, "commonest": 0.0}
    low, high = float(levels[0]), float(levels[-1])
    q1, q3 = quantiles(levels, counts, [0.25, 0.75])
    far = 3 * float(q3 - q1)
    outliers = int(counts[(levels < q1 - far) | (levels > q3 + far)].sum()) if far > 0 else 0
    shown = [str(np.datetime64("1970-01-01") + int(v)) if dates else f"{v:.10g}" for v in (low, high)]
    picture = bars(np.histogram(levels, _BINS, (low, high if high > low else low + 1), weights=counts)[0])
    return {
        "range": f"{shown[0]} to {shown[1]}",
        "picture": picture,
        "outliers": 0 if dates else outliers,
        "commonest": int(counts.max()) / len(rows),
    }


def _of_categories(cells: Column) -> dict[str, Any]:
    counts = known_of(cells)
    first = counts.most_common(_BINS)
    said = ", ".join(f"{' '.join(name.split())[:16]} {times / len(cells):.1%}" for name, times in first[:3])
    top = first[0][1] / len(cells) if first else 0.0
    return {"range": said, "picture": bars([times for _, times in first]), "outliers": 0, "commonest": top}


def of_texts(texts: Sequence[str | None] | Column) -> dict[str, Any]:
    """Facts of a column of texts: lengths in characters, the script of its letters, and the language where that is plain."""
    known = [text for text in texts if text]
    lengths = np.array([len(text) for text in known] or [0])
    letters = Counter(script_of("".join(known[:: max(1, len(known) // 500)])))
    total = sum(letters.values())
    script = ", ".join(f"{name} {times / total:.0%}" for name, times in letters.most_common(2) if times >= 0.02 * total)
    low, high = lengths.min(), lengths.max()
    sizes = (
        f"{low} to {high} characters, half below {np.median(lengths):.0f}" if low < high else f"{low} characters each"
    )
    said = f"{sizes}; letters: {script or 'none'}"
    language = language_of(known[:: max(1, len(known) // 500)])
    said += f"; language: {language}" if language else ""
    picture = bars(np.histogram(lengths, _BINS)[0])
    return {"range": said, "picture": picture, "outliers": 0, "commonest": 0.0}


def script_of(text: str) -> dict[str, int]:
    """How many letters of the text belong to each script that is known."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    found = {name: int(((codes >= low) & (codes <= high)).sum()) for name, low, high in _SCRIPTS}
    return {name: times for name, times in found.items() if times}


def language_of(texts: Sequence[str]) -> str:
    """The language of most of what the texts say: by script, or by the commonest short words of some languages in Latin and
    Cyrillic letters; empty where none of them is plain."""
    scripts = script_of("".join(texts))
    first = max(scripts, key=lambda name: (scripts[name], name), default="")
    if scripts.get("Japanese", 0) > 0.05 * sum(scripts.values()):
        return "Japanese"
    if first in ("Chinese", "Korean", "Greek"):
        return first
    words = Counter(re.findall(r"[^\W\d_]+", " ".join(texts).casefold()))
    whole = sum(words.values())
    found = {name: sum(words[word] for word in short.split()) for name, short in _SHORT.items()}
    ordered = sorted(found, key=lambda name: (-found[name], name))
    best, next_one = found[ordered[0]], found[ordered[1]]
    # Letters alone are initials and codes ("S.O./C.A.") as easily as they are words.
    distinct = sum(words[word] > 0 and len(word) > 1 for word in _SHORT[ordered[0]].split())
    is_plain = best >= _PLAIN * whole and best >= 1.5 * next_one and best >= 5 and distinct >= 2
    return ordered[0] if is_plain else ""


def of_pictures(pictures: Sequence[bytes]) -> tuple[dict[str, Any], list[Finding]]:
    """Facts of pictures: sizes, brightness, sharpness, from at most 300; and findings of dark, bright and blurred ones."""
    rows = np.linspace(0, len(pictures) - 1, min(len(pictures), _PICTURES), dtype=int)
    seen = [decode(pictures[row])[0] for row in rows]
    sides = [f"{p.shape[1]} x {p.shape[0]}" for p in seen]
    light = np.array([p.mean() / 255 for p in seen])
    sharp = np.array([_sharpness(p) for p in seen])
    sizes = ", ".join(f"{side} {times / len(seen):.0%}" for side, times in Counter(sides).most_common(3))
    facts = {
        "range": f"sizes {sizes}; brightness {light.min():.2f} to {light.max():.2f}; sharpness {np.median(sharp):.3g}",
        "picture": bars(np.histogram(light, _BINS, (0, 1))[0]),
        "outliers": 0,
        "commonest": 0.0,
    }
    found = []
    for rule, words, mask in (
        ("dark_pictures", "nearly black (mean below 0.04)", light < 0.04),
        ("bright_pictures", "nearly white (mean above 0.97)", light > 0.97),
        ("blurred_pictures", "without any sharp edge", sharp < _BLURRED),
    ):
        if mask.any():
            message = f"{int(mask.sum())} of {len(seen)} pictures looked at are {words}"
            found.append(Finding(rule, ("image",), (), message, "kept", share=float(mask.mean())))
    return facts, found


def _sharpness(pixels: NDArray[Any]) -> float:
    """Variance of the Laplacian of the grey picture, over its own variance (Pech-Pacheco et al. 2000)."""
    grey = pixels.mean(2) if pixels.ndim == 3 else pixels.astype(float)
    if min(grey.shape) < 3:
        return 1.0
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(inner.var() / max(grey.var(), 1.0))


def _constant(facts: dict[str, dict[str, Any]]) -> list[Finding]:
    return [
        Finding(
            "near_constant", (name,), (), f"column {name!r}: {one['commonest']:.1%} of its cells are the same", "used"
        )
        for name, one in facts.items()
        if one["commonest"] >= _CONSTANT
    ]


def _linked(case: Guarded, facts: dict[str, dict[str, Any]]) -> list[Finding]:
    """Columns that alone tell half or more of what there is to tell of the target."""
    rows = case.learned[:1500]
    truth, found = case.truth[rows], []
    for name, column in case.seen(rows).items():
        good = skill(told(column, truth, case.classes, case.seed), truth, case.classes)
        facts[name]["alone"] = round(good, 4)
        if good >= _LINKED:
            what = f"{good:.0%} of the way from chance to certainty" if case.classes else f"R squared {good:.2f}"
            message = f"column {name!r} alone tells {case.target!r}: {what}"
            found.append(Finding("linked_with_target", (name,), (), message, "used as it is"))
    return found


def _drifted(case: Guarded) -> list[Finding]:
    """Columns whose training and test rows are unlike: beyond chance over all columns, and by more than a tenth."""
    found, train, test = [], case.train, case.test
    names = (*case.data.numbers, *case.data.dates, *case.data.categories)

    def of_column(name: str) -> tuple[float, float]:
        if name in case.data.categories:
            cells = case.data.categories[name]
            return _apart(Counter(counts_of(cells[train])), Counter(counts_of(cells[test])))
        numbers = case.data.spread(name)
        return _apart_numbers(numbers.counts(train), numbers.counts(test))

    for name, (apart, chance) in zip(names, side_by_side(of_column, names, len(train)), strict=True):
        if apart >= _DRIFT and chance < _SURE / max(len(names), 1):
            message = (
                f"column {name!r} is distributed otherwise in test rows than in training rows (distance {apart:.2f})"
            )
            found.append(Finding("drift_between_splits", (name,), (), message, "kept; test figures tell of other rows"))
    return found


def _apart_numbers(one: NDArray[np.int64], two: NDArray[np.int64]) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of numbers from their counts by level [k], and how likely by chance (with Stephens's
    correction of 1970)."""
    from scipy.special import kolmogorov

    left, right = int(one.sum()), int(two.sum())
    if min(left, right) < 20:
        return 0.0, 1.0
    apart = float(np.abs(np.cumsum(one) / left - np.cumsum(two) / right).max())
    root = np.sqrt(left * right / (left + right))
    return apart, float(kolmogorov(apart * (root + 0.12 + 0.11 / root)))


def _apart(one: Counter[str | None], two: Counter[str | None]) -> tuple[float, float]:
    """Half the sum of differences of shares of common values, missing being one, and how likely by chance."""
    names = [name for name, times in (one + two).items() if times >= 10]
    counts = np.array([[part[name] for name in names] for part in (one, two)], float)
    if len(names) < 2 or counts.sum(1).min() < 20:
        return 0.0, 1.0
    from scipy.special import chdtrc

    shares = counts / counts.sum(1, keepdims=True)
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    off = np.abs(counts - expected)
    if len(names) == 2:  # Yates's correction
        off -= np.minimum(off, 0.5)
    chance = float(chdtrc(len(names) - 1, (off**2 / expected).sum()))
    return float(np.abs(shares[0] - shares[1]).sum() / 2), chance


def _balance(case: Guarded, train: NDArray[np.int64]) -> list[Finding]:
    if not case.classes:
        return []
    counts = np.bincount(case.truth[train].astype(int), minlength=case.classes)
    rarest = int(counts.argmin())
    if counts[rarest] * case.classes >= 0.2 * counts.sum():
        return []
    message = f"the rarest class, {case.names[rarest]!r}, has {counts[rarest]} of {counts.sum()} training rows"
    proposal = "learned as it is; data.balance evens classes out"
    return [Finding("class_balance", (case.target,), (), message, proposal, "data.balance=class_weight")]
