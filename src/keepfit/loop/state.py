"""Where the loop stands: a fold over its journal, so that whoever was killed goes on where it was."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from keepfit.loop.journal import Entry

Phase = Literal["watching", "collecting", "training", "trial"]


@dataclass(frozen=True)
class Quarantine:
    """Answers of a time that are never trained on; Unix seconds."""

    since: float
    until: float
    why: str


@dataclass(frozen=True)
class State:
    """`changed_at`: when the world that the next challenger is for began (Unix seconds), None where it did not change.

    `trigger`: what noticed that. `trained_rows`: rows since that change that the last run saw. `attempt`: number of the last
    run. `previous`: the champion before, while the present one is on probation, since `promoted_at`. `refusals`: refused
    challengers since the change. `promised`: errors and labels of the challenger on its hold-out; `shown`: those of the
    champion in hold-out and trial together; (0, 0) where there were none. `intent`: a move of the champion that was about to be
    made, so that one whose line a crash cut off is known for what it was.
    """

    phase: Phase = "watching"
    champion: int = 0
    champion_since: float = 0.0
    changed_at: float | None = None
    trigger: str = ""
    trained_rows: int = 0
    attempt: int = 0
    decided_at: float = 0.0
    trained_until: float = 0.0
    challenger: int = 0
    previous: int = 0
    promoted_at: float = 0.0
    refusals: int = 0
    retrains: int = 0
    promised: tuple[float, int] = (0.0, 0)
    shown: tuple[float, int] = (0.0, 0)
    quarantines: tuple[Quarantine, ...] = field(default=())
    intent: Mapping[str, Any] | None = None

    def quarantined(self, at: float) -> bool:
        """Whether answers of that moment are kept out of training."""
        place = bisect.bisect_right(self.quarantines, at, key=lambda one: one.since)
        return place > 0 and at < self.quarantines[place - 1].until


def state_of(entries: Iterable[Entry]) -> State:
    """The state after all entries."""
    state = State()
    for entry in entries:
        state = after(state, entry)
    return state


def after(state: State, entry: Entry) -> State:
    """The state after one more entry; entries that change nothing (notes, refused decisions) leave it."""
    change = _CHANGES.get(entry.what)
    return change(state, entry.at, dict(entry.data)) if change else state


def _champion(state: State, at: float, said: dict[str, Any]) -> State:
    """A champion that the loop found: the first, or one that other hands promoted, which goes on probation."""
    before = int(said.get("before", 0))
    return replace(
        state,
        champion=int(said["version"]),
        champion_since=at,
        previous=before,
        shown=(0.0, 0),
        promoted_at=at if before else 0.0,
        intent=None,
        phase="watching" if state.phase == "trial" else state.phase,
        challenger=0,
    )


def _intends(state: State, at: float, said: dict[str, Any]) -> State:
    return replace(state, intent=said)


def _changed(state: State, at: float, said: dict[str, Any]) -> State:
    """What is being trained or tried goes on: it may still be better than the champion."""
    phase: Phase = state.phase if state.phase in ("training", "trial") else "collecting"
    when, trigger = float(said["changed_at"]), str(said.get("trigger", ""))
    return replace(state, phase=phase, changed_at=when, trigger=trigger, trained_rows=0, refusals=0, previous=0)


def _tolerated(state: State, at: float, said: dict[str, Any]) -> State:
    """What was collected for shows no harm."""
    return replace(state, phase="watching" if state.phase == "collecting" else state.phase)


def _retrain(state: State, at: float, said: dict[str, Any]) -> State:
    return replace(
        state,
        phase="training",
        attempt=int(said["attempt"]),
        decided_at=at,
        trained_until=float(said["until"]),
        trained_rows=int(said["rows"]),
        retrains=state.retrains + 1,
    )


def _challenger(state: State, at: float, said: dict[str, Any]) -> State:
    score, labels = (said.get("scores") or {}).get(said.get("kind")), int(said.get("holdout", 0))
    promised = ((1 - score) * labels, labels) if score is not None and 0 <= score <= 1 else (0.0, 0)
    return replace(state, phase="trial", challenger=int(said["version"]), promised=promised)


def _refused(state: State, at: float, said: dict[str, Any]) -> State:
    again = state.changed_at is not None and (state.refusals < 2 or not state.trained_rows)
    phase: Phase = "collecting" if again else "watching"
    return replace(state, phase=phase, challenger=0, refusals=state.refusals + 1, decided_at=at, intent=None)


def _promoted(state: State, at: float, said: dict[str, Any]) -> State:
    evidence = said.get("evidence", {})
    labels, right = int(evidence.get("labels", 0)), evidence.get("right")
    return replace(
        state,
        shown=(labels - right + state.promised[0], labels + state.promised[1]) if right is not None else (0.0, 0),
        phase="collecting" if state.changed_at is not None and not state.trained_rows else "watching",
        champion=int(said["version"]),
        champion_since=at,
        previous=int(said["before"]),
        promoted_at=at,
        challenger=0,
        refusals=0,
        intent=None,
    )


def _rolled_back(state: State, at: float, said: dict[str, Any]) -> State:
    return replace(
        state,
        phase="watching",
        champion=int(said["version"]),
        champion_since=at,
        previous=0,
        challenger=0,
        decided_at=at,
        intent=None,
    )


def _settled(state: State, at: float, said: dict[str, Any]) -> State:
    return replace(state, previous=0)


def _quarantined(state: State, at: float, said: dict[str, Any]) -> State:
    """Kept by time and apart from each other, so that a long broken feed is few of them and all are remembered."""
    one = Quarantine(float(said["since"]), float(said["until"]), str(said["why"]))
    kept: list[Quarantine] = []
    for two in sorted((*state.quarantines, one), key=lambda each: each.since):
        if kept and two.since <= kept[-1].until:
            kept[-1] = replace(kept[-1], until=max(kept[-1].until, two.until))
        else:
            kept.append(two)
    return replace(state, quarantines=tuple(kept))


_CHANGES = {
    "champion": _champion,
    "intends": _intends,
    "changed": _changed,
    "tolerated": _tolerated,
    "retrain": _retrain,
    "challenger": _challenger,
    "refused": _refused,
    "failed": _refused,
    "promoted": _promoted,
    "rolled_back": _rolled_back,
    "settled": _settled,
    "quarantined": _quarantined,
}
