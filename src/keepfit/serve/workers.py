"""Several processes that answer on one socket: started, watched, begun again when one dies, stopped together."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from keepfit.core.errors import EnvironmentFault
from keepfit.serve.follow import Source
from keepfit.serve.settings import ServeSettings

READY = "ready"
START_S, GRACE_S, LEAST_LIFE_S, LONGEST_PAUSE_S = 120.0, 5.0, 5.0, 30.0
log = logging.getLogger("keepfit.serve")


class Worker:
    """One process; its end is told by `poll`. It stops when its standard input ends, so it never outlives this one."""

    def __init__(self, taken: socket.socket, said: bytes, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "keepfit.serve.worker"]
        pipe = subprocess.PIPE
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=dict(env), pass_fds=(taken.fileno(),))
        self.is_ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.write(said + b"\n")
                self.process.stdin.flush()

    def _listen(self) -> None:
        if self.process.stdout is not None:
            for line in self.process.stdout:
                if line.strip() == READY.encode():
                    self.is_ready.set()

    def wait_ready(self) -> None:
        """Until it answers. Raises EnvironmentFault when it ends first, or takes too long."""
        while not self.is_ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() - self.begun > START_S:
                raise EnvironmentFault(
                    "worker_not_started",
                    "a worker process did not start",
                    where="serve.workers",
                    seen=f"exit code {self.process.poll()}",
                    hint="its own message stands above; try --workers 1",
                )

    def stop(self) -> None:
        """Ask it to answer what is in flight and end."""
        if self.process.poll() is None:
            self.process.terminate()


def supervise(
    taken: socket.socket, source: Source, settings: ServeSettings, announce: Callable[[str], None], line: str
) -> None:
    """Answer with `settings.workers` processes until SIGTERM or SIGINT; `announce` gets `line` when all of them answer."""
    said = json.dumps(
        {
            "socket": taken.fileno(),
            "path": str(source.path.resolve()) if source.path is not None else None,
            "reference": source.reference,
            "workspace": str(source.workspace.resolve()),
            "settings": asdict(settings),
        }
    ).encode()
    with tempfile.TemporaryDirectory(prefix="keepfit-metrics-") as folder, _told_to_stop() as stopping:
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        workers = [Worker(taken, said, env) for _ in range(settings.workers)]
        try:
            for worker in workers:
                worker.wait_ready()
            announce(line)
            _watch(workers, lambda: Worker(taken, said, env), folder, stopping)
        finally:
            _stop(workers, settings.drain_timeout_s + GRACE_S)


def _watch(workers: list[Worker], begin: Callable[[], Worker], folder: str, stopping: threading.Event) -> None:
    pause_s, not_before = 0.0, 0.0
    while not stopping.wait(0.1):
        for place, worker in enumerate(workers):
            code = worker.process.poll()
            if code is None or time.monotonic() < not_before:
                continue
            mark_process_dead(worker.process.pid, folder)  # type: ignore[no-untyped-call]
            log.error("worker %s ended with %s, another one begins", worker.process.pid, code)
            short = time.monotonic() - worker.begun < LEAST_LIFE_S
            pause_s = min(max(1.0, 2 * pause_s), LONGEST_PAUSE_S) if short else 0.0
            not_before = time.monotonic() + pause_s
            workers[place] = begin()


def _stop(workers: list[Worker], seconds: float) -> None:
    for worker in workers:
        worker.stop()
    until = time.monotonic() + seconds
    for worker in workers:
        try:
            worker.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        if worker.process.stdin is not None:
            with suppress(OSError):
                worker.process.stdin.close()


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets, where this is the main thread."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return

    def stop(number: int, frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, old in before.items():
            signal.signal(number, old)
