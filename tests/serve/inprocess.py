"""A blocking client of an application in this process: no socket, no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from functools import partialmethod
from threading import Thread
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Client:
    """Runs the application on a loop of its own, so that several threads may ask at once."""

    def __init__(self, app: FastAPI) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._life = app.router.lifespan_context(app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://here", follow_redirects=True, timeout=None)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._life.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._http.aclose())
        self._wait(self._life.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def request(self, method: str, path: str, **said: Any) -> httpx.Response:
        if not isinstance(said.get("content", b""), bytes | str):
            said["content"] = _one_by_one(said["content"])
        response: httpx.Response = self._wait(self._http.request(method, path, **said))
        return response

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
