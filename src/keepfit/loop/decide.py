"""Whether a run is worth it: pure, from the section, the state and the labelled rows, so that a record repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.loop.journal import Entry
from keepfit.loop.rows import Labelled
from keepfit.loop.state import State
from keepfit.recipe.retrain import RetrainOptions

HOLDOUT = 0.25
"""Share of the newest rows that the challengers compete on; never learned from."""


@dataclass(frozen=True)
class Plan:
    """A run: rows to learn from, rows to compete on, labelled rows before the change; `until` is the newest label among them."""

    why: str
    train: Sequence[Labelled]
    holdout: Sequence[Labelled]
    past: Sequence[Labelled]
    rows: int
    until: float


@dataclass(frozen=True)
class Wait:
    """No run, and why."""

    why: str


def decide(
    section: RetrainOptions, state: State, rows: Sequence[Labelled], now: float, by_hand: bool = False
) -> Plan | Wait:
    """A plan or a reason to wait. `rows` are the labelled rows that may be learned from, by time of answer."""
    if state.decided_at and now - state.decided_at < section.cool_down and not by_hand:
        return Wait("cool-down")
    since = state.changed_at if state.changed_at is not None else 0.0
    new = [row for row in rows if row.at >= since]
    if by_hand:
        return _plan("by hand", rows, new, since) if len(new) >= 20 else Wait("fewer than 20 labelled rows")
    if state.phase == "collecting":
        needed = section.rows * 2**state.refusals
        if len(new) < needed:
            return Wait(f"{len(new)} of {needed} labelled rows since the change")
        return _plan("the world has changed", rows, new, since)
    fresh = sum(row.labelled_at > state.trained_until for row in new)
    if state.changed_at is not None and state.trained_rows and len(new) >= section.growth * state.trained_rows:
        return _plan("there are many more rows of the changed world than were learned from", rows, new, since)
    if section.new_rows is not None and fresh >= section.new_rows:
        return _plan(f"{fresh} labels since the last run", rows, new, since)
    if section.every is not None and now - max(state.decided_at, state.champion_since) >= section.every and fresh >= 20:
        return _plan("it is time", rows, new, since)
    return Wait("nothing has changed")


def worth(section: RetrainOptions, harm: Mapping[str, Any] | None) -> Wait | None:
    """None where a run after a change is worth what it costs, else why to wait.

    `harm` says the error rates before and after, and of how many labels. The run begins when staleness has cost as much as a run
    does: whatever the future is, the two together are at most twice the least that could have been paid (ski rental, Karlin
    et al. 1988; costs of staleness and of retraining as in Mahadevan & Mathioudakis 2024).
    """
    if not section.cost:
        return None
    if harm is None:
        return Wait("too few labels to say what staleness costs")
    lost = max(0.0, harm["error_after"] - harm["error_before"]) * harm["labels"]
    if lost >= section.cost:
        return None
    return Wait(f"{lost:.1f} wrong answers more than before the change, and a run costs {section.cost:g}")


def _plan(why: str, rows: Sequence[Labelled], new: Sequence[Labelled], since: float) -> Plan:
    cut = len(new) - max(int(len(new) * HOLDOUT), 5)
    past = [row for row in rows if row.at < since]
    return Plan(why, new[:cut], new[cut:], past, len(new), max(row.labelled_at for row in new))


def next_attempt(entries: Iterable[Entry]) -> int:
    """The number of the next attempt."""
    return 1 + sum(entry.what == "retrain" for entry in entries)
