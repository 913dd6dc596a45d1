"""Verbs of the closed loop: up and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keepfit.cli.output import HERE, AsJson, Overrides, Quiet, Verb, Workspace, interruptible, progress, result


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(cls=Verb)(up)
    app.command(cls=Verb)(why)


def up(
    recipe: Annotated[Path, typer.Argument(help="the recipe file", metavar="RECIPE")],
    overrides: Overrides = None,
    time: Annotated[str | None, typer.Option(help="stop after this time, such as 10m; runs on when absent")] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="ask the loop that is at work for a challenger")] = False,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The closed loop: run if there is no champion, serve it, watch, retrain, gate, swap, roll back."""
    from keepfit import recipe as recipes
    from keepfit.loop.up import ask
    from keepfit.loop.up import up as go
    from keepfit.recipe.outcome import seconds

    if retrain:
        name = recipes.load(recipe, overrides or ()).name
        result({"asked": name}, as_json, f"asked the loop in {ask(name, workspace)} for a challenger")
        return
    until = None
    if time is not None:
        from keepfit.core.errors import UsageError

        try:
            until = float(str(seconds(time)))
        except ValueError as error:
            raise UsageError("usage", str(error), where="--time", seen=time, hint="--time 10m") from None
    with progress(quiet) as emit, interruptible("what is in flight is answered") as stopped:
        found = go(
            recipe,
            tuple(overrides or ()),
            workspace=workspace,
            emit=emit,
            stopped=stopped,
            announce=lambda url: print(f"answers at {url}", file=sys.stderr, flush=True),
            seconds=until,
        )
    lines = [f"champion   {found['name']}@{found['champion']}", f"journal    {found['journal']}"]
    lines += [f"{kind:10} {count}" for kind, count in found["decisions"].items() if count]
    result(found, as_json, "\n".join(lines))


def why(
    request_id: Annotated[str, typer.Argument(help="the request_id of an answer", metavar="REQUEST_ID")],
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """From an answer to its model version, recipe and data rows."""
    from keepfit.loop.why import told, why_of

    found = why_of(request_id, workspace)
    result(found, as_json, told(found))
