"""Looks at finished runs: lists and verifies their bundles, makes a run again and compares."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault, GateError, UsageError
from keepfit.core.events import silent
from keepfit.engine.plan import plan
from keepfit.engine.run import run as walk
from keepfit.recipe import parse
from keepfit.runtime.bundle import Bundle
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry

SAME = ("model.onnx", "preparation.json", "profile.json", "golden.jsonl")


def models(workspace: Path, name: str | None = None) -> list[dict[str, Any]]:
    """The registered versions of the workspace with their aliases, or those of one name; then the latest runs that are not
    registered, hashes checked, with `version` None. Raises UsageError for an unknown name."""
    registry = Registry(workspace)
    found = []
    for one in registry.names() if name is None else [name] if name in registry.names() else []:
        aliases = registry.pointer(one).aliases
        for version in registry.versions(one):
            own = sorted(alias for alias, number in aliases.items() if number == version.version)
            found.append({**version.as_json(), "aliases": own})
    known = {model["sha256"] for model in found}
    for folder in sorted(workspace.glob(f"runs/{name or '*'}/latest/bundle")):
        bundle = Bundle.open(folder)
        if bundle.sha256 not in known:
            found.append(_unregistered(bundle))
    if name is not None and not found:
        where = str(workspace / "runs")
        raise UsageError("no_model", f"there is no model {name!r}", where=where, hint="keepfit models list")
    return found


def _unregistered(bundle: Bundle) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": bundle.name,
        "version": None,
        "aliases": [],
        "sha256": bundle.sha256,
        "task": bundle.task,
    }
    return {**facts, "bundle": str(bundle.path.resolve())}


def verify_models(workspace: Path, name: str | None = None) -> list[dict[str, Any]]:
    """`models` with every hash checked and all golden rows replayed; `name` may be NAME@ALIAS, NAME@NUMBER or a bundle.

    Raises EnvironmentFault for the first that is damaged.
    """
    if name is not None and (Path(name) / "bundle.json").is_file():
        bundle = Bundle.open(Path(name))
        bundle.predictor()
        return [_unregistered(bundle)]
    if name is not None and "@" in name:
        version = Registry(workspace).resolve(name)
        version.open().predictor()
        return [{**version.as_json(), "aliases": []}]
    registry = Registry(workspace)
    for one in registry.names() if name is None else {name} & set(registry.names()):
        bad = [version for version in registry.verify(one) if version["error"]]
        if bad:
            raise EnvironmentFault(
                "damaged_model",
                f"version {bad[0]['version']} of {one} is not what was registered",
                where=str(workspace / ".keepfit" / "registry" / one),
                seen=bad[0]["error"],
                hint="register its run again; if it is the champion: keepfit models rollback " + one,
            )
    found = models(workspace, name)
    for model in found:
        if model["version"] is None:
            Bundle.open(Path(model["bundle"])).predictor()
    return found


def verify_run(folder: Path) -> dict[str, Any]:
    """Check the bundle, make the run again from its recipe in a scratch workspace, compare the files. Raises GateError."""
    bundle = Bundle.open(folder / "bundle")
    bundle.predictor()
    try:
        text = (folder / "recipe.yaml").read_text("utf-8")
        saved = json.loads((folder / "plan.json").read_bytes())
        home = Path(saved.get("folder", folder.resolve())) if saved["keys"] else folder
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise EnvironmentFault(
            "damaged_run", "recipe or plan of the run cannot be read", where=str(folder), seen=repr(error)
        ) from None
    recipe = parse(text, origin=str(folder / "recipe.yaml"), folder=home)
    facts: dict[str, Any] = {
        "bundle": str(bundle.path.resolve()),
        "sha256": bundle.sha256,
        "files": len(bundle.files),
        "verified": True,
    }
    if recipe.data.source == "frame":
        return {**facts, "repeated": "not possible: the run was made from a frame in memory"}
    with tempfile.TemporaryDirectory(prefix="keepfit-verify-") as scratch:
        again = walk(plan(recipe), Store(Path(scratch)), Path(scratch, "runs"), silent)
        files = again.files["package"]
        differ = [
            name
            for name in SAME
            if name in bundle.files and digest.of_bytes(files.get(name, b"")) != digest.of_bytes(bundle.files[name])
        ]
    if differ:
        raise GateError(
            "not_repeated",
            "the run does not give the same files again",
            where=str(folder),
            seen=", ".join(differ),
            hint="has the data changed, or was auto stopped by the time budget? Say a learner, or more time",
        )
    return {**facts, "repeated": "the same files"}
