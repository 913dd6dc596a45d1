"""Small questions are answered on the event loop itself: the same answers, the same limits, the same records."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from inprocess import Client
from serve_real import write_bundle

from keepfit.core import digest
from keepfit.core.errors import DataError, KeepfitError
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.predictor import Predictor
from keepfit.serve import batching
from keepfit.serve.app import app_of, create_app
from keepfit.serve.batching import Batcher
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings
from keepfit.store.record_files import FileRecords
from keepfit.store.recorder import Recorder
from keepfit.store.records import Records

ROW = {"age": 31.5, "hours": 40, "married": True, "city": "Köln", "since": "2020-01-31"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("near") / "bundle"))


@pytest.fixture
def near(monkeypatch) -> list[int]:
    """The rows of each question that is answered on the event loop."""
    seen: list[int] = []
    call = Batcher._call

    def counted(self: Batcher, one: Any, question: Any) -> None:
        seen.append(len(question.table))
        call(self, one, question)

    monkeypatch.setattr(Batcher, "_call", counted)
    return seen


def said(reply: Any) -> Any:
    body = reply.json()
    body.pop("request_id", None)
    return reply.status_code, body


def test_answers_are_those_of_the_threads(bundle, near, monkeypatch):
    rows = [{**ROW, "age": age, "city": city} for age in (1, -2.5, None, 1e-7, 0) for city in ("Köln", None, "Rom")]
    bodies = [json.dumps(b) for b in [*({"input": row} for row in rows), {"inputs": rows}, {"inputs": rows[:1]}]]
    bodies += [
        json.dumps({"input": {**ROW, **odd}})
        for odd in ({"age": "x"}, {"age": True}, {"more": 1}, {"city": "a:b"}, {"age": "4"})
    ]
    bodies += ['{"input": {"age": NaN}}', '{"input": {"age": 1, "age": 2}}', "[]"]

    def asked() -> list[Any]:
        with Client(create_app(bundle, bundle.predictor(), ServeSettings())) as client:
            client.post("/predict", content=bodies[0])
            with ThreadPoolExecutor(8) as pool:
                return [said(reply) for reply in pool.map(lambda body: client.post("/predict", content=body), bodies)]

    quick = asked()
    assert len(near) == len(rows) + 2 and sum(near) == 2 * len(rows) + 1
    monkeypatch.setattr(batching, "NEAR_S", 0.0)
    assert asked() == quick and len(near) == len(rows) + 2


def test_many_rows_and_models_that_cost_much_go_to_threads(bundle, near):
    class Slow(Predictor):
        def predict(self, table: Any) -> Any:
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                pass
            return super().predict(table)

    quick = bundle.predictor()
    slow = Slow(quick.preparation, quick.network, quick.task, quick.classes, quick.ignored)
    with Client(create_app(bundle, slow, ServeSettings())) as client:
        for _ in range(4):
            assert client.post("/predict", json={"input": ROW}).status_code == 200
    assert near == []
    with Client(create_app(bundle, quick, ServeSettings())) as client:
        client.post("/predict", json={"input": ROW})
        assert len(client.post("/predict", json={"inputs": [ROW] * 40}).json()["predictions"]) == 40
        assert near == [] and client.post("/predict", json={"input": ROW}).status_code == 200
    assert near == [1]


def test_a_full_queue_refuses_here_too_and_a_stop_answers(bundle):
    async def drive() -> list[Any]:
        current = Current(bundle, bundle.predictor(), ServeSettings(queue=5))
        service, batcher = current.service, current.batcher
        batcher._cost_s = 0.0
        body = json.dumps({"input": ROW}).encode()

        def ask(client: str) -> asyncio.Task[Any]:
            from keepfit.serve.predict import _quick

            return asyncio.create_task(batcher.ask(service, client, 10, lambda: 1 / 0, lambda: _quick(service, body)))  # type: ignore[arg-type, return-value]

        done = await asyncio.gather(*[ask("crowd") for _ in range(7)], ask("other"), return_exceptions=True)
        assert current.meters.waiting.value == 0
        await asyncio.to_thread(batcher.close)
        return done

    done = asyncio.run(drive())
    refused = [place for place, one in enumerate(done) if isinstance(one, KeepfitError)]
    assert refused == [4, 5, 6] and all(b"prediction" in one for one in (*done[:4], done[7]))


def wide(tmp_path: Any) -> Bundle:
    """A real bundle of 40 numbers and a text."""
    folder = write_bundle(tmp_path / "wide")
    raw = json.loads((folder / "preparation.json").read_bytes())
    extra = [{**raw["columns"][0], "name": f"n{place}"} for place in range(40)]
    raw["columns"] += extra
    (folder / "preparation.json").write_bytes(digest.canonical(raw))
    profile = {
        "columns": {
            f"n{place}": {"kind": "numeric", "missing": 0.0, "quantiles": [0.0, 1.0, 2.0]} for place in range(40)
        },
        "rows": 9,
    }
    (folder / "profile.json").write_bytes(digest.canonical(profile))
    golden = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
    for one in golden:
        one["input"] |= {f"n{place}": "1" for place in range(40)}
    (folder / "golden.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in golden))
    manifest = json.loads((folder / "bundle.json").read_bytes())
    manifest["inputs"] += [{"name": f"n{place}", "kind": "numeric", "datatype": "FP64"} for place in range(40)]
    (folder / "bundle.json").write_bytes(digest.canonical(manifest))
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = [f"{digest.of_bytes((folder / name).read_bytes())}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return Bundle.open(folder)


def test_records_and_sketches_of_wide_rows_are_those_of_text(tmp_path, near):
    bundle, draw = wide(tmp_path), np.random.default_rng(0)
    rows = [
        {**ROW, **{f"n{place}": value for place, value in enumerate(draw.normal(1, 1, 40).tolist())}} for _ in range(6)
    ]
    rows[1]["n3"] = rows[2]["city"] = None
    rows[3]["n7"] = -0.0
    texts = [{name: str(value) if name == "n0" else value for name, value in row.items()} for row in rows]
    found = []
    for place, asked in enumerate((rows, texts)):
        folder = tmp_path / f"records{place}"
        recorder = Recorder(FileRecords(folder))
        with Client(app_of(Current(bundle, bundle.predictor(), ServeSettings(), recorder))) as client:
            client.post("/predict", json={"inputs": texts[:1]})
            ids = [
                client.post("/predict", json={"inputs": some}).json()["request_id"] for some in (asked[:2], asked[2:])
            ]
            labels = ["no", None, None, "yes"]
            assert client.post("/feedback", json={"request_id": ids[1], "labels": labels}).status_code == 200
        recorder.close()
        records = Records.open(str(folder))
        assert [row.label for row in records.find(ids[1])] == labels
        counts: dict[str, Any] = {}
        for sketch in records.sketches():
            for name, seen in sketch["columns"].items():
                counts[name] = np.add(counts.get(name, 0), seen).tolist()
        found.append(([(row.inputs, row.prediction, row.probabilities) for row in records.rows()], counts))
        if place == 0:
            raw = b"".join(path.read_bytes() for path in folder.glob("answers-*"))
            assert near == [2, 4] and raw.count(b'"block"') == 2
    assert len(found[0][0]) == 7 and len(found[0][1]) == 40
    assert found[0][1] == found[1][1]
    for (one, *_), (two, *_) in zip(found[0][0], found[1][0], strict=True):
        assert one == {name: two[name] for name in one} and sorted(one) == sorted(two)
    assert found[0][0] == found[1][0]


@pytest.mark.parametrize("body", [b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"{", b'{"input": {"x": NaN}}'])
def test_a_refused_body_is_freed_at_once_not_when_garbage_is_looked_for(client, body):
    ask = client()

    def errors() -> int:
        return sum(type(one) is DataError for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = errors()
        for _ in range(3):
            assert ask.post("/predict", content=body).status_code == 422
        until = time.monotonic() + 2  # the reply is here a moment before its thread lets go of the error
        while errors() > before and time.monotonic() < until:
            time.sleep(0.01)
        assert errors() <= before
    finally:
        gc.enable()
