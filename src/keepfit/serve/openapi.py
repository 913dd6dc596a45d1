"""The OpenAPI document of one bundle: its own columns as a JSON Schema, with an example row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from keepfit.runtime.answers import class_name

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle, InputColumn

_STRING: dict[str, Any] = {"type": "string"}
LONGEST_ID = 200
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "where", "hint"],
            "properties": {"code": _STRING, "message": _STRING, "where": _STRING, "hint": _STRING},
        }
    },
}
_FAILURES = {
    "401": "the token is not right",
    "408": "the body came too slowly",
    "413": "over a limit",
    "422": "the input is not right; `where` names the row and the column",
    "503": "busy; see Retry-After",
}


def _cell(column: InputColumn) -> dict[str, Any]:
    notes = {
        "numeric": "a number, or its text; null is missing",
        "text": "free text; null is missing",
        "datetime": "an ISO 8601 date or time; null is missing",
    }
    kinds = {"numeric": ["number", "string", "null"], "datetime": ["string", "null"], "text": ["string", "null"]}
    if column.kind == "image":
        return {
            "type": ["string", "array"],
            "description": "base64 of a picture's file; or numbers 0..255, height x width or height x width x 3",
        }
    if column.datatype == "BOOL":
        kinds["numeric"] = ["boolean", "string", "null"]
    return {
        "type": kinds.get(column.kind, ["string", "number", "boolean", "null"]),
        "description": notes.get(column.kind, "a category; null is missing; an unseen one is answered too"),
    }


def example_row(bundle: Bundle) -> dict[str, Any]:
    """A row of the right shape: a golden one where those are synthetic, else made up; never a customer's."""
    if bundle.manifest.get("golden") == "synthetic" and bundle.files.get("golden.jsonl"):
        row: dict[str, Any] = json.loads(bundle.files["golden.jsonl"].partition(b"\n")[0])["input"]
        return {column.name: row.get(column.name) for column in bundle.inputs}
    samples: dict[str, Any] = {"FP64": 0.5, "INT64": 1, "BOOL": True}
    dates = {"datetime": "2024-01-31", "text": "some words"}
    return {column.name: dates.get(column.kind, samples.get(column.datatype, "a")) for column in bundle.inputs}


def _schemas(bundle: Bundle, ignored: Iterable[str]) -> dict[str, Any]:
    spare = {name: {"description": "accepted, not read by the model"} for name in sorted(ignored)}
    row = {
        "type": "object",
        "additionalProperties": False,
        "example": example_row(bundle),
        "required": [column.name for column in bundle.inputs],
        "properties": {**spare, **{column.name: _cell(column) for column in bundle.inputs}},
    }
    label = {"type": "number"} if bundle.task == "regression" else {"enum": bundle.classes}
    answer: dict[str, Any] = {"prediction": label}
    if bundle.task != "regression":
        names = [class_name(item) for item in bundle.classes]
        answer["probabilities"] = {
            "type": "object",
            "required": names,
            "properties": {name: {"type": "number"} for name in names},
        }
    model = {"type": "object", "properties": {"name": _STRING, "version": _STRING, "sha256": _STRING}}
    head = {"request_id": _STRING, "model": model}
    one = {"type": "object", "required": list(answer), "properties": answer}
    many = {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}}
    ask_one = {
        "type": "object",
        "additionalProperties": False,
        "required": ["input"],
        "properties": {"input": {"$ref": "#/components/schemas/Row"}},
    }
    ask_many = {
        "type": "object",
        "additionalProperties": False,
        "required": ["inputs"],
        "properties": {"inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}},
    }
    if bundle.modality == "text":
        plain = {"type": ["string", "null"], "description": "the text itself; null is missing"}
        row = {"oneOf": [plain, row], "example": example_row(bundle)["text"]}
    return {
        "Row": row,
        "Answer": one,
        "Error": _ERROR,
        "Question": {"oneOf": [ask_one, ask_many]},
        "Reply": {
            "oneOf": [
                {"type": "object", "required": [*head, *answer], "properties": {**head, **answer}},
                {"type": "object", "required": [*head, "predictions"], "properties": {**head, "predictions": many}},
            ]
        },
    }


_PROTOCOL_ERROR = {"type": "object", "required": ["error"], "properties": {"error": _STRING}}
_TENSORS = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": _STRING,
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype"],
                "properties": {
                    "name": _STRING,
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": _STRING,
                },
            },
        },
    },
}


def _protocol(what: str, failures: dict[str, str]) -> dict[str, Any]:
    """An operation of the Open Inference Protocol, whose errors are one text."""
    operation = _operation(what, {"type": "object"})
    for status, meaning in {"401": _FAILURES["401"], "404": "there is no such model", **failures}.items():
        content = {"application/json": {"schema": _PROTOCOL_ERROR}}
        operation["responses"][status] = {"description": meaning, "content": content}
    return operation


def _infer() -> dict[str, Any]:
    operation = _protocol("Tensors in, tensors out", _FAILURES)
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _TENSORS}}}
    return operation


def _label(bundle: Bundle, labels: Sequence[Any]) -> dict[str, Any]:
    """A class may be given as its text too."""
    if bundle.task == "regression":
        return {"type": "number"}
    return {"enum": [*labels, *(name for name in map(class_name, labels) if name not in labels)]}


def _operation(what: str, schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"summary": what, "responses": {"200": {"description": "done", "content": {media: {"schema": schema}}}}}


def _predict(bundle: Bundle) -> dict[str, Any]:
    operation = _operation("Answer one row, or many", {"$ref": "#/components/schemas/Reply"})
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Question"},
                "example": {"input": example_row(bundle)},
            }
        },
    }
    if bundle.modality == "image":
        operation["requestBody"]["content"]["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        }
    return _failing(operation, _FAILURES)


def _failing(operation: dict[str, Any], failures: dict[str, str]) -> dict[str, Any]:
    for status, what in failures.items():
        operation["responses"][status] = {
            "description": what,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return operation


def _feedback(bundle: Bundle, labels: Sequence[Any], new_classes: bool) -> dict[str, Any]:
    label = _label(bundle, labels)
    if new_classes and "enum" in label:
        kind = {"type": "string"} if isinstance(bundle.classes[0], str) else {"type": "integer"}
        label = {"anyOf": [label, kind]}
    known = {"request_id": _STRING, "known": {"type": "boolean"}, "stored": {"type": "boolean"}}
    reply = {"type": "object", "required": list(known), "properties": known}
    operation = _operation("The truth about an answer, whenever it is known; stored before 200", reply)
    many = {"type": "array", "minItems": 1, "items": {"anyOf": [label, {"type": "null"}]}}
    name = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID}
    ask = [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["request_id", key],
            "properties": {"request_id": name, key: schema},
        }
        for key, schema in (("label", label), ("labels", many))
    ]
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"oneOf": ask}}}}
    return _failing(
        operation, {**_FAILURES, "403": "a web page of elsewhere", "404": "records are off", "415": "no JSON"}
    )


def document(
    bundle: Bundle, ignored: Iterable[str], locked: bool, labels: Sequence[Any], new_classes: bool = False
) -> dict[str, Any]:
    """OpenAPI 3.1. `ignored` are columns that may be given and are not read; `locked`: a bearer token is needed; feedback may
    name `labels`, and with `new_classes` others too."""
    free: dict[str, Any] = {"type": "object"}
    name = {"name": "name", "in": "path", "required": True, "schema": {"enum": [bundle.name]}}
    paths: dict[str, Any] = {
        "/predict": {"post": _predict(bundle)},
        "/feedback": {"post": _feedback(bundle, labels, new_classes)},
        "/healthz": {"get": _operation("Is the service alive", free)},
        "/metrics": {"get": _operation("Prometheus metrics", _STRING, "text/plain")},
        "/v2": {"get": _operation("Open Inference Protocol: server metadata", free)},
        "/v2/health/live": {"get": _operation("Open Inference Protocol: liveness", free)},
        "/v2/health/ready": {"get": _operation("Open Inference Protocol: readiness", free)},
        "/v2/models/{name}": {"parameters": [name], "get": _protocol("Inputs, outputs and class order", {})},
        "/v2/models/{name}/ready": {"parameters": [name], "get": _protocol("Is the model ready", {})},
        "/v2/models/{name}/infer": {"parameters": [name], "post": _infer()},
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": bundle.name, "version": bundle.version},
        "paths": paths,
        "components": {"schemas": _schemas(bundle, ignored)},
    }
    if locked:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
            paths[path]["get"]["security"] = []
    return found
