"""An ONNX file of anybody's: data outside its folder is refused; what it reads and gives is told from the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import missing_extra
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.graphs import pruned
from keepfit.training.existing.kinds import refused

_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


@dataclass(frozen=True)
class Input:
    """An input: its name, ONNX element type, and the shape of one row."""

    name: str
    element: int
    shape: tuple[int | None, ...]
    batch: int | None


@dataclass(frozen=True)
class OnnxFile:
    """A graph with the inputs that must be given, the output that holds the scores, and the class labels that it names."""

    model: Any
    inputs: list[Input]
    output: str
    classes: list[Any] | None
    session: Any
    path: Path

    def run(self, feeds: dict[str, Array]) -> Array:
        """The scores, as they come; a graph made for one row at a time is fed row by row."""
        rows = len(next(iter(feeds.values())))
        try:
            if all(one.batch in (None, rows) for one in self.inputs):
                return np.asarray(self.session.run([self.output], feeds)[0])
            if any(one.batch != 1 for one in self.inputs):
                raise ValueError(f"it takes exactly {self.inputs[0].batch} rows at once")
            parts = [{key: value[row : row + 1] for key, value in feeds.items()} for row in range(rows)]
            return np.concatenate([np.atleast_1d(self.session.run([self.output], part)[0]) for part in parts])
        except Exception as error:  # onnxruntime raises its own classes
            shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in feeds.items())
            seen = f"fed {shapes}; {(str(error).strip().splitlines() or [''])[0][:200]}"
            hint = "say what it reads: --size, --layout, --columns; export it with a dynamic number of rows"
            raise refused("model_failed", "the model does not take these inputs", self.path, seen, hint) from None


def read(path: Path, wanted: str = "auto") -> OnnxFile:
    """Opens a file. Raises DataError where it is damaged, reaches out of its folder, or does not show its scores."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise missing_extra("networks", error.name or "onnx") from None
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf raises classes of its own
        raise refused(
            "model_broken", "the ONNX file cannot be read", path, str(error)[:200], "export it again"
        ) from None
    _bring_in(model, path)
    classes, output = _scores(model, path, wanted)
    inputs = [_input(one) for one in model.graph.input if one.name not in {w.name for w in model.graph.initializer}]
    pruned(model, output)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    used = {name for node in model.graph.node for name in node.input} | {output}
    inputs = [one for one in inputs if one.name in used]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes for every damaged or hostile file
        hint = "operators of other domains and newer versions are not run here"
        raise refused("model_broken", "onnxruntime does not open the file", path, str(error)[:300], hint) from None
    return OnnxFile(model, inputs, output, classes, session, path)


def column_inputs(path: Path) -> dict[str, str]:
    """Where a model reads one input for each column: the names with the kind of column that goes in; else empty."""
    inputs = read(path).inputs
    if len(inputs) < 2:
        return {}
    return {one.name: "categorical" if one.element == 8 else "numeric" for one in inputs}


def opened(file: OnnxFile) -> Opened:
    """A file with one input as the common form."""
    one = file.inputs[0]
    kind = {1: np.float32, 11: np.float64, 10: np.float16, 7: np.int64, 6: np.int32, 2: np.uint8}.get(
        one.element, np.float32
    )

    def raw(batch: Array) -> Array:
        return file.run({one.name: np.asarray(batch, kind)})

    return Opened("onnx", "onnx", one.shape, raw, lambda batch: file.model, file.classes)


def _input(one: Any) -> Input:
    # some exporters write -1, or 0, for a size that is free
    sizes = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in one.type.tensor_type.shape.dim
    ]
    return Input(one.name, one.type.tensor_type.elem_type, tuple(sizes[1:]), sizes[0] if sizes else None)


def _scores(model: Any, path: Path, wanted: str) -> tuple[list[Any] | None, str]:
    """Class labels, and the name of the tensor with the scores. A ZipMap (a list of dicts) is passed by."""
    graph, classes, zipped = model.graph, None, None
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _LABELS:
                found = [text.decode("utf-8", "replace") for text in attribute.strings] or list(attribute.ints)
                classes = found or classes
        if node.op_type == "ZipMap":
            zipped = node.input[0]
    names = [one.name for one in graph.output]
    if wanted != "auto":
        if wanted not in names:
            raise refused(
                "no_output", f"the model has no output {wanted!r}", path, ", ".join(names), "model.output: NAME"
            )
        return classes, wanted
    if zipped is not None:
        return classes, zipped
    floats = [one.name for one in graph.output if one.type.tensor_type.elem_type in (1, 10, 11)]
    if len(floats) != 1:
        seen = ", ".join(names)
        raise refused("which_output", "several outputs could hold the scores", path, seen, "say model.output=NAME")
    return classes, floats[0]


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those in attributes and subgraphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


def _bring_in(model: Any, path: Path) -> None:
    """Weights that lie beside the file come into it; a path out of its folder is refused."""
    folder = path.parent.resolve()
    for tensor in (*_tensors(model.graph), *(t for f in model.functions for t in _of_nodes(f.node))):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        location = said.get("location", "")
        file = (folder / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(folder) or not file.is_file():
            hint = "the weights must lie in the folder of the model; export with external_data=False"
            raise refused("external_data", "the file points at data outside its folder", path, location[:200], hint)
        try:
            start, length = int(said.get("offset", 0)), int(said.get("length", file.stat().st_size))
        except ValueError:
            raise refused("external_data", "the place of a weight is no number", path, str(said)[:200], "") from None
        with file.open("rb") as source:
            source.seek(max(start, 0))
            tensor.raw_data = source.read(max(length, 0))
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]
