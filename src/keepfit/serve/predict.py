"""`POST /predict`: one row or many as JSON objects of columns, answered in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from keepfit.core.errors import DataError, nearest
from keepfit.serve.body import header, parse_json
from keepfit.serve.pictures import files_of, table_of
from keepfit.serve.replies import to_json
from keepfit.serve.service import Current, Service
from keepfit.serve.turns import Question, Ready

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.table import Table

KEYS = ("input", "inputs")
_SHAPE_HINT = 'send {"input": {...}} for one row or {"inputs": [{...}, ...]} for many'


class PredictRoute:
    """Answers `/predict` for one service."""

    def __init__(self, current: Current) -> None:
        self.current = current

    async def __call__(self, request: Request) -> bytes:
        """The reply to one request, as JSON."""
        service = self.current.service
        kind = header(request, b"content-type") if service.bundle.modality == "image" else ""
        form = kind.strip().lower().startswith("multipart/form-data")

        def read(body: bytes) -> Question | Ready:
            return read_files(service, body, kind) if form else read_json(service, body)

        quick = None if form or service.quick_body is None else lambda body: _quick(service, body)
        made: bytes = await service.work(request, read, quick)
        return made


def read_files(service: Service, body: bytes, content_type: str) -> Question:
    """The question of a form with one picture or several. Raises DataError."""
    files = files_of(body, content_type)
    service.check_count(len(files))
    return _question(service, table_of(files), len(body), many=len(files) != 1)


def read_json(service: Service, body: bytes) -> Question | Ready:
    """The question of a JSON body. Raises DataError for anything a client may get wrong."""
    quick = _quick(service, body)
    if quick is not None:
        return quick
    value = parse_json(body, service.settings.max_depth)
    key = _check_keys(value)
    rows = value["inputs"] if key == "inputs" else [value["input"]]
    if not isinstance(rows, list):
        raise DataError(
            "inputs_type", '"inputs" must be a list', where="inputs", seen=type(rows).__name__, hint=_SHAPE_HINT
        )
    service.check_count(len(rows))
    if not rows:
        return Ready(to_json({"request_id": service.new_id(0), "model": service.model, "predictions": []}))
    return _question(service, service.predictor.check_rows(rows), len(body), many=key == "inputs")


def _quick(service: Service, body: bytes) -> Question | None:
    """The question of rows whose numbers need not become text; None where the slower way has to judge."""
    read = None if service.quick_body is None else service.quick_body(body, service.settings.max_rows)
    return None if read is None else _question(service, read[0], len(body), many=read[1])


def _question(service: Service, table: Table, size_bytes: int, *, many: bool) -> Question:
    def write(request_id: str, answers: Answers) -> bytes:
        found, head = answers.rows(), {"request_id": request_id, "model": service.model}
        return to_json({**head, "predictions": found} if many else {**head, **found[0]})

    return Question(table, size_bytes, write)


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
