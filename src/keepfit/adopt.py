"""Packages a model that exists already: writes the recipe that names it, and walks it like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.core.catalog import load as part
from keepfit.core.errors import DataError, UsageError, nearest
from keepfit.core.events import Emit, silent

if TYPE_CHECKING:
    from keepfit.engine.run import Run
    from keepfit.recipe import Recipe

_KINDS = "keepfit.training.existing.kinds"


def package(
    model: str | Path,
    data: str,
    target: str | None = None,
    *,
    said: Mapping[str, Any] | None = None,
    validation: str | None = None,
    test: str | None = None,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    workspace: str | Path = ".",
    emit: Emit = silent,
    stopped: Callable[[], bool] = lambda: False,
) -> Run:
    """A run folder with the bundle of a trained model, checked by parity and evaluated on labelled raw `data`.

    `said` are keys of the recipe's `model` section (class, args, classes, columns, size, mean, ...). Without `test` most of
    the rows are test rows: nothing is learned. Raises DataError with the way out for what cannot be packaged.
    """
    from keepfit.engine.plan import plan
    from keepfit.engine.run import run as walk
    from keepfit.store.artifacts import Store

    made = plan(described(model, data, target, said or {}, validation, test, overrides))
    root = Path(workspace)
    return walk(made, Store(root), root / "runs", emit, goal=Path(output) if output else None, stopped=stopped)


def described(
    model: str | Path,
    data: str,
    target: str | None,
    said: Mapping[str, Any],
    validation: str | None = None,
    test: str | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe that packages a model."""
    import yaml

    from keepfit import recipe as recipes
    from keepfit.recipe.load import slug

    path = Path(model).expanduser()
    part(f"{_KINDS}:kind_of")(path)
    section = {"use": "existing", "source": str(model), **said}
    names = part(f"{_KINDS}:named_classes")(path)
    if names is not None and "classes" not in section:
        section["classes"] = names
    given = {"train": data, "validation": validation, "test": test} if validation or test else {"source": data}
    sources = {key: value for key, value in given.items() if value is not None}
    shares = {key: share for key, share in (("test", 0.6), ("validation", 0.1)) if key not in sources}
    value: dict[str, Any] = {
        "version": 1,
        "name": slug(path.name.split(".")[0]),
        "data": {**sources, **({"target": target} if target else {}), **({"split": shares} if shares else {})},
        "model": section,
    }
    _with_columns(value, path, data, target, overrides)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return recipes.parse(text, overrides, origin="package", folder=Path.cwd())


def spelled(words: Mapping[str, str | None]) -> dict[str, Any]:
    """Options of the command line as keys of the recipe: lists by commas, classes from a file too, `args` as YAML."""
    import yaml

    found: dict[str, Any] = {}
    for key, text in words.items():
        if text is None:
            continue
        try:
            if key == "args":
                found[key] = yaml.safe_load(text)
            elif key in ("mean", "std"):
                found[key] = [float(one) for one in text.split(",")]
            elif key == "classes" and Path(text).is_file():
                found[key] = Path(text).read_text("utf-8").splitlines()
            else:
                found[key] = [one.strip() for one in text.split(",")]
        except (ValueError, yaml.YAMLError) as error:
            raise UsageError("bad_value", f"--{key} cannot be read", where=text[:80], seen=str(error)[:120]) from None
    return found


def _with_columns(value: dict[str, Any], path: Path, data: str, target: str | None, overrides: Sequence[str]) -> None:
    """For a table: which columns the model reads, and as what; other columns are left out."""
    if any(word.partition("=")[0] in ("data.image", "data.text", "modality") for word in overrides):
        return
    looks = [
        part(f"keepfit.modalities.{room}.read:looks_like_{kind}")
        for room, kind in (("image", "pictures"), ("text", "texts"))
    ]
    if any(look(data, Path.cwd()) for look in looks):
        return
    if target is None:
        raise UsageError(
            "no_target", "say which column holds the answers", where="keepfit package", hint="--target COLUMN"
        )
    names = _names(data, target)
    if target not in names:
        raise DataError("no_target", f"the data has no column {target!r}", where=data, hint=nearest(target, names))
    section = value["model"]
    inputs = part("keepfit.training.existing.onnx_file:column_inputs")(path) if path.suffix == ".onnx" else {}
    kinds = {
        name: inputs.get(name, "numeric") for name in (section.get("columns") or inputs or names) if name != target
    }
    left = {name: "ignore" for name in names if name != target and name not in kinds}
    value["data"]["columns"] = {name: kind for name, kind in {**kinds, **left}.items() if name in names}


def _names(data: str, target: str) -> list[str]:
    """The columns of a table."""
    from keepfit.start import sample

    return list(sample(data, target).names)
