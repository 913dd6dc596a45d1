"""Verbs that use a bundle on data: predict, evaluate, verify, ledger."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from keepfit.cli.output import HERE, AsJson, Quiet, Verb, Workspace, result

BundlePath = Annotated[Path, typer.Argument(help="bundle folder, or a run folder that holds one", metavar="BUNDLE")]
DataPath = Annotated[str, typer.Argument(help="file or glob of raw rows", metavar="DATA")]

ReadOverrides = Annotated[
    list[str] | None,
    typer.Argument(help="data.read.* overrides of how the bundle reads text files", metavar="[data.read.KEY=VALUE]..."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (predict, evaluate, monitor, verify, ledger):
        app.command(cls=Verb)(verb)


def predict(
    bundle: BundlePath,
    data: DataPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="csv, parquet or jsonl; csv on stdout otherwise")
    ] = None,
    overrides: ReadOverrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Answers for raw data, one row per input row, in order."""
    from keepfit import api
    from keepfit.store.ledger import counted

    write = None if as_json and output is None else sys.stdout.write
    counts = api.predict(bundle, data, output, write, overrides or ())
    unseen = "".join(f"\n{counted(times, 'unseen value')} in column {name}" for name, times in counts["unseen"].items())
    if not quiet:
        print(
            f"{counted(counts['rows'], 'row')} answered, {counts['errors']} of them with an error{unseen}",
            file=sys.stderr,
        )
    result({**counts, "output": str(output.resolve()) if output else None}, as_json, "")


def evaluate(bundle: BundlePath, data: DataPath, overrides: ReadOverrides = None, as_json: AsJson = False) -> None:
    """Metrics on labelled raw data."""
    from keepfit import api

    found = api.evaluate(bundle, data, overrides or ())
    lines = [f"{name:20} {value:.4f}" for name, value in found["metrics"].items() if value is not None]
    lines += [f"label {seen!r} was read as {meant!r}" for seen, meant in found["label_matches"].items()]
    lines.append(f"rows                 {found['rows']}")
    if found["left_out"]:
        lines[-1] += f" of {found['in']}; {found['errors']} left out:"
        lines += [f"{one['rows']:>20} {one['why']}; first: {one['first']}" for one in found["left_out"]]
    result(found, as_json, "\n".join(lines))


def monitor(
    bundle: Annotated[
        str,
        typer.Argument(help="bundle folder or registered NAME[@ALIAS]; none with --reference", metavar="[BUNDLE]"),
    ],
    records: Annotated[
        list[str] | None,
        typer.Argument(
            help="table of records, or a served model's name; then monitor.KEY=VALUE or data.read.KEY=VALUE",
            metavar="RECORDS [KEY=VALUE]...",
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="rows to compare with, in place of the bundle's own")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="folder for report.html and quarantine.csv")
    ] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """Whether the feed is broken, the world has shifted, and how accurate the model is on records."""
    from keepfit import monitoring

    words = list(records or ())
    data = words.pop(0) if words and "=" not in words[0] else None
    model, data = (bundle, data) if data is not None else (None, bundle)
    found = monitoring.monitor(model, data, reference=reference, overrides=words, output=output, workspace=workspace)
    lines = [
        f"{w['from']:>9} {w['to']:>9}  {w['kind']:9} {'; '.join(w['why'][:3])}" for w in found["windows"] if w["alarm"]
    ]
    rang = ", ".join(f"{n} {kind}" for kind, n in found["alarms"].items()) or "no alarm"
    lines.append(f"{found['rows']} records in {len(found['windows'])} windows: {rang}")
    lines += [f"{name:10} {found[name]}" for name in ("report", "quarantine") if name in found]
    result(found, as_json, "\n".join(lines))


def verify(
    place: Annotated[Path, typer.Argument(help="a bundle or a run folder", metavar="RUN|BUNDLE")],
    as_json: AsJson = False,
) -> None:
    """Check every hash and replay the golden rows; for a run, make it again elsewhere and compare."""
    from keepfit import api, repeat

    found = repeat.verify_run(place) if (place / "plan.json").is_file() else api.verify(place)
    result(
        found,
        as_json,
        f"verified   {found['bundle']} ({found['files']} files)"
        + (f"\nrepeated   {found['repeated']}" if "repeated" in found else ""),
    )


def ledger(
    run: Annotated[Path, typer.Argument(help="run folder", metavar="RUN")],
    action: Annotated[
        list[str] | None,
        typer.Argument(help="take entries or samples back, or let them stand again", metavar="[undo|redo ID...]"),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="only entries that hold this text, or column=text; several must all hold")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write to csv, parquet or jsonl")] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """What happened to every sample; take single decisions back for the next run."""
    from keepfit import accounts
    from keepfit.core.errors import UsageError, nearest
    from keepfit.runtime.writers import csv_lines, write
    from keepfit.store.ledger import BACK, COLUMNS, KINDS

    if action:
        verb, *ids = action
        if verb not in ("undo", "redo") or not ids:
            hint = nearest(verb, ["undo", "redo"]) if ids else f"keepfit ledger {run} {verb} ID"
            raise UsageError("usage", f"there is no ledger {' '.join(action)}", hint=hint)
        told = accounts.undo(run, ids, workspace, redo=verb == "redo")
        lines = [
            f"{'stands' if verb == 'redo' else 'taken back'}  {e['entry']}  {e['rule'].removesuffix(f': {BACK}')}  {e['id']}"
            for e in told["entries"]
        ]
        result(told, as_json, "\n".join([*lines, f"the next run of {told['recipe']!r} does so: keepfit run RECIPE"]))
        return
    found = accounts.ledger(run, where or ())
    rows = [[row[name] for name in COLUMNS] for row in found]
    if output is not None:
        write(output, COLUMNS, KINDS, rows, for_people=True)
    elif not as_json:
        sys.stdout.writelines(csv_lines(COLUMNS, rows, for_people=True))
    result({"entries": found if output is None else len(found)}, as_json, "")
