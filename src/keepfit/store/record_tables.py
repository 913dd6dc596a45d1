"""A service's records as a source, `records:FOLDER` or `records:DATABASE_URL`: inputs as they came, labels as the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keepfit.core import digest
from keepfit.core.errors import DataError
from keepfit.runtime.sources import expand
from keepfit.runtime.table import Table, text_column
from keepfit.store.records import Records

PREFIX = "records:"


def is_records(source: str) -> bool:
    """Whether a source names records."""
    return source.startswith(PREFIX)


def opened(source: str, folder: Path) -> Records:
    """The records of a source; a path is relative to `folder`. Raises UsageError `no_records`."""
    place = expand(source.removeprefix(PREFIX))
    return Records.open(place if "://" in place else str(folder / place))


def read_table(source: str, folder: Path, target: str = "", *, labelled: bool | None = True) -> Table:
    """Rows by time, as text; those with a label unless `labelled` says otherwise. `target` names the labels' column, that of the
    model that answered last when empty. The sample ids are request id and row, so that a row that comes twice is the same sample.

    Raises DataError `no_rows` where there are none, `records_sketched` where inputs were not kept.
    """
    records = opened(source, folder)
    models = records.models()
    columns: dict[str, list[object]] = {}
    labels: list[object] = []
    ids: list[str] = []
    last = ""
    for row in records.rows(labelled=labelled):
        if row.inputs is None:
            continue
        for name in row.inputs:
            if name not in columns:
                columns[name] = [None] * len(ids)
        for name, cells in columns.items():
            cells.append(row.inputs.get(name))
        labels.append(row.label)
        ids.append(f"{row.request_id}#{row.row}")
        last = row.sha256
    if not ids:
        raise DataError(
            "no_rows",
            "these records hold no row with its inputs" + (" and a label" if labelled else ""),
            where=source,
            seen=f"{len(models)} models, no such row",
            hint="serve with record: full, and send labels to POST /feedback",
        )
    found = {name: text_column(cells) for name, cells in columns.items()}
    found[target or str(models.get(last, {}).get("target", "label"))] = text_column(labels)
    return Table(found, np.array(ids, object))


def digest_of(source: str, folder: Path, target: str) -> str:
    """SHA-256 of the labelled rows as they are at this moment."""
    table = read_table(source, folder, target)
    return digest.of_json({name: column.tolist() for name, column in table.columns.items()})
