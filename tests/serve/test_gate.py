"""Token, overload, metrics, documents: what surrounds the model."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_fake import NEEDED, Bundle
from starlette.requests import Request

from keepfit.core.errors import EnvironmentFault
from keepfit.runtime.answers import Answers
from keepfit.serve.body import read_body
from keepfit.serve.meters import Meters
from keepfit.serve.settings import ServeSettings
from keepfit.serve.turns import Shares

PATHS = (
    "/predict",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/",
    "/v2",
    "/v2/models/mixed",
    "/v2/models/mixed/ready",
    "/v2/models/mixed/infer",
    "/nothing",
)


def test_token_guards_every_route_but_health(client):
    ask = client(token="s3cret")
    wrong = (None, "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret2", "Bearer é")
    refused = 0
    for path in PATHS:
        for header in wrong:
            answer = ask.get(path, headers={"Authorization": header.encode()} if header else {}, follow_redirects=False)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "s3cret" not in answer.text
            refused += 1
    assert refused == 70
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
        assert ask.get(path).status_code == 200
    for header in ("Bearer s3cret", "bearer  s3cret"):
        assert ask.get("/metrics", headers={"Authorization": header}).status_code == 200


def test_overload_is_503_with_retry_after_and_health_stays(client, row):
    ask = client(Bundle(wait_s=0.5), concurrency=2, threads=1)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(ask.post, "/predict", json={"input": row}) for _ in range(6)]
        assert ask.get("/healthz").status_code == 200
        answers = [one.result() for one in waiting]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 503, 503, 503, 503]
    busy = [answer for answer in answers if answer.status_code == 503]
    assert {(answer.headers["Retry-After"], answer.json()["error"]["code"]) for answer in busy} == {("1", "overloaded")}
    assert ask.post("/predict", json={"input": row}).status_code == 200


def test_bodies_that_never_end_leave_room_for_another_client(start, row):
    server = start()
    host, port = server.host.split(":")
    most = ServeSettings().concurrency * 3 // 4
    lines = []
    try:
        for _ in range(most + 3):
            lines.append(socket.create_connection((host, int(port)), 10, ("127.0.0.2", 0)))
            lines[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
        assert all(line.recv(12) == b"HTTP/1.1 503" for line in lines[most:])
        assert httpx.post(f"{server.url}/predict", json={"input": row}, timeout=30).status_code == 200
    finally:
        for line in lines:
            line.close()


def test_bodies_that_are_still_coming_are_bounded_together():
    def request(client: str, pieces: list[int], then: asyncio.Event) -> Request:
        left = list(pieces)

        async def receive() -> dict[str, Any]:
            if not left:
                await then.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": bytes(left.pop(0)), "more_body": True}

        return Request({"type": "http", "headers": [], "client": (client, 1)}, receive)

    async def drive() -> None:
        settings, heard, then = ServeSettings(), Shares(1000), asyncio.Event()

        def read(client: str, *pieces: int) -> asyncio.Task[bytes]:
            return asyncio.create_task(read_body(request(client, list(pieces), then), settings, heard))

        first = [read("crowd", 300, 100), read("crowd", 300)]
        await asyncio.sleep(0.01)
        with pytest.raises(EnvironmentFault) as caught:
            await read("crowd", 20, 40)
        assert caught.value.code == "overloaded" and heard.taken == 700
        other = read("other", 200)
        await asyncio.sleep(0.01)
        with pytest.raises(EnvironmentFault):
            await read("third", 101)
        then.set()
        assert [len(body) for body in await asyncio.gather(*first, other)] == [400, 300, 200]
        assert heard.taken == 0
        assert len(await read("alone", 5000)) == 5000  # larger than all may be together, when there is no other

    asyncio.run(drive())


def test_metrics_count_and_keep_their_labels_bounded(client, row):
    ask = client()
    for city in ("Paris", "Atlantis", "Mu"):
        ask.post("/predict", json={"input": {**row, "city": city}})
    ask.post("/predict", content=b"x")
    for number in range(20):
        ask.get(f"/nothing/{number}")
        ask.get(f"/v2/models/m{number}")
    families = {family.name: family for family in text_string_to_metric_families(ask.get("/metrics").text)}
    assert len(families) >= 6
    assert all(name.startswith("keepfit_") for name in families)
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in families.values() for s in family.samples}
    assert samples["keepfit_requests_total", "/predict", "2xx"] == 3
    assert samples["keepfit_requests_total", "/predict", "4xx"] == 1
    assert samples["keepfit_requests_total", "4xx", "other"] == 20
    assert samples["keepfit_requests_total", "/v2/*", "4xx"] == 20
    assert samples["keepfit_unseen_categories_total", "city"] == 2
    assert sum(value for key, value in samples.items() if key[0] == "keepfit_predictions_total") == 3
    assert samples["keepfit_model_info", "3", "ab" * 32, "mixed"] == 1
    assert samples["keepfit_request_duration_seconds_count", "/predict"] == 4
    assert samples["keepfit_requests_in_flight",] == 1


def test_classes_without_end_are_bounded():
    names = [f"c{i}" for i in range(300)]
    meters = Meters(Bundle(classes=names))
    meters.predicted(Answers(names, None, names, [""] * 300))
    families = {family.name: family for family in text_string_to_metric_families(meters.text().decode())}
    counted = {s.labels["class"]: s.value for s in families["keepfit_predictions"].samples if s.name.endswith("_total")}
    assert len(counted) == 25
    assert counted["other"] == 276


def test_openapi_describes_the_columns_of_the_bundle(client):
    ask = client(token="t")
    document = ask.get("/openapi.json", headers={"Authorization": "Bearer t"}).json()
    row = document["components"]["schemas"]["Row"]
    assert document["openapi"].startswith("3.1")
    assert row["required"] == NEEDED
    assert len(row["properties"]) == 6
    answer = document["components"]["schemas"]["Answer"]
    assert answer["properties"]["prediction"]["enum"] == ["no", "yes", "vielleicht ü"]
    assert document["security"] == [{"token": []}]
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert ask.post("/predict", json=example, headers={"Authorization": "Bearer t"}).status_code == 200


def test_docs_page_loads_nothing_from_elsewhere(client):
    answer = client(Bundle(name="<b>x")).get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "http" not in answer.text.replace("http-equiv", "")
    assert "<b>x" not in answer.text
    assert answer.text.count("<code>") == 10 + 5
    assert client().get("/").url.path == "/docs"


def test_the_example_is_a_golden_row_only_where_those_are_synthetic(client):
    golden = {"golden.jsonl": b'{"input": {"city": "Paris", "age": 7}, "scores": [1]}\n{}'}
    for kind, age in (("synthetic", 7), ("rows", 0.5), (None, 0.5)):
        document = client(Bundle(files=golden, manifest={"golden": kind})).get("/openapi.json").json()
        example = document["components"]["schemas"]["Row"]["example"]
        assert list(example) == NEEDED
        assert example["age"] == age
