"""Tells columns that name things (customers, tickets, e-mail addresses) from those that describe them, also with repeats.

A name of a thing repeats a few times, each about as often as the others; a code that describes (a diagnosis, an airport)
has frequent and rare values and few marks, and letters that stand for kinds (HAT-0017, BAG-0021) tell of the thing. What is in
doubt is no identifier: a column is learned from unless it is sure.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping

import numpy as np

_EMAIL = re.compile(r"[^\s@,;]+@[^\s@,;]+\.[A-Za-z]{2,}")
_CODE = re.compile(
    r"[A-Za-z0-9]+(?:[-_#][A-Za-z0-9]+)*"
)  # no blanks, and none of the marks of times, sizes and amounts
_UUID = re.compile(r"\{?[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?")
_PHONE = re.compile(r"\+?\(?\d[\d() -]{7,}\d")
_LEAST, _ROWS = 0.3, 30  # share of values that differ; rows that have one
_NEARLY = 0.98
_MORE, _PART = 4, 0.02  # how many times more often than the average a code may stand; or in which share of the rows
_DIGITS, _LENGTH = 4, 6  # a shorter code may be a code of a list, such as E11 or JFK
_LOOKED = 2_000


def identifier(counts: Mapping[str, int]) -> str | None:
    """Why a column of texts that are no numbers and no dates is an identifier, though values repeat; None where it is none.

    `counts` says how often each text stands in the training rows.
    """
    every, different = sum(counts.values()), len(counts)
    if every < _ROWS or different < _LEAST * every:
        return None
    most = max(_MORE * every / different, _PART * every)
    shape = _shape(list(counts)[:_LOOKED], max(counts.values()) <= most)
    if shape is None:
        return None
    rows = f"{every} rows" if different < every else "as many rows"
    return f"an identifier: {different} different {shape} in {rows}"


def _shape(sample: list[str], even: bool) -> str | None:
    """What the texts are; codes only where `even`, which is that none stands much more often than the others."""
    for name, pattern in (("e-mail addresses", _EMAIL), ("UUIDs or digests", _UUID)):
        if _share(sample, pattern) >= _NEARLY:
            return name
    if _share(sample, _PHONE) >= _NEARLY and _typical(sample, 9):
        return "numbers with marks, such as telephones have,"
    if even and _share(sample, _CODE) >= _NEARLY and _typical(sample, _DIGITS) and _alike(sample):
        return "codes of one shape"
    return None


def _share(sample: list[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(text) is not None for text in sample) / len(sample)


def _typical(sample: list[str], digits: int) -> bool:
    """Whether nearly every text has at least so many digits, and is long enough to name a thing."""
    enough = [sum(c.isdigit() for c in text) >= digits and len(text) >= _LENGTH for text in sample]
    return float(np.mean(enough)) >= _NEARLY


def _alike(sample: list[str]) -> bool:
    """Whether the letters and marks tell nothing: the same in nearly all texts, or different in most texts of one length."""
    around = Counter(re.sub(r"\d+", "9", text) for text in sample)
    same = max(around.values()) >= _NEARLY * len(sample)
    return same or (len({len(text) for text in sample}) == 1 and 2 * len(around) > len(sample))


def override(name: str, kind: str) -> str:
    """The words for the command line that make a column `kind`; empty for a name that cannot stand there."""
    if "." in name or "=" in name or not name.strip():
        return ""
    said = f"data.columns.{name}={kind}"
    return said if re.fullmatch(r"[\w-]+", name) else shlex.quote(said)
