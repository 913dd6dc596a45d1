"""Names of samples: source, row and content, written as `source#row:hash` only where somebody reads them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from keepfit.runtime.coded import Coded, Rows, objects, side_by_side

_ODD = 0x9E3779B97F4A7C15
_AT_ONCE, _EACH = 1 << 15, 1 << 20
_FORM = re.compile(r"(.*)#([0-9]{1,13}):([0-9a-f]{16})", re.DOTALL)
_STRIDE = 1 << 44  # of rows in a source


class Ids:
    """The ids of table rows, used like an object array of text: `source` [n] places in `sources`, `rows` [n] int64 numbers
    of rows, `contents` [n] uint64 hashes of all cells."""

    __slots__ = ("_again", "_kept", "contents", "rows", "source", "sources")
    __array_priority__ = 1000.0
    ndim = 1

    def __init__(
        self, sources: Sequence[str], source: NDArray[np.int32], rows: NDArray[np.int64], contents: NDArray[np.uint64]
    ) -> None:
        self.sources, self.source, self.rows, self.contents = tuple(sources), source, rows, contents
        self._kept: tuple[NDArray[np.int64], NDArray[np.int64] | None] | None = None
        # Contents that may stand here more than once; no other does.
        self._again: NDArray[np.uint64] | None = None

    @property
    def shape(self) -> tuple[int]:
        """(n,)."""
        return (len(self.rows),)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> str: ...
    @overload
    def __getitem__(self, rows: Rows) -> Ids: ...
    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> str | Ids:
        if isinstance(rows, int | np.integer):
            return f"{self.sources[self.source[rows]]}#{self.rows[rows]}:{self.contents[rows]:016x}"
        made = Ids(self.sources, self.source[rows], self.rows[rows], self.contents[rows])
        if self._again is not None and _is_some(rows):
            made._again = self._again
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """The ids as text."""
        named = [self.sources[place] for place in self.source.tolist()]
        parts = zip(named, self.rows.tolist(), self.contents.tolist(), strict=True)
        return [f"{name}#{row}:{content:016x}" for name, row, content in parts]

    def astype(self, dtype: Any) -> NDArray[Any]:
        """The ids as an array of another type."""
        return objects(self.tolist()).astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        cells = objects(self.tolist())
        return cells if dtype is None else cells.astype(dtype)

    def keys(self) -> NDArray[np.int64]:
        """A number per sample [n], of source and row."""
        return self._in_order()[0]

    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """The keys, and the order that makes them ascend; None where they do already. Made once."""
        if self._kept is None:
            keys = self.source.astype(np.int64) * _STRIDE + self.rows
            ascending = bool((keys[1:] > keys[:-1]).all())
            self._kept = keys, None if ascending else np.argsort(keys, kind="stable")
        return self._kept

    def firsts(self) -> NDArray[np.int64]:
        """The first row of the same content, of each row [n]."""
        if self._again is None:
            self._again = _repeating(self.contents)
        return _first_of(self.contents, self._again)

    def numbered(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The place of each of these rows, by source and number, that is here."""
        place = {name: number for number, name in enumerate(self.sources)}
        known = [one for one in wanted if one[0] in place]
        keys = np.array([place[source] * _STRIDE + row for source, row in known], np.int64)
        found = self._looked_up(keys)
        return {one: int(at) for one, at in zip(known, found, strict=True) if at >= 0}

    def places(self, samples: Sequence[str] | Ids) -> NDArray[np.int64]:
        """The row of each of these ids [m], -1 for one that is not here."""
        if not isinstance(samples, Ids):
            samples = _parsed(samples, self.sources)
        elif samples.sources != self.sources:
            return self.places(samples.tolist())
        found = self._looked_up(samples.keys())
        if not len(self):
            return found
        return np.where((samples.rows >= 0) & (self.contents[found] == samples.contents), found, -1)

    def _looked_up(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each key [m], -1 for one that is not here."""
        mine, order = self._in_order()
        if not len(mine):
            return np.full(len(keys), -1)
        found = np.minimum(np.searchsorted(mine, keys, sorter=order), len(mine) - 1)
        found = found if order is None else order[found]
        return np.where(mine[found] == keys, found, -1)


Samples = NDArray[np.object_] | Ids


def _is_some(rows: Rows) -> bool:
    """Whether no row is taken twice, as far as a look tells."""
    if isinstance(rows, np.ndarray) and rows.dtype != bool:
        return bool((rows[1:] > rows[:-1]).all()) and not (len(rows) and rows[0] < 0)
    return not isinstance(rows, list)


def joined(parts: Sequence[Ids]) -> Ids:
    """Ids one below the other."""
    sources = tuple(dict.fromkeys(name for one in parts for name in one.sources))
    place = {name: number for number, name in enumerate(sources)}
    source = [np.array([place[name] for name in one.sources], np.int32)[one.source] for one in parts]
    rows, found = ([getattr(one, name) for one in parts] for name in ("rows", "contents"))
    return Ids(sources, np.concatenate(source), np.concatenate(rows), np.concatenate(found))


def _parsed(samples: Sequence[str], sources: Sequence[str]) -> Ids:
    """Ids from their text; one of another form or source has the row -1."""
    place = {name: number for number, name in enumerate(sources)}
    source, rows, contents = (
        np.zeros(len(samples), np.int32),
        np.full(len(samples), -1),
        np.zeros(len(samples), np.uint64),
    )
    for at, sample in enumerate(samples):
        found = _FORM.fullmatch(sample)
        if found is not None and found[1] in place:
            source[at], rows[at], contents[at] = place[found[1]], int(found[2]), int(found[3], 16)
    return Ids(sources, source, rows, contents)


def places_of(ids: Samples, samples: Iterable[str] | Ids) -> NDArray[np.int64]:
    """The row of each of these samples [m] among `ids`, -1 for one that is not there."""
    if isinstance(ids, Ids):
        return ids.places(samples if isinstance(samples, Ids) else list(samples))
    place = {str(sample): row for row, sample in enumerate(ids.tolist())}
    return np.array([place.get(str(sample), -1) for sample in samples], np.int64)


def rows_of(ids: Samples, samples: Iterable[str] | Ids) -> NDArray[np.bool_]:
    """Mask [n] of the rows whose id is among these samples."""
    out = np.zeros(len(ids), bool)
    found = places_of(ids, samples)
    out[found[found >= 0]] = True
    return out


def repeated(ids: Samples) -> int:
    """How many ids stand there more than once, counted without their first."""
    if not isinstance(ids, Ids):
        return len(ids) - len(set(map(str, ids.tolist())))
    keys, order = ids._in_order()
    return 0 if order is None else len(keys) - len(np.unique(keys))


def repeated_in(parts: Sequence[Samples]) -> int:
    """How many ids stand there more than once in all parts together."""
    by_rows = [part for part in parts if isinstance(part, Ids)]
    texts = [str(one) for part in parts if not isinstance(part, Ids) for one in part.tolist()]
    if not by_rows:
        return len(texts) - len(set(texts))
    whole = joined(by_rows)
    return repeated(whole) + len(texts) - len(set(texts)) + int((whole.places(list(set(texts))) >= 0).sum())


def contents_of(ids: Samples) -> NDArray[np.uint64]:
    """The content of each sample as a number [n]: the hexadecimal digits after the last colon of its id."""
    return ids.contents if isinstance(ids, Ids) else np.array([_content(str(one)) for one in ids.tolist()], np.uint64)


def _content(sample: str) -> int:
    text = sample.rpartition(":")[2]
    try:
        return int(text, 16) if len(text) == 16 else hash_of(text)
    except ValueError:
        return hash_of(text)


def hash_of(text: str | None) -> int:
    """64 bits of BLAKE2b of a text; a missing cell is another than an empty one."""
    return int(_hashes_of([text])[0])


def _hashes_of(texts: Iterable[str | None]) -> NDArray[np.uint64]:
    absent, begun = hashlib.blake2b(b"\x00", digest_size=8).digest(), hashlib.blake2b(b"\x01", digest_size=8)
    data = []
    for text in texts:
        if text is None:
            data.append(absent)
            continue
        made = begun.copy()  # a third faster than one made anew
        made.update(text.encode("utf-8", "surrogatepass"))
        data.append(made.digest())
    return np.frombuffer(b"".join(data), ">u8").astype(np.uint64)


def hashes(column: Coded) -> NDArray[np.uint64]:
    """`hash_of` each distinct text of a column [k]."""
    if "hashes" not in column.memo:
        column.memo["hashes"] = _hashes_of(column.values.tolist())
    return np.asarray(column.memo["hashes"])


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the answer hangs on every bit of the number."""
    out = numbers ^ (numbers >> np.uint64(30))
    out *= np.uint64(0xBF58476D1CE4E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(31)
    return out


def contents(columns: Sequence[Coded], rows: int) -> NDArray[np.uint64]:
    """A hash of all cells of each row [n], which hangs on the order of columns and on nothing else."""
    known = [hashes(column) for column in columns]
    out = np.zeros(rows, np.uint64)

    def mix(first: int) -> None:
        for at in range(first, min(first + _EACH, rows), _AT_ONCE):
            some = out[at : at + _AT_ONCE]
            for column, each in zip(columns, known, strict=True):
                some = mixed((some + np.uint64(_ODD)) ^ each[column.codes[at : at + _AT_ONCE]])
            out[at : at + _AT_ONCE] = some

    side_by_side(mix, range(0, rows, _EACH), rows)
    return out


def first_of(ids: Samples) -> NDArray[np.int64]:
    """The first row of the same content, of each row [n]."""
    if isinstance(ids, Ids):
        return ids.firsts()
    found = contents_of(ids)
    return _first_of(found, _repeating(found))


def _repeating(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers that stand there more than once, ascending."""
    ordered = np.sort(numbers)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _first_of(contents: NDArray[np.uint64], twice: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The first row with the same number, of each row [n], where no number but some of `twice` stands there twice."""
    first = np.arange(len(contents))
    if not len(twice) or not len(contents):
        return first
    sieve = np.zeros(1 << 22, bool)  # most rows have no equal: few of those pass it, and are looked up
    sieve[twice & np.uint64(len(sieve) - 1)] = True
    some = [
        np.flatnonzero(sieve[contents[at : at + _AT_ONCE] & np.uint64(len(sieve) - 1)]) + at
        for at in range(0, len(contents), _AT_ONCE)
    ]
    rows = np.concatenate(some)
    found = np.minimum(np.searchsorted(twice, contents[rows]), len(twice) - 1)
    rows = rows[twice[found] == contents[rows]]
    _, start, group = np.unique(contents[rows], return_index=True, return_inverse=True)
    first[rows] = rows[start[group]]
    return first


def shares_of(keys: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) per key [n] that is a function of seed and key."""
    start = np.uint64(hash_of(f"place:{seed}"))
    out = np.empty(len(keys))

    def mix(first: int) -> None:
        for at in range(first, min(first + _EACH, len(keys)), _AT_ONCE):
            out[at : at + _AT_ONCE] = (mixed(keys[at : at + _AT_ONCE] ^ start) >> np.uint64(11)) / 2.0**53

    side_by_side(mix, range(0, len(keys), _EACH), len(keys))
    return out
