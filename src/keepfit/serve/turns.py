"""Questions that wait, one of each client in turn; knows nothing of how they are answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.core.errors import EnvironmentFault

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.table import Table
    from keepfit.serve.service import Service


@dataclass(frozen=True)
class Question:
    """Checked rows of one request; `write` makes the reply of a request id and their answers, in the thread that answered."""

    table: Table
    size_bytes: int
    write: Callable[[str, Answers], Any]


@dataclass(frozen=True)
class Ready:
    """A reply that needs no model."""

    body: Any


@dataclass(eq=False)
class Waiting:
    """A request whose body is here: which model it took, how to read it, and who waits for `done`."""

    service: Service
    client: str
    size_bytes: int
    read: Callable[[], Question | Ready]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)


class Turns:
    """A queue that is fair between clients; whoever uses it locks it."""

    def __init__(self) -> None:
        self._by_client: dict[str, deque[Waiting]] = {}  # the client whose turn is next comes first
        self.count = 0

    def put(self, one: Waiting) -> None:
        """To the end of its client's line."""
        self._by_client.setdefault(one.client, deque()).append(one)
        self.count += 1

    def take(self, most: int) -> list[Waiting]:
        """Up to `most` questions, one of each client in turn."""
        taken: list[Waiting] = []
        while self.count and len(taken) < most:
            client = next(iter(self._by_client))
            queue = self._by_client.pop(client)
            taken.append(queue.popleft())
            self.count -= 1
            if queue:
                self._by_client[client] = queue  # at the end: its next turn is after everybody's
        return taken

    def length(self, client: str) -> int:
        """How many of a client wait."""
        return len(self._by_client.get(client, ()))

    def longest(self) -> tuple[int, str]:
        """The longest line and its client; (0, "") where nobody waits."""
        return max(((len(queue), client) for client, queue in self._by_client.items()), default=(0, ""))

    def drop_last(self, client: str) -> Waiting:
        """Take the last of a client's line away."""
        last = self._by_client[client].pop()
        self.count -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        return last


class Shares:
    """How much of something is taken, together and by each client: a single client gets at most three quarters, so that one whose
    questions never end does not shut others out."""

    def __init__(self, most: int) -> None:
        self.most, self.most_by, self.taken = most, most - most // 4, 0
        self._by = Counter[str]()

    def take(self, client: str, much: int = 1) -> bool:
        """Whether there was as much left; where nothing is taken there is."""
        if self.taken and (self.taken + much > self.most or self._by[client] + much > self.most_by):
            return False
        self.taken += much
        self._by[client] += much
        return True

    def give(self, client: str, much: int = 1) -> None:
        """Back."""
        self.taken -= much
        self._by[client] -= much
        if not self._by[client]:
            del self._by[client]


def overloaded() -> EnvironmentFault:
    """The refusal of a question that finds no room."""
    return EnvironmentFault(
        "overloaded",
        "as many questions wait already as may wait",
        where="the service",
        hint="ask again after a second, or serve with more workers",
    )
