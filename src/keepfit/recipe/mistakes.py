"""Turns what validation found wrong into one error with file, line and the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from keepfit.core import catalog
from keepfit.core.errors import RecipeError, nearest
from keepfit.core.options import Options
from keepfit.recipe.model import MODALITIES, recipe_class

Lines = dict[tuple[str, ...], int | str]  # the line of a key, or the override that set it
Kinds = list[type[Options]]
Found = tuple[Any, tuple[str, ...], Kinds]  # a problem of pydantic, its keys, and the options there
_MAPPINGS = ("model_type", "model_attributes_type")
_NOUNS = {"model": "learner", "optimizer": "optimizer", "schedule": "schedule", "augment": "augmentation"}
_INPUTS = {"tabular": "tables", "image": "pictures", "text": "texts"}


def where_of(path: tuple[str, ...], lines: Lines, origin: str) -> str:
    """The override that set a key or what holds it, else its line."""
    above = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
    if isinstance(above, str):
        return above
    return f"{origin}:{lines[path]}, key {'.'.join(path)}" if path in lines else origin


def _where_below(path: tuple[str, ...], lines: Lines, origin: str) -> str:
    """The last override inside a section whose keys do not fit together, else the section."""
    inside = [said for known, said in lines.items() if isinstance(said, str) and known[: len(path)] == path]
    return inside[-1] if inside else where_of(path, lines, origin)


def explained(
    error: ValidationError,
    value: Any,
    lines: Lines,
    origin: str,
    *,
    modality: str = "tabular",
    above: tuple[str, ...] = (),
) -> RecipeError:
    """The first mistake of a recipe. `value` is what was validated, and `above` the keys under which it stands."""
    top = _below([recipe_class(modality)], above)
    problems = error.errors(include_url=False)
    walked = [(problem, *_walk(problem, value, top)) for problem in problems]
    first, path, kinds = _telling(walked)
    same = [found for found in walked if found[1] == path]
    others = {found[1] for found in walked if found[1] != path[: len(found[1])]}
    path = above + path
    kind = first["type"]
    near = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in lines), path)
    look = _where_below if kind == "value_error" else where_of
    where = look(near, lines, origin) if path else origin
    if kind == "extra_forbidden":
        return RecipeError(
            "unknown_key", f"there is no key {path[-1]!r} here", where=where, hint=_homes(path, kinds, modality)
        )
    if kind == "missing" and isinstance(first["loc"][-1], str):
        return RecipeError(
            "key_missing", f"the key {'.'.join(path)!r} is needed", where=where if near in lines else origin
        )
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _no_such_part(path, first["input"], kinds, lines, origin, modality)
    more = f" ({len(others)} more problems)" if others else ""
    return RecipeError(
        "bad_value",
        f"the value of {'.'.join(path) or 'the recipe'!r} does not fit{more}",
        where=where,
        seen=repr(first["input"])[:80],
        hint=_wanted(same),
    )


def _telling(walked: list[Found]) -> Found:
    """The first problem, an unknown key before others; of a union's members the one that came furthest."""
    first = min(walked, key=lambda found: found[0]["type"] != "extra_forbidden")
    if first[0]["type"] == "extra_forbidden":
        return first
    return max((found for found in walked if found[1][: len(first[1])] == first[1]), key=lambda found: len(found[1]))


def _walk(problem: Any, value: Any, kinds: Kinds) -> tuple[tuple[str, ...], Kinds]:
    """The keys among the parts of a problem's place, and the options that hold the last one, or stand at it.

    The place also names members of unions, which are no keys of the recipe.
    """
    path: list[str] = []
    loc = problem["loc"]
    for place, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:
            path.append(str(part))
            if problem["type"] == "extra_forbidden" and place == len(loc) - 1:
                break
            kinds, value = _below(kinds, (str(part),)), value[part]
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            path.append(str(part))
            value = value[part]
        elif problem["type"] == "missing" and place == len(loc) - 1 and isinstance(part, str):
            path.append(part)
        else:
            kinds = [kind for kind in kinds if part in (kind.__name__, _use(kind))] or kinds
    return tuple(path), kinds


def _below(kinds: Kinds, keys: Sequence[str]) -> Kinds:
    """The options that may stand under some keys of options."""
    for key in keys:
        kinds = [found for kind in kinds for name, field in _fields(kind) if name == key for found in _classes(field)]
    return kinds


def _fields(kind: type[Options]) -> Iterator[tuple[str, Any]]:
    """Keys as a recipe spells them, with what they hold."""
    for name, field in kind.model_fields.items():
        yield field.alias or name, field.annotation


def _classes(annotation: Any) -> Kinds:
    if isinstance(annotation, type) and issubclass(annotation, Options):
        return [annotation]
    return [found for part in get_args(annotation) for found in _classes(part)]


def _use(kind: type[Options]) -> str:
    """The name by which the options are chosen, empty for a plain section."""
    field = kind.model_fields.get("use")
    return str(field.default) if field else ""


def _no_such_part(
    path: tuple[str, ...], seen: Any, kinds: Kinds, lines: Lines, origin: str, modality: str
) -> RecipeError:
    noun = _NOUNS.get(path[-1], _NOUNS.get(path[0], "part"))
    names = [_use(kind) for kind in kinds]
    said = seen.get("use") if isinstance(seen, Mapping) else seen
    where = where_of((*path, "use") if (*path, "use") in lines else path, lines, origin)
    if said is None:
        return RecipeError(
            "key_missing",
            f"the key '{'.'.join(path)}.use' is needed",
            where=where,
            seen=repr(seen)[:80],
            hint=f"say which {noun}: {{use: {names[0]}, ...}}; known: {', '.join(sorted(names))}",
        )
    homes = [other for other in MODALITIES if path == ("model",) and str(said) in catalog.TABLE[other]]
    hint = f"{said!r} is for {_INPUTS[homes[0]]}, and this recipe reads {_INPUTS[modality]}; " if homes else ""
    near = f"known: {', '.join(sorted(names))}" if homes else nearest(str(said), names)
    return RecipeError("bad_value", f"there is no {noun} {said!r}", where=where, seen=str(said)[:80], hint=hint + near)


def _wanted(found: list[Found]) -> str:
    """What would fit: the wishes of all members of a union."""
    wishes: list[str] = []
    for problem, _, kinds in found:
        wish = problem["msg"].removeprefix("Value error, ")
        if problem["type"] in _MAPPINGS and kinds:
            names = [name for kind in kinds for name, _ in _fields(kind)]
            wish = "Input should be a mapping with " + ", ".join(dict.fromkeys(names))
        expected = problem.get("ctx", {}).get("expected")
        if expected and isinstance(problem["input"], str):
            near = nearest(problem["input"], re.findall(r"'([^']+)'", str(expected)))
            if near.startswith("did you mean"):
                return near
            wish = near or wish
        wishes.append(wish)
    first, *rest = dict.fromkeys(wishes)
    return " or ".join([first, *(wish.removeprefix("Input should be ") for wish in rest)])


def _homes(path: tuple[str, ...], here: Kinds, modality: str) -> str:
    """The place in which a key of this very name belongs, or the nearest key here."""
    name, stands = path[-1], ".".join(path[:-1])
    fields = [key for kind in here for key, _ in _fields(kind)]
    top = recipe_class(modality)
    if name in top.model_fields:
        return f"{name!r} is a section of its own, at the left margin"
    if name in catalog.TABLE["augment"] and modality == "image":
        return f"{name!r} belongs into the list 'augment'"
    level: list[tuple[str, Kinds]] = [(key, _classes(kind)) for key, kind in _fields(top) if key != "augment"]
    while level:
        for place, kinds in level:
            having = [_use(kind) for kind in kinds if name in dict(_fields(kind))]
            if having and name not in fields:
                some = f" with use: {', '.join(having)}" if len(having) < len(kinds) and all(having) else ""
                return f"{name!r} goes{some}" if place == stands else f"{name!r} belongs under {place!r}{some}"
        level = [
            (f"{place}.{key}", _classes(inner))
            for place, kinds in level
            for kind in kinds
            for key, inner in _fields(kind)
        ]
    return nearest(name, fields)
