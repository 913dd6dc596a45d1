"""Reads YAML with line numbers, merges overrides, validates; a mistake ends here with file, line and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from keepfit.core import catalog
from keepfit.core.errors import EnvironmentFault, RecipeError, from_os_error
from keepfit.recipe.data import ReadOptions
from keepfit.recipe.mistakes import Lines, explained, where_of
from keepfit.recipe.model import (
    MODALITIES,
    NOT_YET,
    NOT_YET_VALUES,
    RecipeFields,
    learns_by_network,
    recipe_class,
    unused_keys,
)
from keepfit.runtime.sources import ANNOTATED

_TABLE = re.compile(r"\.(csv|tsv|txt|data|parquet|jsonl|ndjson|json|xlsx|xlsm)(\.gz)?$", re.IGNORECASE)
_DEEPEST, _MOST_KEYS = 20, 20_000


def load(path: Path, overrides: Sequence[str] = ()) -> RecipeFields:
    """The recipe at `path` with `key.path=value` overrides. Raises RecipeError with file and line."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise RecipeError("not_text", "the recipe is not a UTF-8 text file", where=str(path)) from None
    except FileNotFoundError:
        raise RecipeError(
            "no_recipe", "there is no such recipe", where=str(path), hint="keepfit init DATA --target COLUMN writes one"
        ) from None
    except IsADirectoryError:
        raise RecipeError("no_recipe", "the recipe is a folder", where=str(path), hint="name the .yaml file") from None
    except OSError as error:
        raise from_os_error(error, "reading the recipe") from None
    return parse(text, overrides, origin=str(path), folder=path.resolve().parent, name=slug(path.stem))


def slug(text: str) -> str:
    """A text as a recipe's name."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:60] or "model"


def read_options(said: Mapping[str, Any], overrides: Sequence[str] = ()) -> ReadOptions:
    """How a bundle's rows were read, with `data.read.*` overrides. Raises RecipeError for any other key."""
    try:
        ReadOptions.model_validate(dict(said))
    except ValidationError as error:
        raise EnvironmentFault(
            "damaged_bundle", "bundle.json cannot be read", where="bundle.json, key read", seen=str(error)[:200]
        ) from None
    given: dict[str, Any] = {"data": {"read": dict(said)}}
    lines: Lines = {}
    for override in overrides:
        if not override.startswith("data.read.") and "=" in override:
            raise RecipeError(
                "unused_key",
                "this verb reads no such key",
                where=override,
                hint="known: " + ", ".join(f"data.read.{name}" for name in ReadOptions.model_fields),
            )
        _override(given, override, lines)
    try:
        return ReadOptions.model_validate(given["data"]["read"])
    except ValidationError as error:
        raise explained(error, given["data"]["read"], lines, "overrides", above=("data", "read")) from None


def parse(
    text: str, overrides: Sequence[str] = (), *, origin: str = "recipe", folder: Path | None = None, name: str = "model"
) -> RecipeFields:
    """A recipe from YAML text; `origin` names it in errors."""
    lines: Lines = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise RecipeError("bad_yaml", "the recipe is nested too deep", where=origin) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise RecipeError(
            "bad_yaml", "the recipe is not valid YAML", where=where, seen=str(getattr(error, "problem", error))
        ) from None
    value = _value(node, (), lines, origin) if node is not None else {}
    if not isinstance(value, dict):
        raise RecipeError(
            "bad_yaml",
            "a recipe is a mapping of sections",
            where=f"{origin}:1",
            seen="a text" if isinstance(value, str) else type(value).__name__,
            hint="is this the data? keepfit init DATA writes a recipe; keepfit fit DATA --target COLUMN needs none",
        )
    given: dict[str, Any] = {"name": name, **value}
    for override in overrides:
        _override(given, override, lines)
    _refuse_not_yet(given, lines, origin)
    if isinstance(given.get("model"), dict):
        given["model"] = {"use": "auto", **given["model"]}
    modality = _modality(given, folder or Path.cwd())
    if modality == "text":
        given["model"] = _named_weights(given.get("model"))
    filled = _with_defaults(given, modality)
    try:
        recipe = recipe_class(modality).model_validate(filled)
    except ValidationError as error:
        raise explained(error, filled, lines, origin, modality=modality) from None
    recipe._folder = folder or Path.cwd()
    _refuse_unused(recipe, given, lines, origin)
    return recipe


def _modality(given: Mapping[str, Any], folder: Path) -> str:
    """What the recipe says; else what a column that it names or its source looks like."""
    said = given.get("modality")
    if isinstance(said, str):
        return said if said in MODALITIES else "tabular"
    data = given.get("data")
    if not isinstance(data, Mapping):
        return "tabular"
    if data.get("image") is not None:
        return "image"
    if data.get("text") is not None:
        return "text"
    source = data.get("source", data.get("train"))
    if isinstance(source, str) and source.lower().startswith(ANNOTATED):
        return "image"
    if not isinstance(source, str) or ":" in source.partition("/")[0] or _TABLE.search(source):
        return "tabular"
    looks: Any = catalog.load("keepfit.modalities.image.read:looks_like_pictures")
    if looks(source, folder):
        return "image"
    return "text" if catalog.load("keepfit.modalities.text.read:looks_like_texts")(source, folder) else "tabular"


def _named_weights(model: Any) -> Any:
    """`auto` for texts with the name of weights is `pretrained`; without, it takes nothing that was not named."""
    if isinstance(model, dict) and model.get("use") == "auto" and "source" in model:
        return {**model, "use": "pretrained"}
    return {"use": "auto"} if model is None else model


def _with_defaults(given: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The recipe over what its modality and its learner prefer; what the recipe says stands."""
    filled = dict(given)
    if modality != "tabular":
        filled["modality"] = modality
        if isinstance(given.get("data"), Mapping):
            filled["data"] = {"target": "label", **given["data"]}
    model = given.get("model")
    use = model.get("use", "auto") if isinstance(model, Mapping) else "auto"
    train = given.get("train", {})
    if isinstance(use, str) and learns_by_network(modality, use) and isinstance(train, Mapping):
        preset = given.get("preset", "balanced")
        options: Any = catalog.options_of(modality, use)
        prefers = options.train_defaults(preset if preset in ("fast", "balanced", "best") else "balanced")
        if hasattr(options, "train_adjusted") and isinstance(model, Mapping):
            prefers = {**prefers, **options.train_adjusted(model)}
        filled["train"] = _over(prefers, train)
    return filled


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; another `use` starts from nothing, a bare name is a `use`."""
    found = dict(below)
    for key, value in above.items():
        under, said = (
            below.get(key),
            {"use": value} if key in ("optimizer", "schedule") and isinstance(value, str) else value,
        )
        same = (
            isinstance(said, Mapping)
            and isinstance(under, Mapping)
            and said.get("use", under.get("use")) == under.get("use")
        )
        found[key] = {**under, **said} if same and isinstance(under, Mapping) and isinstance(said, Mapping) else value
    return found


def _value(node: yaml.Node, path: tuple[str, ...], lines: Lines, origin: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if len(path) > _DEEPEST or len(lines) > _MOST_KEYS:  # an alias of itself, or aliases of aliases
        raise RecipeError("bad_yaml", "the recipe is nested too deep", where=f"{origin}:{lines[path]}")
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            where = f"{origin}:{key_node.start_mark.line + 1}"
            if key in out:
                raise RecipeError("duplicate_key", f"the key {key!r} stands twice", where=where)
            out[key] = _value(value_node, (*path, key), lines, origin)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, str(place)), lines, origin) for place, item in enumerate(node.value)]
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # a tag whose text does not fit it
        raise RecipeError(
            "bad_yaml", "a value cannot be read", where=f"{origin}:{lines[path]}", seen=str(error)
        ) from None


def _override(given: dict[str, Any], override: str, lines: Lines) -> None:
    key, found, text = override.partition("=")
    if not found or not key:
        raise RecipeError("bad_override", "an override is key.path=value", where=override)
    *parents, last = key.split(".")
    place = given
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise RecipeError("bad_override", f"{parent!r} holds a value, not keys", where=override)
        place = below
    try:
        alone = len(text) < 2 and not text.isalnum() and text != "~"  # a delimiter such as | is no YAML
        place[last] = text if alone else yaml.safe_load(text)
    except RecursionError:
        raise RecipeError("bad_override", "an override is nested too deep", where=key) from None
    except (yaml.YAMLError, ValueError, KeyError, AttributeError):
        place[last] = text
    path = (*parents, last)
    for replaced in [known for known in lines if known[: len(path)] == path]:
        del lines[replaced]
    lines[path] = override


def _refuse_not_yet(given: Mapping[str, Any], lines: Lines, origin: str) -> None:
    for section, names in NOT_YET.items():
        place = given if not section else given.get(section)
        for name in sorted(names & set(place)) if isinstance(place, Mapping) else []:
            path: tuple[str, ...] = (section, name) if section else (name,)
            raise RecipeError(
                "not_available",
                f"{'.'.join(path)!r} is not available yet",
                where=where_of(path, lines, origin),
                hint="take the key out of the recipe",
            )
    for dotted, values in NOT_YET_VALUES.items():
        keys = tuple(dotted.split("."))
        value: Any = given
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one in values:
                raise RecipeError(
                    "not_available", f"{dotted}: {one} is not available yet", where=where_of(keys, lines, origin)
                )


def _refuse_unused(recipe: RecipeFields, given: Mapping[str, Any], lines: Lines, origin: str) -> None:
    for dotted in sorted(unused_keys(recipe)):
        place: Any = given
        path = tuple(dotted.split("."))
        for key in path:
            place = place.get(key) if isinstance(place, Mapping) else None
        if place is not None:
            raise RecipeError(
                "unused_key",
                f"nothing in this plan reads {dotted!r}",
                where=where_of(path, lines, origin),
                hint="take it out, or choose a model or split that uses it",
            )
