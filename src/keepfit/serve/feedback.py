"""`POST /feedback`: the truth about an answer, durable before it is acknowledged."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError, nearest
from keepfit.runtime.answers import class_name
from keepfit.serve.body import parse_json
from keepfit.serve.openapi import LONGEST_ID
from keepfit.serve.replies import reply
from keepfit.serve.service import Current, Service
from keepfit.serve.turns import Ready
from keepfit.store.records import checked_labels

KEYS = ("request_id", "label", "labels")
_SHAPE_HINT = 'send {"request_id": "...", "label": CLASS}, or "labels": [...] with one for each row'


class FeedbackRoute:
    """Takes labels for one service."""

    def __init__(self, current: Current) -> None:
        self.current = current

    async def __call__(self, request: Request) -> Response:
        """The reply to one request."""
        service, recorder = self.current.service, self.current.recorder
        if recorder is None:
            raise DataError(
                "records_off",
                "this service keeps no records, so feedback would belong to nothing",
                where="/feedback",
                hint="serve with record: full or sketch",
            )
        self._check_origin(request)
        request_id, labels = await service.work(request, lambda body: Ready(self.read(service, body)))
        if labels is None:
            self.current.meters.feedback.labels("unknown").inc()
            said = "this request_id was not given here: nothing is stored"
            return reply({"request_id": request_id, "known": False, "stored": False, "message": said})
        try:
            await asyncio.wrap_future(recorder.feedback(request_id, labels))
        except KeepfitError as error:
            self.current.meters.feedback.labels("failed").inc()
            raise EnvironmentFault(
                "feedback_not_stored",
                "the feedback could not be made durable",
                where="the records",
                seen=error.what,
                hint="send it again in a minute; twice does no harm",
            ) from None
        self.current.meters.feedback.labels("stored").inc()
        return reply({"request_id": request_id, "known": True, "stored": True, "labels": len(labels)})

    def _check_origin(self, request: Request) -> None:
        """Without a token anybody's web page could send a form here; JSON makes a browser ask first, and be refused. A page whose
        name was made to lead here (DNS rebinding, CWE-350) need not ask, but its browser says where it is from."""
        if self.current.settings.token is not None:
            return
        origin = request.headers.get("origin", "")
        if origin and not _is_here(origin):
            raise DataError(
                "origin_wrong",
                "without a token feedback is not taken from web pages of other machines",
                where="header Origin",
                seen=origin[:80],
                hint="set serve.token_env and send the token",
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise DataError(
                "content_type",
                "feedback must say that it is JSON",
                where="header Content-Type",
                seen=kind[:60] or "nothing",
                hint="send Content-Type: application/json",
            )

    def read(self, service: Service, body: bytes) -> tuple[str, list[Any] | None]:
        """The request id and its labels in the classes' type; None for an id that was not given here. Raises DataError."""
        value = parse_json(body, service.settings.max_depth)
        request_id, labels = _parts(value)
        given = service.recorder.ids.read(request_id) if service.recorder is not None else None
        service.check_count(len(labels))
        try:
            found = checked_labels(
                labels, service.bundle.task, service.labels, class_name, service.settings.new_classes
            )
        except DataError:
            self.current.meters.feedback.labels("refused").inc()
            raise
        if given is None:
            return request_id, None
        if given.rows is not None and len(labels) != given.rows:
            raise DataError(
                "labels_count",
                f"this answer was about {given.rows} rows",
                where="labels",
                seen=f"{len(labels)} labels",
                hint='give "labels" one value for each row, null where the truth is not known',
            )
        return request_id, found


def _is_here(origin: str) -> bool:
    """Whether a page's origin is this machine by its address or as localhost, which no name service can be made to say."""
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(value: Any) -> tuple[str, list[Any]]:
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
    request_id = value.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
        raise DataError(
            "request_id_type", '"request_id" must be the text that the answer had', where="request_id", hint=_SHAPE_HINT
        )
    if ("label" in value) == ("labels" in value):
        raise DataError("key_count", 'exactly one of "label" and "labels" is needed', where="body", hint=_SHAPE_HINT)
    if "label" in value and value["label"] is None:
        raise DataError("label_type", "the label is null", where="label", hint="send it when the truth is known")
    labels = value["labels"] if "labels" in value else [value["label"]]
    if not isinstance(labels, list) or not labels:
        raise DataError("labels_type", '"labels" must be a list', where="labels", hint=_SHAPE_HINT)
    return request_id, labels
