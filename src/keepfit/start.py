"""First looks: writes a recipe for data that nobody has described, and checks a recipe without training."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keepfit.core.catalog import load as part
from keepfit.core.errors import DataError, nearest
from keepfit.core.events import silent
from keepfit.engine.plan import plan, remembered
from keepfit.engine.run import run as walk
from keepfit.engine.run import way_of
from keepfit.engine.sharing import told
from keepfit.recipe import load
from keepfit.recipe.load import slug
from keepfit.recipe.render import quoted
from keepfit.runtime import sources
from keepfit.runtime.table import Table
from keepfit.stages import evaluate, guard
from keepfit.stages.results import all_entries, found_in, json_of, part_of, row_counts
from keepfit.stages.train import rehearse
from keepfit.store.artifacts import Store
from keepfit.store.ledger import Block, Ledger, counted

_LIKELY = ("target", "label", "class", "y", "outcome", "churn", "survived", "income", "price", "species", "quality")


def first_recipe(data: str, target: str | None, folder: Path) -> str:
    """A commented recipe for `data`. The target is guessed when absent: a likely name, else the last column."""
    if part("keepfit.modalities.image.read:looks_like_pictures")(data, Path.cwd()):
        return _for_pictures(data, folder)
    if part("keepfit.modalities.text.read:looks_like_texts")(data, Path.cwd()):
        return _for_texts(data, folder)
    table = sample(data, target)
    if target is None:
        target = next((n for word in _LIKELY for n in table.names if n.lower() == word), table.names[-1])
    if target not in table.columns:
        raise DataError(
            "no_target", f"the data has no column {target!r}", where=data, hint=nearest(target, table.names)
        )
    findings = part("keepfit.modalities.tabular.schema:infer")(table, target, {}, [])
    source = (
        data if ":" in data and not Path(data).exists() else os.path.relpath(Path(data).resolve(), folder.resolve())
    )
    kinds = [
        f"  #   {quoted(f.rule.name)}: {f.rule.kind}".ljust(44) + f"# {' '.join(f.rule.why.split())}" for f in findings
    ]
    return "\n".join(
        [
            "# What keepfit saw; every key but data.source and data.target may go.",
            "version: 1",
            f"name: {slug(Path(data.removeprefix('sklearn:')).name.split('.')[0])}",
            "data:",
            f"  source: {quoted(source)}",
            f"  target: {quoted(target)}",
            "  split: {test: 0.2, validation: 0.1}",
            "  # columns:                              # take the marks away to overrule what was inferred",
            *kinds,
            "model: {use: auto}                        # or linear, gbdt, forest",
            "# budget: {time: 60s}                     # for trying models, where model.use is auto or ensemble; else 5m",
            "",
        ]
    )


def _for_pictures(data: str, folder: Path) -> str:
    before, path = sources.path_in(data)
    source = before + os.path.relpath(Path(path).resolve(), folder.resolve())
    return "\n".join(
        [
            "# Pictures; every key but data.source may go.",
            "version: 1",
            f"name: {slug(Path(path).name.split('.')[0])}",
            "data:",
            f"  source: {quoted(source)}",
            "  split: {test: 0.2, validation: 0.1}",
            "augment: [{use: crop, scale: [0.8, 1.0]}, {use: colour, p: 0.5}]   # add flip where left and right are alike",
            "model: {use: cnn}                         # or {use: pretrained, source: mobilenet_v2}",
            "",
        ]
    )


def _for_texts(data: str, folder: Path) -> str:
    return "\n".join(
        [
            "# Texts; every key but data.source may go.",
            "version: 1",
            f"name: {slug(Path(data).name.split('.')[0])}",
            "data:",
            f"  source: {quoted(os.path.relpath(Path(data).resolve(), folder.resolve()))}",
            "  split: {test: 0.2, validation: 0.1}",
            "model: {use: tfidf}                       # or {use: pretrained, source: FOLDER}, a transformers encoder",
            "",
        ]
    )


def sample(data: str, target: str | None) -> Table:
    """The first rows of a source; for sklearn:NAME all of them. Raises DataError."""
    if data.startswith("sklearn:"):
        name = target or "target"
        found: Table = part("keepfit.stages.ingest:from_sklearn")(data.removeprefix("sklearn:"), name)
        return found
    path = sources.files_of(data, Path.cwd())[0]
    table = next(iter(sources.chunks(path, sources.Read(), size=20_000)))
    if not len(table):
        raise DataError("no_rows", "the source has no rows", where=data)
    return table


def check(recipe: Path, overrides: Sequence[str], workspace: Path) -> dict[str, Any]:
    """Findings and plan of a recipe; nothing is trained and nothing is left in the workspace."""
    made = plan(remembered(load(recipe, overrides), workspace))
    statuses = (
        made.statuses(Store(workspace))
        if (workspace / ".keepfit").exists()
        else [(s.stage, "to do") for s in made.steps]
    )
    with tempfile.TemporaryDirectory(prefix="keepfit-check-") as scratch:
        looked = walk(plan(made.recipe, until="clean"), Store(Path(scratch)), Path(scratch, "runs"), silent)
    evaluate.refuse_early(made.recipe.evaluate, made.recipe.data.balance, looked.files["ingest"], looked.files["split"])
    network = rehearse(made.recipe.model, way_of(made, None), *(looked.files[n] for n in ("ingest", "split", "clean")))
    tokens = network.get("tokens", {}) if network is not None else {}
    columns = json_of(looked.files["clean"], "columns.json")
    facts = json_of(looked.files["clean"], "described.json")
    came, kept = row_counts(looked.files)
    task = json_of(looked.files["split"], "task.json")
    rows = part_of(looked.files["clean"])
    shared = told(made.recipe, int((rows == "train").sum()))
    return {
        "task": task["kind"],
        "classes": task["classes"],
        "rows": {"in": came, "kept": kept},
        "splits": {name: int((rows == name).sum()) for name in ("train", "validation", "test")},
        "columns_of": int((part_of(looked.files["split"]) == "train").sum()),
        "target": {"name": task["target"], **facts[task["target"]]},
        "columns": [{**column, **facts.get(column["name"], {})} for column in columns],
        "leaks": made.recipe.clean.leaks,
        "findings": found_in(looked.files["clean"], made.recipe.data.balance),
        **({"network": network} if network is not None else {}),
        **({"processes": shared} if shared is not None else {}),
        "ledger": _counts(all_entries(looked.files)),
        "warnings": [*_warnings(columns), *tokens.get("warnings", [])],
        "plan": statuses,
    }


def refuse(found: dict[str, Any]) -> None:
    """Raise GateError where what `check` found ends a run."""
    guard.refuse_found(found["leaks"], found["findings"])


def _counts(entries: Ledger) -> list[str]:
    """How many samples or cells each rule of the ledger is about."""
    rules: Counter[tuple[str, str]] = Counter()
    for one in entries.parts:
        rule = one.rule if one.count > 1 else one.rule.partition(":")[0]
        rules[f"{rule} ({one.action})", one.unit] += len(one) if isinstance(one, Block) else one.count
    return [f"{counted(count, unit)}: {rule}" for (rule, unit), count in rules.items()]


def _warnings(columns: list[dict[str, Any]]) -> list[str]:
    found = [
        f"column {c['name']!r} is not used: {c['why']}"
        + (f"; to learn from it: {c['override']}" if c.get("override") else "")
        for c in columns
        if not c["used"]
    ]
    found += [
        f"column {c['name']!r} has {c['missing']:.0%} missing cells"
        for c in columns
        if c["used"] and c["missing"] > 0.3
    ]
    return found
