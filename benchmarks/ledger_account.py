"""D1: in = kept + dropped, sample by sample, on every dirty set with everything switched on; decisions taken back alone.

Counted from the outside: the ids that ingest gave, the ids that a split keeps, and ledger.json, not by the engine's own check.
`--mutant forget` removes one dropped row from the ledger before the engine's check: the run must break.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, shared_table, skipped, told
from keepfit.core.errors import InternalFault
from keepfit.stages.packing import unpack_table
from keepfit.stages.results import all_entries, part_of
from keepfit.store.ledger import BACK, Entry

GOAL = "D1: in = kept + dropped exact on every dirty set; each entry undone alone"
CLEAN = (
    "{duplicates: drop, near_duplicates: drop, drop_rows_missing_over: 0.3, outliers: clip, spellings: apply, rare: group, "
    "formats: blank, dependencies: repair, missing: {numeric: median, categorical: most_frequent}, leaks: report"
)
SETS = {
    "hospital": ("cleaning/hospital_dirty.csv.gz", "target: EmergencyService", ""),
    "flights": ("cleaning/flights_dirty.csv.gz", "target: src", ""),
    "horse_colic": (
        "tabular/horse_colic.csv.gz",
        "target: c24",
        "",
    ),
    "titanic": ("tabular/titanic.csv.gz", "target: Survived", ""),
    "adult": ("tabular/adult_train.csv.gz", "target: income", ""),
    "sms": (
        "text/sms_spam.tsv.gz",
        'target: label, text: sms, read: {delimiter: "\\t", header: false, names: [label, sms], quote: none}',
        "modality: text\n",
    ),
}


def recipe(folder: Path, name: str, source: Path, undo: list[str]) -> Path:
    """A recipe of one set with these entries taken back."""
    _, data, more = SETS[name]
    clean = "{duplicates: drop, near_duplicates: drop, leaks: report" if more else CLEAN
    path = folder / f"{name}.yaml"
    path.write_text(
        f"version: 1\nname: {name}\n{more}data: {{source: {source}, {data}}}\n"
        f"clean: {clean}, undo: {json.dumps(undo)}}}\n"
    )
    return path


def account(run: Any) -> tuple[dict[str, int], list[Entry]]:
    """Samples in, kept, dropped, both, neither and unknown, by their ids."""
    entries = all_entries(run.files)
    ids = [str(sample) for sample in unpack_table(run.files["ingest"]["table"]).ids]
    unread = [e.id for e in entries if e.stage == "ingest" and e.action == "dropped"]
    parts = part_of(run.files["clean"]).tolist()
    kept = {sample for sample, part in zip(ids, parts, strict=True) if part}
    gone = {e.id for e in entries if e.action == "dropped"}
    came = {*ids, *unread}
    return {
        "in": len(ids) + len(unread),
        "kept": len(kept),
        "dropped": len(gone),
        "both": len(kept & gone),
        "neither": len(came - kept - gone),
        "unknown": len({e.id for e in entries} - came),
        "twice": len(ids) + len(unread) - len(came),
        "entries": len(entries),
    }, entries


def one(folder: Path, name: str, source: Path) -> dict[str, Any]:
    """The account of a set, and of the same with single decisions of each kind taken back."""
    run = kf.run(recipe(folder, name, source, []), until="clean", workspace=folder)
    found, entries = account(run)
    every = {entry.key: entry for entry in entries if entry.is_undoable}
    kinds: dict[tuple[str, str], Entry] = {}
    for entry in every.values():
        kinds.setdefault((entry.rule.partition(":")[0], entry.action), entry)
    alone = 0
    for entry in kinds.values():
        again, others = account(kf.run(recipe(folder, name, source, [entry.key]), until="clean", workspace=folder))
        rest = {e.key: e for e in others}
        same = {k: e for k, e in rest.items() if k != entry.key} == {e.key: e for e in entries if e.key != entry.key}
        back = rest[entry.key].rule.endswith(BACK) and again["kept"] == found["kept"] + (entry.action == "dropped")
        alone += same and back and exact(again)
    return {**found, "undoable": len(every), "kinds": len(kinds), "undone_alone": alone}


def exact(found: dict[str, int]) -> bool:
    """Every sample is kept or dropped, none both, none unknown."""
    return found["in"] == found["kept"] + found["dropped"] and not any(
        found[k] for k in ("both", "neither", "unknown", "twice")
    )


def broken(folder: Path, name: str, source: Path) -> dict[str, Any]:
    """The mutant: the ledger forgets one dropped row, which is dropped all the same; whether the engine breaks the run."""
    from keepfit.cleaning import line
    from keepfit.runtime.samples import rows_of
    from keepfit.store.ledger import Ledger

    whole, gone = line.without, line.Cleaned.is_dropped
    forgotten: list[str] = []

    def forgetful(entries: Any, undo: Any) -> Ledger:
        """All entries but the first of a dropped row."""
        kept = []
        for entry in whole(entries, undo):
            if entry.action == "dropped" and not forgotten:
                forgotten.append(entry.id)
            else:
                kept.append(entry)
        return Ledger(kept)

    line.without = forgetful
    line.Cleaned.is_dropped = lambda self, ids: gone(self, ids) | rows_of(ids, forgotten)  # type: ignore[method-assign]
    try:
        kf.run(recipe(folder, name, source, []), until="clean", workspace=folder)
    except InternalFault as error:
        return {"forgotten": forgotten, "broke": str(error)[:200]}
    finally:
        line.without, line.Cleaned.is_dropped = whole, gone  # type: ignore[method-assign]
    return {"forgotten": forgotten, "broke": None}


def main() -> int:
    """All sets; `--quick` leaves adult out."""
    table = shared_table("titanic.csv.gz")
    if table is None:
        return skipped(GOAL, "nobody", "the shared data is not here: set KEEPFIT_SHARED to its folder")
    root = table.parent.parent
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        folder = Path(scratch)
        if mutant() == "forget":
            value = {"sms": broken(folder, "sms", root / SETS["sms"][0])}
            return told(GOAL, value, "the run breaks", False, mutant=mutant())
        names = [name for name in SETS if not (is_quick() and name == "adult")]
        value = {name: one(folder, name, root / SETS[name][0]) for name in names}
    passed = all(exact(found) and found["undone_alone"] == found["kinds"] for found in value.values())
    return told(GOAL, value, "nobody", passed, quick=is_quick(), mutant=mutant())


if __name__ == "__main__":
    sys.exit(main())
