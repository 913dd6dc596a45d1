"""Starts the process that watches a service, where answers are recorded, and stops it with the service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from keepfit.serve.follow import Source
    from keepfit.serve.settings import ServeSettings

STOP_S = 5.0


def monitor_folder(workspace: Path, name: str) -> Path:
    """Where the monitor of a served name keeps figures, state and report."""
    return workspace / ".keepfit" / "monitor" / name


@contextmanager
def watched(taken: socket.socket, name: str, source: Source, settings: ServeSettings) -> Iterator[None]:
    """Watch what is recorded while the block runs; nothing where nothing is."""
    if settings.record == "off":
        yield
        return
    host, port = taken.getsockname()[:2]
    said = {
        "path": str(source.path.resolve()) if source.path is not None else None,
        "reference": source.reference,
        "workspace": str(source.workspace.resolve()),
        "settings": asdict(settings),
        "name": name,
        "folder": str(monitor_folder(source.workspace, name).resolve()),
        "host": host,
        "port": port,
        "since": time.time(),
    }
    command = [sys.executable, "-m", "keepfit.serve.watcher"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(said).encode() + b"\n")
                process.stdin.flush()
        yield
    finally:
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
