"""Writes docs/reference/recipe.md from the recipe's models: every key with type, default and description."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from keepfit.core import catalog
from keepfit.recipe.model import NOT_YET, NOT_YET_VALUES, recipe_class

HERE = Path(__file__).parent / "reference" / "recipe.md"
PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "absent"}
INTRO = """# Recipe reference

Every key of a recipe, version 1. This page is written by `make docs` from the models that check a recipe: do not edit it.
`keepfit schema` prints the same as JSON Schema for editors; `keepfit render RECIPE` writes a recipe with its defaults.

Only `data.target` and one of `data.source` and `data.train` are needed.
"""


def page() -> str:
    """The whole page as Markdown."""
    recipe = recipe_class()
    top = {name: field for name, field in recipe.model_fields.items() if section_of(field) is None and name != "model"}
    parts = [INTRO, "## At the top\n", table(top)]
    for name, field in recipe.model_fields.items():
        section = section_of(field)
        if section is not None:
            parts += [f"## {name}\n", f"{section.__doc__}\n", *sections(section, name)]
    parts += ["## model\n", "One of these learners, chosen by `model.use`; `auto` when the section is absent.\n"]
    for name in catalog.TABLE["tabular"]:
        options = catalog.options_of("tabular", name)
        parts += [f"### model: {{use: {name}}}\n", f"{options.__doc__}\n", *sections(options, "model")]
    for name in ("tfidf", "pretrained", "custom"):
        options = catalog.options_of("text", name)
        parts += [f"### model: {{use: {name}}}, for texts\n", f"{options.__doc__}\n", *sections(options, "model")]
    return "\n".join([*parts, "## Not available yet\n", *not_yet(), ""])


def sections(model: type[BaseModel], path: str) -> list[str]:
    """The table of a section, and those of the sections inside it."""
    flat: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is None:
            flat[f"{path}.{name}"] = field
        else:
            flat.update({f"{path}.{name}.{key}": value for key, value in inner.model_fields.items()})
    return [table(flat)]


def table(fields: dict[str, FieldInfo]) -> str:
    """One row per key."""
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in fields.items():
        about = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {kind(field.annotation)} | {default(field)} | {about} |")
    return "\n".join(rows) + "\n"


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, else None."""
    found = field.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def kind(annotation: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inside[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return ", ".join(kind(one) for one in inside if one is not type(None))
    if origin is list:
        return f"list of {kind(inside[0])}"
    if origin is dict:
        return f"mapping of {kind(inside[0])} to {kind(inside[1])}"
    return PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default(field: FieldInfo) -> str:
    """The default in YAML's words."""
    if field.is_required():
        return "needed"
    value = field.default_factory() if field.default_factory is not None else field.default  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "needed"
    words = {None: "absent", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if value == [] or value == {}:
        return "empty"
    return f"`{value}`"


def not_yet() -> list[str]:
    """Keys and values that the language reserves and this version refuses."""
    keys = [
        f"`{section}.{name}`" if section else f"`{name}`"
        for section, names in NOT_YET.items()
        for name in sorted(names)
    ]
    values = [f"`{key}: {value}`" for key, found in NOT_YET_VALUES.items() for value in sorted(found)]
    return ["Refused by name, never ignored: " + ", ".join([*keys, *values]) + "."]


if __name__ == "__main__":
    HERE.parent.mkdir(parents=True, exist_ok=True)
    HERE.write_text(page(), "utf-8")
    print(f"wrote {HERE}")
