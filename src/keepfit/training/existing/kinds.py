"""Tells what a model file or folder is, by its ending and first bytes; refuses what only pickle could open. Loads no library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from keepfit.core.errors import DataError

Kind = Literal["onnx", "state_dict", "program", "keras", "hugging_face", "saved_model"]
_ENDINGS: dict[str, Kind] = {
    ".onnx": "onnx",
    ".pth": "state_dict",
    ".pt": "state_dict",
    ".bin": "state_dict",
    ".ckpt": "state_dict",
    ".safetensors": "state_dict",
    ".pt2": "program",
    ".keras": "keras",
}
_PICKLED = (".pkl", ".pickle", ".joblib", ".dill", ".sav")
_WAY_OUT = {
    "pickle": "a pickle runs whatever is in it. From scikit-learn: skl2onnx.to_onnx(model, rows); from LightGBM or XGBoost: "
    "onnxmltools; then package the .onnx",
    "h5": "model.save('model.keras') in Keras 3, then package that",
}
GENERIC = "LABEL_"


def kind_of(path: Path) -> Kind:
    """What `path` is. Raises DataError with the way out for what cannot be taken."""
    if path.is_dir():
        if (path / "config.json").is_file():
            return "hugging_face"
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        names = sorted(p.name for p in path.iterdir())[:8]
        hint = "a folder of save_pretrained has config.json, a TensorFlow SavedModel has saved_model.pb"
        raise refused("model_unknown", "the folder holds no model that is known here", path, ", ".join(names), hint)
    if not path.is_file():
        raise refused("no_model", "there is no such model", path, "no file and no folder", "give a file or a folder")
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if ending in _PICKLED or path.read_bytes()[:1] == b"\x80":
        raise refused("pickled_model", "a pickled model is not opened", path, ending or "a pickle", _WAY_OUT["pickle"])
    if ending in (".h5", ".hdf5"):
        raise refused("legacy_keras", "HDF5 files of old Keras are not opened", path, ending, _WAY_OUT["h5"])
    known = ", ".join(_ENDINGS)
    raise refused(
        "model_unknown", "the ending of the file is none of a model", path, ending, f"known: {known}, folders"
    )


def configuration(folder: Path) -> dict[str, Any]:
    """config.json of a folder. Raises DataError where it is no JSON object."""
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refused("model_broken", "config.json cannot be read", folder, str(error)[:200], "save it again") from None
    if not isinstance(found, dict):
        raise refused("model_broken", "config.json is no object", folder, type(found).__name__, "save it again")
    return found


def named_classes(path: Path) -> list[str] | None:
    """The classes that a Hugging Face folder names, in the order of its scores; None where it names none."""
    if not path.is_dir() or not (path / "config.json").is_file():
        return None
    said = configuration(path).get("id2label")
    if not isinstance(said, dict) or not all(str(key).isdigit() for key in said):
        return None
    names = [str(said[key]) for key in sorted(said, key=int)]
    return None if not names or all(name.startswith(GENERIC) for name in names) else names


def refused(code: str, what: str, path: Path, seen: str, hint: str) -> DataError:
    """A model that is not taken, and what to do."""
    return DataError(code, what, where=str(path), seen=seen, hint=hint)
