"""Raw rows for a bundle: a source is read as the training rows were read, in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keepfit.core.errors import DataError
from keepfit.runtime import sources
from keepfit.runtime.table import Column, Table, renamed_cells

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle


def tables_of(data: str | Path, read: Any = None, rejects: sources.Rejects | None = None) -> Iterator[Table]:
    """The rows of a source in chunks, so that a file larger than memory can be answered.

    What cannot be read goes into `rejects`, and the rows are named as in a ledger, `file#row` from 0. Raises DataError for it
    where none are given.
    """
    from keepfit.stages.ingest import WHOLE_FILE
    from keepfit.store.record_tables import is_records, read_table

    if is_records(str(data)):
        yield read_table(str(data), Path.cwd(), labelled=None)
        return
    paths = sources.files_of(str(data), Path.cwd(), fresh=True)
    used: Counter[str] = Counter()
    for path in paths:
        used[path.name] += 1
        name = path.name if used[path.name] == 1 else f"{path.name}~{used[path.name]}"  # the same name elsewhere
        bad, part = sources.Rejects(), "the whole file"
        try:
            row = 0
            for table in sources.chunks(path, read or sources.Read(), bad):
                yield table if rejects is None else _named(table, name, row)
                row, part = row + len(table), "the rest of the file"
        except DataError as error:
            if rejects is None or len(paths) == 1 or error.code not in WHOLE_FILE:
                raise
            rejects.lines.append((name, 0, f"{part}: {error.what}", error.seen or ""))
        if rejects is not None:
            rejects.lines += [(name, line, reason, seen) for _, line, reason, seen in bad.lines]
        elif bad.lines:
            file, line, reason, _ = bad.lines[0]
            raise DataError(
                "unreadable_lines",
                "lines of the data cannot be read, so answers would not line up",
                where=f"{file}:{line}",
                seen=f"{len(bad.lines)} lines; first: {reason}",
                hint="mend these lines, or say data.read.delimiter=... (or quote, header, names)",
            )


def _named(table: Table, file: str, first: int) -> Table:
    return Table(table.columns, np.array([f"{file}#{first + row}" for row in range(len(table))], object))


def tables(
    bundle: Bundle, data: str | Path, overrides: Sequence[str], rejects: sources.Rejects | None = None
) -> tuple[Iterator[Table], frozenset[str]]:
    """The rows of a source, read as the training rows were unless `data.read.*` overrides; spellings of missing labels."""
    if not bundle.read and not overrides and bundle.modality == "tabular":
        return _with_columns(tables_of(data, rejects=rejects), bundle, data), frozenset()
    from keepfit.recipe.load import read_options
    from keepfit.stages.ingest import reading

    said = read_options(bundle.read, overrides)
    if bundle.modality == "image":
        from keepfit.stages.pictures import tables as picture_tables

        column = bundle.manifest.get("image_column")
        return picture_tables(str(data), column, bundle.target, reading(said)), frozenset()
    if bundle.modality == "text":
        return _text_tables(bundle, data, said, bool(overrides), rejects), frozenset()
    missing = frozenset(text.strip().lower() for text in said.missing)
    found = _with_columns(tables_of(data, reading(said, spare=bundle.target), rejects), bundle, data)
    more = missing - {text.strip().lower() for text in bundle.read.get("missing", [])}
    return (_blanked(table, more) for table in found) if more else found, missing


def _text_tables(
    bundle: Bundle, data: str | Path, said: Any, as_table: bool, rejects: sources.Rejects | None
) -> Iterator[Table]:
    """Texts of a folder, of .txt files (with `data.read` overrides those are tables), or of a table."""
    from keepfit.runtime.text_predictor import renamed
    from keepfit.stages import texts
    from keepfit.stages.ingest import reading

    if is_of_texts(data) and not as_table:
        return texts.tables(str(data), bundle.target, said.encoding, rejects)
    column = bundle.manifest.get("text_column")
    rows = tables_of(data, reading(said, spare=bundle.target), rejects)
    return _with_columns((renamed(table, column) for table in rows), bundle, data)


def is_of_texts(data: str | Path) -> bool:
    """Whether a source is texts themselves: a folder, a zip or .txt files."""
    from keepfit.modalities.text.read import are_files

    return are_files(str(data), Path.cwd())


def _with_columns(tables: Iterator[Table], bundle: Bundle, data: str | Path) -> Iterator[Table]:
    """The tables. Raises DataError where lines were not cut into columns: another separator was expected."""
    known = {bundle.target, *(column.name for column in bundle.inputs)}
    for table in tables:
        if len(table.names) == 1 and table.names[0] not in known:
            raise DataError(
                "column_missing",
                "the lines of the data are not cut into columns",
                where=str(data),
                seen=table.names[0][:200],
                hint="say how they are separated, for example 'data.read.delimiter=;'",
            )
        yield table


def _blanked(table: Table, missing: frozenset[str]) -> Table:
    """The table without cells that hold one of these spellings (folded): the bundle's rules do not know them."""

    def blank(column: Column) -> Column:
        return renamed_cells(
            column, lambda text: None if text is not None and text.strip().lower() in missing else text
        )

    return Table({name: blank(column) for name, column in table.columns.items()}, table.ids)
