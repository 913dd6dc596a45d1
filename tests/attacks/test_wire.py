"""Hostile requests to a live service: refused at once by name, nothing of ours breaks, the log is not forged, memory stays."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

ROW = {"age": 31.5, "hours": 40, "married": True, "city": "Paris", "since": "2020-01-31"}
QUESTION = json.dumps({"input": ROW}).encode()
FAKE = Path(__file__).parents[1] / "serve" / "serve_fake.py"


class Served:
    """A service in a process of its own, whose log is kept."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(FAKE), "0", token], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.place = ("127.0.0.1", int(self.url.rpartition(":")[2]))

    def memory(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def talk(self, data: bytes, patience_s: float = 10.0) -> bytes:
        """What comes back for raw bytes, until the line closes or the reply is whole."""
        with socket.create_connection(self.place, patience_s) as line:
            got = b""
            try:
                line.sendall(data)
                while not _is_whole(got) and (piece := line.recv(65536)):
                    got += piece
            except (ConnectionError, TimeoutError):
                pass
            return got

    def is_well(self) -> bool:
        return httpx.post(f"{self.url}/predict", json={"input": ROW}, timeout=30).status_code == 200

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)
        self.log.close()


def _is_whole(got: bytes) -> bool:
    head, ended, body = got.partition(b"\r\n\r\n")
    size = re.search(rb"content-length: (\d+)", head.lower())
    return bool(ended and size and len(body) >= int(size[1]))


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("wire"))
    yield one
    one.close()


def post(body: bytes, *headers: str, path: str = "/predict", length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(size: int, count: int) -> bytes:
    piece = b"%x\r\n" % size + b"[" * size + b"\r\n"
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + piece * count + b"0\r\n\r\n"


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


def cell(text: str) -> bytes:
    return QUESTION.replace(b"31.5", text.encode())


@dataclass(frozen=True)
class Wire:
    """A request and the statuses that may answer it; 0 is a line closed without a word."""

    name: str
    data: bytes
    wanted: tuple[int, ...]


WIRES = [
    Wire("CWE-770 a body of 2 GB, announced", post(b"{", length=2 << 30), (413,)),
    Wire("CWE-770 a length of 400 digits", post(b"{", length=int("9" * 400)), (400, 413)),
    Wire("CWE-770 a negative length", post(b"{", length=-1), (400,)),
    Wire("CWE-770 a body of 6-byte chunks over the limit", chunked(6, 40_000), (413,)),
    Wire("CVE-2019-16785 two lengths", post(QUESTION, "Content-Length: 3"), (400,)),
    Wire("CVE-2019-16785 a length and chunks", post(QUESTION, "Transfer-Encoding: chunked"), (400, 422)),
    Wire("CVE-2019-16785 an obscured encoding", post(QUESTION, "Transfer-Encoding: xchunked"), (400, 422)),
    Wire("CWE-444 a chunk of a size that is no number", chunked(6, 1).replace(b"6\r\n", b"0x6\r\n"), (400,)),
    Wire("CWE-674 JSON of 100,000 levels", post(b"[" * 50_000 + b"]" * 50_000), (422,)),
    Wire("CWE-674 JSON of 100,000 levels in a cell", post(cell("[" * 49_000 + "]" * 49_000)), (422,)),
    Wire("CWE-674 JSON of objects, not closed", post(b'{"a":' * 20_000), (422,)),
    *(Wire(f"CWE-20 {text}", post(cell(text)), (422,)) for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")),
    Wire("CVE-2020-10735 a number of 100,000 digits", post(cell("9" * 100_000)), (422,)),
    Wire("CWE-20 a doubled key", post(QUESTION.replace(b'{"age"', b'{"age": 1, "age"')), (422,)),
    Wire("CWE-176 half of a character", post(QUESTION.replace(b"Paris", b"\\ud800")), (422,)),
    Wire("CWE-176 overlong UTF-8", post(QUESTION.replace(b"Paris", b"\xc0\xaf")), (422,)),
    Wire("CWE-158 a null in a text", post(QUESTION.replace(b"Paris", b"\\u0000")), (200, 422)),
    Wire("CWE-409 a gzip bomb", post(gzip.compress(bytes(50 << 20)), "Content-Encoding: gzip"), (413,)),
    Wire("CWE-409 an encoding that is not known", post(QUESTION, "Content-Encoding: br"), (415,)),
    *(
        Wire(f"CVE-2021-41773 {path}", get(path), (400, 404))
        for path in (
            "/../../../../etc/passwd",
            "/..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/.%252e/.%252e/etc/passwd",
            "/%252e%252e%252fetc%252fpasswd",
            "/docs/..%c0%af../etc/passwd",
            "/..\\..\\etc\\passwd",
            "/v2/models/..%2f..%2fetc/versions/1",
            "/v2/models/%252e%252e%252fmixed",
            "/v2/models/mixed/versions/..%252f3",
            "file:///etc/passwd",
            "//127.0.0.1/etc/passwd",
            "/%00",
        )
    ),
    Wire("CWE-770 a header of 200 kB", get("/healthz", "X-A: " + "a" * 200_000), (431,)),
    Wire("CWE-770 a path of 200 kB", get("/" + "a" * 200_000), (431,)),
    Wire("CWE-93 a header with a line break", get("/healthz", "X-A: a\r\n\tb"), (200, 400)),
    Wire("CWE-93 a header name with a space", get("/healthz", "X A: b"), (400,)),
    Wire(
        "CVE-2011-3192 ranges without end",
        get("/docs", "Range: bytes=" + ",".join(f"{i}-" for i in range(2000))),
        (200,),
    ),
    Wire("CWE-441 a host that is another", get("/healthz", "X-Forwarded-Host: evil", "Forwarded: host=evil"), (200,)),
    Wire("CWE-650 a method that tunnels", post(QUESTION, "X-HTTP-Method-Override: DELETE"), (200,)),
    Wire("CWE-749 TRACE", get("/predict", method="TRACE"), (405,)),
    Wire("CWE-749 a method that nobody knows", get("/predict", method="BREW"), (400, 405)),
    Wire("CWE-918 a picture by URL", post(b'{"input": {"image": "http://127.0.0.1:1/x.png"}}'), (422,)),
    Wire("CWE-20 no HTTP at all", b"\x16\x03\x01\x02\x00" + b"A" * 600 + b"\r\n\r\n", (400, 0)),
    Wire(
        "CWE-89 SQL for a request id",
        post(b'{"request_id": "1\' or 1=1 --", "label": "yes"}', path="/feedback"),
        (404, 415, 422),
    ),
]


@pytest.mark.parametrize("wire", WIRES, ids=lambda one: one.name[:60])
def test_a_hostile_request_is_refused_at_once(served, wire):
    begun = time.monotonic()
    got = served.talk(wire.data)
    status = int(got.split(b" ")[1]) if got.startswith(b"HTTP/") else 0
    assert status in wire.wanted, got[:300]
    assert time.monotonic() - begun < 8
    assert b"root:" not in got and b"Traceback" not in got
    if status in (413, 415, 422):
        assert {"code", "message", "where", "hint"} <= set(json.loads(got.partition(b"\r\n\r\n")[2])["error"])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_behind_a_wish_for_another_protocol_is_no_request(served, at_once):
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"  # httptools reads it as a request of its own
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(served.place, 10) as line:
        line.sendall(head % len(inner) + (inner if at_once else b""))
        got = b""
        try:
            if not at_once:
                got = line.recv(65536)
                line.sendall(inner)
            while piece := line.recv(65536):
                got += piece
        except ConnectionError:
            pass
    assert got.startswith(b"HTTP/1.1 400") and got.count(b"HTTP/1.1 ") == 1, got
    assert b'"status":"ok"' not in got and served.is_well()


def test_after_all_of_them_it_answers_and_holds_no_memory(served):
    assert served.is_well()
    before = served.memory()
    for _ in range(3):
        for wire in WIRES:
            served.talk(wire.data)
    assert served.memory() - before < 20 << 20
    assert served.is_well()
    assert "Traceback" not in served.logged()


def test_a_header_without_end_is_cut_off(served):
    before = served.memory()
    with socket.create_connection(served.place, 10) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ")
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                line.sendall(bytes(97 for _ in range(1000)) * 100)
    assert served.memory() - before < 20 << 20
    assert served.is_well()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HT", b"\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(said):
    """With a short time here: an application of one route behind the protocol of the service."""
    from keepfit.serve.wire import protocol

    async def answered() -> tuple[bytes, bytes]:
        config = uvicorn.Config(_nothing, http=protocol(seconds=0.5), port=0, log_config=None, lifespan="off")
        config.load()
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        place = server.servers[0].sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*place[:2])
        writer.write(said)
        late = await asyncio.wait_for(reader.read(), 5)
        reader, writer = await asyncio.open_connection(*place[:2])
        for _ in range(2):  # a connection that asks, rests longer than a head may take, and asks again, is left alone
            writer.write(get("/"))
            well = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)
            await asyncio.sleep(0.7)
        writer.close()
        server.should_exit = True
        await running
        return late, well

    late, well = asyncio.run(answered())
    assert late.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")) and well.startswith(b"HTTP/1.1 200")


def test_connections_of_one_address_leave_room_for_others():
    from keepfit.serve.wire import protocol

    async def drive() -> None:
        config = uvicorn.Config(_nothing, http=protocol(most_lines=8), port=0, log_config=None, lifespan="off")
        config.load()
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        place = server.servers[0].sockets[0].getsockname()[:2]

        async def line(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection(*place, local_addr=(address, 0))

        crowd = [await line("127.0.0.2") for _ in range(6)]
        reader, writer = await line("127.0.0.2")
        refused = await asyncio.wait_for(reader.read(), 5)
        assert refused.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in refused and b'"hint"' in refused
        reader, writer = await line("127.0.0.1")
        writer.write(get("/"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)).startswith(b"HTTP/1.1 200")
        for _, one in crowd:
            one.close()
        await asyncio.sleep(0.1)
        reader, writer = await line("127.0.0.2")
        writer.write(get("/"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)).startswith(b"HTTP/1.1 200")
        writer.close()
        server.should_exit = True
        await running

    asyncio.run(drive())


@pytest.mark.parametrize(("limits", "cut"), [({"read_s": 0.5}, {0, 1, 2}), ({"most_unread": 34 << 20}, {0})])
def test_replies_that_nobody_reads_are_not_held_for_ever(limits, cut):
    """CWE-400, slow read: three clients ask for 16 MB each and do not read; who is cut off, by time and by what is held together."""
    from keepfit.serve.wire import protocol

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (16 << 20))]})
        await send({"type": "http.response.body", "body": bytes(16 << 20)})

    async def drive() -> set[int]:
        config = uvicorn.Config(large, http=protocol(**limits), port=0, log_config=None, lifespan="off")
        config.load()
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        place = server.servers[0].sockets[0].getsockname()[:2]
        lines = []
        for _ in range(3):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.setblocking(False)
            await asyncio.get_running_loop().sock_connect(line, place)
            line.send(get("/"))
            lines.append(line)
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.7)
        short = {number for number, line in enumerate(lines) if await _read(line) < 16 << 20}
        server.should_exit = True
        await running
        return short

    assert asyncio.run(drive()) == cut


async def _read(line: socket.socket) -> int:
    """How many bytes come before the line closes, or all of a reply is there."""
    got = 0
    try:
        while got < 16 << 20 and (piece := await asyncio.get_running_loop().sock_recv(line, 1 << 20)):
            got += len(piece)
    except ConnectionError:
        pass
    line.close()
    return got


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_slow_clients_do_not_hold_up_honest_ones(served):
    lines = []
    for _ in range(200):
        line = socket.create_connection(served.place, 10)
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        lines.append(line)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.2):
            for line in lines:
                line.send(b"a")

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    with httpx.Client() as client:
        times = []
        for _ in range(50):
            begun = time.monotonic()
            assert client.post(f"{served.url}/predict", json={"input": ROW}, timeout=20).status_code == 200
            times.append(time.monotonic() - begun)
    stop.set()
    dripping.join(10)
    for line in lines:
        line.close()
    assert sorted(times)[25] < 1.0


def test_a_client_cannot_write_a_line_of_the_log(served):
    """CWE-117: what a client sends is not in the log as it stands; a fault of ours logs the route's template."""
    forged = "2030-01-01 CRITICAL keepfit: all is lost"
    for path in (f"/predict%0a{forged}", f"/x%0d%0a{forged}", f"/v2/models/%0a{forged}/infer"):
        served.talk(get(path.replace(" ", "%20")))
    fault = json.dumps({"input": {**ROW, "city": "fault"}}).encode()
    assert served.talk(post(fault, f"X-Request-Id: {forged}", f"User-Agent: {forged}")).startswith(b"HTTP/1.1 500")
    assert "/predict failed" in served.logged()
    assert forged not in served.logged()


def test_a_token_guards_what_changes_state(tmp_path):
    one = Served(tmp_path, "right")
    try:
        for path in ("/predict", "/feedback", "/v2/models/mixed/infer", "/v2/repository/models/mixed/load"):
            for token in ("", "wrong", "right" * 5000, "righ", "Right", "right\xff"):
                got = one.talk(post(QUESTION, f"Authorization: Bearer {token}", path=path))
                assert not got or got.split(b" ")[1] in (b"401", b"400", b"431"), (path, token[:9], got[:100])
        assert one.talk(post(QUESTION, "Authorization: Bearer right")).startswith(b"HTTP/1.1 200")
        assert "right" not in one.logged()
    finally:
        one.close()


def test_no_route_but_those_known_changes_state():
    """Without a token the only route that keeps what it is sent is /feedback, for ids that were given here, as JSON only."""
    from serve_fake import Bundle

    from keepfit.serve.app import create_app
    from keepfit.serve.settings import ServeSettings

    made = Bundle()
    app = create_app(made, made.predictor(), ServeSettings())  # type: ignore[arg-type]
    changing = {
        (method, route.path)
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method not in ("GET", "HEAD")
    }
    assert changing <= {
        ("POST", "/predict"), ("POST", "/feedback"), ("POST", "/v2/models/{name}/infer"),
        ("POST", "/v2/models/{name}/versions/{version}/infer"),
    }  # fmt: skip
