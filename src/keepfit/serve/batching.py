"""Gathers questions that wait into one call of the model, fairly between clients; a full queue refuses at once.

No question waits for company unless `batch_wait_s` says so: a runner takes whatever came while it was busy.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.core.errors import EnvironmentFault
from keepfit.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.table import Table
    from keepfit.serve.meters import Meters
    from keepfit.serve.service import Service

LARGE_BYTES = 1 << 18


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


Outcome = tuple[Waiting, Any, BaseException | None]


class Batcher:
    """The queue of one process and the threads that empty it."""

    def __init__(self, settings: ServeSettings, meters: Meters, runners: int) -> None:
        self._settings, self._meters, self._runners = settings, meters, runners
        self._waiting: dict[str, deque[Waiting]] = {}  # the client whose turn is next comes first
        self._count = self._held = self._held_bytes = 0
        self._wake, self._ending = threading.Condition(), False
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="keepfit-large")

    async def ask(self, service: Service, client: str, size_bytes: int, read: Callable[[], Question | Ready]) -> Any:
        """The reply. Raises EnvironmentFault `overloaded` at once when the queue is full, `too_late` after the time limit,
        and whatever reading and answering raise."""
        loop = asyncio.get_running_loop()
        one = Waiting(service, client, size_bytes, read, loop, loop.create_future())
        large = size_bytes > LARGE_BYTES
        with self._wake:
            if self._ending:
                raise EnvironmentFault("stopping", "the service is stopping", where="the service", hint="ask again")
            self._make_room(one)
            self._held += 1
            self._held_bytes += size_bytes
            self._meters.waiting.set(self._held)
            if not large:
                self._put(one)
                self._start()
                self._wake.notify()
        if large:
            self._pool.submit(self._alone, one)
        try:
            return await one.done
        finally:
            with self._wake:
                self._held -= 1
                self._held_bytes -= size_bytes
                self._meters.waiting.set(self._held)

    def close(self) -> None:
        """Answer what waits and stop."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()

    def _make_room(self, one: Waiting) -> None:
        """Raises EnvironmentFault when the queue is full, unless another client has more than this one would have."""
        limit = self._settings
        if self._held < limit.queue and (not self._held or self._held_bytes + one.size_bytes <= limit.queue_bytes):
            return
        most = max(self._waiting, key=lambda name: len(self._waiting[name]), default=None)
        if most is None or len(self._waiting[most]) <= len(self._waiting.get(one.client, ())) + 1:
            raise _overloaded(self._held)
        last = self._waiting[most].pop()
        self._count -= 1
        if not self._waiting[most]:
            del self._waiting[most]
        _deliver([(last, None, _overloaded(self._held))])

    def _put(self, one: Waiting) -> None:
        self._waiting.setdefault(one.client, deque()).append(one)
        self._count += 1

    def _start(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._run, name="keepfit-model", daemon=True) for _ in range(self._runners)
            ]
            for thread in self._threads:
                thread.start()

    def _run(self) -> None:
        while self._round():
            pass

    def _round(self) -> bool:
        """Answer one batch; its own function, so that an idle runner holds no model that was swapped away."""
        batch = self._take()
        if batch:
            self._answer(batch)
        return bool(batch)

    def _take(self) -> list[Waiting]:
        """Up to `batch_max` questions, one of each client in turn; none when the service ends."""
        most, wait_s = self._settings.batch_max, self._settings.batch_wait_s
        with self._wake:
            self._wake.wait_for(lambda: self._count or self._ending)
            if wait_s and self._count < most and not self._ending:
                self._wake.wait_for(lambda: self._count >= most or self._ending, wait_s)
            taken: list[Waiting] = []
            while self._count and len(taken) < most:
                client = next(iter(self._waiting))
                queue = self._waiting.pop(client)
                taken.append(queue.popleft())
                self._count -= 1
                if queue:
                    self._waiting[client] = queue  # at the end: its next turn is after everybody's
            return taken

    def _answer(self, batch: list[Waiting]) -> None:
        outcomes: list[Outcome] = []
        groups: dict[int, list[tuple[Waiting, Question]]] = {}
        for one in batch:
            read, error = _tried(self._read, one)
            if error is not None or isinstance(read, Ready):
                outcomes.append((one, read.body if error is None else None, error))
            elif len(read.table) > self._settings.batch_max:
                self._large(one, read)
            else:
                groups.setdefault(id(one.service), []).append((one, read))
        for group in groups.values():
            for part in _parts(group, self._settings.batch_max):
                outcomes += self._answer_part(part)
        _deliver(outcomes)

    def _answer_part(self, part: list[tuple[Waiting, Question]]) -> list[Outcome]:
        """One call of one model. When a row cannot be answered each question is asked alone: the fault stays with its own."""
        service, questions = part[0][0].service, [question for _, question in part]
        self._meters.batch_rows.observe(sum(len(question.table) for question in questions))
        if len(part) > 1:
            replies, error = _tried(service.answer_together, questions)
            if error is None and replies is not None:
                return [(one, reply, None) for (one, _), reply in zip(part, replies, strict=True)]
        return [(one, *_tried(service.answer, question)) for one, question in part]

    def _large(self, one: Waiting, question: Question) -> None:
        with suppress(RuntimeError):  # the pool is closed only once nobody waits any more
            self._pool.submit(lambda: _deliver([(one, *_tried(one.service.answer, question))]))

    def _alone(self, one: Waiting) -> None:
        read, error = _tried(self._read, one)
        if error is None and isinstance(read, Question):
            self._meters.batch_rows.observe(len(read.table))
            _deliver([(one, *_tried(one.service.answer, read))])
        else:
            _deliver([(one, read.body if error is None else None, error)])

    def _read(self, one: Waiting) -> Question | Ready:
        waited_s = time.monotonic() - one.since
        if waited_s > self._settings.queue_timeout_s:
            raise EnvironmentFault(
                "too_late",
                f"the question waited over {self._settings.queue_timeout_s:g} s",
                where="the service",
                seen=f"{waited_s:.1f} s",
                hint="ask again after a second, or serve with more workers",
            )
        return one.read()


def _parts(group: list[tuple[Waiting, Question]], most: int) -> list[list[tuple[Waiting, Question]]]:
    """Runs of questions with at most `most` rows together."""
    parts: list[list[tuple[Waiting, Question]]] = [[]]
    rows = 0
    for one, question in group:
        if parts[-1] and rows + len(question.table) > most:
            parts.append([])
            rows = 0
        parts[-1].append((one, question))
        rows += len(question.table)
    return parts


def _tried(work: Callable[..., Any], *given: Any) -> tuple[Any, BaseException | None]:
    """What `work` gives, or what it raised, which whoever waits raises again before the gate."""
    try:
        return work(*given), None
    except Exception as error:  # a thread has nobody above it who would say what happened
        return None, error


def _overloaded(held: int) -> EnvironmentFault:
    return EnvironmentFault(
        "overloaded",
        f"{held} questions wait already",
        where="the service",
        hint="ask again after a second, or serve with more workers",
    )


def _deliver(outcomes: list[Outcome]) -> None:
    """Wake everybody who waits, once for each event loop."""
    for loop in {one.loop for one, _, _ in outcomes}:
        with suppress(RuntimeError):  # a loop that is closed has nobody left who waits
            loop.call_soon_threadsafe(_hand_over, [outcome for outcome in outcomes if outcome[0].loop is loop])


def _hand_over(outcomes: list[Outcome]) -> None:
    for one, reply, error in outcomes:
        if one.done.done():
            continue
        if error is not None:
            one.done.set_exception(error)
        else:
            one.done.set_result(reply)
