"""Clients of the fake model: in process, and a live server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from inprocess import Client
from serve_fake import Bundle

from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings

ROW = {"age": 31.5, "hours": 40, "married": True, "city": "Köln", "since": "2020-01-31"}


@pytest.fixture
def row() -> dict[str, Any]:
    return dict(ROW)


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """`client(bundle=Bundle(...), max_rows=3)` is a client of a running application."""
    opened: list[Client] = []

    def make(bundle: Any = None, **settings: Any) -> Client:
        bundle = bundle or Bundle()
        made = Client(create_app(bundle, bundle.predictor(), ServeSettings(**settings)))
        opened.append(made.__enter__())
        return opened[-1]

    yield make
    for made in opened:
        made.__exit__(None, None, None)


class Live:
    """A server process: `url`, and the process to signal."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "answers at http://" in line, self.process.communicate(timeout=10)
        self.url = line.split()[-1]
        self.host = self.url.removeprefix("http://")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=30)


@pytest.fixture
def start() -> Iterator[Callable[..., Live]]:
    """`start(wait_s=0.0, token="")` starts a server of the fake for one test."""
    running: list[Live] = []

    def make(wait_s: float = 0.0, token: str = "") -> Live:
        running.append(Live("serve_fake.py", str(wait_s), token))
        return running[-1]

    yield make
    for one in running:
        one.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """One server of the fake for a module."""
    one = Live("serve_fake.py", "0", "")
    yield one
    one.close()


@pytest.fixture(scope="module")
def live_of() -> Callable[..., Live]:
    """`live_of(script, *arguments)` starts a script of this folder that announces its address."""
    return Live
