"""Verbs about Keepfit itself: schema, parts, doctor; and those that are not available yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from keepfit.cli.later import NOT_YET, refuse
from keepfit.cli.output import AsJson, Verb, result


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (schema, parts, doctor):
        app.command(cls=Verb)(verb)
    for name, purpose in ((name, purpose) for name, purpose in NOT_YET.items() if " " not in name):
        app.command(
            name,
            help=f"Not available yet: {purpose}.",
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_refusal(name))


def _refusal(name: str) -> Callable[[], None]:
    def refused() -> None:
        refuse(name)

    return refused


def schema(as_json: AsJson = False) -> None:
    """JSON Schema of a recipe, for editors."""
    import json

    from keepfit.recipe.render import schema as made

    found = made()
    result(found, as_json, "" if as_json else json.dumps(found, indent=2, ensure_ascii=False))


def parts(
    name: Annotated[str | None, typer.Argument(help="a kind, or KIND.NAME", metavar="[KIND[.NAME]]")] = None,
    as_json: AsJson = False,
) -> None:
    """Everything a recipe may name, and where its code lives."""
    from dataclasses import asdict

    from keepfit.core import catalog

    kind, _, one = (name or "").partition(".")
    if kind:
        catalog.options_of(kind, one or next(iter(catalog.TABLE.get(kind, {"": ""}))))
    found = [
        catalog.find(k, n)
        for k, names in catalog.TABLE.items()
        for n in names
        if (not kind or k == kind) and (not one or n == one)
    ]
    lines = [f"{w.kind}.{w.name:12} {w.doc.splitlines()[0]}\n{'':20} {w.file}:{w.line}" for w in found]
    result({"parts": [asdict(w) for w in found]}, as_json, "\n".join(lines))


def doctor(as_json: AsJson = False) -> None:
    """Python, cores, accelerator, extras present, and the command for those that are not."""
    from keepfit import health

    found = health.doctor()
    lines = [f"python     {found['python']} on {found['cores']} cores, accelerator: {found['accelerator']}"]
    lines += [
        f"extra      {e['extra']:8} {'present' if not e['absent'] else 'absent: ' + e['install']}"
        for e in found["extras"]
    ]
    lines += [f"warning    {text}" for text in found["warnings"]]
    result(found, as_json, "\n".join(lines))
