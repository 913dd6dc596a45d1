"""Reads the sources as text, names every sample, and keeps lines that could not be read in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.core.errors import DataError, missing_extra, nearest
from keepfit.recipe.data import DataOptions, ReadOptions
from keepfit.runtime import sources
from keepfit.runtime.coded import Coded, objects
from keepfit.runtime.samples import Ids, contents
from keepfit.runtime.table import Column, Table, coded_column, concat, text_column
from keepfit.stages.packing import pack_column, pack_table
from keepfit.stages.results import as_json
from keepfit.stages.sample import CHUNK, Memory, Sampler
from keepfit.store.artifacts import Files
from keepfit.store.ledger import Entry, conserve
from keepfit.store.record_tables import is_records, read_table

VERSION = 6
Rows = range | NDArray[np.int64]
# One file of several that cannot be read at all is kept apart like a line that cannot; a single one ends the run.
WHOLE_FILE = (
    "empty_file",
    "binary_file",
    "damaged_gzip",
    "damaged_workbook",
    "bad_encoding",
    "unreadable",
    "line_too_long",
)


def ingest(section: DataOptions, folder: Path, frame: Table | None, memory: Memory | None = None) -> Files:
    """`table`, `given` (the split each row was given with, or empty) and `ledger.json`.

    With `memory` a source that does not fit gives a random sample of its rows; one entry stands for all the others.
    """
    rejects = sources.Rejects()
    tables, places, given = [], [], []
    used: Counter[str] = Counter()
    said = sources_of(section)
    sizes = _sizes(said, folder) if memory is not None and frame is None else []
    beyond: list[Entry] = []
    for number, (part, source) in enumerate(said):
        sampler = memory.sampler(number, sizes[number] / sum(sizes)) if memory is not None and sizes else None
        found = _tables(source, section, folder, frame if part == "" else None, rejects, used, sampler)
        for name, rows, table in found:
            tables.append(_named(table, name, rows))
            places.append((part, name))
            given.append(part)
        if sampler is not None and memory is not None:
            taken = sum(len(table) for (p, _), table in zip(places, tables, strict=True) if p == part)
            beyond += _beyond(sampler, part or "source", memory, taken)
    if not tables or not sum(len(table) for table in tables):
        raise _no_rows(section, rejects)
    _check_columns(tables, places, section.target)
    table = concat(tables)
    if section.target not in table.columns:
        raise DataError(
            "no_target",
            f"the data has no column {section.target!r}",
            where="data.target",
            seen=", ".join(table.names)[:300],
            hint=nearest(section.target, table.names) + _sheets(section),
        )
    entries = [
        Entry(
            f"{file}#line{line}",
            file,
            line,
            "",
            f"unreadable {'line' if line else 'file'}: {reason}",
            raw,
            "",
            "ingest",
        )
        for file, line, reason, raw in rejects.lines
    ]
    read = len(table) + sum(entry.count for entry in beyond)
    if len(entries) > 0.5 * (len(entries) + read):
        raise _mostly_unreadable(rejects.lines[0], len(entries), len(entries) + read)
    entries += _mended(rejects, table, sampled=bool(beyond)) + beyond
    _check_features(table, section.target)
    return {
        "table": pack_table(table, hold=True),
        "given": pack_column(_given(given, list(map(len, tables)))),
        "ledger.json": as_json([e.as_json() for e in entries]),
    }


def _sheets(section: DataOptions) -> str:
    workbook = str(section.source or section.train).lower().endswith((".xlsx", ".xlsm"))
    return (
        f"; only {section.read.sheet or 'the first sheet'} is read: data.read.sheet names another" if workbook else ""
    )


def _no_rows(section: DataOptions, rejects: sources.Rejects) -> DataError:
    if rejects.lines:
        return _mostly_unreadable(rejects.lines[0], len(rejects.lines), len(rejects.lines))
    return DataError(
        "no_rows",
        "the source has no rows",
        where=str(section.source or section.train),
        hint="a table has a line of column names, then rows; for a file without names say data.read.header: false",
    )


def _mostly_unreadable(first: tuple[str, int, str, str], bad: int, every: int) -> DataError:
    file, line, reason, _ = first
    if not line:
        return DataError(
            "mostly_unreadable",
            "most files cannot be read",
            where=file,
            seen=f"{bad} of them; the first: {reason}",
            hint="name the files that hold rows, or copy them again",
        )
    return DataError(
        "mostly_unreadable",
        "most lines cannot be read",
        where=file,
        seen=f"{bad} of {every} lines; line {line}: {reason}",
        hint="say data.read.delimiter, encoding or quote (none, where a quote mark is a letter like any other)",
    )


def _given(parts: list[str], rows: list[int]) -> Coded:
    """The split that each row was given with, from that of each table and its number of rows."""
    names = list(dict.fromkeys(parts))
    return Coded(np.repeat(np.array([names.index(part) for part in parts], np.uint8), rows), objects(names))


def _sizes(said: list[tuple[str, str]], folder: Path) -> list[int]:
    """The bytes of each source, by which a budget is shared; those that are no files count as one megabyte."""
    plain = [not source.startswith("sklearn:") and not is_records(source) for _, source in said]
    return [
        max(1, sum(path.stat().st_size for path in sources.files_of(source, folder))) if is_plain else 1_000_000
        for (_, source), is_plain in zip(said, plain, strict=True)
    ]


def _beyond(sampler: Sampler, part: str, memory: Memory, taken: int) -> list[Entry]:
    """One entry for all rows of a source that the budget of memory leaves out. Raises InternalFault if any was lost."""
    if not sampler.left:
        conserve(sampler.seen, taken, [])
        return []
    rule = (
        f"beyond budget.memory: a random sample of {taken} of {sampler.seen} rows was taken (seed {memory.seed}), "
        f"as more do not fit into {memory.budget / 1e6:g} MB"
    )
    before = f"{sampler.left} rows"
    made = [Entry(f"data.{part}#beyond", f"data.{part}", -1, "", rule, before, "", "ingest", count=sampler.left)]
    conserve(sampler.seen, taken, made)
    return made


def _mended(rejects: sources.Rejects, table: Table, *, sampled: bool = False) -> list[Entry]:
    """What was mended while reading, under the id of its sample; a mended line of no one row is noted.

    Of a sample, rows that were not taken are told by one entry for all of them.
    """
    ids = dict[str, str]()
    if rejects.repairs and isinstance(table.ids, Ids):
        wanted = {(one.file, one.row) for one in rejects.repairs if one.row >= 0}
        ids = {f"{file}#{row}": table.ids[place] for (file, row), place in table.ids.numbered(wanted).items()}
    return [
        Entry(
            ids.get(f"{one.file}#{one.row}", f"{one.file}#line{one.line}"),
            one.file,
            one.row if one.row >= 0 else one.line,
            one.column,
            one.rule,
            one.before,
            one.after,
            "ingest",
            "changed" if one.row >= 0 else "noted",
        )
        for one in rejects.repairs
        if not sampled or one.row < 0 or f"{one.file}#{one.row}" in ids
    ]


def sources_of(section: DataOptions) -> list[tuple[str, str]]:
    """The sources of a recipe with the split that each was given for, or empty."""
    if section.source is not None:
        return [("", section.source)]
    said = (("train", section.train), ("validation", section.validation), ("test", section.test))
    return [(part, source) for part, source in said if source is not None]


def _tables(
    source: str,
    section: DataOptions,
    folder: Path,
    frame: Table | None,
    rejects: sources.Rejects,
    used: Counter[str],
    sampler: Sampler | None,
) -> Iterator[tuple[str, Rows, Table]]:
    """Per file its name, the numbers of its rows and the rows; sets in memory already are taken whole."""
    if frame is not None:
        yield "frame", range(len(frame)), frame
    elif source.startswith("sklearn:"):
        found = from_sklearn(source.removeprefix("sklearn:"), section.target)
        yield _once(source, used), range(len(found)), found
    elif is_records(source):
        found = read_table(source, folder, section.target)
        yield _once(source.rpartition("/")[2], used), range(len(found)), found
    else:
        read = reading(section.read)
        paths = sources.files_of(source, folder)
        for path in paths:
            name = _once(path.name, used)
            bad = sources.Rejects()
            try:
                whole = _read(path, name, read, bad, sampler)
            except DataError as error:
                if len(paths) == 1 or error.code not in WHOLE_FILE:
                    raise
                if sampler is not None:
                    sampler.forget(name)
                rejects.lines.append((name, 0, error.what, error.seen or ""))
                continue
            rejects.lines += [(name, line, reason, raw) for _, line, reason, raw in bad.lines]
            rejects.repairs += [replace(one, file=name) for one in bad.repairs]
            if whole is not None:
                yield name, range(len(whole)), whole
        if sampler is not None:
            yield from sampler.tables()


def _once(name: str, used: Counter[str]) -> str:
    """The name, told apart from the same name elsewhere."""
    used[name] += 1
    return name if used[name] == 1 else f"{name}~{used[name]}"


def _read(path: Path, name: str, read: sources.Read, bad: sources.Rejects, sampler: Sampler | None) -> Table | None:
    """The rows of a file; None where they went to the sampler."""
    if sampler is None:
        return concat(list(sources.chunks(path, read, bad, None)))
    row, sift = 0, sampler.sift(name)
    for table in sources.chunks(path, read, bad, CHUNK, sift):
        if sift.rows is None:
            sampler.add(name, row, table)
        else:
            sampler.take(name, sift.rows[row : row + len(table)], sift.keys[row : row + len(table)], table)
        row += len(table)
    return None


def reading(said: ReadOptions, spare: str | None = None) -> sources.Read:
    """How the sources read text files; `spare` is a named column that a file may leave out."""
    names = tuple(said.names) if said.names else None
    return sources.Read(said.delimiter, said.header, names, said.quote, said.encoding, spare, said.sheet)


def _named(table: Table, source: str, rows: Rows) -> Table:
    """The table by codes, with sample ids `source#row:hash of its content`; equal rows have equal hashes."""
    columns = {name: coded_column(column) for name, column in table.columns.items()}
    numbers = np.arange(rows.start, rows.stop) if isinstance(rows, range) else rows
    found = contents(list(columns.values()), len(table))
    return Table({**columns}, Ids([source], np.zeros(len(table), np.int32), numbers, found))


def _check_columns(tables: list[Table], places: list[tuple[str, str]], target: str) -> None:
    names = {name for table in tables for name in table.names}
    for (part, source), table in zip(places, tables, strict=True):
        if target in names and target not in table.columns:
            raise DataError(
                "columns_differ",
                f"the target column {target!r} is absent from {f'data.{part}' if part else 'one of the files'}",
                where=source,
                seen=", ".join(table.names)[:300],
                hint=f"{nearest(target, table.names)}; to answer rows without a target, use keepfit predict",
            )
    for (_, source), table in zip(places, tables, strict=True):
        if absent := sorted(names - set(table.names)):
            raise DataError(
                "columns_differ",
                "the given files have different columns",
                where=source,
                seen=f"without {', '.join(absent[:8])}",
                hint="give every file the same columns, or take the columns that not all have out of the others",
            )


def _check_features(table: Table, target: str) -> None:
    varied = {name for name, column in table.columns.items() if (coded_column(column).times() > 0).sum() > 1}
    if varied == {target}:
        raise DataError(
            "no_features",
            f"there is nothing to learn {target!r} from",
            where="data.columns",
            seen="every other column is constant" if len(table.names) > 1 else "no other column",
            hint="give columns that vary from row to row",
        )


def from_sklearn(name: str, target: str) -> Table:
    """One of scikit-learn's bundled sets; the target column is named `target` unless the recipe says another name."""
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise missing_extra("tables", "sklearn") from None
    known = ("breast_cancer", "diabetes", "digits", "iris", "wine", "linnerud")
    if name not in known[:5]:
        raise DataError(
            "unknown_set", f"there is no sklearn set {name!r}", where=f"sklearn:{name}", hint=nearest(name, known[:5])
        )
    found = getattr(datasets, f"load_{name}")()
    columns: dict[str, Column] = {
        str(column).replace(" ", "_"): text_column(found.data[:, place])
        for place, column in enumerate(found.feature_names)
    }
    names = getattr(found, "target_names", None)
    answers = [str(names[code]) for code in found.target] if names is not None and len(names) else list(found.target)
    columns[target] = text_column(answers)
    return Table(columns)
