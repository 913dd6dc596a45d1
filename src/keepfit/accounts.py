"""Reads the ledgers of finished runs, and takes single decisions back for the next run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from keepfit.core.errors import EnvironmentFault, UsageError, nearest
from keepfit.runtime import sources
from keepfit.runtime.table import concat
from keepfit.store.ledger import BACK, COLUMNS, Entry
from keepfit.store.undone import keep, undone

_KEYS = COLUMNS
_SEARCHED = ("rule", "column", "stage", "action", "id", "entry")


def ledger(run: Path, where: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The entries of a run's ledger that hold every one of `where`: a text, or `column=text` for one column alone.

    Raises UsageError where there is no ledger, or for an unknown column.
    """
    path = run / "ledger.parquet"
    if not path.is_file():
        raise UsageError(
            "not_a_run", "there is no ledger here", where=str(run), hint="give a folder such as runs/NAME/latest"
        )
    table = concat(list(sources.chunks(path, sources.Read())))
    rows = [{name: column[row] or "" for name, column in table.columns.items()} for row in range(len(table))]
    for row in rows:
        row["row"] = int(row["row"])
        row.setdefault("entry", _entry(row).key)
    return [row for row in rows if all(_holds(row, text) for text in where)]


def _holds(row: dict[str, Any], text: str) -> bool:
    name, equals, wanted = text.partition("=")
    if not equals or " " in name:
        return any(text in str(row[key]) for key in _SEARCHED)
    if name not in _KEYS:
        raise UsageError("unknown_key", f"a ledger has no column {name!r}", where="--where", hint=nearest(name, _KEYS))
    return wanted in str(row[name]) if name in ("rule", "id", "before", "after") else wanted == str(row[name])


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{name: row[name] for name in COLUMNS if name != "entry"})


def undo(run: Path, ids: Sequence[str], workspace: Path, *, redo: bool = False) -> dict[str, Any]:
    """Take decisions back for the next run of the same recipe name; `redo` lets them stand again.

    `ids` name entries, or samples for all that was decided about them. Raises UsageError for an id that is not in the
    ledger or that cannot be taken back; then nothing is written.
    """
    rows = ledger(run)
    home, name = _home(run, workspace), _name(run)
    kept = undone(home, name)
    chosen: dict[str, dict[str, Any]] = {}
    for one in ids:
        mine = [row for row in rows if one in (row["entry"], row["id"])]
        good = [row for row in mine if row["entry"] in kept] if redo else [r for r in mine if _entry(r).is_undoable]
        if not good:
            raise _refusal(one, mine, rows, redo)
        chosen |= {row["entry"]: row for row in good}
    left = kept - set(chosen) if redo else kept | set(chosen)
    keep(home, name, left)
    return {"entries": list(chosen.values()), "undone": len(left), "recipe": name, "workspace": str(home.resolve())}


def _refusal(one: str, mine: list[dict[str, Any]], rows: list[dict[str, Any]], redo: bool) -> UsageError:
    if not mine:
        known = [row["entry"] for row in rows] + [row["id"] for row in rows]
        begun = sorted({row["id"] for row in rows if row["id"].startswith(f"{one}:")})
        near = f"did you mean {begun[0]!r}?" if begun else nearest(one, known)
        hint = near if near.startswith("did you mean") else "keepfit ledger RUN lists entries and samples"
        return UsageError("unknown_entry", f"the ledger has no entry {one!r}", where="undo", hint=hint)
    rule = mine[0]["rule"]
    if redo or rule.endswith(BACK):
        what = "was not taken back" if redo else "is taken back already"
        return UsageError(
            "not_undoable", f"the entry {what}", where=one, seen=rule, hint="keepfit ledger RUN lists all"
        )
    noted = all(row["action"] == "noted" for row in mine)
    return UsageError(
        "not_undoable",
        "nothing was done that could be taken back" if noted else "this decision cannot be taken back",
        where=one,
        seen=f"{rule} ({mine[0]['action']}, stage {mine[0]['stage']})",
        hint="noted entries are for information" if noted else "mend the cell or the row in the source, and run again",
    )


def _home(run: Path, workspace: Path) -> Path:
    """The workspace that a run folder lies in: the one above `runs/NAME/NUMBER`, else the one that was said."""
    above = run.resolve().parents
    return above[2] if len(above) > 2 and above[1].name == "runs" else workspace


def _name(run: Path) -> str:
    try:
        name = str(yaml.safe_load((run / "recipe.yaml").read_text("utf-8")).get("name", "model"))
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):  # it becomes part of a path
            raise ValueError(f"name: {name[:80]!r}")
        return name
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise EnvironmentFault(
            "damaged_run", "the recipe of the run cannot be read", where=str(run), seen=repr(error), hint="run it again"
        ) from None
