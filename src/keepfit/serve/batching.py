"""Gathers questions that wait into one call of the model, fairly between clients; a full queue refuses at once.

No question waits for company unless `batch_wait_s` says so: a runner takes whatever came while it was busy.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from keepfit.core.errors import DataError, EnvironmentFault, UsageError
from keepfit.serve.settings import ServeSettings
from keepfit.serve.turns import Question, Ready, Shares, Turns, Waiting, overloaded

if TYPE_CHECKING:
    from keepfit.serve.meters import Meters
    from keepfit.serve.service import Service

LARGE_BYTES = 1 << 18
FULL_REST_S = 0.006
NEAR_S = 0.004  # a batch that costs more of the CPU would keep the event loop from refusing and from health checks


Outcome = tuple[Waiting, Any, BaseException | None]


class Batcher:
    """The queue of one process, and who empties it: the event loop itself, for questions that cost little to read and while the
    model costs little to ask; threads for all others. Between a small question and its answer stands no other thread."""

    def __init__(self, settings: ServeSettings, meters: Meters, runners: int) -> None:
        self._settings, self._meters, self._runners = settings, meters, runners
        self._turns, self._near = Turns(), Turns()
        self.heard = Shares(settings.queue_bytes)
        self._held = self._held_bytes = 0
        self._cost_s, self._is_called = 1.0, False  # unknown models are asked in a thread first
        self._is_resting = False
        self._wake, self._ending = threading.Condition(), False
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="keepfit-large")

    async def ask(
        self,
        service: Service,
        client: str,
        size_bytes: int,
        read: Callable[[], Question | Ready],
        quick: Callable[[], Question | None] | None = None,
    ) -> Any:
        """The reply. `quick` reads in little time, or gives None. Raises EnvironmentFault `overloaded` at once when the queue is
        full, `too_late` after the time limit, and whatever reading and answering raise."""
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
        try:
            near = quick() if quick is not None and not large and self._cost_s < NEAR_S else None
            if near is not None and len(near.table) <= self._settings.batch_max:
                self._call(one, near)
            elif large:
                self._pool.submit(self._alone, one)
            else:
                with self._wake:
                    self._turns.put(one)
                    self._start()
                    self._wake.notify()
            return await one.done
        finally:
            with self._wake:
                self._held -= 1
                self._held_bytes -= size_bytes
                self._meters.waiting.set(self._held)
            del one  # an error of its future holds this frame: a circle around the body that only garbage collection would find

    def _call(self, one: Waiting, question: Question) -> None:
        """Answer it once the event loop has read what else has come."""
        one.read = lambda: question
        with self._wake:
            self._near.put(one)
        if not self._is_called:
            self._is_called = True
            one.loop.call_soon(self._near_round)

    def _near_round(self) -> None:
        with self._wake:
            batch = self._near.take(self._settings.batch_max)
            self._is_called = bool(self._near.count)
        if self._is_called:
            batch[0].loop.call_soon(self._near_round)  # after what came meanwhile is read
        if batch:
            self._answer(batch)

    def close(self) -> None:
        """Answer what waits and stop."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()

    def is_full(self, client: str) -> bool:
        """Whether a question of this client would be refused for the number of those that wait."""
        return self._held >= self._settings.queue and self._crowd(client) is None

    def rest(self) -> None:
        """Let the event loop rest once, where a question is refused and threads ask the model: requests that wake it one by one
        take three times the CPU of those that it finds together, and what they take is the model's."""
        if self._cost_s >= NEAR_S and not self._is_resting:
            self._is_resting = True
            asyncio.get_running_loop().call_soon(self._rest)

    def _rest(self) -> None:
        time.sleep(FULL_REST_S)
        self._is_resting = False

    def _crowd(self, client: str) -> tuple[Turns, str] | None:
        """The client that has more questions waiting than this one would have, and where; None where there is none."""
        turns = max((self._turns, self._near), key=lambda some: some.longest()[0])
        length, other = turns.longest()
        mine = max(self._turns.length(client), self._near.length(client))
        return (turns, other) if length > mine + 1 else None

    def _make_room(self, one: Waiting) -> None:
        """Raises EnvironmentFault when the queue is full, unless another client has more than this one would have."""
        limit = self._settings
        if self._held < limit.queue and (not self._held or self._held_bytes + one.size_bytes <= limit.queue_bytes):
            return
        crowd = self._crowd(one.client)
        if crowd is None:
            raise overloaded()
        turns, client = crowd
        _deliver([(turns.drop_last(client), None, overloaded())])

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
            self._wake.wait_for(lambda: self._turns.count or self._ending)
            if wait_s and self._turns.count < most and not self._ending:
                self._wake.wait_for(lambda: self._turns.count >= most or self._ending, wait_s)
            return self._turns.take(most)

    def _answer(self, batch: list[Waiting]) -> None:
        outcomes: list[Outcome] = []
        groups: dict[int, list[tuple[Waiting, Question]]] = {}
        for one in batch:
            read, error = self._read(one)
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
            begun = time.thread_time()
            replies, error = _tried(service.answer_together, questions)
            self._note_cost(time.thread_time() - begun)
            if error is None and replies is not None:
                return [(one, reply, None) for (one, _), reply in zip(part, replies, strict=True)]
        begun = time.thread_time()
        outcomes = [(one, *_tried(service.answer, question)) for one, question in part]
        self._note_cost(time.thread_time() - begun)
        return outcomes

    def _note_cost(self, seconds: float) -> None:
        """What a batch costs of late, in CPU time."""
        self._cost_s = seconds if self._cost_s >= 1.0 else 0.8 * self._cost_s + 0.2 * seconds

    def _large(self, one: Waiting, question: Question) -> None:
        with suppress(RuntimeError):  # the pool is closed only once nobody waits any more
            self._pool.submit(lambda: _deliver([(one, *_tried(one.service.answer, question))]))

    def _alone(self, one: Waiting) -> None:
        read, error = self._read(one)
        if error is None and isinstance(read, Question):
            self._meters.batch_rows.observe(len(read.table))
            _deliver([(one, *_tried(one.service.answer, read))])
        else:
            _deliver([(one, read.body if error is None else None, error)])

    def _read(self, one: Waiting) -> tuple[Any, BaseException | None]:
        """What a question asks, or why it is not answered. `too_late` is made and not raised: its frames would hold the body."""
        waited_s = time.monotonic() - one.since
        if waited_s <= self._settings.queue_timeout_s:
            return _tried(one.read)
        return None, EnvironmentFault(
            "too_late",
            f"the question waited over {self._settings.queue_timeout_s:g} s",
            where="the service",
            seen=f"{waited_s:.1f} s",
            hint="ask again after a second, or serve with more workers",
        )


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
    except (
        DataError,
        UsageError,
    ) as error:  # a client's; nobody asks for its frames, which would keep the body in a circle
        error.__context__ = None
        return None, error.with_traceback(None)
    except Exception as error:  # a thread has nobody above it who would say what happened
        return None, error


def _deliver(outcomes: list[Outcome]) -> None:
    """Wake everybody who waits, once for each event loop."""
    here = asyncio._get_running_loop()
    for loop in {one.loop for one, _, _ in outcomes}:
        if loop is here:
            _hand_over([outcome for outcome in outcomes if outcome[0].loop is loop])
            continue
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
