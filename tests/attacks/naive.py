"""Loaders as tutorials and hurried servers write them: what an attack has to work on before it counts as one."""

from __future__ import annotations

import builtins
import json
import marshal
import os
import pickle
import runpy
import stat
import types
import xml.sax
import xml.sax.handler
import xml.sax.saxutils
import zipfile
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from watched import watched


def unpickled(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def torch_loaded(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=False)


def network(path: Path) -> Any:
    """Answers of a file, as onnxruntime opens it."""
    return _answers(str(path), 4)


def network_bytes(path: Path) -> Any:
    """Answers of a file's bytes, whose format onnxruntime sees by itself."""
    return _answers(path.read_bytes(), 4)


def network_of_bundle(path: Path) -> Any:
    """Answers of the bytes of a bundle's network: other files are looked for in the working directory."""
    return _answers((path / "model.onnx").read_bytes(), 7)


def _answers(model: str | bytes, width: int) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    width = given.shape[1] if isinstance(given.shape[1], int) else width
    return session.run(None, {given.name: np.zeros((1, width), np.float32)})[0]


def weights_beside(path: Path) -> Any:
    """The weights of a network, from wherever it says that they lie: as a converter reads them that does not ask onnx to."""
    import onnx

    model = onnx.load_model(path / "model.onnx" if path.is_dir() else path, load_external_data=False)
    home = Path() if path.is_dir() else path.parent
    (said,) = [dict(_said(one)) for one in _tensors(model)]
    return np.frombuffer((home / said["location"]).read_bytes(), np.float32)


def _said(tensor: Any) -> list[tuple[str, str]]:
    return [(entry.key, entry.value) for entry in tensor.external_data]


def _tensors(model: Any) -> list[Any]:
    """The tensors with their numbers elsewhere; of the two branches of a condition the first."""
    graphs = [model.graph]
    found = []
    for graph in graphs:
        sparse = [one.values for one in graph.sparse_initializer]
        for node in graph.node:
            given = list(node.attribute)[:1]
            graphs += [one.g for one in given if one.HasField("g")]
            sparse += [one.t for one in given] + [one.sparse_tensor.values for one in given]
        found += [one for one in [*graph.initializer, *sparse] if one.external_data]
    return found


def program(path: Path) -> Any:
    """What torch.export wrote, without looking at what it asks for."""
    archive = zipfile.ZipFile(path)
    said = json.loads(archive.read("m/models/model.json"))
    for name in archive.namelist():
        if "custom_obj" in name:
            pickle.loads(archive.read(name))
    if said.get("weights", {}).get("use_pickle"):
        pickle.loads(archive.read("m/data/weights/w"))
    if "expr_str" in said:
        eval(said["expr_str"])
    if "target" in said:
        module, _, name = said["target"].rpartition(".")
        getattr(import_module(module), name)(*said["args"])


def keras(path: Path) -> Any:
    """A layer by its module and name, as keras did before `safe_mode`."""
    (part,) = json.loads(zipfile.ZipFile(path).read("config.json"))["config"]
    said = part["config"]
    if part["class_name"] == "Lambda":
        return types.FunctionType(marshal.loads(b64decode(said["function"])), vars(builtins))()
    if part["class_name"] == "function":
        return getattr(import_module(part["module"]), said["name"])(*said["given"])
    return getattr(import_module(part["module"]), part["class_name"])(**said)


def extracted(path: Path) -> Any:
    """The loop of many a tutorial: names are joined and written."""
    _extract(path, Path("unpacked"), lambda name: name)


def extracted_by_windows(path: Path) -> Any:
    """The same where a backslash parts folders."""
    _extract(path, Path("unpacked", "a"), lambda name: name.replace("\\", "/"))


def _extract(path: Path, into: Path, named: Callable[[str], str]) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            goal = Path(os.path.join(into, named(info.filename)))
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(archive.read(info))


def links_of(path: Path) -> Any:
    """What the links of an archive show, as `unzip` makes them."""
    with zipfile.ZipFile(path) as archive:
        links = [info for info in archive.infolist() if stat.S_ISLNK(info.external_attr >> 16)]
        return [Path(archive.read(info).decode()).read_text() for info in links]


def inflated(path: Path) -> int:
    """How much an archive is in memory."""
    with zipfile.ZipFile(path) as archive:
        return sum(len(archive.read(name)) for name in archive.namelist())


def canvas(path: Path) -> int:
    """The bytes that a picture asks for, where nobody bounds them."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height * 3
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _sheet(path: Path) -> bytes:
    return zipfile.ZipFile(path).read("xl/worksheets/sheet1.xml")


def sheet_text(path: Path) -> str:
    """The text of a sheet, its entities written out."""
    return "".join(ElementTree.parse(BytesIO(_sheet(path))).getroot().itertext())


def sheet_outside(path: Path) -> Any:
    """The text of a sheet and of the files that it names, and how often a machine was asked for one."""
    text = StringIO()
    reader = xml.sax.make_parser()
    reader.setFeature(xml.sax.handler.feature_external_ges, True)
    reader.setContentHandler(xml.sax.saxutils.XMLGenerator(text))
    with watched() as seen, suppress(OSError, xml.sax.SAXException):
        reader.parse(BytesIO(_sheet(path)))
    return text.getvalue(), seen["socket"]


def failing(load: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """What a loader dies of where it expects nothing but its own kind of fault."""

    def tried(path: Path) -> Any:
        try:
            return load(path)
        except Exception as error:  # whatever it is, nobody expected it
            return error

    return tried


def ran(name: str) -> Callable[[Path], Any]:
    """Imports a file of a bundle, as a loader does that lets models bring code."""
    return lambda path: runpy.run_path(str(path / name))


def bytes_of(name: str) -> Callable[[Path], bytes]:
    """A file of a bundle, its hash not asked for."""
    return lambda path: (path / name).read_bytes()


def json_of(name: str) -> Callable[[Path], Any]:
    """A file of a bundle as JSON; of lines the first."""
    return lambda path: json.loads((path / name).read_bytes().split(b"\n")[0])
