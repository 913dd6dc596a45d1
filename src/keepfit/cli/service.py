"""Verbs about answering over HTTP: serve and bench."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keepfit.cli.later import refuse
from keepfit.cli.output import AsJson, Verb, result


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command(cls=Verb)(serve)
    app.command(cls=Verb)(bench)


def serve(
    bundle: Annotated[Path, typer.Argument(help="bundle folder", metavar="BUNDLE")],
    host: Annotated[str | None, typer.Option(help="address to bind; 127.0.0.1 unless the recipe says")] = None,
    port: Annotated[int | None, typer.Option(help="port; 8000 unless the recipe says, 0 is any free one")] = None,
    token_env: Annotated[str | None, typer.Option(help="environment variable with the bearer token")] = None,
    as_json: AsJson = False,
) -> None:
    """HTTP service of a bundle."""
    from keepfit.core.errors import UsageError
    from keepfit.recipe import parse
    from keepfit.runtime.bundle import Bundle
    from keepfit.serve.server import serve as answer
    from keepfit.serve.settings import ServeSettings

    if "@" in bundle.name and not bundle.exists():
        refuse("serve NAME@ALIAS", hint="give a bundle folder, such as runs/NAME/latest/bundle")
    said = parse(Bundle.open(bundle).files["recipe.yaml"].decode(), origin="recipe.yaml of the bundle").serve
    variable = token_env or said.token_env
    token = os.environ.get(variable) if variable else None
    if variable and not token:
        raise UsageError(
            "token_missing",
            f"the environment variable {variable} holds no token",
            where="serve.token_env",
            hint=f"export {variable}=...",
        )
    settings = ServeSettings(
        host=host or said.host, port=said.port if port is None else port, token=token, max_body_bytes=said.max_body
    )

    def announce(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        result({"url": line.split()[-1]}, as_json, "")

    answer(bundle, settings, announce)


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
