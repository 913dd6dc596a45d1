"""Verbs that make: init, check, run, fit, render, package."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.cli.output import HERE, AsJson, Overrides, Quiet, Verb, Workspace, interruptible, progress, result

if TYPE_CHECKING:
    from keepfit.engine.run import Run

RecipePath = Annotated[Path, typer.Argument(help="the recipe file", metavar="RECIPE")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (init, check, run, fit, render, package):
        app.command(cls=Verb)(verb)


def init(
    data: Annotated[str, typer.Argument(help="file, glob or sklearn:NAME")],
    target: Annotated[str | None, typer.Option(help="column to predict; guessed when absent")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="where to write")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the data and write a short commented recipe that runs."""
    from keepfit import start
    from keepfit.core import atomic
    from keepfit.core.errors import UsageError

    if output.exists() and not force:
        raise UsageError("file_exists", "there is already a file", where=str(output), hint="choose -o NAME, or --force")
    text = start.first_recipe(data, target, output.parent)
    atomic.write_text(output, text)
    result(
        {"recipe": str(output.resolve())},
        as_json,
        f"wrote {output}\nnext: keepfit check {output}, keepfit run {output}",
    )


def check(
    recipe: RecipePath, overrides: Overrides = None, workspace: Workspace = HERE, as_json: AsJson = False
) -> None:
    """Validate, profile the data, print the plan and every finding; train nothing."""
    from keepfit import start

    found = start.check(recipe, overrides or (), workspace)
    lines = [f"recipe     fits: task {found['task']}, {found['rows']['in']} rows, {found['rows']['kept']} kept"]
    lines.append(f"columns    as the {found['columns_of']} training rows came:")
    lines += [
        f"  {c['name']:24.24} {c['kind']:12} {c['missing']:6.1%} missing, {c['distinct']} distinct: {c['why']}"
        + (f"\n{'':27}{c['picture']}  {c['range']}" if c.get("range") else "")
        for c in found["columns"]
    ]
    asked = found["target"]
    lines.append(f"target     {asked['name']}: {asked['picture']}  {asked['range']}")
    lines += _findings(found["findings"], "told" if found["leaks"] == "report" else "stop")
    if "network" in found:
        said = found["network"]
        shape = " x ".join(map(str, said["input"]))
        lines.append(
            f"network    {said['name']}: {shape} in, {said['outputs']} out, {said['parameters']:,} weights learn"
        )
    if "processes" in found:
        said = found["processes"]
        lines.append(f"processes  {said['processes']} by {said['use']}, steps of {said['step_rows']} rows")
        lines.append(f"batch norm {said['batch_norm']}")
    lines += [f"ledger     {text}" for text in found["ledger"]]
    lines += [f"warning    {text}" for text in found["warnings"]]
    lines += [f"plan       {stage:10} {status}" for stage, status in found["plan"]]
    result(found, as_json, "\n".join(lines))
    start.refuse(found)


def _findings(found: list[dict[str, Any]], stop: str) -> list[str]:
    """Every finding, and what is done about it, once for those that follow each other with the same; `stop` is what one is
    called that would end a run."""
    lines: list[str] = []
    for (level, proposal, override), some in groupby(found, itemgetter("level", "proposal", "override")):
        level = stop if level == "stop" else level
        lines += [f"{'' if place else level:10} {one['message']}" for place, one in enumerate(some)]
        lines.append(f"{'':11}{proposal}" + (f"; to decide otherwise: {override}" if override else ""))
    return lines


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="make everything again")] = False,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """The whole line; what is already made is kept; a run that was killed goes on."""
    from keepfit import api

    with progress(quiet) as emit, interruptible() as stopped:
        made = api.run(
            recipe, overrides or (), until=until, fresh=fresh, workspace=workspace, emit=emit, stopped=stopped
        )
    _told(made, as_json)


def fit(
    data: Annotated[str, typer.Argument(help="file, glob, folder or zip of pictures, sklearn:NAME")],
    overrides: Overrides = None,
    target: Annotated[str, typer.Option(help="column to predict; not for pictures in folders")] = "",
    time: Annotated[str | None, typer.Option(help="time for trying models, such as 60s")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="the run folder goes there")] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """`run` without a recipe: everything inferred; the recipe it used is in the run folder."""
    from keepfit import api
    from keepfit.core.errors import UsageError
    from keepfit.runtime import sources

    if not target and not api.needs_no_target(data):
        if ":" not in data:
            sources.files_of(data, Path.cwd())  # says so where there is none
        raise UsageError("no_target", "say which column to predict", where="keepfit fit", hint="--target COLUMN")
    with progress(quiet) as emit, interruptible() as stopped:
        made = api.fit(
            data,
            target or None,
            time=time,
            overrides=overrides or (),
            output=output,
            workspace=workspace,
            emit=emit,
            stopped=stopped,
        )
    _told(made, as_json)


def _told(made: Run, as_json: bool) -> None:
    from keepfit.store.ledger import counted

    facts: dict[str, Any] = {
        "run": str(made.path.resolve()) if made.path else None,
        "bundle": str(made.bundle.resolve()) if made.bundle else None,
        "task": made.task,
        "modality": made.modality,
        "metrics": made.metrics,
        "primary_metric": made.primary,
        "unanswered": made.unanswered,
        "stages": made.stages,
        "seconds": round(made.seconds, 3),
        "interrupted": made.interrupted,
        "version": made.version,
    }
    lines = []
    if made.metrics:
        test = ", ".join(f"{name} {value:.4f}" for name, value in made.metrics["test"].items() if value is not None)
        lines.append(f"test       {test}")
        if made.unanswered:
            lines.append(f"           {counted(made.unanswered, 'test row')} more could not be read, and had no answer")
    if made.path:
        lines += [f"version    {made.version}"] if made.version else []
        lines += [f"report     {made.report}", f"bundle     {made.bundle}", f"serve      keepfit serve {made.bundle}"]
    else:
        lines.append("stages     " + ", ".join(f"{s['name']} {s['status']}" for s in made.stages))
    result(facts, as_json, "\n".join(lines))


def render(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """The recipe with every default spelled out."""
    from keepfit import recipe as recipes

    text = recipes.fill(recipes.load(recipe, overrides or ()))
    result({"recipe": text}, as_json, "" if as_json else text.rstrip())


def package(
    model: Annotated[str, typer.Argument(help="ONNX, state dict, .pt2 or .keras file, or a Hugging Face folder")],
    overrides: Overrides = None,
    data: Annotated[str, typer.Option(help="labelled raw rows that it is checked and judged on")] = "",
    target: Annotated[str, typer.Option(help="column of the answers; not for pictures in folders")] = "",
    validation: Annotated[str | None, typer.Option(help="rows for choosing; cut from --data when absent")] = None,
    test: Annotated[str | None, typer.Option(help="rows for the figures; most of --data when absent")] = None,
    reference: Annotated[str | None, typer.Option("--class", help="for a state dict: my_model.py:Net")] = None,
    args: Annotated[str | None, typer.Option(help="what its constructor is called with, as {width: 32}")] = None,
    classes: Annotated[
        str | None, typer.Option(help="in the order of the scores: a,b,c, or a file, one a line")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="tables: the columns it reads, in its order: a,b,c")] = None,
    size: Annotated[int | None, typer.Option(help="pictures: height and width")] = None,
    mean: Annotated[str | None, typer.Option(help="pictures: taken from each channel: 0.485,0.456,0.406")] = None,
    std: Annotated[str | None, typer.Option(help="pictures: each channel is divided by it")] = None,
    colour: Annotated[str | None, typer.Option(help="pictures: rgb, bgr or grey")] = None,
    layout: Annotated[str | None, typer.Option(help="pictures: nchw or nhwc")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="the run folder goes there")] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """A bundle of a model that is trained already, checked by parity and evaluated."""
    from keepfit import adopt
    from keepfit.core.errors import UsageError

    if not data:
        raise UsageError("no_data", "say on which rows it is checked", where="keepfit package", hint="--data DATA")
    words = {"args": args, "mean": mean, "std": std, "classes": classes, "columns": columns}
    said = {"class": reference, "size": size, "colour": colour, "layout": layout, **adopt.spelled(words)}
    with progress(quiet) as emit, interruptible() as stopped:
        made = adopt.package(
            model,
            data,
            target or None,
            said={key: value for key, value in said.items() if value is not None},
            validation=validation,
            test=test,
            overrides=overrides or (),
            output=output,
            workspace=workspace,
            emit=emit,
            stopped=stopped,
        )
    _told(made, as_json)
