"""A TensorFlow SavedModel, looked through, turned into ONNX and run for comparison by a child process that loads TensorFlow."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core.errors import missing_extra
from keepfit.training.existing import onnx_file
from keepfit.training.existing.form import Array, Opened
from keepfit.training.existing.kinds import refused

_WAY_OUT = "layers and functions that ONNX knows, one input, one output of scores, the signature serving_default"
_MOST_S = 1800.0


def load(path: Path) -> Opened:
    """A SavedModel as the common form. Raises EnvironmentFault without TensorFlow and tf2onnx, DataError for what is not taken."""
    for module in ("tensorflow", "tf2onnx"):
        if importlib.util.find_spec(module) is None:
            raise missing_extra("tensorflow", module)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        child, told = _started(path, out)
        try:
            file = onnx_file.read(out)
        except BaseException:
            _end(child)
            raise
    answer = _asker(child, path)

    def raw(batch: Array) -> Array:
        return answer(np.asarray(batch, np.float32))

    made = onnx_file.opened(replace(file, path=path))
    shape = None if told["shape"] is None else tuple(told["shape"])
    return Opened("saved_model", "tf2onnx", shape, raw, made.graph)


def _started(path: Path, out: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """The child when it has converted the model, and what it tells about it."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONHASHSEED": "0"}
    child = subprocess.Popen(
        [sys.executable, "-m", "keepfit.training.existing.tensorflow_process", str(path.resolve()), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    late = threading.Timer(_MOST_S, child.kill)
    late.start()
    line = child.stdout.readline() if child.stdout else b""
    late.cancel()
    try:
        said = json.loads(line)
    except ValueError:
        _end(child)
        seen = f"the process ended with {child.returncode}"
        raise refused("model_broken", "TensorFlow ended while it read the model", path, seen, _WAY_OUT) from None
    if "ok" not in said:
        _end(child)
        code, what, seen = said["refused"]
        raise refused(code, what, path, seen, _WAY_OUT)
    return child, said["ok"]


def _asker(child: subprocess.Popen[bytes], path: Path) -> Callable[[Array], Array]:
    """A function from a batch to the scores that TensorFlow gives; the child ends with it."""

    def ask(batch: Array) -> Array:
        data, stdin, stdout = io.BytesIO(), child.stdin, child.stdout
        if stdin is None or stdout is None:
            raise TypeError("the child was started without pipes")
        np.save(data, batch, allow_pickle=False)
        try:
            stdin.write(len(data.getvalue()).to_bytes(8, "big") + data.getvalue())
            stdin.flush()
        except OSError:
            raise refused("model_failed", "TensorFlow ended", path, str(child.poll()), _WAY_OUT) from None
        answer = stdout.read(int.from_bytes(stdout.read(8), "big"))
        if not answer.startswith(b"\x93NUMPY"):
            seen = f"fed {batch.shape}; {answer.decode('utf-8', 'replace')[:300]}"
            hint = "say what it reads: --size, --layout, --columns"
            raise refused("model_failed", "the model does not take these inputs", path, seen, hint)
        return np.asarray(np.load(io.BytesIO(answer), allow_pickle=False))

    weakref.finalize(ask, _end, child)
    return ask


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
