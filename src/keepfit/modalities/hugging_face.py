"""Models of the transformers library from a folder, or, where the network is allowed, from the hub by name; for every room.

Only safetensors are read and no code that a folder brings along is run.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keepfit.core import digest
from keepfit.core.errors import DataError, EnvironmentFault, missing_extra

CONFIGURATION = "config.json"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetched(name: str) -> Path:
    """The folder of a hub model, fetched if it is not there yet; EnvironmentFault when it cannot be had."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing_extra("networks", "huggingface_hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            "hub_unreachable", f"the model {name!r} could not be fetched", seen=first_line(error),
            hint="check the name and the network, or give a local folder",
        ) from error  # fmt: skip


def model_of(folder: Path) -> tuple[Any, Any]:
    """The model of a folder in fp32, and transformers' report of its keys; DataError if it cannot be loaded."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise missing_extra("networks", error.name or "transformers") from None
    if not (folder / CONFIGURATION).is_file():
        raise refused(
            "backbone_folder", f"the folder has no {CONFIGURATION}", folder, "give the folder of save_pretrained"
        )
    try:
        with quiet(transformers):
            model, report = transformers.AutoModel.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:
        hint = "only safetensors and models that transformers itself knows are read; save it again with save_pretrained"
        raise refused("backbone_broken", "the model cannot be loaded", folder, hint, first_line(error)) from error
    return model, report


def content_digest(folder: Path) -> str:
    """One digest of what is read of a folder."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.txt"), *folder.glob("*.safetensors")])
    return digest.of_json({file.name: digest.of_file(file) for file in files})


def check_complete(model: Any, report: Any, folder: Path) -> bool:
    """Whether the file has the pooler's weights too. All others must be there, and none that the model has no place for."""
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    lacking = [key for key in missing if not key.startswith("pooler.")]
    # A file may still say encoder where the library calls the same layers by another name.
    own = {"encoder", model.base_model_prefix, *(name for name, _ in model.named_children())}
    # What stands beside the backbone (a classifier, a decoder) belongs to the head that was cut off.
    strange = [key for key in unexpected if key.partition(".")[0] in own and not key.startswith("pooler.")]
    # Positions are counted anew by the library; older files stored them.
    strange = [key for key in strange if not key.endswith(".position_ids")]
    if lacking or strange:
        seen = ", ".join([f"missing {key}" for key in lacking[:1]] + [f"unexpected {key}" for key in strange[:1]])
        raise refused("weights_do_not_fit", "the weights are not those of the configuration", folder, "", seen)
    if missing and hasattr(model, "pooler"):
        model.pooler = None
    return not missing


def json_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where the file is not there. Raises DataError."""
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refused("backbone_broken", f"{path.name} is not JSON", path, "", first_line(error)) from error
    if not isinstance(read, dict):
        raise refused("backbone_broken", f"{path.name} is not an object", path, "")
    return read


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """No bars and no table of keys on the user's terminal: what matters of them is said as an error."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, short."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def refused(code: str, what: str, where: Path, hint: str, seen: str = "") -> DataError:
    """The error for a folder that cannot be used."""
    return DataError(code, what, where=str(where), seen=seen, hint=hint)
