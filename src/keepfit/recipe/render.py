"""Writes a recipe with its defaults spelled out: the identity card of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from keepfit.recipe.model import RecipeFields, schema_class, unused_keys
from keepfit.runtime.reading import redacted
from keepfit.runtime.sources import expand, path_in

Rename = Callable[[str], str]


def fill(recipe: RecipeFields, rename: Rename | None = None) -> str:
    """YAML of every key that the plan reads, defaults included; passwords in URLs are redacted, `${NAME}` stays.

    `rename` says how a source is spelled.
    """
    values = values_read(recipe, rename)
    return redacted(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))


def values_read(recipe: RecipeFields, rename: Rename | None = None) -> dict[str, Any]:
    """The recipe as JSON, less absent values and keys that nothing reads."""
    values: dict[str, Any] = _pruned(recipe, recipe.model_dump(mode="json", by_alias=True))
    for dotted in unused_keys(recipe):
        place = values
        *parents, last = dotted.split(".")
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    for key in {"source", "train", "validation", "test"} & set(values["data"]):
        values["data"][key] = _renamed(values["data"][key], rename)
    if rename is not None and "model" in values:
        _rename_model(recipe, values["model"], rename)
    return values


def _rename_model(recipe: RecipeFields, model: dict[str, Any], rename: Rename) -> None:
    """The learner's own files: a class, and weights that lie here (a known name or one of a hub is no path)."""
    if "class" in model:
        file, _, name = str(model["class"]).rpartition(":")
        model["class"] = f"{rename(file)}:{name}"
    source = model.get("source")
    if isinstance(source, str) and (recipe.folder / source).exists():
        model["source"] = rename(source)


def _renamed(source: str | dict[str, str], rename: Rename | None) -> str | dict[str, str]:
    """A source with the path in it spelled by `rename`, and no password."""
    if isinstance(source, dict):
        return {**source, "source": str(_renamed(source["source"], rename))}
    before, path = path_in(source)
    return redacted(source) if rename is None or not path else before + rename(path)


def file_name(source: str) -> str:
    """A source without its folder: what may leave the house, and is the same wherever the data lies."""
    kind, _, path = source.partition(":")
    return f"records:{Path(path).name}" if kind == "records" else Path(source).name


def seen_from(home: Path, goal: Path) -> Rename:
    """Sources that were relative to `home`, spelled so that they are found from `goal`; absolute on another root."""

    def rename(source: str) -> str:
        kind, mark, path = source.partition(":")
        if mark and kind == "records":
            return source if "${" in path or "://" in path else f"records:{rename(path)}"
        absolute = Path(expand(source)).is_absolute()
        if "${" in source and absolute:
            return source
        whole, base = os.path.normpath(home.resolve() / source), str(goal.resolve())
        try:
            apart = len(Path(os.path.commonpath([whole, base])).parts) == 1
        except ValueError:  # other drives
            apart = True
        return whole if apart else os.path.relpath(whole, base)

    return rename


def quoted(text: str) -> str:
    """A text as a YAML scalar on one line, whatever is in it."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=2**30)).rstrip("\n")


def _pruned(said: Any, value: Any) -> Any:
    """Without what is absent by default; an absence that was asked for (`clip_norm: null`) stays."""
    if isinstance(said, BaseModel):
        kept = {}
        for name, field in type(said).model_fields.items():
            found, key = getattr(said, name), field.alias or name
            if found is not None or field.default is not None:
                kept[key] = _pruned(found, value[key])
        return kept
    if isinstance(said, list):
        return [_pruned(*pair) for pair in zip(said, value, strict=True)]
    return value


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe of any modality, for editors."""
    made = schema_class().model_json_schema()
    data = made["$defs"]["DataOptions"]
    data["required"] = [name for name in data["required"] if name != "target"]  # a folder per class has none
    made["properties"]["model"].pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Keepfit recipe", **made}
