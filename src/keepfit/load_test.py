"""Measures a running service from outside: latency percentiles and throughput over kept connections; knows nothing of models."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from keepfit.core.errors import DataError, EnvironmentFault, UsageError

CONNECTIONS = (1, 16, 64)
_WARM_UP_S = 0.5
_READ_S = 60.0


@dataclass(frozen=True)
class Target:
    """A service to be asked. `token` goes into every request."""

    url: SplitResult
    token: str | None = None

    @classmethod
    def of(cls, url: str, token: str | None = None) -> Target:
        """Raises UsageError for anything but a plain http URL."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(
                "url_wrong",
                "this is no address of a service",
                where="--url",
                seen=url[:200],
                hint="http://127.0.0.1:8000",
            )
        return cls(parts, token)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.url.hostname or "", self.url.port or 80

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request on a kept connection."""
        lines = [f"{method} {self.url.path.rstrip('/')}{path} HTTP/1.1", f"Host: {self.url.netloc}"]
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


@dataclass
class Seen:
    """What came back: `seconds` of the answered, `refused_seconds` of 503s, every status; `lasted` seconds of asking."""

    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0

    def note(self, status: int, seconds: float) -> None:
        """One reply."""
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)
        elif status == 503:
            self.refused_seconds.append(seconds)


async def exchange(
    request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, bytes, bool]:
    """Send one request and read its reply: status, body, and whether the connection is kept."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    status, lower = int(head[9:12]), head.lower()
    start = lower.find(b"content-length:")
    if start >= 0:
        body = await reader.readexactly(int(lower[start + 15 : lower.index(b"\r\n", start)]))
    else:
        body = await _chunks(reader)
    return status, body, b"connection: close" not in lower


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


async def _client(target: Target, request: bytes, until: float, since: float, seen: Seen) -> None:
    """Ask again and again over one connection; what is answered after `since` counts."""
    writer = None
    while (begun := time.perf_counter()) < until:
        if writer is None:
            reader, writer = await asyncio.open_connection(*target.place)
        status, _, kept = await asyncio.wait_for(exchange(request, reader, writer), _READ_S)
        ended = time.perf_counter()
        if begun >= since:
            seen.note(status, ended - begun)
        if not kept:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def closed_loop(target: Target, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """`connections` clients that ask again as soon as they are answered, for `seconds` after a short start."""
    since = time.perf_counter() + _WARM_UP_S
    seen = Seen()
    clients = [_client(target, request, since + seconds, since, seen) for _ in range(connections)]
    await asyncio.gather(*clients)
    return {"connections": connections, **summary(seen, seconds)}


def summary(seen: Seen, seconds: float) -> dict[str, Any]:
    """Percentiles in ms of the answered, answers per second, counts of the rest."""
    found: dict[str, Any] = {"answers_per_s": round(len(seen.seconds) / seconds, 1), "answered": len(seen.seconds)}
    for share in (50, 90, 99):
        found[f"p{share}_ms"] = percentile_ms(seen.seconds, share)
    found["refused"] = seen.statuses[503]
    found["failed"] = sum(count for status, count in seen.statuses.items() if status not in (200, 503))
    return found


def percentile_ms(seconds: list[float], share: float) -> float | None:
    """The nearest-rank percentile, None of nothing."""
    if not seconds:
        return None
    return round(sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share / 100))] * 1000, 3)


async def _once(target: Target, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(*target.place)
    try:
        status, body, _ = await asyncio.wait_for(exchange(target.request(method, path, body), reader, writer), _READ_S)
        return status, body
    finally:
        writer.close()


async def _example(target: Target) -> bytes:
    """The example of the service's own OpenAPI document."""
    status, raw = await _once(target, "GET", "/openapi.json")
    try:
        content = json.loads(raw)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        return json.dumps(content["example"]).encode()
    except (ValueError, KeyError, TypeError):
        raise DataError(
            "no_example",
            "the service shows no example to ask with",
            where=f"{target.url.geturl()}/openapi.json",
            seen=f"status {status}",
            hint="--body FILE gives one; --token-env NAME if it wants a token",
        ) from None


async def _bench(target: Target, body: bytes | None, seconds: float) -> dict[str, Any]:
    asked = body if body is not None else await _example(target)
    status, reply = await _once(target, "POST", "/predict", asked)
    if status != 200:
        raise DataError(
            "not_answered",
            "the service does not answer this body",
            where=f"{target.url.geturl()}/predict",
            seen=f"{status} {reply[:200].decode('utf-8', 'replace')}",
            hint="--body FILE with a body that it answers",
        )
    request = target.request("POST", "/predict", asked)
    rounds = [await closed_loop(target, request, count, seconds) for count in CONNECTIONS]
    return {"url": target.url.geturl(), "body_bytes": len(asked), "seconds": seconds, "rounds": rounds}


def bench_url(url: str, body: bytes | None = None, token: str | None = None, seconds: float = 3.0) -> dict[str, Any]:
    """Ask `/predict` of a service over 1, 16 and 64 connections, `seconds` each, with `body` or its own example.

    Gives a round per number of connections: answers per second, percentiles in ms, refusals (503) and failures.
    Raises UsageError for a wrong URL, DataError for a body that is not answered, EnvironmentFault `no_service`.
    """
    target = Target.of(url, token)
    try:
        return asyncio.run(_bench(target, body, seconds))
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        raise EnvironmentFault(
            "no_service",
            "the service does not answer, or not in HTTP",
            where=target.url.geturl(),
            seen=repr(error)[:200],
            hint="start it with keepfit serve and take the URL that it prints",
        ) from None
