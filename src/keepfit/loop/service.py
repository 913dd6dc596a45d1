"""The child process that answers while the loop watches; it outlives a killed loop, and the next one takes it over."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import EnvironmentFault

_START_S, _STOP_S = 60.0, 15.0


class Service:
    """`keepfit serve NAME@champion` of a workspace."""

    def __init__(self, name: str, workspace: Path, host: str, port: int, options: list[str]) -> None:
        self.name, self.workspace, self.host, self.port, self.options = name, workspace, host, port, options
        self.folder = workspace / ".keepfit" / "loop" / name
        self.pid = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        return f"http://{host}:{self.port}"

    def ensure(self) -> bool:
        """Takes over the one that is running, or starts one; whether it had to be started. Raises EnvironmentFault."""
        if self._alive() or self._taken_over():
            return False
        self._start()
        return True

    def stop(self) -> None:
        """Ends it: what is in flight is answered first."""
        if self.pid:
            _signal(self.pid, signal.SIGTERM)
            until = time.monotonic() + _STOP_S
            while self._alive() and time.monotonic() < until:
                time.sleep(0.05)
            if self._alive():
                _signal(self.pid, signal.SIGKILL)
        (self.folder / "service.json").unlink(missing_ok=True)
        self.pid, self._child = 0, None

    def _alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            self._child, self.pid = None, 0
        return bool(self.pid) and _signal(self.pid, 0)

    def _taken_over(self) -> bool:
        try:
            said = json.loads((self.folder / "service.json").read_text("utf-8"))
            pid, port = int(said["pid"]), int(said["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if not _signal(pid, 0) or not self._serves(pid):
            return False
        own, self.pid, self.port = self.port, pid, port
        if port and self._answers(_START_S) is not None:
            return True
        self.stop()  # it was killed too early to say where it answers, or it hangs: its port is needed
        self.port = own
        return False

    def _serves(self, pid: int) -> bool:
        """Whether a process is a service of this name: after a restart of the machine its number may be another's."""
        try:
            return f"{self.name}@champion".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return not Path("/proc/self").exists()

    def _start(self) -> None:
        atomic.make_folder(self.folder)
        command = [
            *(sys.executable, "-m", "keepfit", "serve", f"{self.name}@champion", "--workspace", str(self.workspace)),
            *("--host", self.host, "--port", str(self.port), "--json", *self.options),
        ]
        with (self.folder / "service.log").open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self.pid = self._child.pid
        self._written()  # a loop that is killed before it answers must find it again
        try:
            line = self._line(self._child)
            self.port = int(str(json.loads(line)["url"]).rsplit(":", 1)[1].split("/")[0])
        except (ValueError, KeyError, IndexError, TypeError):
            raise self._fault() from None
        self._written()
        if self._answers(_START_S) is None:
            raise self._fault()

    def _written(self) -> None:
        atomic.write_text(self.folder / "service.json", json.dumps({"pid": self.pid, "port": self.port}))

    @staticmethod
    def _line(child: subprocess.Popen[bytes]) -> bytes:
        """What it says first; nothing where it is silent for too long."""
        pipe = child.stdout
        return pipe.readline() if pipe is not None and select.select([pipe], [], [], _START_S)[0] else b""

    def _answers(self, wait_s: float) -> dict[str, Any] | None:
        """What `/healthz` says, once it does."""
        until = time.monotonic() + wait_s
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as reply:
                    said: dict[str, Any] = json.loads(reply.read())
                    return said
            except (urllib.error.URLError, OSError, ValueError):
                if time.monotonic() > until:
                    return None
                time.sleep(0.05)

    def _fault(self) -> EnvironmentFault:
        tail = (self.folder / "service.log").read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
        return EnvironmentFault(
            "service_down",
            "the service does not start",
            where=str(self.folder / "service.log"),
            seen=" ".join(tail[-3:])[:300],
            hint=f"try keepfit serve {self.name}@champion --workspace {self.workspace}; another port: serve.port=0",
        )


def _signal(pid: int, number: int) -> bool:
    """Whether the process was there to be signalled; one that has ended and was not waited for is not there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return True
