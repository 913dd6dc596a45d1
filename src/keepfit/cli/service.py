"""Verbs about answering over HTTP: serve, bench and dashboards."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.cli.output import HERE, AsJson, Verb, Workspace, result

if TYPE_CHECKING:
    from keepfit.core.events import Emit, Event
    from keepfit.serve.follow import Source

FOLLOW_S = 2.0


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
    registry: Annotated[
        str | None,
        typer.Option(help="URL of a registry to follow, which keepfit up or models push writes", metavar="URL"),
    ] = None,
    workspace: Workspace = HERE,
    as_json: AsJson = False,
) -> None:
    """HTTP service of a bundle, or of a registered model whose alias it follows."""
    from keepfit.core.errors import UsageError
    from keepfit.recipe import parse
    from keepfit.runtime.sources import expand
    from keepfit.serve.follow import Source
    from keepfit.serve.server import serve as answer
    from keepfit.serve.settings import ServeSettings, threads_each

    source = Source(Path(model), "", workspace) if _is_place(model) else Source(None, model, workspace)
    following = _following(registry, source, _told)
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
        concurrency=max(512, 4 * said.queue),
        queue=said.queue,
        queue_timeout_s=said.timeout,
        batch_max=said.batch.max,
        batch_wait_s=said.batch.wait_ms / 1000,
        workers=workers or said.workers,
        threads=threads_each(workers or said.workers),
        record=record or said.record,  # type: ignore[arg-type]
        record_store=expand(said.record_store) if said.record_store else None,
        record_age_s=said.record_days * 86_400,
        record_size_bytes=said.record_size,
        new_classes=said.new_classes,
    )

    def announce(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        result({"url": line.split()[-1]}, as_json, "")

    with following:
        answer(source, settings, announce, _told)


def _told(event: Event) -> None:
    facts = " ".join(f"{name}={value}" for name, value in event.data.items())
    print(f"{event.at} {event.what} {facts}", file=sys.stderr, flush=True)


def _following(url: str | None, source: Source, told: Emit) -> AbstractContextManager[object]:
    """While it is entered the workspace follows the registry at a URL. One that cannot be had is an error only where
    nothing was taken from it before."""
    if url is None:
        return nullcontext()
    from keepfit.core.errors import KeepfitError, UsageError
    from keepfit.core.events import Event
    from keepfit.runtime.sources import expand
    from keepfit.store.mirror import Keeping, Mirror
    from keepfit.store.registry import Registry

    if not source.follows:
        raise UsageError(
            "usage", "only an alias can follow a registry", where="--registry", hint="keepfit serve NAME@champion"
        )
    name, mirror, here = source.reference.partition("@")[0], Mirror(expand(url)), Registry(source.workspace)
    try:
        mirror.pull(here, name)
    except KeepfitError as error:
        if name not in here.names() or error.code in ("registry_own", "registry_follows"):
            raise
        told(Event("registry", "fault", {"model": name, **error.as_json()}))
    return Keeping(mirror, here, name, told, FOLLOW_S, push=False)


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
    url: Annotated[str | None, typer.Option(help="a running service, measured at 1, 16 and 64 connections")] = None,
    rows: Annotated[int, typer.Option(min=1, help="single-row questions to ask a bundle")] = 500,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="how long each round asks a service")] = 3.0,
    body: Annotated[
        Path | None, typer.Option(help="file with the JSON to ask a service with; its example if absent")
    ] = None,
    token_env: Annotated[str | None, typer.Option(help="environment variable with the service's token")] = None,
    as_json: AsJson = False,
) -> None:
    """Latency and throughput: of a bundle in this process, with memory and size, or of a running service."""
    from keepfit.core.errors import UsageError

    if url is not None and bundle is None:
        from keepfit import load_test

        asked = body.read_bytes() if body is not None else None
        seen = load_test.bench_url(url, asked, _token(token_env), seconds)
        result(seen, as_json, _rounds(seen))
        return
    if bundle is None or url is not None:
        raise UsageError(
            "usage",
            "say which bundle or which service to measure",
            hint="keepfit bench BUNDLE, or keepfit bench --url URL",
        )
    from keepfit import measure

    found = measure.bench(bundle, rows)
    result(found, as_json, "\n".join(f"{name:24} {value}" for name, value in found.items()))


def _rounds(seen: dict[str, Any]) -> str:
    names = list(seen["rounds"][0])
    lines = ["".join(f"{name:>15}" for name in names)]
    lines += ["".join(f"{row[name]!s:>15}" for name in names) for row in seen["rounds"]]
    return "\n".join(lines)


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
