"""Starts the processes of a training on this host, relays what they say, and ends them all when one of them ends badly.

Imports no torch. Parent and processes talk by files in one folder: `events.jsonl` (process 0), `stop`, `error-RANK.json`; and by a
named pipe that only the parent holds open for writing, so that no process outlives it, however the parent ends.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keepfit.core import atomic, errors
from keepfit.core.catalog import load
from keepfit.core.errors import EnvironmentFault, KeepfitError
from keepfit.training.options import DistributedFields

Say = Callable[[str, dict[str, Any]], None]
_POLL_S, _PATIENCE_S = 0.05, 15.0
_LIFELINE, _PARENT = "KEEPFIT_LIFELINE", "KEEPFIT_PARENT"


def torchrun(said: DistributedFields, program: Sequence[str]) -> list[str]:
    """The command that starts `processes` copies of a program (arguments of Python) on this host.

    What any launcher must do: every copy finds RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment,
    host `node_rank` 0 holds rank 0, and the command ends when one copy fails, with a status that is not 0.
    """
    command = [
        sys.executable,
        "-m",
        "keepfit.training.launching",
        f"--nproc-per-node={said.processes}",
        "--max-restarts=0",
    ]
    if said.nodes == 1:
        return [*command, "--standalone", *program]
    host, _, port = str(said.rendezvous).rpartition(":")
    where = [
        f"--nnodes={said.nodes}",
        f"--node-rank={said.node_rank}",
        f"--master-addr={host}",
        f"--master-port={port}",
    ]
    return [*command, *where, f"--rdzv-conf=timeout={said.launcher.timeout_s}", *program]


def start(said: DistributedFields, program: Sequence[str], folder: Path, stopped: Callable[[], bool], say: Say) -> None:
    """Run a program in all its processes of this host until the end. `folder` is where they talk, and is empty.

    Raises the KeepfitError that a process has written down, or EnvironmentFault `process_died` for one that ended without a word.
    """
    command = load(said.launcher.impl)(said, program)
    told = 0
    with _lifeline() as pipe, (folder / "log.txt").open("wb") as log:
        environment = {"OMP_NUM_THREADS": "1", **os.environ, _LIFELINE: str(pipe), _PARENT: str(os.getpid())}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # the same code as here
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None:
                if stopped():
                    (folder / "stop").touch()
                told = _relay(folder, told, say)
                time.sleep(_POLL_S)
            _relay(folder, told, say)
        finally:
            _end(process)
    if process.returncode:
        raise _failure(said, folder, process.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The launcher ends its processes when it is asked to; what does not listen is killed, and the lifeline does the rest."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _lifeline() -> Iterator[Path]:
    """A named pipe, open for writing in this process alone: the others see its end when this one is gone."""
    with tempfile.TemporaryDirectory(prefix="keepfit-") as place:
        path = Path(place) / "lifeline"
        os.mkfifo(path)
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield path
        finally:
            os.close(handle)


def hold_lifeline() -> None:
    """In a process that was started: end at once when the parent is gone."""
    path = os.environ.get(_LIFELINE)
    if path is None:
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.kill(int(os.environ[_PARENT]), 0)  # it may have gone before the pipe was opened
    except (OSError, KeyError, ValueError):
        os._exit(70)

    def wait() -> None:
        select.select([handle], [], [])
        os._exit(70)

    threading.Thread(target=wait, daemon=True, name="lifeline").start()


def main() -> None:
    """torchrun, which ends when the process that started it is gone, also while it waits for other hosts."""
    hold_lifeline()
    runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)


def _relay(folder: Path, told: int, say: Say) -> int:
    """Say what process 0 has written since; how many bytes have been told."""
    with suppress(FileNotFoundError), (folder / "events.jsonl").open("rb") as file:
        file.seek(told)
        for line in file:
            if not line.endswith(b"\n"):
                break
            told += len(line)
            event = json.loads(line)
            say(event["what"], event["data"])
    return told


def speaker(folder: Path, rank: int) -> Say:
    """What a process says with: process 0 writes lines that the parent relays, the others are silent."""
    if rank:
        return lambda what, data: None
    path = folder / "events.jsonl"

    def say(what: str, data: dict[str, Any]) -> None:
        with path.open("a") as file:
            file.write(json.dumps({"what": what, "data": data}) + "\n")

    return say


def write_error(folder: Path, rank: int, error: KeepfitError) -> None:
    """Leave an error to the parent."""
    said = {"class": type(error).__name__, "at": time.time(), "rank": rank}
    parts = {name: getattr(error, name) for name in ("code", "what", "where", "seen", "hint")}
    atomic.write_text(folder / f"error-{rank}.json", json.dumps(said | parts))


def _failure(said: DistributedFields, folder: Path, status: int) -> KeepfitError:
    """The first error that a process wrote; else what the launcher says about the one that died."""
    written = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    if written:
        return _error(min(written, key=lambda found: float(found["at"])))
    log = (folder / "log.txt").read_text(errors="replace")
    if said.nodes > 1 and said.node_rank == 0 and "EADDRINUSE" in log:
        return EnvironmentFault(
            "port_taken",
            "the hosts cannot meet: another program holds the port",
            where=str(said.rendezvous),
            seen="address already in use",
            hint="name a free port of host 0 in train.distributed.rendezvous, the same on every host",
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    rank = re.findall(r"rank\s*:\s*(\d+)", log)
    code = re.findall(r"exitcode\s*:\s*(-?\d+)", log)
    traces = [line for line in lines if re.match(r"(\[rank\d+\]: ?)?\w*(Error|Exception)\b.*:", line)]
    seen = f"exit code {code[-1] if code else status}"
    if code and int(code[-1]) < 0:
        seen = f"ended by {signal.Signals(-int(code[-1])).name}"
    elif traces:
        seen += f"; {traces[0][:200]}"
    elif not rank and lines:
        seen += f"; {lines[-1][:200]}"
    return EnvironmentFault(
        "process_died",
        "a process of the training has died; the others were ended",
        where=f"rank {rank[-1]} of {said.world}" if rank else f"host {said.node_rank} of {said.nodes}",
        seen=seen,
        hint=f"the same command goes on from the last checkpoint; all that was printed: {folder / 'log.txt'}",
    )


def _error(found: Mapping[str, Any]) -> KeepfitError:
    kind = getattr(errors, str(found["class"]), KeepfitError)
    made: KeepfitError = kind(
        found["code"], found["what"], where=found["where"], seen=found["seen"], hint=found["hint"]
    )
    return made


if __name__ == "__main__":
    main()
