"""`POST /v2/models/NAME/infer`: one Open Inference Protocol request to one reply, JSON and binary tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keepfit.core.errors import DataError, nearest
from keepfit.runtime.table import Table
from keepfit.serve.body import parse_json
from keepfit.serve.pictures import count_of, from_tensors
from keepfit.serve.replies import to_json
from keepfit.serve.service import Service
from keepfit.serve.tensors import Given, class_datatype, decode, encode, label_array
from keepfit.serve.turns import Question

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers

PREDICTION, PROBABILITIES = "prediction", "probabilities"
_TENSOR = 'for example {"name": "COLUMN", "datatype": "FP64", "shape": [2], "data": [1.5, 2]}'
_BINARY = 'send the values as "data", or as binary data after the JSON with binary_data_size in "parameters"'


@dataclass(frozen=True)
class Reply:
    """The bytes of a reply; `header_bytes` is the length of its JSON part when binary tensors follow, else None."""

    body: bytes
    header_bytes: int | None


def read_infer(service: Service, body: bytes, header_length: str | None) -> Question:
    """The question of one request; its reply is a Reply. Raises DataError for anything that a client may get wrong."""
    head, tail = _cut(body, header_length)
    request = parse_json(head, service.settings.max_depth, nan_is_missing=True)
    if not isinstance(request, dict):
        raise DataError(
            "body_type",
            "the request must be a JSON object",
            where="body",
            seen=type(request).__name__,
            hint='{"inputs": [...]}, ' + _TENSOR,
        )
    if not isinstance(request.get("id", ""), str):
        raise DataError("id_type", '"id" must be a string', where="id", hint="quote it, or leave it out")
    outputs = _wanted_outputs(request, service)
    pictures = service.bundle.modality == "image"
    given = _read_inputs(request, tail, pictures)
    if pictures:
        service.check_count(count_of(given))
    table = from_tensors(given) if pictures else _table(given, service)
    service.check_count(len(table))
    asked = request.get("id")
    return Question(table, len(body), lambda name, answers: _write(asked, outputs, answers, service, name))


def output_names(service: Service) -> list[str]:
    """The outputs that the model has."""
    return [PREDICTION] if service.bundle.task == "regression" else [PREDICTION, PROBABILITIES]


def _cut(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 12
    length = int(header_length) if digits else -1
    if not 0 < length <= len(body):
        raise DataError(
            "header_length",
            "the JSON part cannot have this length",
            where="header Inference-Header-Content-Length",
            seen=header_length[:40],
            hint=f"the body has {len(body)} bytes",
        )
    return body[:length], body[length:]


def _read_inputs(request: dict[str, Any], tail: bytes, pictures: bool) -> dict[str, Given]:
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise DataError(
            "inputs_type", '"inputs" must be a list of tensors, one per column', where="inputs", hint=_TENSOR
        )
    found: dict[str, Given] = {}
    at = 0
    for tensor in inputs:
        given, at = _read_input(tensor, tail, at, pictures)
        if given.name in found:
            raise DataError(
                "input_twice",
                f"the input {given.name[:80]!r} is given twice",
                where="inputs",
                hint="give every column once; several rows are several values of one tensor",
            )
        found[given.name] = given
    if at != len(tail):
        raise DataError(
            "tensor_length",
            "the binary data is longer than its tensors",
            where="body",
            seen=f"{len(tail) - at} bytes left over",
            hint="binary_data_size of all inputs together is the length of what follows the JSON",
        )
    return found


def _read_input(tensor: Any, tail: bytes, at: int, pictures: bool) -> tuple[Given, int]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise DataError("tensor_type", "an input must be an object with a name", where="inputs", hint=_TENSOR)
    name, datatype = tensor["name"], tensor.get("datatype")
    where = f"input {name[:80]!r}"
    if not isinstance(datatype, str):
        raise DataError(
            "tensor_datatype",
            '"datatype" must be a string',
            where=where,
            hint="GET /v2/models/NAME lists the datatype of every input",
        )
    shape, parameters = _shape(tensor.get("shape"), where), _parameters(tensor, where)
    rows = 0 if pictures else _rows(shape, where)
    if "shared_memory_region" in parameters:
        raise DataError("not_available", "shared memory is not available", where=where, hint=_BINARY)
    size, data = parameters.get("binary_data_size"), tensor.get("data")
    if size is None:
        if not isinstance(data, list):
            raise DataError("tensor_type", '"data" must be a list', where=where, seen=type(data).__name__, hint=_TENSOR)
        return Given(name, datatype, rows, data, None, shape), at
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or at + size > len(tail):
        raise DataError(
            "tensor_length",
            "the body holds fewer bytes than binary_data_size says",
            where=where,
            seen=f"{str(size)[:40]} of {len(tail) - at}",
            hint="set Inference-Header-Content-Length too",
        )
    if data is not None:
        raise DataError("tensor_type", 'an input has either "data" or binary_data_size', where=where, hint=_BINARY)
    return Given(name, datatype, rows, None, tail[at : at + size], shape), at + size


def _shape(shape: Any, where: str) -> tuple[int, ...]:
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    if not whole or not 1 <= len(shape) <= 4 or any(n > 10**9 for n in shape):
        raise _bad_shape(shape, where)
    return tuple(shape)


def _bad_shape(shape: Any, where: str) -> DataError:
    return DataError(
        "tensor_shape",
        "the shape must be [n] or [n,1]",
        where=where,
        seen=str(shape)[:40],
        hint='n is the number of rows, for example "shape": [2]',
    )


def _rows(shape: tuple[int, ...], where: str) -> int:
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise _bad_shape(list(shape), where)
    if shape[0] == 0:
        raise DataError(
            "tensor_shape", "there are no rows", where=where, seen=str(shape)[:40], hint="ask about one row at least"
        )
    return int(shape[0])


def _parameters(owner: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = owner.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise DataError(
            "parameters_type",
            '"parameters" must be an object',
            where=where,
            hint='for example {"binary_data": false}, or leave it out',
        )
    return parameters


def _table(given: dict[str, Given], service: Service) -> Table:
    columns = {column.name: column for column in service.bundle.inputs}
    for name in given:
        if name not in columns and name not in service.predictor.ignored:
            raise DataError(
                "input_unknown",
                f"the model has no input {name[:80]!r}",
                where="inputs",
                hint=nearest(name[:80], columns),
            )
    for column in columns.values():
        if column.name not in given:
            raise DataError(
                "input_absent",
                f"the input {column.name!r} is not given",
                where="inputs",
                hint=f"every column is needed; a missing value is "
                f"{'an empty string' if column.datatype == 'BYTES' else 'NaN (as FP64)'}",
            )
    counts = {tensor.rows for tensor in given.values()}
    if len(counts) != 1:
        raise DataError(
            "tensor_shape",
            "the inputs have different numbers of rows",
            where="inputs",
            seen=str(sorted(counts)[:5])[:80],
            hint="every column needs one value per row; a missing one is null, NaN or an empty string",
        )
    return Table({column.name: decode(given[column.name], column.datatype) for column in columns.values()})


def _wanted_outputs(request: dict[str, Any], service: Service) -> dict[str, bool]:
    """Output name -> whether it is wanted as binary data."""
    known = output_names(service)
    default = _flag(_parameters(request, "parameters"), "binary_data_output", False)
    asked = request.get("outputs") or [{"name": name} for name in known]
    if not isinstance(asked, list):
        raise DataError(
            "outputs_type",
            '"outputs" must be a list',
            where="outputs",
            hint='for example [{"name": "prediction"}], or leave it out for all',
        )
    wanted: dict[str, bool] = {}
    for output in asked:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in known:
            raise DataError(
                "output_unknown",
                f"the model has no output {str(name)[:80]!r}",
                where="outputs",
                hint=f"known: {', '.join(known)}",
            )
        if name in wanted:
            raise DataError(
                "output_twice", f"the output {name!r} is asked for twice", where="outputs", hint="ask for it once"
            )
        parameters = _parameters(output, f"output {name!r}")
        odd = {"classification", "shared_memory_region"} & set(parameters)
        if odd:
            raise DataError(
                "not_available",
                f"{min(odd)} is not available",
                where=f"output {name!r}",
                hint="take it out; probabilities come in the order of the classes that GET /v2/models/NAME lists",
            )
        wanted[name] = _flag(parameters, "binary_data", default)
    return wanted


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise DataError(
            "parameters_type",
            f"{name} must be true or false",
            where="parameters",
            seen=str(value)[:40],
            hint="true or false without quotes, or leave it out",
        )
    return value


def _write(asked: str | None, wanted: dict[str, bool], answers: Answers, service: Service, request_id: str) -> Reply:
    bundle = service.bundle
    datatype = class_datatype(bundle.task, bundle.classes)
    outputs, tail = [], []
    for name, binary in wanted.items():
        kind = datatype if name == PREDICTION else "FP64"
        values = label_array(answers.labels, kind) if name == PREDICTION else answers.probabilities
        assert values is not None  # `wanted` holds PROBABILITIES only where the task has them
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(values.shape)}
        if binary:
            tail.append(encode(values, kind))
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    head = to_json(
        {
            "model_name": bundle.name,
            "model_version": bundle.version,
            "id": asked or request_id,
            "parameters": {"request_id": request_id, "sha256": bundle.sha256},
            "outputs": outputs,
        }
    )
    return Reply(head + b"".join(tail), len(head) if tail else None)
