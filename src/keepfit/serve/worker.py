"""One of several worker processes: told on standard input what to serve and on which inherited socket."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from keepfit.core.errors import KeepfitError
from keepfit.core.events import Event
from keepfit.serve.follow import Source
from keepfit.serve.server import work
from keepfit.serve.settings import ServeSettings
from keepfit.serve.workers import READY


def main() -> int:
    """Serve until told to stop; the exit code of the error otherwise."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    said = json.loads(sys.stdin.buffer.readline())
    path = Path(said["path"]) if said["path"] is not None else None
    source = Source(path, said["reference"], Path(said["workspace"]))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with socket.socket(fileno=said["socket"]) as taken:
        taken.setblocking(False)
        try:
            work(taken, source, ServeSettings(**said["settings"]), _ready, _told)
        except KeepfitError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


def _ready(line: str) -> None:
    print(READY, flush=True)


def _told(event: Event) -> None:
    facts = " ".join(f"{name}={value}" for name, value in event.data.items())
    print(f"{event.at} {event.what} {facts} worker={os.getpid()}", file=sys.stderr, flush=True)


def _stop_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
