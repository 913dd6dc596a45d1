"""Questions answered together: the same answers, each its own; a full queue refuses at once, and no client crowds out others."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serve_fake import Bundle, Predictor

from keepfit.core.errors import KeepfitError
from keepfit.serve.batching import FULL_REST_S
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings


class Watched(Predictor):
    """Counts calls and rows; the first call waits until `go` is set."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.calls: list[int] = []
        self.go = threading.Event()

    def predict(self, table: Any) -> Any:
        self.calls.append(len(table))
        assert self.go.wait(20)
        return super().predict(table)


class WatchedBundle(Bundle):
    def predictor(self) -> Watched:
        self.made = Watched(self)
        return self.made


def rows_of(row: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return [{**row, "age": 20 + place / 3, "city": ("Paris", "Köln", "Mu")[place % 3]} for place in range(count)]


def asked_together(client, bundle, bodies, **settings):
    """The replies to questions that all wait behind a first one."""
    ask = client(bundle, **settings)
    with ThreadPoolExecutor(len(bodies) + 1) as pool:
        first = pool.submit(ask.post, "/predict", content=bodies[0])
        while not bundle.made.calls:
            time.sleep(0.005)
        others = [pool.submit(ask.post, "/predict", content=body) for body in bodies[1:]]
        while f"keepfit_questions_waiting {len(bodies)}.0" not in ask.get("/metrics").text:
            time.sleep(0.005)
        bundle.made.go.set()
        return [one.result() for one in (first, *others)]


def test_questions_that_wait_are_answered_in_one_call_and_as_if_alone(client, row):
    bundle, rows = WatchedBundle(), rows_of(row, 40)
    replies = asked_together(client, bundle, [json.dumps({"input": one}).encode() for one in rows])
    assert bundle.made.calls[:2] == [1, 32] and sum(bundle.made.calls) == 40
    alone = client()
    for one, reply in zip(rows, replies, strict=True):
        expected, body = alone.post("/predict", json={"input": one}).json(), reply.json()
        assert (body["prediction"], body["probabilities"]) == (expected["prediction"], expected["probabilities"])
    assert len({reply.json()["request_id"] for reply in replies}) == 40


def test_batch_max_one_answers_each_alone(client, row):
    bundle = WatchedBundle()
    asked_together(client, bundle, [json.dumps({"input": one}).encode() for one in rows_of(row, 5)], batch_max=1)
    assert bundle.made.calls == [1] * 5


@pytest.mark.parametrize(("column", "value", "status"), [("city", "fault", 500), ("since", "never", 422)])
def test_a_question_at_fault_spoils_no_other(client, row, column, value, status):
    rows = rows_of(row, 6)
    rows[3] = {**rows[3], column: value}
    replies = asked_together(client, WatchedBundle(), [json.dumps({"input": one}).encode() for one in rows])
    assert [reply.status_code for reply in replies] == [200, 200, 200, status, 200, 200]
    broken = asked_together(client, WatchedBundle(), [b'{"input": %s}' % json.dumps(row).encode()] * 2 + [b"x"])
    assert [reply.status_code for reply in broken] == [200, 200, 422]


def test_many_rows_go_alone_and_in_order(client, row):
    bundle, rows = WatchedBundle(), rows_of(row, 100)
    bodies = [json.dumps({"input": rows[0]}).encode(), json.dumps({"inputs": rows}).encode()]
    replies = asked_together(client, bundle, bodies)
    assert sorted(bundle.made.calls) == [1, 100]
    alone = client().post("/predict", json={"inputs": rows}).json()
    assert replies[1].json()["predictions"] == alone["predictions"]


def test_a_full_queue_refuses_at_once_with_retry_after(client, row):
    bundle = WatchedBundle()
    ask = client(bundle, queue=3)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(ask.post, "/predict", json={"input": row}) for _ in range(3)]
        while "keepfit_questions_waiting 3.0" not in ask.get("/metrics").text:
            time.sleep(0.005)
        begun = time.perf_counter()
        refused = ask.post("/predict", json={"input": row})
        seconds = time.perf_counter() - begun
        bundle.made.go.set()
        assert [one.result().status_code for one in held] == [200] * 3
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"]["code"] == "overloaded" and seconds < 1
    assert ask.post("/predict", json={"input": row}).status_code == 200


@pytest.mark.parametrize(("cost_s", "rests"), [(0.05, 1), (0.001, 0)])
def test_the_event_loop_rests_once_while_threads_ask_a_costly_model(cost_s, rests, monkeypatch):
    bundle = Bundle()
    batcher = Current(bundle, bundle.predictor(), ServeSettings()).batcher  # type: ignore[arg-type]
    batcher._note_cost(cost_s)

    slept: list[float] = []
    monkeypatch.setattr("keepfit.serve.batching.time.sleep", slept.append)

    async def refused_three_at_once() -> None:
        for _ in range(3):
            batcher.rest()
        await asyncio.sleep(0.01)

    for turn in (1, 2):
        asyncio.run(refused_three_at_once())
        assert slept == [FULL_REST_S] * rests * turn
    batcher.close()


def test_a_question_that_waited_too_long_is_refused_and_not_computed(client, row):
    bundle = WatchedBundle()
    ask = client(bundle, queue_timeout_s=0.05)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask.post, "/predict", json={"input": row})
        while not bundle.made.calls:
            time.sleep(0.005)
        second = pool.submit(ask.post, "/predict", json={"input": row})
        time.sleep(0.2)
        bundle.made.go.set()
        assert first.result().status_code == 200
        late = second.result()
    assert (late.status_code, late.json()["error"]["code"]) == (503, "too_late")
    assert late.headers["Retry-After"] == "1" and bundle.made.calls == [1]


def test_clients_take_turns_and_a_crowd_makes_room_for_one_alone(row):
    bundle, order = WatchedBundle(), []

    async def drive() -> list[Any]:
        current = Current(bundle, bundle.predictor(), ServeSettings(queue=9, batch_max=1))  # type: ignore[arg-type]
        service, batcher = current.service, current.batcher

        def read(name: str) -> Any:
            from keepfit.serve.turns import Ready

            order.append(name)
            if name == "first":
                bundle.made.go.wait(20)
            return Ready(name)

        def ask(client: str, name: str) -> asyncio.Task[Any]:
            return asyncio.create_task(batcher.ask(service, client, 10, lambda: read(name)))

        asked = [ask("crowd", "first")]
        while not order:
            await asyncio.sleep(0.005)
        asked += [ask("crowd", f"crowd {place}") for place in range(8)]
        await asyncio.sleep(0)
        asked += [ask("other", "other 0"), ask("other", "other 1"), ask("crowd", "crowd 8")]
        await asyncio.sleep(0.05)
        bundle.made.go.set()
        done = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        return done

    done = asyncio.run(drive())
    refused = [one for one in done if isinstance(one, KeepfitError)]
    assert order[1:4] == ["crowd 0", "other 0", "crowd 1"] or order[1:4] == ["other 0", "crowd 0", "other 1"]
    assert {one.code for one in refused} == {"overloaded"} and len(refused) == 3
    assert all(isinstance(done[place], str) for place in (9, 10)) and isinstance(done[11], KeepfitError)
