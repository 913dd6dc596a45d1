"""Writes a recipe with its defaults spelled out: the identity card of a run."""

from __future__ import annotations

import re
from typing import Any

import yaml

from keepfit.recipe.model import RecipeFields, recipe_class, unused_keys

_PASSWORD = re.compile(r"(://[^:/@\s]+:)[^@/\s]+@")


def fill(recipe: RecipeFields) -> str:
    """YAML of every key that the plan reads, defaults included; passwords in URLs are redacted, `${NAME}` stays."""
    values = values_read(recipe)
    return _PASSWORD.sub(r"\1***@", yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))


def values_read(recipe: RecipeFields) -> dict[str, Any]:
    """The recipe as JSON, less absent values and keys that nothing reads."""
    values: dict[str, Any] = _pruned(recipe.model_dump(mode="json"))
    for dotted in unused_keys(recipe):
        place = values
        *parents, last = dotted.split(".")
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    return values


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    return value


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    made = recipe_class().model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Keepfit recipe", **made}
