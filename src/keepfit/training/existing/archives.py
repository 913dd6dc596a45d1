"""Looks into a `torch.export` archive (.pt2) before torch does: torch would unpickle parts of it, and evaluate text of others.

Passed are programs whose weights are plain bytes, whose operators are torch's own (aten, prims), and whose shape
expressions are arithmetic on symbols.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keepfit.training.existing.kinds import refused

_WAY_OUT = (
    "save it again: torch.export.save(torch.export.export(model, (rows,), dynamic_shapes=({0: Dim('n')},)), 'm.pt2')"
)
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?|_operator\.\w+|math\.(ceil|floor|trunc)"
)
_SYMBOLIC = {"Symbol", "Integer", "Add", "Mul", "Pow", "Rational", "Mod", "FloorDiv", "Max", "Min", "Eq", "Ne", "Ge", "Gt",
             "Le", "Lt", "oo", "int_oo", "true", "false", "IntInfinity", "NegativeIntInfinity"}  # fmt: skip
_NODES = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.BinOp,
          ast.Add, ast.Sub, ast.Mult, ast.Compare, ast.Eq, ast.NotEq, ast.GtE, ast.LtE, ast.Gt, ast.Lt)  # fmt: skip
_MOST = 64 << 20


def check(path: Path) -> None:
    """Raises DataError where something in the archive could run code when torch opens it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not any("/models/" in name and name.endswith(".json") for name in names):
                raise _bad(path, "it is no program of torch.export", ", ".join(names[:5]))
            for name in names:
                _check_entry(archive, name, path)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise _bad(path, "it cannot be read", str(error)[:200]) from None


def _check_entry(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    last, inner = name.rpartition("/")[2], name.partition("/")[2]
    if last.startswith(("custom_obj", "opaque_obj")) or "aotinductor" in inner or "executorch" in inner:
        raise _bad(path, "it holds objects or machine code besides the program", name)
    if "/sample_inputs/" in name:
        _check_tensors(archive.read(name), name, path)
    if not name.endswith(".json"):
        return
    if archive.getinfo(name).file_size > _MOST:
        raise _bad(path, "its description is too large", name)
    for key, value in _pairs(json.loads(archive.read(name))):
        if key == "use_pickle" and value:
            raise _bad(path, "a weight in it is pickled", name)
        if key == "path_name" and not str(value).startswith(("weight_", "tensor_")):
            raise _bad(path, "a weight in it lies elsewhere", f"{name}: {value!r}"[:200])
        if key == "target" and isinstance(value, str) and "." in value and not _TARGET.fullmatch(value):
            raise _bad(path, "it calls something that is no operator of torch", value[:200])
        if key == "expr_str" and not _is_arithmetic(value):
            raise _bad(path, "a shape in it is no arithmetic", str(value)[:200])


def _check_tensors(data: bytes, name: str, path: Path) -> None:
    """torch falls back to unpickling where this fails."""
    import torch

    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # whatever a hostile pickle leads to
        raise _bad(path, "its sample inputs are no plain tensors", name) from None


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _is_arithmetic(text: Any) -> bool:
    try:
        tree = ast.parse(str(text), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _NODES) or (
            isinstance(node, ast.Name) and not re.fullmatch(r"[su]\d+", node.id) and node.id not in _SYMBOLIC
        ):
            return False
    return True


def _bad(path: Path, what: str, seen: str) -> Exception:
    return refused("program_refused", f"the program is not opened: {what}", path, seen, _WAY_OUT)
