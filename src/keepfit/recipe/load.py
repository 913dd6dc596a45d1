"""Reads YAML with line numbers, merges overrides, validates; a mistake ends here with file, line and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from keepfit.core import catalog
from keepfit.core.errors import EnvironmentFault, RecipeError, from_os_error, nearest
from keepfit.recipe.data import ReadOptions
from keepfit.recipe.model import (
    MODALITIES,
    NOT_YET,
    NOT_YET_VALUES,
    RecipeFields,
    learns_by_network,
    recipe_class,
    unused_keys,
)

Lines = dict[tuple[str, ...], int | str]  # the line of a key, or the override that set it
_TABLE = re.compile(r"\.(csv|tsv|txt|data|parquet|jsonl|ndjson|json)(\.gz)?$", re.IGNORECASE)
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
        raise _explained(error, given, lines, "overrides", ("data", "read")) from None


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
            "bad_yaml", "a recipe is a mapping of sections", where=f"{origin}:1", seen=type(value).__name__
        )
    given: dict[str, Any] = {"name": name, **value}
    for override in overrides:
        _override(given, override, lines)
    _refuse_not_yet(given, lines, origin)
    if isinstance(given.get("model"), dict):
        given["model"] = {"use": "auto", **given["model"]}
    modality = _modality(given, folder or Path.cwd())
    filled = _with_defaults(given, modality)
    try:
        recipe = recipe_class(modality).model_validate(filled)
    except ValidationError as error:
        raise _explained(error, given, lines, origin) from None
    recipe._folder = folder or Path.cwd()
    _refuse_unused(recipe, given, lines, origin)
    return recipe


def _modality(given: Mapping[str, Any], folder: Path) -> str:
    """What the recipe says; else image where it names a column of pictures or its source looks like pictures."""
    said = given.get("modality")
    if isinstance(said, str):
        return said if said in MODALITIES else "tabular"
    data = given.get("data")
    if not isinstance(data, Mapping):
        return "tabular"
    if data.get("image") is not None:
        return "image"
    source = data.get("source", data.get("train"))
    if not isinstance(source, str) or ":" in source.partition("/")[0] or _TABLE.search(source):
        return "tabular"
    looks: Any = catalog.load("keepfit.modalities.image.read:looks_like_pictures")
    return "image" if looks(source, folder) else "tabular"


def _with_defaults(given: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The recipe over what its modality and its learner prefer; what the recipe says stands."""
    filled = dict(given)
    if modality == "image":
        filled["modality"] = modality
        if isinstance(given.get("data"), Mapping):
            filled["data"] = {"target": "label", **given["data"]}
    model = given.get("model")
    use = model.get("use", "auto") if isinstance(model, Mapping) else "auto"
    train = given.get("train", {})
    if isinstance(use, str) and learns_by_network(modality, use) and isinstance(train, Mapping):
        preset = given.get("preset", "balanced")
        prefers = catalog.options_of(modality, use).train_defaults(  # type: ignore[attr-defined]
            preset if preset in ("fast", "balanced", "best") else "balanced"
        )
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


def _where(path: tuple[str, ...], lines: Lines, origin: str) -> str:
    """The override that set a key or what holds it, else its line."""
    above = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
    if isinstance(above, str):
        return above
    return f"{origin}:{lines[path]}, key {'.'.join(path)}" if path in lines else origin


def _where_below(path: tuple[str, ...], lines: Lines, origin: str) -> str:
    """The last override inside a section whose keys do not fit together, else the section."""
    inside = [said for known, said in lines.items() if isinstance(said, str) and known[: len(path)] == path]
    return inside[-1] if inside else _where(path, lines, origin)


def _refuse_not_yet(given: Mapping[str, Any], lines: Lines, origin: str) -> None:
    for section, names in NOT_YET.items():
        place = given if not section else given.get(section)
        for name in sorted(names & set(place)) if isinstance(place, Mapping) else []:
            path: tuple[str, ...] = (section, name) if section else (name,)
            raise RecipeError(
                "not_available",
                f"{'.'.join(path)!r} is not available yet",
                where=_where(path, lines, origin),
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
                    "not_available", f"{dotted}: {one} is not available yet", where=_where(keys, lines, origin)
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
                where=_where(path, lines, origin),
                hint="take it out, or choose a model or split that uses it",
            )


def _explained(
    error: ValidationError, given: Mapping[str, Any], lines: Lines, origin: str, above: tuple[str, ...] = ()
) -> RecipeError:
    problems = error.errors(include_url=False)
    first = min(problems, key=lambda p: p["type"] != "extra_forbidden")
    learner = (given.get("model") or {}).get("use", "auto") if isinstance(given.get("model"), dict) else "auto"
    path = above + tuple(
        str(part)
        for place, part in enumerate(first["loc"])
        if not (place == 1 and first["loc"][0] == "model" and part == learner)
    )
    known = path if path in lines else path[:-1]
    look = _where_below if first["type"] == "value_error" else _where
    where = look(known or path, lines, origin) if path else origin
    if first["type"] == "extra_forbidden":
        fields = _fields_at(path[:-1], str(learner))
        return RecipeError(
            "unknown_key",
            f"there is no key {path[-1]!r} here",
            where=_where(path, lines, origin),
            hint=_homes(path[-1], fields),
        )
    if first["type"] == "missing":
        return RecipeError("key_missing", f"the key {'.'.join(path)!r} is needed", where=where if known else origin)
    if first["type"] == "union_tag_invalid":
        return RecipeError(
            "bad_value",
            f"there is no learner {learner!r}",
            where=_where(("model", "use"), lines, origin),
            seen=str(learner),
            hint=nearest(str(learner), catalog.TABLE["tabular"]),
        )
    seen = repr(first["input"])[:80]
    hint = first["msg"].removeprefix("Value error, ")
    expected = first.get("ctx", {}).get("expected")
    if expected and isinstance(first["input"], str):
        hint = nearest(first["input"], re.findall(r"'([^']+)'", str(expected))) or hint
    more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
    return RecipeError(
        "bad_value",
        f"the value of {'.'.join(path) or 'the recipe'!r} does not fit{more}",
        where=where,
        seen=seen,
        hint=hint,
    )


def _fields_at(path: tuple[str, ...], learner: str) -> list[str]:
    place: Any = recipe_class()
    for key in path:
        if key == "model":
            known = learner if learner in catalog.TABLE["tabular"] else "auto"
            place = catalog.options_of("tabular", known)
            continue
        field = place.model_fields.get(key) if isinstance(place, type) and issubclass(place, BaseModel) else None
        place = field.annotation if field else None
    return list(place.model_fields) if isinstance(place, type) and issubclass(place, BaseModel) else []


def _homes(name: str, fields: Sequence[str]) -> str:
    """The nearest key here, or the section in which a key of this very name belongs."""
    for section, field in recipe_class().model_fields.items():
        kind = field.annotation
        if section == name:
            return f"{name!r} is a section of its own, at the left margin"
        if isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields and name not in fields:
            return f"{name!r} belongs under {section!r}"
    return nearest(name, fields)
