"""Decisions of the ledger that are taken back: one small file in the workspace for each recipe name."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from keepfit.core import atomic
from keepfit.core.errors import EnvironmentFault


def undone(workspace: Path, name: str) -> set[str]:
    """The keys of entries that are taken back for recipes of this name. Raises EnvironmentFault for a damaged file."""
    path = _file(workspace, name)
    if not path.is_file():
        return set()
    try:
        return {str(key) for key in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(
            "damaged_undo",
            "the list of decisions taken back cannot be read",
            where=str(path),
            seen=repr(error),
            hint="delete the file, and take back again what should be",
        ) from None


def keep(workspace: Path, name: str, keys: Collection[str]) -> None:
    """Write the list anew, whole or not at all."""
    path = _file(workspace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(sorted(keys), indent=1) + "\n")


def _file(workspace: Path, name: str) -> Path:
    return workspace / ".keepfit" / "undo" / f"{name}.json"
