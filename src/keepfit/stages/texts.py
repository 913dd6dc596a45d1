"""The text chapters of ingest and clean: reads every text, names it by its content, and says what the texts are like."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.core.catalog import load
from keepfit.core.errors import DataError, RecipeError, nearest
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.reading import Rejects
from keepfit.runtime.table import Column, Table, text_column
from keepfit.runtime.text_predictor import COLUMN, renamed
from keepfit.runtime.texts import cjk_share, words
from keepfit.stages import ingest
from keepfit.stages.packing import pack_column, pack_table, unpack_table
from keepfit.stages.results import as_json
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry

_READ = "keepfit.modalities.text.read"
_GOLDEN, _WORDS, _LEAST = 12, 200, 5
_AT_ONCE = 256


def ingest_texts(section: DataOptions, folder: Path, frame: Table | None = None) -> Files:
    """`table` with the column `text`, `given`, `texts.json` (which column it was; null for files), `ledger.json`.

    Equal texts have equal hashes in their sample ids, whatever stands beside them. Raises DataError, RecipeError.
    """
    files = frame is None and [are_files(source, folder) for _, source in ingest.sources_of(section)]
    if files and any(files):
        if not all(files):
            raise DataError(
                "sources_differ", "some of the sources are folders and some are tables", where="data", hint="one kind"
            )
        return _of_files(section, folder)
    made = ingest.ingest(section, folder, frame)
    table = unpack_table(made["table"])
    column = text_column_of(table, section)
    return {**made, "table": pack_table(_named(renamed(table, column))), "texts.json": as_json({"column": column})}


def are_files(source: str, folder: Path) -> bool:
    """Whether a source is a folder of .txt files; a lone .txt file to learn from is a table."""
    return Path(folder / source).is_dir() or bool(load(f"{_READ}:looks_like_texts")(source, folder))


def text_column_of(table: Table, section: DataOptions) -> str:
    """What the recipe says, else `text`, else the one column beside the target. Raises DataError."""
    names = [name for name in table.names if name != section.target]
    column = section.text or (COLUMN if COLUMN in names else names[0] if len(names) == 1 else None)
    if column in names:
        return column
    raise DataError(
        "no_text_column",
        "the recipe does not say which column holds the texts" if column is None else f"no column {column!r}",
        where="data.text",
        seen=", ".join(names)[:300],
        hint="data.text: the column of texts" if column is None else nearest(column, names),
    )


def _hash(text: str | None) -> str:
    return hashlib.blake2b((text if text is not None else "\x00").encode(), digest_size=8).hexdigest()


def _named(table: Table) -> Table:
    ids = np.empty(len(table), object)
    ids[:] = [
        f"{str(sample).rpartition(':')[0]}:{_hash(text)}"
        for sample, text in zip(table.ids, table.columns[COLUMN], strict=True)
    ]
    return Table(table.columns, ids)


def _of_files(section: DataOptions, folder: Path) -> Files:
    if section.target == COLUMN:
        raise RecipeError(
            "bad_value", f"{COLUMN!r} is the name of the texts themselves", where="data.target", seen=section.target
        )
    texts, labels, parts, names = [], [], [], []
    entries: list[Entry] = []
    for part, source in ingest.sources_of(section):
        for found in load(f"{_READ}:texts")(source, folder, section.read.encoding):
            name = f"{part}/{found.name}" if part else found.name
            if hasattr(found, "reason"):
                rule = f"unreadable text: {found.reason}"
                entries.append(Entry(f"{name}#0", name, 0, COLUMN, rule, "", "", "ingest"))
                continue
            names.append(f"{name}#0:{_hash(found.text)}")
            if found.note:
                entries.append(Entry(names[-1], name, 0, COLUMN, f"text: {found.note}", "", "", "ingest", "noted"))
            texts.append(found.text)
            labels.append(found.label)
            parts.append(part or found.part)
    if not texts:
        raise DataError(
            "no_rows",
            "the source has no text that can be read",
            where=str(section.source or section.train),
            seen=f"{len(entries)} files; first: {entries[0].source}, {entries[0].rule}" if entries else "no file",
            hint="a folder with one sub-folder of .txt files per class",
        )
    ids = np.empty(len(names), object)
    ids[:] = names
    return {
        "table": pack_table(Table({COLUMN: text_column(texts), section.target: text_column(labels)}, ids)),
        "given": pack_column(text_column(parts)),
        "ledger.json": as_json([e.as_json() for e in entries]),
        "texts.json": as_json({"column": None}),
    }


def source_digest(source: str, section: DataOptions, folder: Path) -> str:
    """The digest of everything that a folder of texts gives."""
    return digest.of_json(
        [
            [one.name, one.reason] if hasattr(one, "reason") else [one.name, one.label, one.part, _hash(one.text)]
            for one in load(f"{_READ}:texts")(source, folder, section.read.encoding)
        ]
    )


def tables(source: str, target: str, encoding: str | None, rejects: Rejects | None = None) -> Iterator[Table]:
    """Texts of files to answer, in tables of a few; the target's column is there where folders tell the labels.

    A file that gives no text goes into `rejects`. Raises DataError for it where none are given, since answers would not
    line up.
    """
    found = iter(load(f"{_READ}:texts")(source, Path.cwd(), encoding, loose=True))
    while some := list(itertools.islice(found, _AT_ONCE)):
        good = [one for one in some if getattr(one, "reason", "") != "not a .txt file"]
        bad = next((one for one in good if hasattr(one, "reason")), None)
        if rejects is not None:
            rejects.lines += [(one.name, 0, one.reason, "") for one in some if hasattr(one, "reason")]
            good = [one for one in good if not hasattr(one, "reason")]
        elif bad is not None:
            raise DataError("unreadable_text", "a file holds no text", where=bad.name, seen=bad.reason, hint="mend it")
        ids = np.empty(len(good), object)
        ids[:] = [one.name for one in good]
        labels = [one.label for one in good]
        yield Table({COLUMN: text_column([one.text for one in good]), target: text_column(labels)}, ids)


def is_blank(text: str | None) -> bool:
    """Whether there is no text; words such as `none` are text."""
    return text is None or not text.strip()


def look(train: Table, target: str) -> tuple[list[ColumnRule], list[dict[str, Any]], dict[str, Any]]:
    """The rules of the columns, their rows in the report, and the reference profile: lengths, letters, frequent words."""
    column = train.columns[COLUMN]
    known = [text for text in column if not is_blank(text)]
    if not known:
        raise DataError("no_features", "every text is empty", where="data.text", hint="name the column of texts")
    lengths, counts = [len(text) for text in known], [len(words(text)) for text in known]
    share = cjk_share(known)
    gaps = (len(column) - len(known)) / len(column)
    rules = [ColumnRule(COLUMN, "text", "a text")]
    findings = [
        _finding(COLUMN, column, "text", f"{share:.0%} of the letters are Chinese, Japanese or Korean", gaps, True)
        | {"example": f"{min(lengths)} to {max(lengths)} characters"}
    ]
    for name, cells in train.columns.items():
        if name not in (COLUMN, target):
            rules.append(ColumnRule(name, "ignore", "not the text"))
            findings.append(_finding(name, cells, "ignore", "not the text", float(np.mean([c is None for c in cells]))))
    often = Counter(word for text in known for word in set(words(text)))
    frequent = sorted(often.items(), key=lambda kv: (-kv[1], kv[0]))[:_WORDS]
    points = np.linspace(0, 1, 41)
    profile = {
        "rows": len(train),
        "columns": {
            COLUMN: {
                "kind": "text",
                "missing": gaps,
                "cjk": float(f"{share:.6g}"),
                "characters": np.quantile(lengths, points).tolist(),
                "words": np.quantile(counts, points).tolist(),
                "frequent": [word for word, times in frequent if times >= _LEAST],
            }
        },
    }
    return rules, findings, profile


def _finding(name: str, cells: Column, kind: str, why: str, gaps: float, used: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "why": why,
        "missing": gaps,
        "distinct": len(set(cells)),
        "example": "",
        "used": used,
        "action": "n-grams counted and weighed" if used else "left out",
    }


def synthetic(profile: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Made-up texts of words that many texts have, and an empty one; nobody's text is among them."""
    rng = np.random.default_rng(seed)
    column = profile["columns"][COLUMN]
    frequent, joint = column["frequent"] or ["text"], "" if column["cjk"] > 0.3 else " "
    most = int(np.clip(column["words"][20], 3, 40))
    made = [
        joint.join(frequent[int(n)] for n in rng.integers(0, len(frequent), int(rng.integers(1, most + 1))))
        for _ in range(_GOLDEN - 1)
    ]
    return [{COLUMN: text} for text in (*made, "")]
