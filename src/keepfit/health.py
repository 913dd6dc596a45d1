"""What this machine and installation can do."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

EXTRAS = {
    "tables": ("sklearn", "lightgbm", "onnx", "skl2onnx", "onnxmltools", "matplotlib"),
    "image": ("PIL",),
    "text": ("sklearn", "onnx", "matplotlib"),
    "networks": ("torch", "safetensors", "transformers", "onnx", "onnxscript", "matplotlib"),
    "keras": ("keras", "torch", "safetensors", "onnx", "onnxscript", "matplotlib"),
    "sql": ("sqlalchemy",),
}


def doctor() -> dict[str, Any]:
    """Python, cores, accelerator, extras with the command that installs them, known bad combinations."""
    extras = []
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        extras.append({"extra": extra, "absent": absent, "install": f"pip install 'keepfit[{extra}]'"})
    return {
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "accelerator": _accelerator(),
        "extras": extras,
        "libraries": {name: _version(name) for name in ("numpy", "onnxruntime", "duckdb", "pydantic")},
        "warnings": _warnings(),
    }


def _accelerator() -> str:
    return (
        "NVIDIA driver present: networks use it, trees and linear models the CPU"
        if Path("/proc/driver/nvidia/version").exists()
        else "none"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _warnings() -> list[str]:
    """Combinations known to fail, probed by importing in another process."""
    found = []
    if importlib.util.find_spec("torchvision") is not None:
        probe = subprocess.run(
            [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, timeout=120, check=False
        )
        if probe.returncode:
            found.append(
                "torchvision does not load beside this torch, and breaks text models too: pip uninstall torchvision"
            )
    if os.environ.get("OPENBLAS_CORETYPE"):
        found.append("OPENBLAS_CORETYPE is set: numpy may be slower than it could be")
    return found
