"""What records are compared with: the reference of a bundle, of given rows, or of rows of a model that was trained elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import raw
from keepfit.core.errors import DataError, RecipeError, UsageError, nearest
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.table import Column, Table, concat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keepfit.monitor import MonitorOptions, Profile


@dataclass(frozen=True)
class Source:
    """What records are compared with, and how to answer those that bring no answers."""

    profile: Profile
    section: MonitorOptions
    bundle: Bundle | None
    target: str | None
    classes: tuple[Any, ...]


def split(overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
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


def source_of(
    bundle: str | Path | None,
    reference: str | Path | None,
    reads: Sequence[str],
    said: Mapping[str, str],
    workspace: Path = Path(),
) -> Source:
    """The reference for a bundle's folder, a registered NAME[@ALIAS], or neither. Raises KeepfitError where there is none."""
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
    opened = _opened(bundle, workspace)
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


def _opened(bundle: str | Path, workspace: Path) -> Bundle:
    """The bundle of a folder, or of a registered model where there is no such folder."""
    from keepfit.serve.follow import registered
    from keepfit.store.registry import Registry

    name = str(bundle)
    if Path(bundle).exists() or "/" in name or "." in name:
        return Bundle.open(Path(bundle))
    return registered(Registry(workspace).resolve(name))


def _of_data(opened: Bundle, reference: str | Path, reads: Sequence[str]) -> Profile:
    """A profile of labelled or unlabelled rows, with the answers of the bundle on them."""
    from keepfit.monitor import Held, make_profile
    from keepfit.runtime.coerce import ColumnRule
    from keepfit.stages.results import matched_truth
    from keepfit.tasks.task import Task, class_name

    tables, missing = tables_for(opened, reference, reads)
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
    from keepfit.modalities.tabular.schema import infer
    from keepfit.monitor import Held, make_profile
    from keepfit.runtime.coerce import ColumnRule

    table = _joined(list(tables_for(None, reference, reads)[0]))
    inputs = table.without([name for name in table.names if _is_ours(name)])
    shown = [name for name in inputs.names if any(isinstance(cell, bytes) for cell in inputs.columns[name])]
    rules = [ColumnRule(name, "image") for name in shown]
    rest = inputs.without(shown)
    if rest.names:
        rules += [finding.rule for finding in infer(rest, "", {}, [])]
    classes = _classes_of(table)
    scores, errors = given_scores(table, classes)
    held = None
    if scores is not None and not any(errors):
        held = Held(inputs, scores, _truth(table, classes))
    return Source(make_profile(inputs, rules, held, classes), section, None, "label", classes)


def _truth(table: Table, classes: Sequence[str]) -> Any:
    """Codes or values [n] of the column `label`; None where some are not known."""
    import numpy as np

    from keepfit.runtime.coerce import parse_number

    if "label" not in table.columns:
        return None
    if classes:
        names = {name: place for place, name in enumerate(classes)}
        codes = np.array([names.get(str(text), -1) for text in table.columns["label"]])
        return codes if (codes >= 0).all() else None
    read = [None if text is None else parse_number(text) for text in table.columns["label"]]
    return None if None in read else np.array(read, float)


def tables_for(bundle: Bundle | None, data: str | Path, reads: Sequence[str]) -> tuple[Iterator[Table], frozenset[str]]:
    """The rows of a source in chunks, for a bundle or for none, and the spellings of missing cells that its rules do not know. A
    table that lists pictures brings its other columns with them."""
    from keepfit.recipe.load import read_options
    from keepfit.runtime import sources
    from keepfit.stages.ingest import reading

    column = None
    if bundle is None or bundle.modality == "image":
        column = (bundle.manifest.get("image_column") if bundle is not None else None) or "image"
        if _is_of_pictures(data):
            from keepfit.stages.pictures import tables

            target = bundle.target if bundle is not None else "label"
            return tables(str(data), None, target, reading(read_options({}, reads))), frozenset()
    if bundle is not None and column is None:
        return raw.tables(bundle, data, reads)
    read = reading(read_options(bundle.read if bundle is not None else {}, reads))
    folder = Path(sources.expand(str(data))).parent
    return (_with_pictures(table, column or "image", folder) for table in raw.tables_of(data, read)), frozenset()


def _is_of_pictures(data: str | Path) -> bool:
    """Whether a source is pictures themselves: a folder, a zip, an annotated set."""
    from keepfit.modalities.image.read import looks_like_pictures

    return looks_like_pictures(str(data), Path.cwd())


def _with_pictures(table: Table, column: str, folder: Path) -> Table:
    """The table with the bytes of the files that `column` names, or why there are none; as it is where it names no picture."""
    import numpy as np

    from keepfit.modalities.image.found import bytes_of, has_picture_ending
    from keepfit.runtime.picture_predictor import COLUMN

    paths = table.columns.get(column)
    if paths is None or not any(path is not None and has_picture_ending(path) for path in paths):
        return table
    pictures = np.empty(len(paths), object)
    for row, path in enumerate(paths):
        found = bytes_of(str(path), folder / str(path)) if path is not None else None
        pictures[row] = found if isinstance(found, bytes) or found is None else found.reason
    return Table({**table.without([column]).columns, COLUMN: pictures}, table.ids)


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


def given_scores(table: Table, classes: Sequence[Any]) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Probabilities [n, k] that the records bring; the prediction as certainty, or as a value, where they bring only that; and
    for each row why there is no answer, empty where there is one. None where the records bring no answers."""
    import numpy as np

    from keepfit.runtime.coerce import parse_number
    from keepfit.tasks.task import class_name

    def numbers(column: Column) -> NDArray[np.float64]:
        found = [None if text is None else parse_number(text) for text in column]
        return np.array([np.nan if n is None else n for n in found])

    def without(bad: Any, why: str) -> list[str]:
        return [why if one else "" for one in bad] if bad.any() else []

    names = [f"probability_{class_name(label)}" for label in classes]
    if names and all(name in table.columns for name in names):
        shares = np.column_stack([numbers(table.columns[name]) for name in names])
        return np.nan_to_num(shares), without(np.isnan(shares).any(1), "a probability is missing")
    if "prediction" not in table.columns:
        return None, []
    if not classes:
        values = numbers(table.columns["prediction"])
        return np.nan_to_num(values)[:, None], without(np.isnan(values), "the prediction is no number")
    place = {class_name(label): n for n, label in enumerate(classes)}
    codes = np.array([place.get(str(text), -1) for text in table.columns["prediction"]])
    return np.eye(len(classes))[np.maximum(codes, 0)], without(codes < 0, "the prediction is none of the classes")
