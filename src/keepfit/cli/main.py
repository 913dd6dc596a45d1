"""The command: its verbs, and the one border where errors become exit codes."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

from keepfit.cli import answers, loop, making, models, service, tools
from keepfit.core.errors import KeepfitError, from_os_error

app = typer.Typer(
    name="keepfit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From raw data to a served model that you can trust.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (making, answers, models, service, loop, tools):
    room.register(app)


def _version(asked: bool) -> None:
    if asked:
        import keepfit

        typer.echo(f"keepfit {keepfit.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show it and end")
    ] = False,
) -> None:
    """From raw data to a served model that you can trust."""


def main() -> None:
    """Run the command line and exit with the documented code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else threads that wait burn the core that others need
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; never a traceback for what a user can cause."""
    as_json = "--json" in arguments
    try:
        code = app(arguments or ["--help"], prog_name="keepfit", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except KeepfitError as error:
        return _refused(error, as_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _refused(from_os_error(error, "the command"), as_json)
    except MemoryError:
        from keepfit.core.errors import EnvironmentFault

        fault = EnvironmentFault(
            "memory",
            "the machine has too little memory for this",
            where=f"keepfit {arguments[0] if arguments else ''}".strip(),
            hint="close other programs, leave columns out (data.columns: {NAME: ignore}) or use fewer rows",
        )
        return _refused(fault, as_json)
    except Exception as error:  # the top border: clicks' own errors are usage, the rest is our fault
        return _last_resort(error, arguments, as_json)


def _last_resort(error: Exception, arguments: list[str], as_json: bool) -> int:
    from keepfit.core.errors import InternalFault

    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        from keepfit.cli.usage import refusal

        return _refused(refusal(error, arguments, _verbs()), as_json)
    if type(error).__name__ in ("Abort", "Exit"):
        return int(getattr(error, "exit_code", 130))
    with tempfile.NamedTemporaryFile("w", prefix="keepfit-trace-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    fault = InternalFault(
        "internal",
        "this is a fault of keepfit, not yours",
        seen=f"{type(error).__name__}: {error}"[:300],
        where=file.name,
        hint="please report it with the trace in that file",
    )
    return _refused(fault, as_json)


def _verbs() -> list[str]:
    named = [one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands]
    return [name for name in named if name]


def _refused(error: KeepfitError, as_json: bool) -> int:
    print(str(error), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.as_json()}, ensure_ascii=False))
    return error.exit_code
