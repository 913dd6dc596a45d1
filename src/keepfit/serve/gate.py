"""The door of the service, as plain ASGI: token, overload, time taken, and every error as a coded reply."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keepfit.core.errors import DataError, InternalFault, KeepfitError
from keepfit.serve.meters import INFER, Meters, route_label
from keepfit.serve.replies import refuse, status_of
from keepfit.serve.settings import ServeSettings
from keepfit.serve.turns import Shares, overloaded
from keepfit.serve.wire import WHOLE

OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
MODEL_ROUTES = frozenset({"/predict", "/feedback", INFER})
BUSY = frozenset({"overloaded", "too_late", "stopping"})
LINGER_S = 1.0
Predict = Callable[[Request], Awaitable[bytes]]
log = logging.getLogger("keepfit.serve")


class Exchange:
    """One request and its reply, watched: the status sent, and whether the whole body was heard."""

    def __init__(self, receive: Receive, send: Send, heard_all: bool = False) -> None:
        self._receive, self._send = receive, send
        self.status = 0
        self.heard_all = heard_all

    async def receive(self) -> Message:
        """Pass a message in."""
        message = await self._receive()
        self.heard_all = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message out."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, response: Response) -> None:
        """Reply at once, then listen a little longer: closing on unread bytes resets the connection and the reply."""
        await self.send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        if self.heard_all:
            await self.send({"type": "http.response.body", "body": response.body})
            return
        await self.send({"type": "http.response.body", "body": response.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while not self.heard_all:
                    await self.receive()
        except TimeoutError:
            pass
        await self.send({"type": "http.response.body", "body": b""})


class Gate:
    """Stands before the application; the one place of this room where a broad `except` is allowed."""

    app: ASGIApp

    def __init__(
        self,
        settings: ServeSettings,
        meters: Meters,
        predict: Predict,
        is_full: Callable[[str], bool],
        rest: Callable[[], None],
    ) -> None:
        self.settings, self.meters, self.predict, self.is_full, self.rest = settings, meters, predict, is_full, rest
        self.expected = f"Bearer {settings.token}".encode() if settings.token is not None else None
        self.asking, self.in_flight = Shares(settings.concurrency), 0

    def before(self, app: ASGIApp) -> ASGIApp:
        """Let what passes go to this application."""
        self.app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP passes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, start, exchange = scope["path"], perf_counter(), Exchange(receive, send, scope.get(WHOLE, False))
        route = route_label(path)
        self.in_flight += 1
        self.meters.in_flight.set(self.in_flight)
        try:
            await self._admit(scope, route, exchange)
        except ClientDisconnect:
            exchange.status = 499
        except KeepfitError as error:
            if status_of(error) >= 500 and error.code not in BUSY:
                log.exception("%s failed", route)
            await exchange.refuse(refuse(error, path))
        except Exception:
            log.exception("%s failed", route)
            if exchange.status:
                raise
            await exchange.refuse(refuse(_failed(route), path))
        finally:
            self.in_flight -= 1
            self.meters.in_flight.set(self.in_flight)
            self.meters.answered(route, exchange.status or 500, perf_counter() - start)

    async def _admit(self, scope: Scope, route: str, exchange: Exchange) -> None:
        if self.expected is not None and scope["path"] not in OPEN_PATHS:
            self._check_token(scope)
        if route in MODEL_ROUTES and scope["method"] == "POST":
            client = scope["client"][0] if scope["client"] else ""
            if route != "/feedback" and self.is_full(client):
                self.rest()
                await exchange.refuse(_busy(route))  # before its body is read: at three times the load most are refused
                return
            if not self.asking.take(client):
                raise overloaded()
            try:
                if scope["path"] == "/predict":
                    await self._predict(scope, exchange)
                else:
                    await self.app(scope, exchange.receive, exchange.send)
            finally:
                self.asking.give(client)
        else:
            await self.app(scope, exchange.receive, exchange.send)

    async def _predict(self, scope: Scope, exchange: Exchange) -> None:
        body = await self.predict(Request(scope, exchange.receive))
        head = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
        await exchange.send({"type": "http.response.body", "body": body})

    def _check_token(self, scope: Scope) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        if not hmac.compare_digest(scheme.title() + b" " + token.strip(), self.expected or b""):
            raise DataError(
                "token_wrong",
                "this service needs its token",
                where="header Authorization",
                seen="no token" if not given else "another token",
                hint="send Authorization: Bearer TOKEN",
            )


@lru_cache
def _busy(route: str) -> Response:
    return refuse(overloaded(), route)


def _failed(route: str) -> InternalFault:
    return InternalFault(
        "internal",
        "the service failed; its log says why",
        where=route,
        hint="not your fault: ask the operator to report the trace in the log",
    )
