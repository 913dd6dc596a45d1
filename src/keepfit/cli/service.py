"""Verbs about answering over HTTP: serve, bench and dashboards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keepfit.cli.later import refuse
from keepfit.cli.output import HERE, AsJson, Verb, Workspace, result


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(cls=Verb)(serve)
    app.command(cls=Verb)(bench)
    app.command(cls=Verb)(dashboards)


def serve(
    model: Annotated[str, typer.Argument(help="a bundle folder, or a registered model", metavar="BUNDLE|NAME[@ALIAS]")],
    host: Annotated[str | None, typer.Option(help="address to bind; 127.0.0.1 unless the recipe says")] = None,
    port: Annotated[int | None, typer.Option(help="port; 8000 unless the recipe says, 0 is any free one")] = None,
    token_env: Annotated[str | None, typer.Option(help="environment variable with the bearer token")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="processes that answer; 1 unless the recipe says")
    ] = None,
    record: Annotated[str | None, typer.Option(help="what is kept of answers: full, sketch or off")] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """HTTP service of a bundle, or of a registered model whose alias it follows."""
    from keepfit.core.errors import UsageError
    from keepfit.core.events import Event
    from keepfit.recipe import parse
    from keepfit.runtime.sources import expand
    from keepfit.serve.follow import Source
    from keepfit.serve.server import serve as answer
    from keepfit.serve.settings import ServeSettings

    source = Source(Path(model), "", workspace) if _is_place(model) else Source(None, model, workspace)
    said = parse(source.bundle().files["recipe.yaml"].decode(), origin="recipe.yaml of the bundle").serve
    if record not in (None, "full", "sketch", "off"):
        raise UsageError(
            "usage", "records are full, sketch or off", where="--record", seen=str(record), hint="--record full"
        )
    settings = ServeSettings(
        host=host or said.host,
        port=said.port if port is None else port,
        token=_token(token_env or said.token_env),
        max_body_bytes=said.max_body,
        workers=workers or said.workers,
        record=record or said.record,  # type: ignore[arg-type]
        record_store=expand(said.record_store) if said.record_store else None,
        record_age_s=said.record_days * 86_400,
        record_size_bytes=said.record_size,
    )

    def announce(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        result({"url": line.split()[-1]}, as_json, "")

    def told(event: Event) -> None:
        facts = " ".join(f"{name}={value}" for name, value in event.data.items())
        print(f"{event.at} {event.what} {facts}", file=sys.stderr, flush=True)

    answer(source, settings, announce, told)


def _is_place(model: str) -> bool:
    """Whether a path is meant, not a registered name: it is there, or it could not be a name."""
    return Path(model).exists() or "/" in model or "." in model


def _token(variable: str | None) -> str | None:
    from keepfit.core.errors import UsageError

    token = os.environ.get(variable) if variable else None
    if variable and not token:
        raise UsageError(
            "token_missing",
            f"the environment variable {variable} holds no token",
            where="serve.token_env",
            hint=f"export {variable}=...",
        )
    return token


def bench(
    bundle: Annotated[Path | None, typer.Argument(help="bundle folder", metavar="BUNDLE")] = None,
    url: Annotated[str | None, typer.Option(help="a service; not available yet")] = None,
    rows: Annotated[int, typer.Option(min=1, help="single-row questions to ask")] = 500,
    as_json: AsJson = False,
) -> None:
    """Latency percentiles, throughput, memory and size of a bundle, in this process."""
    from keepfit import measure
    from keepfit.core.errors import UsageError

    if url is not None:
        refuse("bench --url", hint="keepfit bench BUNDLE measures in this process")
    if bundle is None:
        raise UsageError("usage", "say which bundle to measure", hint="keepfit bench BUNDLE")
    found = measure.bench(bundle, rows)
    result(found, as_json, "\n".join(f"{name:24} {value}" for name, value in found.items()))


def dashboards(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write to")] = Path("dashboards"),
    target: Annotated[list[str] | None, typer.Option(help="HOST:PORT of a service; may be given again")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="file that holds the bearer token of the services, and nothing else")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Grafana dashboards, Prometheus rules and a compose file that runs both beside the service."""
    from keepfit import dashboards as made

    files = made.write(out, target or ["127.0.0.1:8000"], token_file)
    result(
        {"folder": str(out.absolute()), "files": [str(file.absolute()) for file in files]},
        as_json,
        "\n".join(map(str, files)),
    )
