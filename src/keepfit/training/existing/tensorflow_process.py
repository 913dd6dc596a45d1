"""The program of a child process that alone loads TensorFlow: looks a SavedModel through, converts it, and answers batches.

`python -m keepfit.training.existing.tensorflow_process FOLDER OUT.onnx` writes one JSON line on standard output (`{"ok": ...}` or
`{"refused": [code, what, seen]}`), then answers each batch: eight bytes of length and a .npy in, the same out, until the
input ends. What TensorFlow prints goes to standard error.

TensorFlow runs code of a graph while it loads one, so the graph is looked through as plain protobuf before: passed are only
operators with a counterpart in ONNX, and those that hold and restore variables. The function that saves a checkpoint, which
every SavedModel has, may be called from the saver's own node and from nowhere else.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_KEEPING = {
    "StatefulPartitionedCall", "PartitionedCall", "VarHandleOp", "VarIsInitializedOp", "ReadVariableOp", "AssignVariableOp",
    "ResourceGather", "RestoreV2", "DisableCopyOnRead", "Assert", "MutableHashTableV2", "LookupTableImportV2",
    "LookupTableExportV2", "Variable", "VariableV2", "Assign", "PreventGradient", "Rank", "TensorListPushBack",
    "TensorListElementShape", "EmptyTensorList", "StatelessRandomUniformV2", "Switch", "Merge", "Enter", "Exit",
    "NextIteration", "LoopCond", "GatherV2", "_FusedConv2D", "LogicalNot", "BroadcastArgs", "BroadcastGradientArgs",
}  # fmt: skip
_CALLING = ("StatefulPartitionedCall", "PartitionedCall")
_SAVING = {
    "SaveV2", "MergeV2Checkpoints", "ShardedFilename", "StaticRegexFullMatch", "StringJoin", "Pack", "Select", "Const",
    "Identity", "NoOp", "ReadVariableOp", "DisableCopyOnRead", "Placeholder", "LookupTableExportV2",
}  # fmt: skip


class _Refused(Exception):
    """Code, what is wrong and what was seen."""


def main(folder: Path, out: Path) -> int:
    """Looks through, loads, converts; then answers until the input ends."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        answer, told = _opened(folder, out)
    except _Refused as error:
        _tell(pipe, {"refused": list(error.args)})
        return 1
    except Exception as error:  # TensorFlow and its converter raise whatever a model leads them to
        seen = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
        _tell(pipe, {"refused": ["not_convertible", "the SavedModel cannot be turned into ONNX", seen]})
        return 1
    _tell(pipe, {"ok": told})
    while True:
        length = sys.stdin.buffer.read(8)
        if len(length) < 8:
            return 0
        batch = np.load(io.BytesIO(sys.stdin.buffer.read(int.from_bytes(length, "big"))), allow_pickle=False)
        try:
            found = io.BytesIO()
            np.save(found, answer(batch), allow_pickle=False)
            _send(pipe, found.getvalue())
        except Exception as error:  # a batch of the wrong shape
            _send(pipe, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}".encode())


def _opened(folder: Path, out: Path) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """A function from a batch to scores, and what is told about the model."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tf2onnx import convert, handler

    described = saved_model_pb2.SavedModel()
    try:
        described.ParseFromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:
        raise _Refused("model_broken", "saved_model.pb cannot be read", str(error)[:200]) from None
    known = {op for versions in handler.tf_op.get_opsets().values() for ops in versions for op in ops}
    looked_through(described, known | _KEEPING)
    loaded = tf.saved_model.load(str(folder))
    names = [name for name in loaded.signatures if not name.startswith("__")]
    name = "serving_default" if "serving_default" in names else (names[0] if len(names) == 1 else "")
    if not name:
        raise _Refused("which_output", "no signature is named serving_default", ", ".join(names) or "no signature")
    signature = loaded.signatures[name]
    wanted = signature.structured_input_signature[1]
    if len(wanted) != 1:
        raise _Refused("several_inputs", "the model reads several inputs", ", ".join(wanted) or "none")
    ((key, spec),) = wanted.items()
    outputs = [one for one, kind in signature.structured_outputs.items() if kind.dtype.is_floating]
    if len(outputs) != 1:
        raise _Refused("which_output", "one output of scores is expected", ", ".join(signature.structured_outputs))
    sys.argv = ["tf2onnx", "--saved-model", str(folder), "--output", str(out), "--opset", "18", "--tag", "serve",
                "--signature_def", name]  # fmt: skip
    convert.main()

    def answer(batch: Any) -> Any:
        fed = tf.constant(batch, spec.dtype) if batch.dtype == spec.dtype else tf.cast(batch, spec.dtype)
        return signature(**{key: fed})[outputs[0]].numpy()

    shape = [None if size is None else int(size) for size in spec.shape[1:]] if spec.shape.rank is not None else None
    return answer, {"shape": shape}


def looked_through(described: Any, known: set[str]) -> None:
    """Raises where a SavedModel could do more than calculate. `known` are the operators that may run."""
    for meta in described.meta_graphs:
        graph = meta.graph_def
        functions = {one.signature.name: one for one in graph.library.function}
        saving = meta.saver_def.save_tensor_name.partition(":")[0]
        saver = next((node for node in graph.node if node.name == saving), None)
        kept = saver.attr["f"].func.name if saver is not None and "f" in saver.attr else ""
        others = [node for node in graph.node if node is not saver and node.name != saving]
        others += [node for name, one in functions.items() if name != kept for node in one.node_def]
        if kept and (saving in _asked(meta, saver) or _calls(others, kept) or _named(meta.object_graph_def, kept)):
            raise _Refused("foreign_code", "its function that writes files is called elsewhere", kept)
        allowed = [(node, known) for node in others]
        if kept and kept in functions:
            allowed += [(node, known | _SAVING) for node in functions[kept].node_def]
        if saver is not None and not (kept in functions and saver.op in _CALLING):
            raise _Refused("foreign_code", "it saves itself in another way than TensorFlow 2 writes", saver.op)
        for node, ops in allowed:
            if node.op not in ops and node.op not in functions:
                raise _Refused(
                    "foreign_code", "it has an operator that is not run here", f"{node.op} ({node.name})"[:200]
                )
            for text in () if node.op == "StaticRegexFullMatch" else _texts(node):
                if b"://" in text:
                    raise _Refused("foreign_code", "it names an address", text[:200].decode("utf-8", "replace"))
        for asset in meta.asset_file_def:
            if Path(asset.filename).is_absolute() or ".." in Path(asset.filename).parts:
                raise _Refused("foreign_code", "it points at a file outside its folder", asset.filename[:200])


def _calls(nodes: list[Any], name: str) -> bool:
    """Whether any of the nodes calls or names a function."""
    for node in nodes:
        if node.op == name:
            return True
        for value in node.attr.values():
            if value.func.name == name or any(one.name == name for one in value.list.func):
                return True
    return False


def _asked(meta: Any, saver: Any) -> set[str]:
    """Nodes of the graph whose output another but `saver` waits for, or that a signature or the start of a session asks for."""
    names = [name for node in meta.graph_def.node if node is not saver for name in node.input]
    names += [one.name for signature in meta.signature_def.values() for one in signature.outputs.values()]
    names += [name for one in meta.collection_def.values() for name in one.node_list.value]
    return {name.lstrip("^").partition(":")[0] for name in names}


def _named(objects: Any, name: str) -> bool:
    """Whether a function is among those that loading turns into callable objects, which it may call."""
    if name in objects.concrete_functions:
        return True
    return any(
        name == node.bare_concrete_function.concrete_function_name or name in node.function.concrete_functions
        for node in objects.nodes
    )


def _texts(node: Any) -> Iterator[bytes]:
    """Every string in a node's attributes."""
    for value in node.attr.values():
        yield value.s
        yield from value.list.s
        yield from value.tensor.string_val
        for tensor in value.list.tensor:
            yield from tensor.string_val


def _tell(pipe: BinaryIO, said: dict[str, Any]) -> None:
    pipe.write(json.dumps(said).encode() + b"\n")
    pipe.flush()


def _send(pipe: BinaryIO, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
