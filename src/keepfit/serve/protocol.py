"""The routes of the Open Inference Protocol v2: health, metadata and the door to `infer`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from keepfit.core.errors import DataError
from keepfit.serve.infer import PREDICTION, PROBABILITIES, output_names, read_infer
from keepfit.serve.replies import reply
from keepfit.serve.service import Current, Service
from keepfit.serve.tensors import class_datatype

Endpoint = Callable[[Request], Awaitable[Response]]
HEADER_LENGTH = "Inference-Header-Content-Length"


def server_metadata() -> dict[str, Any]:
    """`GET /v2`."""
    try:
        ours = version("keepfit")
    except PackageNotFoundError:
        ours = "0"
    return {"name": "keepfit", "version": ours, "extensions": ["binary_tensor_data"]}


def model_metadata(service: Service) -> dict[str, Any]:
    """`GET /v2/models/NAME`: one input per raw column; the classes in the order of `probabilities`."""
    bundle = service.bundle
    inputs = [{"name": column.name, "datatype": column.datatype, "shape": [-1]} for column in bundle.inputs]
    prediction = {"name": PREDICTION, "datatype": class_datatype(bundle.task, bundle.classes), "shape": [-1]}
    outputs: list[dict[str, Any]] = [prediction]
    if PROBABILITIES in output_names(service):
        outputs.append(
            {
                "name": PROBABILITIES,
                "datatype": "FP64",
                "shape": [-1, len(bundle.classes)],
                "parameters": {"classes": bundle.classes},
            }
        )
    return {
        "name": bundle.name,
        "versions": [bundle.version],
        "platform": "keepfit_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"task": bundle.task, "sha256": bundle.sha256},
    }


def routes(current: Current) -> list[tuple[str, str, Endpoint]]:
    """(method, path, endpoint) of every route below /v2."""
    server = server_metadata()

    def asked_for(request: Request) -> Service:
        service, asked = current.service, request.path_params
        bundle = service.bundle
        if asked["name"] != bundle.name or asked.get("version", bundle.version) != bundle.version:
            raise DataError(
                "model_unknown",
                "there is no such model here",
                where=request.url.path[:200],
                hint=f"this service answers as {bundle.name!r}, version {bundle.version!r}",
            )
        return service

    async def live(_: Request) -> Response:
        return reply({"live": True})

    async def ready(_: Request) -> Response:
        return reply({"ready": True})

    async def server_facts(_: Request) -> Response:
        return reply(server)

    async def model_facts(request: Request) -> Response:
        return reply(model_metadata(asked_for(request)))

    async def model_ready(request: Request) -> Response:
        service = asked_for(request)
        return reply({"name": service.bundle.name, "ready": True})

    async def model_infer(request: Request) -> Response:
        service = asked_for(request)
        length = request.headers.get(HEADER_LENGTH)
        done = await service.work(request, lambda body: read_infer(service, body, length))
        if done.header_bytes is None:
            return Response(done.body, media_type="application/json")
        return Response(
            done.body, headers={HEADER_LENGTH: str(done.header_bytes)}, media_type="application/octet-stream"
        )

    found: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v2/health/live", live),
        ("GET", "/v2/health/ready", ready),
        ("GET", "/v2", server_facts),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            ("GET", path, model_facts),
            ("GET", f"{path}/ready", model_ready),
            ("POST", f"{path}/infer", model_infer),
        ]
    return found
