"""The live server: its socket, its stop, and clients that misbehave on the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn
from serve_fake import Bundle

from keepfit.core.errors import EnvironmentFault, UsageError
from keepfit.serve.server import address, answer_on, take_socket
from keepfit.serve.settings import ServeSettings, threads_each


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_in_flight_and_ends_well(start, row, number):
    server = start(wait_s=1.0)
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{server.url}/predict", json={"input": row})))
    asking.start()
    while "keepfit_requests_in_flight 2.0" not in httpx.get(f"{server.url}/metrics").text:  # the question and this one
        time.sleep(0.02)
    server.process.send_signal(number)
    asking.join(20)
    out, err = server.process.communicate(timeout=20)
    assert [answer.status_code for answer in answers] == [200]
    assert (server.process.returncode, out, err) == (0, "stopped\n", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


def _talk(host: str, *pieces: bytes) -> bytes:
    """Send pieces, then read until the first reply is whole; the request need not be."""
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=10) as wire:
        for piece in pieces:
            wire.sendall(piece)
        reply = b""
        while b"}}" not in reply and b"Invalid" not in reply:
            part = wire.recv(65_536)
            if not part:
                break
            reply += part
    return reply


def test_a_body_over_the_limit_is_refused_before_it_is_sent(live):
    declared = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (50_000, b" " * 50_000)
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    replies = [_talk(live.host, declared), _talk(live.host, chunked, *[chunk] * 5)]
    for reply in replies:
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"body_too_large"' in reply
    assert len(replies) == 2


def test_clients_that_write_it_all_still_read_the_refusal(live):
    for _ in range(5):
        answer = httpx.post(f"{live.url}/predict", content=b" " * 3_000_000)
        assert answer.status_code == 413
    assert httpx.get(f"{live.url}/healthz").json()["status"] == "ok"


def test_clients_that_leave_do_no_harm(live, row):
    name, port = live.host.split(":")
    body = json.dumps({"input": row}).encode()
    for cut in (5, len(body)):
        with socket.create_connection((name, int(port)), timeout=10) as wire:
            wire.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:cut])
    assert httpx.post(f"{live.url}/predict", json={"input": row}).status_code == 200
    faults = [line for line in httpx.get(f"{live.url}/metrics").text.splitlines() if '_total{code="5xx"' in line]
    assert faults and all(line.endswith(" 0.0") for line in faults)


def test_a_token_on_the_wire(start, row):
    server = start(token="s3cret")
    question = {"json": {"input": row}}
    assert httpx.post(f"{server.url}/predict", **question).status_code == 401
    bearer = {"Authorization": "Bearer s3cret"}
    assert httpx.post(f"{server.url}/predict", headers=bearer, **question).status_code == 200
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_no_connection_is_handed_to_another_protocol(monkeypatch):
    """uvicorn takes the library of WebSockets that it finds, whose connections would be counted for ever."""
    monkeypatch.setattr("uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol", object)
    seen = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: seen.append(server.config))
    settings, bundle = ServeSettings(port=0), Bundle()
    with take_socket(settings) as taken:
        answer_on(taken, bundle, bundle.predictor(), settings, lambda line: None)
    seen[0].load()
    assert seen[0].ws_protocol_class is None


def test_a_taken_port_and_open_doors_are_refused():
    with take_socket(ServeSettings(port=0)) as first:
        port = first.getsockname()[1]
        assert address(first) == f"http://127.0.0.1:{port}"
        assert first.proto == socket.IPPROTO_TCP, "else asyncio leaves Nagle on and replies wait for 40 ms"
        with pytest.raises(EnvironmentFault) as taken:
            take_socket(ServeSettings(port=port))
    assert (taken.value.code, taken.value.exit_code) == ("port_taken", 5)
    cases = {
        "0.0.0.0": "token_needed",
        "": "host_unknown",
        "::": "token_needed",
        "nowhere.invalid": "host_unknown",
        "a" * 300: "host_unknown",
    }
    for host, code in cases.items():
        with pytest.raises(UsageError) as refused:
            take_socket(ServeSettings(host=host, port=0))
        assert refused.value.code == code, host
    for settings, code in ((ServeSettings(port=70_000), "port_wrong"), (ServeSettings(token=" "), "token_empty")):
        with pytest.raises(UsageError) as refused:
            take_socket(settings)
        assert refused.value.code == code
    with pytest.raises(EnvironmentFault) as elsewhere:
        take_socket(ServeSettings(host="192.0.2.1", token="t", port=0))
    assert elsewhere.value.code == "host_not_here"
    for open_door in (ServeSettings(host="0.0.0.0", token="t", port=0), ServeSettings(host="localhost", port=0)):
        take_socket(open_door).close()


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [threads_each(workers) for workers in (1, 2, 3, 4, 16)] == [8, 4, 2, 2, 2]


def test_settings_do_not_show_the_token():
    assert "s3cret" not in repr(ServeSettings(token="s3cret"))


def test_serving_loads_none_of_the_training_code():
    heavy = (
        "sklearn",
        "pandas",
        "torch",
        "lightgbm",
        "scipy",
        "polars",
        "keepfit.engine",
        "keepfit.stages",
        "keepfit.modalities",
        "keepfit.recipe",
        "keepfit.training",
        "sqlalchemy",
    )
    code = (
        f"import sys, keepfit.serve.server; print([n for n in {heavy!r} if n in sys.modules], 'fastapi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"
    assert len(heavy) == 12
