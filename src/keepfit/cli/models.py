"""The verb of the registry: list, show, register, promote, rollback, release, push and verify models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfit.cli.output import HERE, AsJson, Verb, Workspace, result


@dataclass(frozen=True)
class _Asked:
    """What the command line said."""

    what: str
    workspace: Path
    name: str
    alias: str
    parents: list[int]
    why: str
    to: str


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(cls=Verb)(models)


def models(
    action: Annotated[str, typer.Argument(help="list show register promote rollback release push verify")] = "list",
    what: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@NUMBER; a bundle", metavar="[MODEL]")] = "",
    name: Annotated[str, typer.Option(help="register: under this name; the recipe's otherwise")] = "",
    parent: Annotated[list[int] | None, typer.Option(help="register: a version that it was trained from")] = None,
    alias: Annotated[str, typer.Option(help="promote: which alias to move")] = "champion",
    why: Annotated[str, typer.Option(help="a reason for the log")] = "",
    to: Annotated[str, typer.Option(help="push: URL that serve --registry follows", metavar="URL")] = "",
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """The registry: versions of named models, and the aliases champion and challenger."""
    from keepfit.core.errors import UsageError, nearest

    if action not in ACTIONS:
        hint = nearest(action, ACTIONS)
        raise UsageError("usage", f"there is no models {action}", where=f"keepfit models {action}", hint=hint)
    if not what and action not in ("list", "verify"):
        what_for = "a bundle" if action == "register" else "NAME@NUMBER, NAME@ALIAS or NAME"
        raise UsageError("usage", "say which model", where=f"keepfit models {action}", hint=what_for)
    found, text = ACTIONS[action](_Asked(what, workspace, name, alias, parent or [], why, to))
    result(found, as_json, text)


def _list(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit import repeat

    found = repeat.models(asked.workspace, asked.what or None)
    return {"models": found}, "\n".join(map(_line, found)) or "no models here yet"


def _line(model: dict[str, Any]) -> str:
    number = str(model.get("version") or "-")
    aliases = ",".join(model.get("aliases", ()))
    tail = model.get("error") or model.get("bundle", "")
    return f"{model['name']:24} {number:>4} {aliases:12} {_figure(model):20} {model.get('sha256', '')[:12]:12} {tail}"


def _figure(model: dict[str, Any]) -> str:
    """The first of the test figures that people ask for, with its name."""
    test = (model.get("metrics") or {}).get("test") or {}
    known = [name for name in ("accuracy", "rmse", "mae") if isinstance(test.get(name), int | float)]
    return f"{known[0]} {test[known[0]]:.4g}" if known else ""


def _verify(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit import repeat

    found = repeat.verify_models(asked.workspace, asked.what or None)
    lines = [*map(_line, found), f"{len(found)} verified: every hash holds, golden rows give the recorded answers"]
    return {"models": found, "verified": True}, "\n".join(lines) if found else "no models here yet"


def _show(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.store.registry import Registry

    registry = Registry(asked.workspace)
    version = registry.resolve(asked.what) if "@" in asked.what else registry.newest(asked.what)
    pointer = registry.pointer(version.name)
    found = {
        **version.as_json(),
        "aliases": sorted(alias for alias, number in pointer.aliases.items() if number == version.version),
        "versions": [one.version for one in registry.versions(version.name)],
        "pointer": pointer.as_json(),
    }
    shown = (
        "name",
        "version",
        "aliases",
        "versions",
        "sha256",
        "task",
        "registered",
        "run",
        "parents",
        "note",
        "bundle",
    )
    lines = [f"{key:12} {', '.join(map(str, v)) if isinstance(v := found[key], list) else v}" for key in shown]
    lines += [f"{'lineage':12} {key} {value}" for key, value in version.lineage.items()]
    test = version.metrics.get("test", {})
    lines += [f"{'test':12} {key} {value:.4f}" for key, value in test.items() if isinstance(value, float)]
    lines += [
        f"{'moved':12} {m.at} {m.alias} {m.before or '-'} -> {m.version or '-'} {m.how} {m.why}"
        for m in pointer.log[-10:]
    ]
    return found, "\n".join(lines)


def _register(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.store.registry import Registry

    registry, place = Registry(asked.workspace), Path(asked.what)
    made = registry.register(place, asked.name, parents=asked.parents, run=str(place.resolve()), note=asked.why)
    pointer = registry.pointer(made.name)
    aliases = sorted(alias for alias, number in pointer.aliases.items() if number == made.version)
    return {**made.as_json(), "aliases": aliases}, f"registered {made.reference} {', '.join(aliases)}".rstrip()


def _promote(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.store.registry import Registry

    registry = Registry(asked.workspace)
    version = registry.resolve(asked.what if "@" in asked.what else f"{asked.what}@challenger")
    return _moved(
        version.name, asked.alias, registry.promote(version.name, version.version, asked.alias, why=asked.why)
    )


def _rollback(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.store.registry import Registry

    name, _, alias = asked.what.partition("@")
    alias = alias or asked.alias
    return _moved(name, alias, Registry(asked.workspace).rollback(name, alias, why=asked.why))


def _release(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.store.registry import Registry

    name, _, alias = asked.what.partition("@")
    return _moved(
        name, alias or asked.alias, Registry(asked.workspace).release(name, alias or asked.alias, why=asked.why)
    )


def _push(asked: _Asked) -> tuple[dict[str, Any], str]:
    from keepfit.core.errors import UsageError
    from keepfit.runtime.sources import expand
    from keepfit.store.mirror import Mirror
    from keepfit.store.registry import Registry

    if not asked.to:
        raise UsageError(
            "usage", "say where to", where="keepfit models push", hint=f"keepfit models push {asked.what} --to URL"
        )
    mirror, registry = Mirror(expand(asked.to)), Registry(asked.workspace)
    moved, aliases = mirror.push(registry, asked.what), dict(registry.pointer(asked.what).aliases)
    said = ", ".join(f"{alias} {number}" for alias, number in sorted(aliases.items()))
    return {"name": asked.what, "url": mirror.shown, "moved": moved, "aliases": aliases}, f"{mirror.shown} has {said}"


def _moved(name: str, alias: str, pointer: Any) -> tuple[dict[str, Any], str]:
    number = pointer.aliases.get(alias)
    found = {
        "name": name,
        "alias": alias,
        "version": number,
        "aliases": dict(pointer.aliases),
        "serial": pointer.serial,
    }
    return found, f"{alias} of {name} is version {number}" if number else f"{name} has no {alias}"


ACTIONS: dict[str, Callable[[_Asked], tuple[dict[str, Any], str]]] = {
    "list": _list,
    "show": _show,
    "register": _register,
    "promote": _promote,
    "rollback": _rollback,
    "release": _release,
    "push": _push,
    "verify": _verify,
}
