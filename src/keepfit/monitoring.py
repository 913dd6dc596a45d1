"""The monitor on records of a file or a service: answers where none are given, judges window by window, writes the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.core import atomic
from keepfit.core.errors import DataError
from keepfit.references import Source, given_scores, source_of, split, tables_for
from keepfit.runtime.table import concat

if TYPE_CHECKING:
    from keepfit.monitor import Records
    from keepfit.store.records import Records as Stored
    from keepfit.store.records import Row

_LEAST = 50


def monitor(
    bundle: str | Path | None,
    records: str | Path,
    *,
    reference: str | Path | None = None,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    workspace: str | Path = ".",
) -> dict[str, Any]:
    """`windows` of `monitor --json`, with `alarms`, `rows` and `left` (rows too few to be judged). Raises KeepfitError.

    `bundle` is a folder or a registered NAME[@ALIAS]; `records` a table, pictures, or what a service recorded: the served model's
    name in `workspace`, its folder, or `records:FOLDER` and `records:DATABASE_URL`.
    `output` is a folder for `report.html`, `windows.json` and `quarantine.csv`. Without a bundle, `reference` has the inputs
    and, where they are known, `prediction` or `probability_<class>` and `label` of held-out rows.
    """
    from keepfit.monitor.report import Story

    reads, said = split(overrides)
    source = source_of(bundle, reference, reads, said, Path(workspace))
    story = Story(source.profile, source.section, str(Path(records).name))
    watch, rows, left = None, 0, 0
    for window, last in _windows(_records(source, records, reads, Path(workspace)), source.section.window):
        if last and rows and len(window) < _LEAST:
            left = len(window)
            continue
        from keepfit.monitor import check

        report = check(source.profile, window, source.section, watch)
        watch, rows = report.watch, rows + len(window)
        story.add(report, window)
    if not rows:
        raise DataError("no_rows", "there are no records", where=str(records), hint="give rows with the input columns")
    found = {**story.as_json(), "rows": rows, "left": left, "false_alarms": source.section.false_alarms}
    if output is not None:
        found |= _written(Path(output), story, found)
    return found


def _written(folder: Path, story: Any, found: Mapping[str, Any]) -> dict[str, str]:
    from keepfit.runtime.writers import csv_lines

    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ("report.html", "windows.json", "quarantine.csv")}
    atomic.write_text(paths["report.html"], story.html())
    atomic.write_text(paths["windows.json"], json.dumps(found, ensure_ascii=False, indent=1))
    lines = csv_lines(["row", "why"], story.quarantine, for_people=True)
    atomic.write_text(paths["quarantine.csv"], "".join(lines))
    return {name.partition(".")[0]: str(path.resolve()) for name, path in paths.items() if name != "windows.json"}


def _records(source: Source, records: str | Path, reads: Sequence[str], workspace: Path) -> Iterator[Records]:
    """The records in chunks, with the model's answers; those that bring answers are not answered again."""
    stored = _store_of(records, workspace)
    if stored is not None:
        yield from _stored(source, stored, str(records))
        return
    import numpy as np

    from keepfit.monitor import Records

    tables, _ = tables_for(source.bundle, records, reads)
    predictor = None
    inputs = {rule.name for rule in source.profile.rules}
    for table in tables:
        scores, errors = given_scores(table, source.classes)
        if scores is None and source.bundle is not None and inputs <= set(table.names):
            predictor = predictor or source.bundle.predictor()
            found, errors, _ = predictor.scores(table)
            scores = found.astype(np.float64)
        label = next((n for n in ("label", source.target) if n and n in table.columns and n not in inputs), None)
        times = table.columns.get("time") if "time" not in inputs else None
        latency = _numbers(table.columns["latency_s"]) if "latency_s" in table.columns else None
        yield Records(table, scores, table.columns[label] if label else None, times, latency, 0, errors)


def _numbers(column: Any) -> Any:
    import numpy as np

    from keepfit.runtime.coerce import parse_number

    read = [None if text is None else parse_number(text) for text in column]
    return np.array([np.nan if number is None else number for number in read])


def _store_of(records: str | Path, workspace: Path) -> Stored | None:
    """What a service recorded: `records:PLACE`, its folder, or the served model's name in the workspace."""
    from keepfit.store.record_tables import is_records, opened
    from keepfit.store.records import Records, records_folder

    if is_records(str(records)):
        return opened(str(records), Path.cwd())
    for folder in (Path(records), records_folder(workspace) / str(records)):
        if (folder / "key").is_file():
            return Records.open(folder)
    return None


def _stored(source: Source, store: Stored, where: str) -> Iterator[Records]:
    """What a service recorded of this model, a window at a time. Raises DataError without inputs, or without any such row."""
    from keepfit.monitor.stored import window_of

    window: list[Row] = []
    start, others = 0, set()
    for row in store.rows():
        if source.bundle is not None and row.sha256 != source.bundle.sha256:
            others.add(f"{row.name} {row.version}")
            continue
        if row.inputs is None and source.profile.rules:
            raise DataError(
                "no_inputs",
                "the service kept no inputs, only sketches",
                where=where,
                hint="serve.record: full keeps the inputs; what is answered is watched by the service itself",
            )
        window.append(row)
        if len(window) == source.section.window:
            yield window_of(source.profile, window, start)
            start, window = start + len(window), []
    if window:
        yield window_of(source.profile, window, start)
    if not start and not window and others:
        raise DataError(
            "no_rows",
            "these records are of other models",
            where=where,
            seen=", ".join(sorted(others)[:5]),
            hint="name the version that answered, for example NAME@1",
        )


def _windows(chunks: Iterator[Records], size: int) -> Iterator[tuple[Records, bool]]:
    """Windows of `size` rows and whether it is the short last one; at most one chunk and one window are in memory."""
    kept: list[Records] = []
    start = 0
    for chunk in chunks:
        kept.append(chunk)
        while sum(map(len, kept)) >= size:
            whole = _merged(kept, start)
            yield whole.take(slice(0, size)), False
            start += size
            rest = whole.take(slice(size, None))
            kept = [rest] if len(rest) else []
    if kept:
        yield _merged(kept, start), True


def _merged(parts: list[Records], start: int) -> Records:
    import numpy as np

    from keepfit.monitor import Records

    if len(parts) == 1:
        one = parts[0]
        return Records(one.table, one.scores, one.labels, one.times, one.latency_s, start, one.errors)

    def joined(name: str) -> Any:
        found = [getattr(part, name) for part in parts]
        return np.concatenate(found) if all(one is not None for one in found) else None

    errors = [e for part in parts for e in (list(part.errors) or [""] * len(part))]
    table = concat([part.table for part in parts])
    return Records(table, joined("scores"), joined("labels"), joined("times"), joined("latency_s"), start, errors)
