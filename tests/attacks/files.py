"""Makes the hostile files: models, archives, tables and bundles, each as a real tool or a text editor would write it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from serve_real import write_bundle
from watched import Bomb

SECRET = b"top secret: 17\n"


def bundle(folder: Path, **changed: bytes | Callable[[bytes], bytes]) -> Path:
    """A bundle whose files are changed (`bundle_json=...`: `_` before the ending) and whose hashes fit them again."""
    place = write_bundle(folder / "bundle")
    for name, content in changed.items():
        stem, _, ending = name.rpartition("_")
        file = place / f"{stem}.{ending}"
        file.write_bytes(content if isinstance(content, bytes) else content(file.read_bytes()))
    return resum(place)


def resum(place: Path) -> Path:
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in sorted(place.iterdir())
        if p.name != "SHA256SUMS"
    ]
    (place / "SHA256SUMS").write_text("".join(lines))
    return place


def listed(place: Path, name: str, data: bytes) -> Path:
    """SHA256SUMS names one file more."""
    with (place / "SHA256SUMS").open("a") as file:
        file.write(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    return place


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """Changes bundle.json as a value."""

    def made(raw: bytes) -> bytes:
        said = json.loads(raw)
        found = change(said)
        return json.dumps(said if found is None else found).encode()

    return made


def onnx_model(kind: str, location: str, width: int = 4) -> bytes:
    """y = x + w, where w lies in another file; `kind` says where in the graph w stands."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros(width, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * width))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    sparse = onnx.SparseTensorProto(dims=[width])
    sparse.values.CopyFrom(weight)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(width, dtype=np.int64), "i"))
    nodes, weights, add = [], [], helper.make_node("Add", ["x", "w"], ["y"])
    if kind == "initializer":
        weights = [weight]
    elif kind == "attribute":
        nodes = [helper.make_node("Constant", [], ["w"], value=weight)]
    elif kind == "subgraph":
        inner = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["o"])],
            "b",
            [],
            [helper.make_tensor_value_info("o", 1, [width])],
            [weight],
        )
        weights = [numpy_helper.from_array(np.array(True), "c")]
        nodes = [helper.make_node("If", ["c"], ["v"], then_branch=inner, else_branch=inner)]
        add = helper.make_node("Add", ["x", "v"], ["y"])
    elif kind == "sparse_attribute":
        nodes = [helper.make_node("Constant", [], ["w"])]
        nodes[0].attribute.append(
            onnx.AttributeProto(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
        )
    ends = [helper.make_tensor_value_info(name, 1, ["n", width]) for name in "xy"]
    graph = helper.make_graph([*nodes, add], "g", ends[:1], ends[1:], weights)
    if kind == "sparse":
        graph.sparse_initializer.append(sparse)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def greedy_model() -> bytes:
    """Asks for 40 TB while it answers."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["n", "d"]) for name in "xy"]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.array([10**13], np.int64), "s")]
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


def written(name: str, data: bytes) -> Callable[[Path], Path]:
    """Makes a file of these bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def pickled(name: str) -> Callable[[Path], Path]:
    """A pickle of a Bomb under any name."""
    return written(name, pickle.dumps(Bomb()))


def torch_zip(folder: Path) -> Path:
    """What torch.save writes, with a Bomb in it."""
    import torch

    torch.save({"weight": torch.zeros(2), "more": Bomb()}, folder / "weights.pt")
    return folder / "weights.pt"


def torch_tar(folder: Path) -> Path:
    """The oldest format of torch: a tar of pickles, which `weights_only` did not look into (CVE-2025-32434)."""
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    with tarfile.open(folder / "weights.pt", "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            data = pickle.dumps(Bomb())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder / "weights.pt"


def zipped(name: str, members: dict[str, bytes], *, link: str = "") -> Callable[[Path], Path]:
    """A zip of members; `link` names one that is a symbolic link."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                info = zipfile.ZipInfo(member)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = ((stat.S_IFLNK if member == link else stat.S_IFREG) | 0o644) << 16
                archive.writestr(info, data)
        return folder / name

    return make


def picture(colour: int = 200) -> bytes:
    """A PNG of 8 by 8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
BOOK = {
    "xl/workbook.xml": f'<workbook {SHEET} xmlns:r="r"><sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/></Relationships>',
}


def workbook(sheet: str, **more: str) -> Callable[[Path], Path]:
    """An .xlsx whose only sheet is this XML."""
    parts = {**BOOK, "xl/worksheets/sheet1.xml": sheet, **more}
    return zipped("book.xlsx", {name: text.encode() for name, text in parts.items()})
