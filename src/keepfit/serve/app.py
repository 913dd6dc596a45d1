"""Puts the routes of one bundle together: `create_app` is the whole service without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from keepfit.core.errors import DataError
from keepfit.serve import openapi, page, protocol
from keepfit.serve.gate import Gate
from keepfit.serve.meters import Meters
from keepfit.serve.predict import PredictRoute
from keepfit.serve.replies import refuse, reply
from keepfit.serve.service import Service
from keepfit.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle
    from keepfit.runtime.opening import Predictor

NOT_YET = {"/feedback": "feedback is not available yet: this release answers, it does not record"}


def create_app(bundle: Bundle, predictor: Predictor, settings: ServeSettings) -> FastAPI:
    """An ASGI application that answers for one bundle."""
    service = Service(
        bundle,
        predictor,
        settings,
        Meters(bundle),
        ThreadPoolExecutor(settings.threads, thread_name_prefix="keepfit-model"),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.pool.shutdown()

    app = FastAPI(
        title=bundle.name,
        version=bundle.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        exception_handlers={HTTPException: _unrouted},
    )
    app.add_middleware(Gate, settings=settings, meters=service.meters)
    for method, path, endpoint in [*_plain_routes(service), *protocol.routes(service)]:
        app.add_route(path, endpoint, methods=[method])
    return app


def _plain_routes(service: Service) -> list[tuple[str, str, protocol.Endpoint]]:
    document = openapi.document(service.bundle, service.predictor.ignored, service.settings.token is not None)
    html = page.page(service.bundle, document)
    predict = PredictRoute(service)

    async def ask(request: Request) -> Response:
        return await predict(request)

    async def health(_: Request) -> Response:
        return reply({"status": "ok", "model": predict.model})

    async def metrics(_: Request) -> Response:
        return Response(service.meters.text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(_: Request) -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": page.POLICY})

    async def schema(_: Request) -> Response:
        return reply(document)

    async def home(_: Request) -> Response:
        return RedirectResponse("/docs")

    return [
        ("POST", "/predict", ask),
        ("GET", "/healthz", health),
        ("GET", "/metrics", metrics),
        ("GET", "/docs", docs),
        ("GET", "/openapi.json", schema),
        ("GET", "/", home),
    ]


async def _unrouted(request: Request, error: Exception) -> Response:
    """404 and 405 in four parts."""
    path = request.url.path
    if path in NOT_YET:
        return refuse(
            DataError("not_available", NOT_YET[path], where=path[:200], hint="GET /docs lists the routes"), path, 404
        )
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, what = {
        404: ("route_unknown", "there is no such route"),
        405: ("method_wrong", f"this route does not answer {request.method[:20]}"),
    }.get(status, ("http", "the request cannot be answered"))
    response = refuse(DataError(code, what, where=path[:200], hint="GET /docs lists the routes"), path, status)
    for name, value in (getattr(error, "headers", None) or {}).items():
        response.headers[name] = value
    return response
