"""JSON replies, and the one place that turns an error of the tree into an HTTP status."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from keepfit.core.errors import DataError, KeepfitError, UsageError
from keepfit.core.quick_json import to_json

__all__ = ["error_body", "refuse", "reply", "status_of", "to_json"]

STATUS = {
    "token_wrong": 401,
    "origin_wrong": 403,
    "model_unknown": 404,
    "body_slow": 408,
    "body_too_large": 413,
    "rows_too_many": 413,
    "encoding_unknown": 415,
    "content_type": 415,
    "records_off": 404,
    "feedback_not_stored": 503,
    "overloaded": 503,
    "too_late": 503,
    "stopping": 503,
}
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(to_json(value), status, headers, "application/json")


def status_of(error: KeepfitError) -> int:
    """The HTTP status of an error: 4xx for what a client sent, 5xx for what we did."""
    return STATUS.get(error.code, 422 if isinstance(error, DataError | UsageError) else 500)


def refuse(error: KeepfitError, path: str, status: int | None = None) -> Response:
    """The four-part error; under `/v2` the one string that the Open Inference Protocol wants."""
    status = status or status_of(error)
    return reply(error_body(error, path), status, HEADERS.get(status))


def error_body(error: KeepfitError, path: str) -> dict[str, Any]:
    """The body of `refuse`."""
    parts = error.as_json()
    if path == "/v2" or path.startswith("/v2/"):
        lines = [parts["message"], parts["where"], parts["hint"]]
        return {"error": f"[{parts['code']}] " + "; ".join(line for line in lines if line)}
    return {"error": parts}
