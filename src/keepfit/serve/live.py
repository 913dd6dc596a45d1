"""The monitor of a running service: judges what is recorded, window by window and label by label, and says it as figures."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keepfit.core import atomic
from keepfit.monitor import Report, check
from keepfit.monitor.check import errors_in, labels_between
from keepfit.monitor.stored import answers_only, window_of
from keepfit.monitor.streams import step
from keepfit.serve.figures import ALL, MAX_FEATURES, MAX_GROUPS, OTHER
from keepfit.serve.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keepfit.store.records import Records, Row

BEHIND_S = 3.0
"""Records of answers reach the disk within this time; what is younger is left for the next look."""
LATE_S, LOOK_S = 120.0, 20.0
log = logging.getLogger("keepfit.monitor")


@dataclass(frozen=True)
class Truth:
    """A label that came: when its row was answered (Unix seconds), whether wrongly, and the row's cells that slices are of."""

    at: float
    wrong: bool
    cells: dict[str, str]


class Live:
    """Looks at the records of one service, again and again; `folder` gets figures.json, state.json and report.html.

    `service` gives figures of the service since it was last asked, None where it cannot be asked.
    """

    def __init__(
        self, records: Records, folder: Path, since: float, service: Callable[[], dict[str, Any] | None] = lambda: None
    ) -> None:
        self.records, self.folder, self.service = records, folder, service
        self.model: Watched | None = None
        self.since = self.labels_since = since
        self.skipped_s = 0.0
        self._rows: list[Row] = []
        self._edge: dict[
            tuple[str, int], float
        ] = {}  # judged rows of the last moment: its others wait for the next window
        self._known: dict[tuple[str, int], float] = {}
        self._labelled: dict[tuple[str, int], float] = {}
        self._truths: list[Truth] = []
        self._cut = False

    def follow(self, model: Watched) -> None:
        """Watch another model from here on; what was kept of this very version before is taken up again."""
        self.model, self._rows, self._truths = model, [], []
        try:
            state = json.loads((self.folder / "state.json").read_bytes())
            if state["sha256"] == model.sha256:
                model.resume(state)
                self.since, self.labels_since = float(state["since"]), float(state["labels_since"])
                self._known = {(name, int(row)): at for name, row, at in state["known"]}
                self._labelled = {(name, int(row)): at for name, row, at in state["labelled"]}
                self._truths = [Truth(float(at), bool(wrong), dict(cells)) for at, wrong, cells in state["truths"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            log.warning("what the monitor kept cannot be read, it begins anew: %r", error)

    def look(self, now: float) -> bool:
        """Judge what came; whether anything was said. Raises KeepfitError where the records cannot be read."""
        if self.model is None:
            return False
        told = self._look_at_rows(self.model, now)
        told = self._look_at_labels(self.model, now) or told
        self._write(self.model, now, told)
        return told

    def _look_at_rows(self, model: Watched, now: float) -> bool:
        begun, told = time.monotonic(), False
        if self._cut and now - self.since > LATE_S:
            self._skip(now)
        self._cut = False
        again = max(self.since, now - BEHIND_S - 1.0)
        known = {key: at for key, at in self._known.items() if at >= self.since}
        moment, latest = 0.0, dict[tuple[str, int], float]()  # rows of one moment: a request has many
        for row in self.records.rows(self.since, now - BEHIND_S):
            key = (row.request_id, row.row)
            if row.sha256 != model.sha256 or key in known:
                continue
            if row.at >= again:
                known[key] = row.at
            if row.at != moment:
                moment = row.at
                latest = {one: at for one, at in known.items() if at == row.at}
            latest[key] = row.at
            self._rows.append(row)
            if len(self._rows) == model.section.window:
                self._judge(model)
                told = True
            if time.monotonic() - begun > LOOK_S:
                again, known, self._cut = row.at, latest, True
                break
        self.since, self._known = again, known
        return told

    def _skip(self, now: float) -> None:
        """Records come faster than they can be judged: go on with those of this moment."""
        ahead = now - BEHIND_S - 1.0
        self.skipped_s += ahead - self.since
        self.since, self._rows = ahead, []

    def _judge(self, model: Watched) -> None:
        part, self._rows = self._rows, []
        last = part[-1].at
        self._edge = {key: at for key, at in self._edge.items() if at == last}
        self._edge |= {(row.request_id, row.row): last for row in part if row.at == last}
        start, model.judged = model.judged, model.judged + len(part)
        model.counts["rows"]["judged"] += len(part)
        if model.profile is None or model.story is None:
            model.counts["windows"]["none"] += 1
            return
        window = replace(
            window_of(model.profile, part, start), labels=None
        )  # those that came are taken with the others
        report = check(model.profile, window, model.section, labels_apart=True)
        model.story.add(report, window, self.service())
        model.windows.append((part[0].at, part[-1].at + 1e-3, model.story.windows[-1]))
        self._count(model, report)

    def _count(self, model: Watched, report: Report) -> None:
        model.counts["windows"][report.kind] += 1
        model.counts["rows"]["quarantined"] += len(report.quarantined)
        signs = [fault.sign for fault in report.faults] if report.kind == "bug" else []
        signs += ["absent"] * bool(report.quality["absent"]) + ["repeated"] * (report.quality["repeated"] > 0.5)
        model.counts["faults"].update(set(signs))
        for name in report.features:
            if name not in model.named and len(model.named) < MAX_FEATURES:
                model.named.append(name)
        score = {change.name: round(abs(change.log_p) / np.log(10), 3) for change in report.changes}
        rest = [value for name, value in score.items() if name not in model.named]
        shown = {name: score[name] for name in model.named if name in score} | {OTHER: max(rest, default=0.0)}
        estimate = report.estimate
        model.last = {
            "kind": report.kind,
            "score": shown,
            "score_limit": -report.log_level / np.log(10),
            "repeated_ratio": report.quality["repeated"],
            "slice_rows": {
                ALL: report.end - report.start,
                **{_group(part): part["rows"] for part in report.slices[:MAX_GROUPS]},
            },
        }
        if estimate is not None:
            bounds = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            model.last |= {"estimated_accuracy": bounds, "estimated_accuracy_trusted": float(estimate.trusted)}

    def _look_at_labels(self, model: Watched, now: float) -> bool:
        fresh = []
        for row in self.records.labelled(self.labels_since, now):
            key = (row.request_id, row.row)
            if row.sha256 == model.sha256 and key not in self._labelled:
                self._labelled[key] = float(row.labelled_at or now)
                fresh.append(row)
        self.labels_since = max(self.labels_since, now - 4 * BEHIND_S)
        self._labelled = {key: at for key, at in self._labelled.items() if at >= self.labels_since}
        self._truths += [Truth(row.at, self._wrong(model, row), self._cells(model, row)) for row in fresh]
        # errors of a broken feed are no finding of their own: a row's label waits until its window was judged
        judged = self._rows[0].at if self._rows else self.since
        ready = sorted((one for one in self._truths if one.at < judged), key=lambda one: one.at)
        self._truths = [one for one in self._truths if one.at >= judged]
        for one in ready:
            self._learn(model, one)
        return bool(ready)

    def _learn(self, model: Watched, truth: Truth) -> None:
        """The truth about one row: counted, watched, and put down at its window."""
        wrong = truth.wrong
        model.counts["labels"]["wrong" if wrong else "right"] += 1
        model.recent.append(wrong)
        while len(model.recent) > model.section.window:
            model.recent.popleft()
        if model.since_rang is not None:
            model.since_rang += 1
        said = next((one for since, until, one in reversed(model.windows) if since <= truth.at < until), None)
        if said is not None and model.story is not None:
            model.story.label(said, wrong, truth.cells)
        if model.watch is None or (said is not None and said["kind"] == "bug"):
            return
        seen, errors = model.watch.labels + 1, model.watch.errors + wrong
        model.watch, rang = step(model.watch, [wrong], labels_between(model.section))
        if rang:
            model.since_rang = 0
            held = f"{model.watch.rate:.1%}"
            why = f"errors: {errors} of the last {seen} labels, where at most {held} were expected of held-out rows"
            said = said or (model.story.windows[-1] if model.story is not None and model.story.windows else None)
            if model.story is not None and said is not None:
                model.story.rang(said, why)

    def _cells(self, model: Watched, row: Row) -> dict[str, str]:
        return {name: str((row.inputs or {}).get(name)) for name in model.section.slices}

    def _wrong(self, model: Watched, row: Row) -> bool:
        if model.profile is None:
            return bool(row.prediction != row.label)
        wrong, _ = errors_in(model.profile, window_of(answers_only(model.profile), [row]))
        return wrong[0] if wrong else bool(row.prediction != row.label)

    def figures(self, model: Watched, now: float) -> dict[str, Any]:
        """What the last looks showed, by the names of `keepfit.serve.figures`."""
        rang = model.since_rang is not None and model.since_rang < model.section.window
        alarm = {kind: float(model.last.get("kind") == kind) for kind in ("bug", "shift")} | {"accuracy": float(rang)}
        found = {**{name: dict(count) for name, count in model.counts.items()}, **model.last, "alarm": alarm}
        found |= {"looked_timestamp_seconds": round(now, 1), "skipped_seconds": round(self.skipped_s, 1)}
        if model.recent:
            found["labelled_accuracy"] = 1 - sum(model.recent) / len(model.recent)
        if model.profile is not None and model.profile.labels:
            found["held_out_accuracy"] = 1 - model.profile.errors / model.profile.labels
        newest = model.windows[-1][2]["estimated_accuracy"] if model.windows else None
        if newest is not None:  # labels may have shown since that it is off
            found["estimated_accuracy_trusted"] = float(newest["trusted"])
        latest = next((one for _, _, one in reversed(model.windows) if one["labels"]), None)
        if latest is not None:
            groups = {_group(part): part["accuracy"] for part in latest["slices"][:MAX_GROUPS] if part["labels"]}
            found["slice_accuracy"] = {ALL: latest["labelled_accuracy"], **groups}
        return found

    def _write(self, model: Watched, now: float, told: bool) -> None:
        figures = {"model": [model.name, model.version, model.sha256], **self.figures(model, now)}
        atomic.make_folder(self.folder)
        atomic.write_text(self.folder / "figures.json", json.dumps(figures, default=float))
        if not told:
            return
        since = self._rows[0].at if self._rows else self.since
        waiting = {(row.request_id, row.row) for row in self._rows}  # read again after a restart
        judged = {**{key: at for key, at in self._edge.items() if at >= since}, **self._known}
        known = [[*key, at] for key, at in judged.items() if key not in waiting]
        labelled = [[*key, at] for key, at in self._labelled.items()]
        looked: dict[str, Any] = {
            "since": since,
            "labels_since": self.labels_since,
            "known": known,
            "labelled": labelled,
        }
        looked["truths"] = [astuple(one) for one in self._truths]
        state = {**model.state(), **looked}
        atomic.write_text(self.folder / "state.json", json.dumps(state, default=float, ensure_ascii=False))
        if model.story is not None:
            atomic.write_text(self.folder / "report.html", model.story.html())
            said = json.dumps(model.story.as_json(), default=float, ensure_ascii=False, indent=1)
            atomic.write_text(self.folder / "windows.json", said)


def _group(part: Mapping[str, Any]) -> str:
    return f"{part['column']}={part['group']}"[:80]
