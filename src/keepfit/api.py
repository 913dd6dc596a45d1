"""The dozen functions that the command line, notebooks and tests call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import raw
from keepfit.core.errors import KeepfitError
from keepfit.core.events import Emit, silent
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.figures import frame_in_form
from keepfit.runtime.opening import Predictor
from keepfit.runtime.table import Table, from_frame

if TYPE_CHECKING:
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
        model.bundle.modality == "text" and raw.is_of_texts(data) and not overrides
    )
    names = ["prediction", *[f"probability_{label}" for label in labels], "error", *(["file"] if pictures else [])]
    counts: dict[str, Any] = {"rows": 0, "errors": 0, "unseen": {}}
    tables, _ = raw.tables(model.bundle, data, overrides)

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
    """Metrics on labelled raw data: `metrics`, `label_matches`, and `in` = `rows` (measured) + `errors` (left out).

    `left_out` says why rows were left out: `why`, `rows` and the `first` of them. A row is left out that
    cannot be read, has no label, or gets no answer. Raises DataError where that leaves nothing to measure.
    """
    from keepfit import judged

    return judged.evaluate(load(bundle), data, overrides)


def verify(bundle: str | Path) -> dict[str, Any]:
    """Check hashes and golden rows of a bundle. Raises EnvironmentFault."""
    opened = Bundle.open(Path(bundle))
    opened.predictor()
    return {"bundle": str(opened.path.resolve()), "sha256": opened.sha256, "files": len(opened.files), "verified": True}


__all__ = ["KeepfitError", "Model", "evaluate", "fit", "load", "make_plan", "predict", "registry", "run", "verify"]
