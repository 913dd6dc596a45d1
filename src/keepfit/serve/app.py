"""Puts the routes together: `create_app` is the whole service without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from keepfit.core.errors import DataError
from keepfit.serve import page, protocol
from keepfit.serve.feedback import FeedbackRoute
from keepfit.serve.gate import Gate
from keepfit.serve.predict import PredictRoute
from keepfit.serve.replies import refuse, reply
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle
    from keepfit.runtime.opening import Predictor
    from keepfit.store.recorder import Recorder


class App(FastAPI):
    """The service. `/predict`, which is asked all the time, goes by no middleware and no router, straight to the gate."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] == "/predict" and scope["method"] == "POST":
            await self.gate(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(bundle: Bundle, predictor: Predictor, settings: ServeSettings, recorder: Recorder | None = None) -> App:
    """An ASGI application that answers for one bundle."""
    return app_of(Current(bundle, predictor, settings, recorder))


def app_of(current: Current) -> App:
    """An ASGI application that answers for whatever model is current."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(current.batcher.close)

    app = App(
        title=current.service.bundle.name,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        exception_handlers={HTTPException: _unrouted},
    )
    batcher = current.batcher
    app.gate = Gate(current.settings, current.meters, PredictRoute(current), batcher.is_full, batcher.rest)
    app.add_middleware(app.gate.before)
    for method, path, endpoint in [*_plain_routes(current), *protocol.routes(current)]:
        app.add_route(path, endpoint, methods=[method])
    return app


def _plain_routes(current: Current) -> list[tuple[str, str, protocol.Endpoint]]:
    predict, feedback = PredictRoute(current), FeedbackRoute(current)

    async def ask(request: Request) -> Response:
        return Response(await predict(request), media_type="application/json")

    async def learn(request: Request) -> Response:
        return await feedback(request)

    async def health(_: Request) -> Response:
        refused = {"refused": current.refusal} if current.refusal else {}
        return reply({"status": "ok", "model": current.service.model, **refused})

    async def metrics(_: Request) -> Response:
        return Response(current.meters.text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(_: Request) -> Response:
        return HTMLResponse(current.service.html, headers={"Content-Security-Policy": page.POLICY})

    async def schema(_: Request) -> Response:
        return Response(current.service.document_bytes, media_type="application/json")

    async def home(_: Request) -> Response:
        return RedirectResponse("/docs")

    return [
        ("POST", "/predict", ask),
        ("POST", "/feedback", learn),
        ("GET", "/healthz", health),
        ("GET", "/metrics", metrics),
        ("GET", "/docs", docs),
        ("GET", "/openapi.json", schema),
        ("GET", "/", home),
    ]


async def _unrouted(request: Request, error: Exception) -> Response:
    """404 and 405 in four parts."""
    path = request.url.path
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, what = {
        404: ("route_unknown", "there is no such route"),
        405: ("method_wrong", f"this route does not answer {request.method[:20]}"),
    }.get(status, ("http", "the request cannot be answered"))
    response = refuse(DataError(code, what, where=path[:200], hint="GET /docs lists the routes"), path, status)
    for name, value in (getattr(error, "headers", None) or {}).items():
        response.headers[name] = value
    return response
