"""The leak guard: what would make the test figures better than life. It looks before training, and a leak ends the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from keepfit.cleaning import described
from keepfit.cleaning.crossings import crossings, group_column
from keepfit.cleaning.findings import Finding
from keepfit.cleaning.foreknowledge import foreknowledge
from keepfit.cleaning.giveaways import giveaways
from keepfit.cleaning.guarded import Guarded
from keepfit.core.errors import DataError, GateError, nearest
from keepfit.recipe.data import DataOptions
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.picture_predictor import COLUMN as PICTURE
from keepfit.runtime.samples import rows_of
from keepfit.runtime.table import Table
from keepfit.stages.results import as_json, given_of, json_of, part_of, room_of, table_of, task_of, truth_of
from keepfit.stages.together import alike
from keepfit.store.artifacts import Files
from keepfit.store.ledger import counted

_GO_ON = "clean.leaks=report to go on all the same"


def case_of(seed: int, ingested: Files, parted: Files, rules: list[ColumnRule]) -> Guarded:
    """The rows that a split keeps, as the checks look at them; without the pictures themselves."""
    table, task = table_of(ingested), task_of(json_of(parted, "task.json"))
    part = part_of(parted)
    given = given_of(ingested)
    kept = part != ""
    table, part = table.take(kept), part[kept]
    room = room_of(ingested)
    return Guarded(
        table=table.without([PICTURE]) if room == "image" else table,
        part=part,
        truth=truth_of(table.columns[task.target], task),
        classes=len(task.classes),
        names=task.names,
        target=task.target,
        rules=[] if room == "image" else rules,
        given=bool((given == "test").any()),
        seed=seed,
    )


def guard(
    leaks: str, data: DataOptions, case: Guarded, ingested: Files, parted: Files
) -> tuple[list[Finding], list[str]]:
    """Findings, and ids of test rows that have a copy or a fellow outside; nothing where `leaks` is off."""
    if leaks == "off":
        return [], []
    room, rules, target = room_of(ingested), list(case.rules), case.target
    table = case.table
    if room == "image" and case.given:
        whole = table_of(ingested)
        table = whole.take(rows_of(whole.ids, table.ids.tolist()))
    made = alike(table, room, target, rules) if case.given else np.arange(len(table))
    asked = room == "tabular" or (data.split.by == "given" and data.split.column is not None)
    who = _who(table, data, rules) if asked and data.split.by != "group" else None
    found, crossing = crossings(case, made, who, by_cells=room == "tabular")
    found += _together(case, parted)
    if room == "text":
        found += giveaways(case)
    if room == "tabular":
        given = giveaways(case)
        stops = {name for one in given if one.level == "stop" for name in one.columns}
        found += [*given, *(one for one in foreknowledge(case) if not stops & set(one.columns))]
    return [_told_only(one) for one in found] if leaks == "report" else found, crossing


def _who(table: Table, data: DataOptions, rules: list[ColumnRule]) -> str | None:
    """The column whose rows belong together: the one that the recipe names beside given splits, else one that is found."""
    named = data.split.column if data.split.by == "given" else None
    if named is not None and named not in table.columns:
        raise DataError(
            "column_missing",
            f"the data has no column {named!r}",
            where="data.split.column",
            hint=nearest(named, table.names),
        )
    return named or group_column(table, data.target, rules)


def _told_only(finding: Finding) -> Finding:
    """The finding where the recipe lets a run go on."""
    if finding.level != "stop":
        return finding
    said = finding.proposal.replace("the run stops", "told only, by clean.leaks: report", 1)
    return replace(
        finding, proposal=said, override=finding.override if finding.override != "clean.leaks=report" else ""
    )


def _together(case: Guarded, parted: Files) -> list[Finding]:
    """What the split kept on one side."""
    kept = json_of(parted, "together.json")
    found = []
    if kept["column"]:
        message = f"rows of the same {kept['column']!r} belong together: {kept['groups']} groups of two rows or more"
        proposal = "each group is on one side of the split"
        override = "data.split.by=random"
        found.append(Finding("groups_together", (kept["column"],), (), message, proposal, override))
    if kept["near"] and not case.given:
        repeat = "repeats" if kept["copies"] == 1 else "repeat"
        message = f"{counted(kept['copies'], 'row')} {repeat} an earlier one exactly"
        message += f", {kept['near']} have an exact or near copy among the others"
        found.append(Finding("copies_together", (), (), message, "copies are on one side of the split"))
    return found


def refuse(leaks: str, cleaned: Files) -> None:
    """Raise GateError `leak` where a finding stops the run and `leaks` is stop."""
    refuse_found(leaks, json_of(cleaned, "leaks.json"))


def refuse_found(leaks: str, found: list[dict[str, Any]]) -> None:
    """`refuse`, from findings as JSON."""
    stops = [finding for finding in found if finding["level"] == "stop"]
    if leaks != "stop" or not stops:
        return
    first = stops[0]
    more = f" (and {len(stops) - 1} more: keepfit check shows them)" if len(stops) > 1 else ""
    overrides = " ".join(dict.fromkeys(one["override"] for one in stops if one["override"]))
    raise GateError(
        "leak",
        f"the data gives the answer away{more}",
        where=", ".join(first["columns"]) or "the splits",
        seen=first["message"],
        hint=f"{overrides}; or {_GO_ON}" if overrides not in ("", "clean.leaks=report") else _GO_ON,
    )


def as_files(found: list[Finding], crossing: list[str]) -> Files:
    """`leaks.json` and `crossings.json` of the clean stage."""
    return {"leaks.json": as_json([finding.as_json() for finding in found]), "crossings.json": as_json(crossing)}


def looked_at(case: Guarded, ingested: Files) -> Files:
    """`described.json` (facts per column, the target's last) and `seen.json` (findings about them)."""
    if room_of(ingested) == "image":
        table = table_of(ingested)
        one, found = described.of_pictures(list(table.columns[PICTURE]))
        facts = {PICTURE: one}
    else:
        facts, found = described.described(case)
    facts[case.target] = described.of_target(case)
    return {"described.json": as_json(facts), "seen.json": as_json([finding.as_json() for finding in found])}
