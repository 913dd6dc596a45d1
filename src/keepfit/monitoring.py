"""The monitor on records from a file: reads, answers where no answers are given, judges window by window, writes the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import api
from keepfit.core import atomic
from keepfit.core.errors import DataError, RecipeError, UsageError, nearest
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import Column, Table, concat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keepfit.monitor import MonitorOptions, Profile, Records

_LEAST = 50


@dataclass(frozen=True)
class Source:
    """What records are compared with, and how to answer those that bring no answers."""

    profile: Profile
    section: MonitorOptions
    bundle: Bundle | None
    target: str | None
    classes: tuple[Any, ...]


def monitor(
    bundle: str | Path | None,
    records: str | Path,
    *,
    reference: str | Path | None = None,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
) -> dict[str, Any]:
    """`windows` of `monitor --json`, with `alarms`, `rows` and `left` (rows too few to be judged). Raises KeepfitError.

    `output` is a folder for `report.html`, `windows.json` and `quarantine.csv`. Without a bundle, `reference` has the inputs
    and, where they are known, `prediction` or `probability_<class>` and `label` of held-out rows.
    """
    from keepfit.monitor.report import Story

    reads, said = _split(overrides)
    source = _source(bundle, reference, reads, said)
    story = Story(source.profile, source.section, str(Path(records).name))
    watch, rows, left = None, 0, 0
    for window, last in _windows(_records(source, records, reads), source.section.window):
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


def _split(overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """`data.read.*` overrides, and the values of `monitor.*`. Raises RecipeError for any other."""
    from keepfit.monitor import MonitorOptions

    reads: list[str] = []
    said: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.removeprefix("monitor.")
        if key.startswith("data.read."):
            reads.append(override)
        elif key.startswith("monitor.") and name in MonitorOptions.model_fields:
            said[name] = value
        else:
            known = [f"monitor.{field}" for field in MonitorOptions.model_fields]
            raise RecipeError("unused_key", "this verb reads no such key", where=override, hint=nearest(key, known))
    return reads, said


def _options(given: Mapping[str, Any], said: Mapping[str, str]) -> MonitorOptions:
    import yaml
    from pydantic import ValidationError

    from keepfit.monitor import MonitorOptions

    values = dict(given)
    for name, text in said.items():
        values[name] = text if name == "false_alarms" else yaml.safe_load(text)
    try:
        return MonitorOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "monitor." + ".".join(map(str, first["loc"]))
        raise RecipeError(
            "bad_value", first["msg"].removeprefix("Value error, "), where=where, seen=str(first["input"])[:80]
        ) from None


def _source(
    bundle: str | Path | None, reference: str | Path | None, reads: Sequence[str], said: Mapping[str, str]
) -> Source:
    from keepfit.monitor import Profile

    if bundle is None:
        if reference is None:
            raise UsageError(
                "usage",
                "there is nothing to compare with",
                where="keepfit monitor",
                hint="keepfit monitor BUNDLE RECORDS, or keepfit monitor RECORDS --reference DATA",
            )
        return _foreign(reference, _options({}, said), reads)
    opened = Bundle.open(Path(bundle))
    section = _options(opened.manifest.get("monitor") or {}, said)
    classes = tuple(opened.classes)
    if reference is not None:
        return Source(_of_data(opened, reference, reads), section, opened, opened.target, classes)
    raw = json.loads(opened.files["profile.json"]).get("monitor")
    if raw is None:
        raise DataError(
            "no_reference",
            "this bundle was made before bundles carried a reference for monitoring",
            where=f"{bundle}, profile.json",
            seen="no key monitor",
            hint="give --reference DATA with rows like those of training, or package the run again",
        )
    return Source(Profile.from_json(raw), section, opened, opened.target, classes)


def _of_data(opened: Bundle, reference: str | Path, reads: Sequence[str]) -> Profile:
    """A profile of labelled or unlabelled rows, with the answers of the bundle on them."""
    from keepfit.monitor import Held, make_profile
    from keepfit.runtime.coerce import ColumnRule
    from keepfit.stages.results import matched_truth
    from keepfit.tasks.task import Task, class_name

    tables, missing = api._tables(opened, reference, reads)
    table = _joined(list(tables))
    scores = opened.predictor().scores(table)[0]
    truth = None
    if opened.target in table.columns:
        task = Task(
            "classification" if opened.task == "classification" else "regression", opened.target, tuple(opened.classes)
        )
        truth, _, known = matched_truth(table.columns[opened.target], task, missing)
        truth = truth if known.all() else None
    prepared = json.loads(opened.files["preparation.json"])
    kind = {"image": "image", "text": "text"}.get(opened.modality)
    raw = [ColumnRule(kind, kind)] if kind else [ColumnRule.from_json(rule) for rule in prepared["columns"]]
    return make_profile(table, raw, Held(table, scores, truth), [class_name(c) for c in opened.classes])


def _foreign(reference: str | Path, section: MonitorOptions, reads: Sequence[str]) -> Source:
    """A profile of rows of a model that was trained elsewhere: what the columns are is inferred."""
    import numpy as np

    from keepfit.modalities.tabular.schema import infer
    from keepfit.monitor import Held, make_profile
    from keepfit.recipe.load import read_options
    from keepfit.runtime.coerce import parse_number
    from keepfit.stages.ingest import reading

    table = _joined(list(api.tables_of(reference, reading(read_options({}, reads)))))
    inputs = table.without([name for name in table.names if _is_ours(name)])
    rules = [finding.rule for finding in infer(inputs, "", {}, [])]
    classes = _classes_of(table)
    scores = _given_scores(table, classes)
    held = None
    if scores is not None:
        truth: Any = None
        if "label" in table.columns and classes:
            names = {name: place for place, name in enumerate(classes)}
            codes = np.array([names.get(str(text), -1) for text in table.columns["label"]])
            truth = codes if (codes >= 0).all() else None
        elif "label" in table.columns:
            read = [None if text is None else parse_number(text) for text in table.columns["label"]]
            truth = None if None in read else np.array(read, float)
        held = Held(inputs, scores, truth)
    return Source(make_profile(inputs, rules, held, classes), section, None, "label", classes)


def _is_ours(name: str) -> bool:
    return name in ("prediction", "label", "time", "latency_s", "error") or name.startswith("probability_")


def _classes_of(table: Table) -> tuple[str, ...]:
    from keepfit.runtime.coerce import parse_number

    found = [name.removeprefix("probability_") for name in table.names if name.startswith("probability_")]
    if found:
        return tuple(found)
    labels = [text for name in ("prediction", "label") for text in table.columns.get(name, ()) if text is not None]
    distinct = sorted(set(labels))
    numbers = all(parse_number(text) is not None for text in distinct)
    return () if numbers and len(distinct) > 20 else tuple(distinct)


def _joined(tables: list[Table]) -> Table:
    if not tables:
        raise DataError("no_rows", "the reference has no rows", hint="give a file with rows")
    return concat(tables)


def _given_scores(table: Table, classes: Sequence[Any]) -> NDArray[np.float64] | None:
    """Probabilities [n, k] that the records bring; the prediction as certainty, or as a value, where they bring only that."""
    import numpy as np

    from keepfit.runtime.coerce import parse_number
    from keepfit.tasks.task import class_name

    def numbers(column: Column) -> NDArray[np.float64]:
        found = [None if text is None else parse_number(text) for text in column]
        return np.array([np.nan if n is None else n for n in found])

    names = [f"probability_{class_name(label)}" for label in classes]
    if names and all(name in table.columns for name in names):
        return np.nan_to_num(np.column_stack([numbers(table.columns[name]) for name in names]))
    if "prediction" not in table.columns:
        return None
    if not classes:
        return numbers(table.columns["prediction"])[:, None]
    place = {class_name(label): n for n, label in enumerate(classes)}
    codes = [place.get(str(text), 0) for text in table.columns["prediction"]]
    return np.asarray(np.eye(len(classes))[codes])


def _records(source: Source, records: str | Path, reads: Sequence[str]) -> Iterator[Records]:
    """The records in chunks, with the model's answers; those that a service stored bring theirs."""
    place = _store_of(records)
    if place is not None:
        yield from _stored(source, place)
        return
    from keepfit.monitor import Records
    from keepfit.recipe.load import read_options
    from keepfit.runtime.coerce import parse_number
    from keepfit.stages.ingest import reading

    if source.bundle is None:
        tables: Iterator[Table] = api.tables_of(records, reading(read_options({}, reads)))
    else:
        tables = api._tables(source.bundle, records, reads)[0]
    predictor = source.bundle.predictor() if source.bundle is not None else None
    inputs = {rule.name for rule in source.profile.rules}
    for table in tables:
        scores = _given_scores(table, source.classes)
        errors: list[str] = []
        if scores is None and predictor is not None and inputs <= set(table.names):
            found, errors, _ = predictor.scores(table)
            scores = found.astype(float)
        label = next((n for n in ("label", source.target) if n and n in table.columns and n not in inputs), None)
        latency = None
        if "latency_s" in table.columns:
            import numpy as np

            read = [None if t is None else parse_number(t) for t in table.columns["latency_s"]]
            latency = np.array([np.nan if n is None else n for n in read])
        times = table.columns.get("time") if "time" not in inputs else None
        yield Records(table, scores, table.columns[label] if label else None, times, latency, 0, errors)


def _store_of(records: str | Path) -> Path | None:
    """The folder of a service's records: given itself, or by the served model's name in this workspace."""
    from keepfit.store.records import records_folder

    for folder in (Path(records), records_folder(".") / str(records)):
        if (folder / "key").is_file():
            return folder
    return None


def _stored(source: Source, folder: Path) -> Iterator[Records]:
    """What a service recorded, a window at a time. Raises DataError where it kept no inputs."""
    import numpy as np

    from keepfit.monitor import Records
    from keepfit.runtime.table import from_rows, text_column
    from keepfit.store.records import Records as Stored

    names = [rule.name for rule in source.profile.rules]
    for rows in Stored.open(folder).windows(source.section.window):
        if any(row.inputs is None for row in rows) or any(rule.kind == "image" for rule in source.profile.rules):
            raise DataError(
                "no_inputs",
                "the service kept no inputs, only sketches",
                where=str(folder),
                hint="serve.record: full keeps the inputs of tables and texts",
            )
        shares = [row.probabilities for row in rows]
        if source.classes and all(one is not None for one in shares):
            scores: Any = np.array(shares, np.float64)
        else:
            scores = None if source.classes else np.array([[float(row.prediction)] for row in rows])
        labels = text_column([row.label for row in rows])
        times = text_column([np.datetime64(int(row.at), "s") for row in rows])
        yield Records(from_rows([row.inputs or {} for row in rows], names), scores, labels, times)


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
