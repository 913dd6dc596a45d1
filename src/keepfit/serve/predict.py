"""`POST /predict`: one row or many as JSON objects of columns, answered in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from keepfit.core.errors import DataError, nearest
from keepfit.serve.body import parse_json
from keepfit.serve.pictures import files_of, table_of
from keepfit.serve.replies import to_json
from keepfit.serve.service import Current, Service

KEYS = ("input", "inputs")
_SHAPE_HINT = 'send {"input": {...}} for one row or {"inputs": [{...}, ...]} for many'


class PredictRoute:
    """Answers `/predict` for one service."""

    def __init__(self, current: Current) -> None:
        self.current = current

    async def __call__(self, request: Request) -> Response:
        """The reply to one request."""
        service = self.current.service
        kind = request.headers.get("content-type", "")
        form = service.bundle.modality == "image" and kind.strip().lower().startswith("multipart/form-data")

        def work(body: bytes) -> bytes:
            return answer_files(service, body, kind) if form else answer(service, body)

        return Response(await service.work(request, work), media_type="application/json")


def answer_files(service: Service, body: bytes, content_type: str) -> bytes:
    """The JSON reply to a form with one picture or several. Raises DataError."""
    files = files_of(body, content_type)
    service.check_count(len(files))
    request_id, answers = service.answer(table_of(files), len(body))
    found = answers.rows()
    head: dict[str, Any] = {"request_id": request_id, "model": service.model}
    return to_json({**head, **found[0]} if len(files) == 1 else {**head, "predictions": found})


def answer(service: Service, body: bytes) -> bytes:
    """The JSON reply to a JSON body. Raises DataError for anything a client may get wrong."""
    value = parse_json(body, service.settings.max_depth)
    key = _check_keys(value)
    rows = value["inputs"] if key == "inputs" else [value["input"]]
    if not isinstance(rows, list):
        raise DataError(
            "inputs_type", '"inputs" must be a list', where="inputs", seen=type(rows).__name__, hint=_SHAPE_HINT
        )
    service.check_count(len(rows))
    if not rows:
        return to_json({"request_id": service.new_id(0), "model": service.model, "predictions": []})
    request_id, answers = service.answer(service.predictor.check_rows(rows), len(body))
    found, head = answers.rows(), {"request_id": request_id, "model": service.model}
    return to_json({**head, "predictions": found} if key == "inputs" else {**head, **found[0]})


def _check_keys(value: Any) -> str:
    if not isinstance(value, Mapping):
        raise DataError(
            "body_type", "the body must be a JSON object", where="body", seen=type(value).__name__, hint=_SHAPE_HINT
        )
    for name in value:
        if name not in KEYS:
            raise DataError(
                "key_unknown",
                f"unknown key {name[:80]!r}",
                where="body",
                hint=f"{nearest(name[:80], KEYS)} {_SHAPE_HINT}",
            )
    if len(value) != 1:
        raise DataError(
            "key_count",
            'exactly one of "input" and "inputs" is needed',
            where="body",
            seen=" and ".join(value) or "neither",
            hint=_SHAPE_HINT,
        )
    return str(next(iter(value)))
