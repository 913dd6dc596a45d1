"""How a verb speaks: progress to stderr, the result to stdout, one JSON object last where it is asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from keepfit.core.events import Emit, Event

AsJson = Annotated[bool, typer.Option("--json", help="the last line of stdout is one JSON object")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress on stderr")]
Workspace = Annotated[Path, typer.Option("--workspace", help="where .keepfit/ and runs/ are", show_default="here")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value overrides of recipe keys", metavar="[KEY=VALUE]...")
]
HERE = Path(".")
EVERYWHERE = {"--json": 0, "--quiet": 0, "-q": 0, "--workspace": 1}


class Verb(TyperCommand):
    """A verb that takes the options every verb takes, also where it has no use for them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Drop the common options that this verb does not declare, with their values."""
        own = {option for parameter in self.params for option in parameter.opts}
        kept, skip = [], 0
        for word in args:
            if skip:
                skip -= 1
            elif word.partition("=")[0] in EVERYWHERE and word.partition("=")[0] not in own:
                skip = 0 if "=" in word else EVERYWHERE[word]
            else:
                kept.append(word)
        return super().parse_args(ctx, kept)


def result(value: Mapping[str, Any], as_json: bool, text: str) -> None:
    """The verb's answer: `text` for a person, `value` for a program."""
    if text:
        print(text)
    if as_json:
        print(json.dumps(value, ensure_ascii=False, default=str))
    sys.stdout.flush()


@contextmanager
def progress(quiet: bool) -> Iterator[Emit]:
    """A listener for events: a live bar on a terminal, plain lines otherwise, nothing when quiet."""
    from keepfit.core.events import silent

    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as emit:
            yield emit
    else:
        losses: list[float] = []
        yield lambda event: print(_line(event, losses), file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Emit]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task("starting", total=8)
        losses: list[float] = []

        def emit(event: Event) -> None:
            if event.what in ("made", "kept"):
                live.advance(task)
                live.console.print(_line(event, losses), highlight=False, markup=False)
            else:
                live.update(task, description=_line(event, losses).replace("[", "("))

        yield emit


def _curve(values: list[float], width: int = 24) -> str:
    """The last values as a row of bars, the highest full."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    bars = "▁▂▃▄▅▆▇█"
    return "".join(bars[round(7 * (value - low) / (high - low))] if high > low else bars[0] for value in shown)


def _line(event: Event, losses: list[float]) -> str:
    """One line; `losses` gathers the validation losses of the epochs, which are drawn as a curve."""
    data = event.data
    if event.what in ("made", "kept"):
        return f"{event.at:10} {event.what} ({data['seconds']:.1f} s)"
    if event.what == "tried":
        return f"{event.at:10} tried {data['name']} ({data['seconds']:.1f} s)"
    if event.what == "ended":
        return f"{event.at:10} ended {data['name']} ({data['seconds']:.1f} s): {data['why']}"
    if event.what == "skipped":
        return f"{event.at:10} skipped {data['name']}: {data['why']}"
    if event.what == "metrics":
        said = ", ".join(f"{name} {value:.4f}" for name, value in data["metrics"]["test"].items() if value is not None)
        return f"{event.at:10} test {said}"
    if event.what == "epoch":
        losses.append(float(data["loss"]))
        said = f", accuracy {data['accuracy']:.4f}" if "accuracy" in data else ""
        both = f"loss {data['train_loss']:.4f}, validation {data['loss']:.4f}"
        return f"{event.at:10} epoch {data['epoch']} of {data['of']}: {both}{said} {_curve(losses)}"
    if event.what == "resumed":
        return f"{event.at:10} goes on in epoch {data['epoch']}, after step {data['step']}"
    if event.what == "found_lr":
        return f"{event.at:10} learning rate found: {data['lr']:g}"
    if event.what == "tokens":
        said = f"{data['cut']} of {data['of']} texts are longer than {data['max_length']} tokens"
        said += f", {data['unknown']:.1%} of the tokens are unknown"
        return "\n".join([f"{event.at:10} {said}", *(f"{event.at:10} warning: {one}" for one in data["warnings"])])
    if event.what == "stopped":
        return f"{event.at:10} stopped by {data['why']}"
    return f"{event.at:10} {event.what} {' '.join(str(v) for v in data.values())}".rstrip()


@contextmanager
def interruptible(first: str = "packaging the best so far") -> Iterator[Any]:
    """A function that says whether Ctrl-C was pressed; the second Ctrl-C ends the process with 130."""
    import signal
    import threading

    pressed = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if pressed.is_set():  # at once, even inside native code: every write is whole or absent
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(130)
        pressed.set()
        print(f"stopping: {first} (Ctrl-C again ends at once)", file=sys.stderr, flush=True)

    old = signal.signal(signal.SIGINT, on_signal)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, old)
