"""The order of cleaning: rows that go, cells that are mended, then what is fitted and repeated by the served model.

Each decision is made as if none were taken back, so that taking one back changes no other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from keepfit.cleaning import dependencies, duplicates, formats, missing, outliers, rare, spellings, unreadable, written
from keepfit.cleaning.findings import Cell, Cells, Finding
from keepfit.cleaning.view import View, known_of
from keepfit.core.errors import InternalFault
from keepfit.runtime.coded import objects
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.samples import Ids, Samples, places_of, rows_of
from keepfit.runtime.table import Table, counts_of
from keepfit.store.ledger import BACK, Block, Entry, Ledger, place_of, without

_MOST_NOTED = 10_000


@dataclass
class Cleaned:
    """What cleaning says and does: entries of the ledger, findings, rules with their repairs, texts that take the place
    of cells (column -> sample id -> text, None is missing), cells that repairs of the rules spare, and the rows that no
    decision lets go, as they came."""

    entries: Ledger = field(default_factory=Ledger)
    findings: list[Finding] = field(default_factory=list)
    rules: tuple[ColumnRule, ...] = ()
    patches: dict[str, dict[str, str | None]] = field(default_factory=dict)
    spared: dict[str, list[str]] = field(default_factory=dict)
    left: Table | None = None

    @property
    def dropped(self) -> set[str]:
        """The ids of rows that go."""
        return {str(sample) for samples in self.entries.samples("dropped") for sample in samples.tolist()}

    def is_dropped(self, ids: Samples) -> NDArray[np.bool_]:
        """Mask [n] of the rows that go."""
        return _among(ids, self.entries.samples("dropped"))

    def is_decided(self, ids: Samples) -> NDArray[np.bool_]:
        """Mask [n] of the rows that go, or would if that had not been taken back."""
        return _among(ids, self.decided())

    def decided(self) -> list[Samples]:
        """The ids of rows that go, or would if that had not been taken back."""
        back = [part.id for part in self.entries.parts if _is_back(part) and not part.column]
        return [*self.entries.samples("dropped"), objects(back)]


def clean(view: View, section: Any, undo: Collection[str], seed: int, first: NDArray[np.int64] | None) -> Cleaned:
    """The whole order for the training rows of a table. `first` is the first row of each row's near-duplicates [n]."""
    out = clean_rows(
        view, section, undo, first, outliers.look(view, section.outliers, seed) if section.outliers.do == "drop" else []
    )
    out.rules = view.rules
    view = replace(view, table=view.table.take(~out.is_decided(view.table.ids)))
    out.left = view.table
    _take(out, unreadable.look(view), "apply", undo)
    _take(out, written.look(view), "apply", undo)
    came, view = view, _mended(out, view, section, undo)
    _fitted(out, view, section, undo, seed)
    if section.spellings.do == "apply" and view is not came:
        found = spellings.look(came, section.spellings)
        out.rules = tuple(_remembered(rule, view, found) for rule in out.rules)
    return out


def read_elsewhere(view: View) -> Ledger:
    """Cells of rows that are not learned from (`view` has none but these) that cannot be read as their column, or are
    written otherwise than plainly. The first are noted: where the model answers such a row is decided there."""
    out = Cleaned()
    _take(out, unreadable.cells(view), "report", ())
    _take(out, written.look(view), "apply", ())
    return out.entries


def unknown_undo(undo: Collection[str], entries: Sequence[Entry]) -> list[Finding]:
    """A finding where keys of `undo` name none of the entries."""
    unknown = set(undo) - {entry.key for entry in entries} if undo else ()
    if not unknown:
        return []
    message = f"{len(unknown)} keys of clean.undo name no entry here"
    return [Finding("undo", (), (), message, "nothing", "clean.undo: []")]


def clean_rows(
    view: View,
    section: Any,
    undo: Collection[str],
    first: NDArray[np.int64] | None,
    far: Sequence[Finding] = (),
) -> Cleaned:
    """Duplicates, near-duplicates, rows with too little in them and, where asked, outliers; a row goes once."""
    out = Cleaned(rules=view.rules)
    exact = duplicates.exact(view, section.duplicates) if section.duplicates != "off" else []
    _take(out, exact, section.duplicates, undo)
    _take(out, duplicates.sparse(view, section.drop_rows_missing_over), "drop", undo)
    if first is not None and section.near_duplicates != "off":
        again = _among(view.table.ids, [finding.ids for finding in exact])
        _take(out, duplicates.near(view, first, section.near_duplicates, again), section.near_duplicates, undo)
    if section.outliers.do == "drop":
        _take(out, far, "drop", undo)
    return out


def _mended(out: Cleaned, view: View, section: Any, undo: Collection[str]) -> View:
    """The view after blanked formats and repaired contradictions."""
    if section.formats.do != "off":
        view = _patched(out, view, _take(out, formats.look(view, section.formats), section.formats.do, undo))
    if section.dependencies.do != "off":
        view = _patched(
            out, view, _take(out, dependencies.look(view, section.dependencies), section.dependencies.do, undo)
        )
    return view


def _fitted(out: Cleaned, view: View, section: Any, undo: Collection[str], seed: int) -> None:
    """Spellings, rare categories, fences and fills, each fitted on what the one before left."""
    for method, said, key in (
        (spellings.look, section.spellings, "spellings"),
        (rare.look, section.rare, "common"),
        (outliers.look, section.outliers, "clip"),
    ):
        if said.do in ("off", "drop"):
            continue
        found = method(view, said)
        entries = _take(out, found, said.do, undo)
        if said.do == "report":
            continue
        _spare(out, entries)
        rules = {rule.name: _repaired(rule, key, view, found, said) for rule in view.rules}
        view = replace(view, rules=tuple(rules.values()))
    entries = _take(out, missing.look(view, section.missing), "apply", undo)
    if section.missing.numeric in ("knn", "iterative"):
        _patched(out, view, [entry for entry in entries if entry.rule.partition(": ")[2] in ("knn", "iterative")])
    _spare(out, entries)
    out.rules = tuple(_served(rule, out.entries.parts) for rule in view.rules)


def _repaired(rule: ColumnRule, key: str, view: View, found: list[Finding], said: Any) -> ColumnRule:
    mine = [finding for finding in found if finding.columns == (rule.name,)]
    if not mine:
        return rule
    if key == "clip":
        return replace(rule, clip=outliers.fences(view.data.spread(rule.name), said.fold))
    if key == "common":
        gone = {cell.before for finding in mine for cell in finding.cells}
        return replace(rule, common=tuple(sorted(known_of(view.data.categories[rule.name]).keys() - gone)))
    usual = {str(cell.before): str(cell.after) for finding in mine for cell in finding.cells}
    return replace(rule, spellings=tuple(sorted(usual.items())))


def _remembered(rule: ColumnRule, left: View, found: Sequence[Finding]) -> ColumnRule:
    """The rule with the spellings of `found` that contradictions mended in training rows (`left` are those after it): the
    served model meets them again."""
    pairs = {(cell.before, cell.after) for one in found if one.columns == (rule.name,) for cell in one.cells}
    if not pairs or rule.name not in left.data.categories:
        return rule
    there, known = counts_of(left.data.categories[rule.name]).keys(), dict(rule.spellings)
    more = [(str(a), str(b)) for a, b in pairs if a not in there and b in there and a not in known]
    return replace(rule, spellings=tuple(sorted([*rule.spellings, *more])))


def _served(rule: ColumnRule, entries: Sequence[Entry | Block]) -> ColumnRule:
    """The rule as it is served: without spellings all of whose cells were taken back."""
    mine = [
        one for one in entries if isinstance(one, Entry) and one.column == rule.name and one.rule.startswith("spelling")
    ]
    done = {entry.before for entry in mine if entry.action == "changed"}
    back = {entry.before for entry in mine if entry.rule.endswith(BACK)} - done
    return replace(rule, spellings=tuple(pair for pair in rule.spellings if pair[0] not in back)) if back else rule


def _take(out: Cleaned, findings: Sequence[Finding], do: str, undo: Collection[str]) -> Ledger:
    """Findings as entries of the ledger: what is done about them, or that they were seen."""
    done, gone = Ledger(), out.decided()
    for finding in findings:
        made = Ledger()
        decided = do == "drop" and finding.level == "note"
        told_only = do in ("report", "drop") or finding.rule.startswith(missing.LEFT)
        action = "dropped" if decided else "noted" if told_only else "changed"
        if isinstance(finding.cells, Cells):
            cells = finding.cells.take(~_among(finding.cells.ids, gone))
            cells = cells[:_MOST_NOTED] if action == "noted" else cells
            column = "" if decided else cells.column
            if len(cells):
                made += Ledger([Block(cells.ids, column, finding.rule, cells.before, cells.after, "clean", action)])
                gone += [cells.ids] if decided else []
        else:
            before = _among(objects([cell.id for cell in finding.cells]), gone).tolist()
            some = [cell for cell, is_gone in zip(finding.cells, before, strict=True) if not is_gone]
            gone += [objects([cell.id for cell in some])] if decided else []
            made += [
                Entry(
                    *(cell.id, *place_of(cell.id), "" if decided else cell.column, finding.rule),
                    *(cell.before or "", cell.after or "", "clean", action),
                )
                for cell in (some[:_MOST_NOTED] if action == "noted" else _once(some) if decided else some)
            ]
        made = without(made, undo)
        back = sum(map(_is_back, made.parts))
        out.findings.append(_only_told(finding) if do == "report" else finding.less(back))
        done += made
    out.entries += done
    return done


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell of each sample: a row goes once."""
    return list({cell.id: cell for cell in reversed(cells)}.values())[::-1]


def _among(ids: Samples, parts: Sequence[Samples | Sequence[str]]) -> NDArray[np.bool_]:
    """Mask [n] of the rows whose id is in one of the parts."""
    out = np.zeros(len(ids), bool)
    for part in parts:
        if len(part):
            out |= rows_of(ids, part if isinstance(part, Ids) else [*map(str, part)])
    return out


def _is_back(part: Entry | Block) -> TypeGuard[Entry]:
    """Whether it is an entry that was taken back; a block never is."""
    return isinstance(part, Entry) and part.rule.endswith(BACK)


def _only_told(finding: Finding) -> Finding:
    said = finding.proposal
    return finding if said.startswith("kept") else replace(finding, proposal=f"kept as it is; proposed: {said}")


def _patched(out: Cleaned, view: View, entries: Sequence[Entry]) -> View:
    """The view with the changed cells; those taken back are changed here too, so that what follows is the same."""
    columns = dict(view.table.columns)
    done = [entry for entry in entries if entry.action == "changed" or entry.rule.endswith(BACK)]
    places = places_of(view.table.ids, [entry.id for entry in done]).tolist() if done else []
    for entry, row in zip(done, places, strict=True):
        if row < 0:
            raise InternalFault("rows_lost", "a change is about a row that is not there", where=entry.id)
        if columns[entry.column] is view.table.columns[entry.column]:
            columns[entry.column] = columns[entry.column].copy()
        after = entry.after or None
        columns[entry.column][row] = after
        if not entry.rule.endswith(BACK):
            out.patches.setdefault(entry.column, {})[entry.id] = after
    return replace(view, table=Table(columns, view.table.ids)) if done else view


def _spare(out: Cleaned, entries: Ledger) -> None:
    for entry in filter(_is_back, entries.parts):
        out.spared.setdefault(entry.column, []).append(entry.id)
