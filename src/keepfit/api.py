"""The dozen functions that the command line, notebooks and tests call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.core.errors import DataError, KeepfitError
from keepfit.core.events import Emit, silent
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.figures import frame_in_form
from keepfit.runtime.opening import Predictor
from keepfit.runtime.table import Table, from_frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from keepfit.engine.plan import Plan
    from keepfit.engine.run import Run
    from keepfit.runtime.answers import Answers
    from keepfit.store.registry import Registry

Stopped = Callable[[], bool]


class Model:
    """An opened bundle that answers: what `load` gives."""

    def __init__(self, bundle: Bundle, predictor: Predictor) -> None:
        self.bundle, self._predictor = bundle, predictor

    def predict(self, frame: Any) -> Answers:
        """Answers for a pandas or polars frame, a mapping of columns or a list of row mappings, in order.

        For texts: also a list of texts. For pictures: a list of paths, bytes of files, arrays [h, w] or [h, w, 3] of 0..255, or
        objects as `/predict` takes them.
        """
        if self.bundle.modality == "image":
            return self._predictor.predict(_pictures(frame, self))
        if self.bundle.modality == "text":
            return self._predictor.predict(_texts(self, frame))
        forms = getattr(self._predictor, "forms", None)
        given = frame_in_form(frame, forms) if forms and not isinstance(frame, Table) else frame
        return self._predictor.predict(from_frame(given))

    def answer(self, table: Table) -> Answers:
        """Answers for a table as sources give it."""
        return self._predictor.predict(table)

    def check_rows(self, rows: Sequence[Any]) -> Table:
        """JSON objects as a table, strictly checked. Raises DataError."""
        return self._predictor.check_rows(rows)


def _texts(model: Model, given: Any) -> Table:
    """A frame with its texts under the room's own name; a list may hold the texts themselves."""
    if isinstance(given, list) and not all(isinstance(one, dict) for one in given):
        return model.check_rows(given)
    from keepfit.runtime.text_predictor import renamed

    return renamed(from_frame(given), model.bundle.manifest.get("text_column"))


def _pictures(given: Any, model: Model) -> Table:
    """A table of pictures from a sequence of paths, bytes, arrays or objects; from one of these; from a frame's column."""
    import numpy as np

    from keepfit.core.errors import from_os_error
    from keepfit.runtime.picture_predictor import COLUMN
    from keepfit.runtime.pictures import encode_array

    if isinstance(given, str | Path | bytes):
        given = [given]
    elif hasattr(given, "columns") or isinstance(given, Mapping):
        given = list(given[COLUMN]) if COLUMN in given else []
    if len(given) and isinstance(given[0], Mapping):
        return model.check_rows(given)
    column = np.empty(len(given), object)
    for place, one in enumerate(given):
        try:
            column[place] = Path(one).read_bytes() if isinstance(one, str | Path) else one
        except OSError as error:
            raise from_os_error(error, "reading a picture") from None
        if not isinstance(column[place], bytes):
            column[place] = encode_array(one)
    return Table({COLUMN: column})


def load(path: str | Path) -> Model:
    """Open a bundle, verify it and replay its golden rows; needs no training library."""
    bundle = Bundle.open(Path(path))
    return Model(bundle, bundle.predictor())


def make_plan(
    recipe: str | Path, overrides: Sequence[str] = (), until: str | None = None, workspace: str | Path = "."
) -> Plan:
    """The plan of a recipe file, without the decisions that were taken back in the workspace."""
    from keepfit import recipe as recipes
    from keepfit.engine.plan import plan, remembered

    return plan(remembered(recipes.load(Path(recipe), overrides), Path(workspace)), until=until)


def run(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    until: str | None = None,
    fresh: bool = False,
    workspace: str | Path = ".",
    emit: Emit = silent,
    stopped: Stopped = lambda: False,
) -> Run:
    """The whole line of a recipe; what is already made is kept. A bundle that was not cut short is registered as a version
    of the recipe's name: the first as champion, a later one as challenger; the same bytes again change nothing.

    Where a launcher has started several processes of this, each does its share of the training and the first one the rest."""
    from keepfit.engine.run import run as walk
    from keepfit.engine.sharing import group, helped, is_helper, shared_plan
    from keepfit.store.artifacts import Store

    made, found = make_plan(recipe, overrides, until, workspace), group()
    if found is not None and found.rank > 0:
        return helped(made, found, stopped)
    if found is not None or is_helper(made.recipe):
        made = shared_plan(made, found)
    root = Path(workspace)
    done = walk(made, Store(root), root / "runs", emit, fresh=fresh, stopped=stopped, group=found)
    if done.bundle is not None and not done.interrupted:
        done.version = registry(root).register(done.bundle, run=str(done.bundle.parent.resolve())).version
    return done


def registry(workspace: str | Path = ".") -> Registry:
    """The registered models of a workspace: versions, aliases, promote and rollback."""
    from keepfit.store.registry import Registry

    return Registry(Path(workspace))


def fit(
    data: Any,
    target: str | None = None,
    *,
    time: str | None = None,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    workspace: str | Path = ".",
    emit: Emit = silent,
    stopped: Stopped = lambda: False,
) -> Run:
    """`run` without a recipe: `data` is a path, a source name, a pandas or polars frame, or pictures.

    Pictures are a pair: an array [n, h, w] or [n, h, w, c] of 0..255, and n labels; `target` names the labels, which
    a folder per class needs not.
    """
    from keepfit import recipe as recipes
    from keepfit.engine.plan import plan, remembered
    from keepfit.engine.run import run as walk
    from keepfit.recipe.load import slug
    from keepfit.recipe.render import quoted
    from keepfit.store.artifacts import Store

    arrays = isinstance(data, tuple) and len(data) == 2
    frame = (
        None if isinstance(data, str | Path) else _of_arrays(data, target or "label") if arrays else from_frame(data)
    )
    source = str(data) if frame is None else "frame"
    name = slug(Path(source.removeprefix("sklearn:")).name.split(".")[0]) if frame is None else "model"
    text = f"version: 1\nname: {name}\ndata:\n  source: {quoted(source)}\n"
    text += f"  target: {quoted(target)}\n" if target is not None else ""
    text += "modality: image\n" if arrays else ""
    asked = [f"budget.time={time}"] if time else []
    root = Path(workspace)
    said = recipes.parse(text, [*asked, *overrides], origin="fit", folder=Path.cwd())
    made = plan(remembered(said, root), frame)
    return walk(made, Store(root), root / "runs", emit, goal=Path(output) if output else None, stopped=stopped)


def needs_no_target(source: str) -> bool:
    """Whether a source is a folder, a zip or idx files with pictures, or a folder of texts."""
    from keepfit.modalities.image.read import looks_like_pictures
    from keepfit.modalities.text.read import looks_like_texts

    return looks_like_pictures(source, Path.cwd()) or looks_like_texts(source, Path.cwd())


def _of_arrays(pair: Any, target: str) -> Table:
    from keepfit.stages.pictures import of_arrays

    images, labels = pair
    return of_arrays(images, labels, target)


def tables_of(data: str | Path, read: Any = None) -> Iterator[Table]:
    """The rows of a source in chunks, so that a file larger than memory can be answered."""
    from keepfit.runtime import sources
    from keepfit.store.record_tables import is_records, read_table

    if is_records(str(data)):
        yield read_table(str(data), Path.cwd(), labelled=None)
        return
    for path in sources.files_of(str(data), Path.cwd(), fresh=True):
        rejects = sources.Rejects()
        yield from sources.chunks(path, read or sources.Read(), rejects)
        if rejects.lines:
            file, line, reason, _ = rejects.lines[0]
            raise DataError(
                "unreadable_lines",
                "lines of the data cannot be read, so answers would not line up",
                where=f"{file}:{line}",
                seen=f"{len(rejects.lines)} lines; first: {reason}",
                hint="mend these lines, or say data.read.delimiter=... (or quote, header, names)",
            )


def _tables(bundle: Bundle, data: str | Path, overrides: Sequence[str]) -> tuple[Iterator[Table], frozenset[str]]:
    """The rows of a source, read as the training rows were unless `data.read.*` overrides; spellings of missing labels."""
    if not bundle.read and not overrides and bundle.modality == "tabular":
        return _with_columns(tables_of(data), bundle, data), frozenset()
    from keepfit.recipe.load import read_options
    from keepfit.stages.ingest import reading

    said = read_options(bundle.read, overrides)
    if bundle.modality == "image":
        from keepfit.stages.pictures import tables as picture_tables

        column = bundle.manifest.get("image_column")
        return picture_tables(str(data), column, bundle.target, reading(said)), frozenset()
    if bundle.modality == "text":
        return _text_tables(bundle, data, said, bool(overrides)), frozenset()
    missing = frozenset(text.strip().lower() for text in said.missing)
    tables = _with_columns(tables_of(data, reading(said, spare=bundle.target)), bundle, data)
    more = missing - {text.strip().lower() for text in bundle.read.get("missing", [])}
    return (_blanked(table, more) for table in tables) if more else tables, missing


def _text_tables(bundle: Bundle, data: str | Path, said: Any, as_table: bool) -> Iterator[Table]:
    """Texts of a folder, of .txt files (with `data.read` overrides those are tables), or of a table."""
    from keepfit.runtime.text_predictor import renamed
    from keepfit.stages import texts
    from keepfit.stages.ingest import reading

    if _is_of_texts(data) and not as_table:
        return texts.tables(str(data), bundle.target, said.encoding)
    column = bundle.manifest.get("text_column")
    rows = tables_of(data, reading(said, spare=bundle.target))
    return _with_columns((renamed(table, column) for table in rows), bundle, data)


def _is_of_texts(data: str | Path) -> bool:
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
    import numpy as np

    def blank(column: NDArray[np.object_]) -> NDArray[np.object_]:
        bad = [text is not None and text.strip().lower() in missing for text in column]
        return np.array([None if gone else text for text, gone in zip(column, bad, strict=True)], object)

    return Table({name: blank(column) for name, column in table.columns.items()}, table.ids)


def predict(
    bundle: str | Path,
    data: str | Path,
    output: str | Path | None = None,
    write: Callable[[str], object] | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Answers for a source, to a csv, parquet or jsonl file, or as CSV lines through `write`. Returns counts."""
    from keepfit.runtime.answers import class_name
    from keepfit.runtime.writers import csv_lines
    from keepfit.runtime.writers import write as write_file

    model = load(bundle)
    labels = [class_name(label) for label in model.bundle.classes]
    pictures = model.bundle.modality == "image" or (
        model.bundle.modality == "text" and _is_of_texts(data) and not overrides
    )
    names = ["prediction", *[f"probability_{label}" for label in labels], "error", *(["file"] if pictures else [])]
    counts: dict[str, Any] = {"rows": 0, "errors": 0, "unseen": {}}
    tables, _ = _tables(model.bundle, data, overrides)

    def rows() -> Iterator[list[Any]]:
        for table in tables:
            answers = model.answer(table)
            counts["rows"] += len(answers)
            for column, times in answers.unseen.items():
                counts["unseen"][column] = counts["unseen"].get(column, 0) + times
            for place, (label, error) in enumerate(zip(answers.labels, answers.errors, strict=True)):
                counts["errors"] += bool(error)
                shares = (
                    []
                    if answers.probabilities is None
                    else [None if error else float(p) for p in answers.probabilities[place]]
                )
                yield [label, *shares, error, *([str(table.ids[place])] if pictures else [])]

    if output is not None:
        write_file(
            Path(output),
            names,
            [_kind(model.bundle.classes), *["DOUBLE"] * len(labels), *["VARCHAR"] * (1 + pictures)],
            rows(),
        )
    else:
        for line in csv_lines(names, rows()):
            (write or (lambda text: None))(line)
    return counts


def _kind(classes: Sequence[Any]) -> str:
    """The Parquet type that holds every class, or a regression's answers where there are none."""
    found = {type(label) for label in classes}
    if found == {bool}:
        return "BOOLEAN"
    if found == {int}:
        return "BIGINT"
    return "DOUBLE" if found <= {int, float} else "VARCHAR"


def evaluate(bundle: str | Path, data: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Metrics on labelled raw data: `metrics`, `rows`, `label_matches`, `errors`."""
    import numpy as np

    from keepfit.stages.results import matched_truth
    from keepfit.tasks.metrics import METRICS, score
    from keepfit.tasks.task import Task

    model = load(bundle)
    task = Task(
        "classification" if model.bundle.task == "classification" else "regression",
        model.bundle.target,
        tuple(model.bundle.classes),
    )
    answers, truths = [], []
    tables, missing = _tables(model.bundle, data, overrides)
    for table in tables:
        if task.target not in table.columns:
            from keepfit.core.errors import nearest

            raise DataError(
                "no_target",
                f"the data has no column {task.target!r}",
                where=str(data),
                seen=", ".join(table.names)[:300],
                hint=nearest(task.target, table.names),
            )
        answers.append(model.answer(table))
        truths.append(table.columns[task.target])
    labels = np.concatenate(truths)
    truth, matches, known = matched_truth(labels, task, missing)
    good = known & np.array([not error for part in answers for error in part.errors])
    if not good.any():
        raise DataError("no_rows", "no row has both an answer and a label", where=str(data))
    if task.kind == "classification":
        scores = np.concatenate([part.probabilities for part in answers if part.probabilities is not None])
    else:
        scores = np.array([np.nan if v is None else v for part in answers for v in part.labels])
    return {
        "metrics": score(task, truth[good], scores[good], list(METRICS[task.kind])),
        "rows": int(good.sum()),
        "label_matches": matches,
        "errors": int((~good).sum()),
    }


def verify(bundle: str | Path) -> dict[str, Any]:
    """Check hashes and golden rows of a bundle. Raises EnvironmentFault."""
    opened = Bundle.open(Path(bundle))
    opened.predictor()
    return {"bundle": str(opened.path.resolve()), "sha256": opened.sha256, "files": len(opened.files), "verified": True}


__all__ = ["KeepfitError", "Model", "evaluate", "fit", "load", "make_plan", "predict", "registry", "run", "verify"]
