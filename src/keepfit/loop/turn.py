"""One look of the loop: labels in, errors watched, a challenger asked for, tried, promoted or refused, and taken back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keepfit.core.errors import KeepfitError
from keepfit.loop import incidents
from keepfit.loop.accuracy import Errors, errors_of
from keepfit.loop.attempts import LOG, Asked, Attempt
from keepfit.loop.decide import Plan, Wait, decide, next_attempt, worth
from keepfit.loop.feed import Feed, Seen
from keepfit.loop.gate import Side, Trial, Verdict, examine
from keepfit.loop.journal import Entry, Journal
from keepfit.loop.rows import Labelled, Memory
from keepfit.loop.state import State, after, state_of
from keepfit.loop.strategies import kinds_of
from keepfit.monitor.streams import watch_of
from keepfit.recipe.model import Recipe
from keepfit.runtime.sources import expand
from keepfit.store.records import Records
from keepfit.store.registry import CHALLENGER, CHAMPION, Registry

_MOST_STARTS = 20
"""Times that one loop starts the process of one attempt: it may be killed, but it may also die of itself."""
_END_S = 5.0
Told = Callable[[Entry], None]
_TRIAL_LABELS = 20_000.0
"""Labels between false alarms about a challenger: a trial is short, and a refusal costs one run."""


class Loop:
    """The loop of one recipe in one workspace. `turn` looks once; all that it must remember is in the journal."""

    def __init__(
        self,
        recipe: Recipe,
        path: Path,
        overrides: tuple[str, ...],
        workspace: Path,
        told: Told = lambda entry: None,
        mean_labels: float = 500_000.0,
    ) -> None:
        self.recipe, self.path, self.overrides, self.workspace = recipe, path, overrides, workspace
        self.told, self.mean_labels = told, mean_labels
        self.registry = Registry(workspace)
        self.journal = Journal(workspace, recipe.name)
        self.state: State = state_of(self.journal)
        self.memory = Memory(place=self.journal.folder / "memory.json")
        self._told_until = max((entry.at for entry in self.journal), default=0.0)
        self._sides: dict[int, Side] = {}
        self._errors: Errors | None = None
        self._feed: Feed | None = None
        self._shifted = False
        self._errors_of = 0
        self._trial: Trial | None = None
        self._trial_errors: Errors | None = None
        self._probation: Trial | None = None
        self._trainer: subprocess.Popen[bytes] | None = None
        self._started, self._starts = Path(), 0
        self._tried: set[tuple[str, int]] = set()
        self._proved: set[tuple[str, int]] = set()

    @property
    def name(self) -> str:
        """The registered name."""
        return self.recipe.name

    def note(self, now: float, what: str, **data: Any) -> None:
        """Writes a line of the journal, then acts as if it had always been there."""
        entry = self.journal.write(now, what, **data)
        self.state = after(self.state, entry)
        self.told(entry)

    def turn(self, now: float, asked_by_hand: bool = False) -> bool:
        """One look at what came since the last; whether a run could be decided upon, since none was under way."""
        self._follow(now)
        store = self._store()
        if store is not None:
            self._watch_feed(now, store)
            self._champion_errors()
            self._watch(now, self.memory.take(store, now))
            self._on_probation(now)
        if self.state.phase == "training":
            self._await(now)
        if self.state.phase == "trial":
            self._try(now)
        free = self.state.phase in ("watching", "collecting")
        if free:
            self._decide(now, asked_by_hand)
        return free

    def close(self) -> None:
        """Ends a run that is under way; the loop that comes next begins it again, with what it had made."""
        if self._trainer is not None and self._trainer.poll() is None:
            self._trainer.terminate()
            try:
                self._trainer.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._trainer.kill()
                self._trainer.wait()

    def _store(self) -> Records | None:
        """The records of the service, None while nothing was asked."""
        place = self.recipe.serve.record_store
        try:
            return Records.open(expand(place) if place else self.name, self.workspace)
        except KeepfitError as error:
            if error.code == "no_records":
                return None
            raise

    def _watch_feed(self, now: float, store: Records) -> None:
        """Windows of inputs: broken feeds are kept out of training, a shifted world asks for a challenger, once a champion."""
        if self._feed is None or self._feed.sha256 != self._side(self.state.champion).version.sha256:
            side = self._side(self.state.champion)
            self._feed = Feed(side.bundle, side.version.sha256, self.recipe.monitor, self.state.champion_since)
        for seen in self._feed.look(store, now):
            self._judge(now, seen)

    def _judge(self, now: float, seen: Seen) -> None:
        known = any(one.since <= seen.since < one.until for one in self.state.quarantines)
        if seen.report.kind == "bug" and not known:
            evidence = seen.as_json()
            why = "; ".join(evidence["why"])[:500]
            self.note(now, "quarantined", since=seen.since, until=seen.until, why=why, seen=evidence)
        stale = self.state.changed_at is None or self.state.changed_at < self.state.champion_since
        wanted = "drift" in self.recipe.retrain.when and self.state.phase == "watching" and stale
        twice, self._shifted = self._shifted, seen.report.kind == "shift"
        if self._shifted and twice and wanted and not self.state.previous:
            self.note(now, "changed", trigger="drift", changed_at=seen.since, seen=seen.as_json())

    def _is_broken(self, now: float) -> bool:
        """Whether the rows that wait for their window to fill show a fault: they are judged before they are learned from."""
        rest = self._feed.rest() if self._feed is not None else None
        if rest is None or rest.report.kind != "bug":
            return False
        self._judge(now, rest)
        return True

    def _follow(self, now: float) -> None:
        """The champion may have been moved by other hands, which puts it on probation against the one before."""
        champion, intent = self.registry.pointer(self.name).aliases[CHAMPION], self.state.intent
        if champion == self.state.champion:
            return
        if intent is not None and (intent["version"], intent["before"]) == (champion, self.state.champion):
            store = self._store()
            if store is not None and not self.memory.rows:
                self.memory.take(store, now)  # an incident has the rows that it is about
            self._done(now, intent)  # a crash came between the move and its line
        else:
            self.note(now, "champion", version=champion, before=self.state.champion)

    def _champion_errors(self) -> Errors:
        """The watch of the present champion; a loop that was restarted shows it the labels of before first."""
        champion = self.state.champion
        if self._errors is not None and self._errors_of == champion:
            return self._errors
        side = self._side(champion)
        made = errors_of(side.bundle, self.mean_labels, self.state.shown, self.recipe.retrain.rise)
        known = [row for row in self.memory.since(self.state.champion_since) if row.sha256 == side.version.sha256]
        if known:
            made.take(known)
        self._errors, self._errors_of = made, champion
        return made

    def _side(self, version: int) -> Side:
        if version not in self._sides:
            self._sides = {
                one: side for one, side in self._sides.items() if one in (self.state.champion, self.state.previous)
            }
            self._sides[version] = Side.open(self.registry.get(self.name, version))
        return self._sides[version]

    def _watch(self, now: float, fresh: list[Labelled]) -> None:
        """Errors of the champion's own answers; an alarm is acted upon while nothing else is under way."""
        errors = self._champion_errors()
        sha256 = self._side(self.state.champion).version.sha256
        own = [row for row in fresh if row.sha256 == sha256 and not self.state.quarantined(row.at)]
        errors.take([row for row in own if row.labelled_at <= self._told_until])  # what rang then is in the journal
        found = errors.take([row for row in own if row.labelled_at > self._told_until])
        if not found or "accuracy" not in self.recipe.retrain.when:
            return
        if found["error_after"] - found["error_before"] < self.recipe.retrain.rise:
            errors.expect(watch_of(found["error_after"] * found["labels"], found["labels"]))
            self.note(now, "tolerated", **found)
        elif self.state.phase == "watching" and not self._rolled_back(now):
            self.note(now, "changed", trigger="accuracy", **found)

    def _decide(self, now: float, asked_by_hand: bool) -> None:
        """Whether another run is worth it, and from which rows."""
        rows = [row for row in self.memory.rows if not self.state.quarantined(row.at)]
        wanted = decide(self.recipe.retrain, self.state, rows, now, asked_by_hand)
        if isinstance(wanted, Plan) and self._is_broken(now):
            return
        harm = None
        if isinstance(wanted, Plan) and self.state.phase == "collecting" and not asked_by_hand:
            harm = self._champion_errors().harm(self._own(wanted))
            small = harm is not None and harm["error_after"] - harm["error_before"] < self.recipe.retrain.rise
            if self.state.trigger == "drift" and small:
                self.note(now, "tolerated", trigger="drift", **(harm or {}))
                return
            if worth(self.recipe.retrain, harm) is not None:
                return
        if isinstance(wanted, Wait) and asked_by_hand:
            self.note(now, "waiting", why=wanted.why)
        if isinstance(wanted, Plan):
            number = next_attempt(self.journal)
            folder = self.journal.folder / "attempts" / f"{number:04d}"
            asked = Asked(
                str(self.path.resolve()),
                self.overrides,
                str(self.workspace.resolve()),
                self.name,
                self.state.champion,
                kinds_of(self.recipe.retrain.strategy, self.recipe, self.state.changed_at is not None),
                self.recipe.retrain.memory,
                self.recipe.seed,
            )
            attempt = Attempt.write(folder, asked, wanted.train, wanted.holdout, wanted.past)
            said = {"attempt": number, "rows": wanted.rows, "until": wanted.until, "why": wanted.why}
            self.note(now, "retrain", **said, kinds=asked.kinds, **({"harm": harm} if harm else {}))
            self._train(now, attempt)

    def _train(self, now: float, attempt: Attempt) -> None:
        """Starts the process unless one is at work or about to be; one that dies again and again is given up."""
        if attempt.running or (self._trainer is not None and self._trainer.poll() is None):
            return
        self._starts = self._starts + 1 if self._started == attempt.folder else 1
        self._started = attempt.folder
        if attempt.result() is None and self._starts > _MOST_STARTS:
            why = f"its process ended {_MOST_STARTS} times without a result; see {attempt.folder / LOG}"
            self.note(now, "failed", attempt=self.state.attempt, why=why)
        elif attempt.result() is None:
            self._trainer = attempt.start()

    def _own(self, plan: Plan) -> list[Labelled]:
        """The rows of a plan that the present champion answered."""
        sha256 = self._side(self.state.champion).version.sha256
        return [row for row in (*plan.train, *plan.holdout) if row.sha256 == sha256]

    def _await(self, now: float) -> None:
        """The process that trains ends, or was killed and is started again: what it had made is kept."""
        attempt = Attempt(self.journal.folder / "attempts" / f"{self.state.attempt:04d}")
        result = attempt.result()
        if result is None:
            self._train(now, attempt)
            return
        if not result.version:
            self.note(now, "failed", attempt=self.state.attempt, why=result.error)
        elif result.version == self.state.champion:
            self.note(now, "refused", version=result.version, reasons=["it is the champion itself"])
        else:
            held = len(attempt.rows("holdout"))
            more = {"forgotten": result.forgotten, "faults": result.error} if result.forgotten or result.error else {}
            said = {"version": result.version, "kind": result.kind, "scores": result.scores, "holdout": held}
            self.note(now, "challenger", **said, **more)

    def _try(self, now: float) -> None:
        """Challenger against champion on labels that came after the challenger's rows."""
        challenger = self.registry.get(self.name, self.state.challenger)
        champion = self._side(self.state.champion)
        rows = [
            row
            for row in self.memory.rows
            if row.labelled_at > self.state.trained_until and not self.state.quarantined(row.at)
        ]
        if self._trial is None or self._trial.challenger.version.version != challenger.version:
            looked = examine(challenger, champion, rows[-200:] or self.memory.rows[-200:], self.recipe.retrain.gate)
            if not looked.passed:
                self._refuse(now, looked)
                return
            slices = self.recipe.evaluate.slices
            self._trial = Trial(self._side(challenger.version), champion, self.recipe.retrain.gate, slices)
            self._trial_errors = self._promised()
            self._tried = set()
        new = [row for row in rows if (row.request_id, row.row) not in self._tried]
        self._tried |= {(row.request_id, row.row) for row in new}
        for start in range(0, len(new), 20):  # looked at often, so that no more is seen than is needed
            self._trial.add(new[start : start + 20])
            verdict = self._trial.verdict()
            if verdict.passed is None and self._trial_errors is not None:
                moved = self._trial_errors.see(self._trial.wrong)
                if moved:  # it no longer does what it did on its hold-out: the world has moved on
                    self.note(now, "changed", trigger="challenger", **moved)
                    verdict = Verdict(False, ("the world has changed again since it was trained",), verdict.evidence)
            if verdict.passed is not None:
                self._promote(now, verdict) if verdict.passed else self._refuse(now, verdict)
                return

    def _promised(self) -> Errors | None:
        """A watch for what the challenger did on its hold-out, None where that is not known."""
        errors, labels = self.state.promised
        rise = self.recipe.retrain.rise
        return Errors(watch_of(errors, labels), _TRIAL_LABELS, rise=rise) if labels else None

    def _promote(self, now: float, verdict: Verdict) -> None:
        before, version = self.state.champion, self.state.challenger
        self._trial = None
        self.note(now, "intends", move="promote", version=version, before=before, evidence=verdict.evidence)
        try:
            self.registry.promote(self.name, version, why="proved better than the champion", expect=before)
        except KeepfitError as error:
            if error.code != "alias_moved":
                raise
            self.note(now, "refused", version=version, reasons=["another champion was promoted meanwhile"])
            return
        self._done(now, self.state.intent or {})

    def _done(self, now: float, intent: Mapping[str, Any]) -> None:
        """The line, and for a roll-back the incident file, of a move that has been made."""
        version, before, evidence = intent["version"], intent["before"], intent["evidence"]
        if intent["move"] == "promote":
            self.note(now, "promoted", version=version, before=before, evidence=evidence)
            return
        sha256, errors = self._side(before).version.sha256, self._champion_errors()
        answered = [row for row in self.memory.since(self.state.promoted_at) if row.sha256 == sha256]
        wrong = [row for row in answered if errors.wrong(row)]
        place = incidents.write(self.journal.folder, now, self.name, before, version, evidence, wrong)
        self.note(now, "rolled_back", version=version, worse=before, evidence=evidence, incident=str(place.name))

    def _refuse(self, now: float, verdict: Verdict) -> None:
        version, self._trial = self.state.challenger, None
        if self.registry.pointer(self.name).aliases.get(CHALLENGER) == version:
            self.registry.release(self.name, CHALLENGER, why="refused")
        self.note(now, "refused", version=version, reasons=list(verdict.reasons), evidence=verdict.evidence)

    def _on_probation(self, now: float) -> None:
        """The champion before against the present one, on the labels since the promotion."""
        state, section = self.state, self.recipe.retrain.gate
        if not state.previous or not section.probation:
            return
        pair = (state.previous, state.champion)
        trial = self._probation
        if trial is None or (trial.challenger.version.version, trial.champion.version.version) != pair:
            bounds = section.model_copy(update={"labels": section.probation, "class_floor": 1.0})
            trial = self._probation = Trial(self._side(pair[0]), self._side(pair[1]), bounds)
            self._proved = set()
        new = [row for row in self.memory.since(state.promoted_at) if (row.request_id, row.row) not in self._proved]
        self._proved |= {(row.request_id, row.row) for row in new}
        for start in range(0, len(new), 20):
            trial.add(new[start : start + 20])
            verdict = trial.verdict()
            if verdict.passed:
                self._roll_back(now, verdict)
                return
            if verdict.passed is False:
                self.note(now, "settled", version=state.champion, evidence=verdict.evidence)
                return

    def _roll_back(self, now: float, verdict: Verdict) -> None:
        worse, back = self.state.champion, self.state.previous
        self.note(now, "intends", move="roll back", version=back, before=worse, evidence=verdict.evidence)
        self.registry.promote(self.name, back, why="the one after it was worse on live labels", expect=worse)
        self._done(now, self.state.intent or {})

    def _rolled_back(self, now: float) -> bool:
        """Errors of a champion on probation are first a reason to take it back."""
        before = self.state.champion
        self._on_probation(now)
        return self.state.champion != before
