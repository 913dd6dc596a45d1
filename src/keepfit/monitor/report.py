"""The story of a monitored stream: what came, what changed, what rang and why; as JSON and as one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from keepfit.monitor import draw, show
from keepfit.monitor.accuracy import ENOUGH, contradicted
from keepfit.monitor.check import Report
from keepfit.monitor.draw import esc
from keepfit.monitor.options import MonitorOptions
from keepfit.monitor.profile import Profile
from keepfit.monitor.records import Records

_SHOWN = 12
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;margin:0}main{max-width:860px;margin:auto;padding:24px}
h1{font-size:26px;margin:0}h2{margin-top:34px;font-size:20px}h3{font-size:16px;margin:22px 0 4px}p.lead{font-size:18px}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #e4e9ed;vertical-align:top}
svg{width:100%;max-width:640px}svg text{font-size:9px;fill:#52606d}.kind{color:#fff;border-radius:3px;padding:0 7px;font-size:13px}
.key b{display:inline-block;width:11px;height:11px;margin:0 4px 0 12px}.scroll{overflow-x:auto}small{color:#52606d}
.shots{display:flex;gap:10px;flex-wrap:wrap}.shots img{height:110px;border:1px solid #cfd8df}figure{margin:0}"""


class Story:
    """Gathers the reports of the windows: figures of each, pictures and rows of the alarms that began an episode.

    `most` bounds what is kept of a stream without end: the last windows, alarms and rows in quarantine.
    """

    def __init__(self, profile: Profile, section: MonitorOptions, name: str, most: int | None = None) -> None:
        self.profile, self.section, self.name, self.most = profile, section, name, most
        self.windows: list[dict[str, Any]] = []
        self.quarantine: list[list[Any]] = []
        self.tallies: dict[str, Any] = {}
        self.alarms_html: list[str] = []
        self.left_out = 0
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._episode: tuple[Any, ...] = ()

    def add(self, report: Report, window: Records, service: Mapping[str, Any] | None = None) -> None:
        """One more window; `service` are figures of the service that answered it."""
        times = window.times
        span = [str(times[0]), str(times[-1])] if times is not None and len(times) else ["", ""]
        said = report.as_json() | {"span": span} | ({"service": dict(service)} if service else {})
        self.windows.append(said)
        self._weigh(len(self.windows) - 1)
        for name in ("prediction", "confidence"):
            if name in report.tallies:
                self.tallies[name] = self.tallies.get(name, 0.0) + report.tallies[name]
        reason = "; ".join(fault.said for fault in report.faults) or "; ".join(report.why[:1])
        self.quarantine += [[row, reason] for row in report.quarantined]
        key = (report.kind, report.features[:1])
        if report.alarm and key != self._episode:
            self._seen[key] += 1
            if self.most or self._seen[key] == 1:
                self._tell(show.alarm(self.profile, report, window, span))
        self._episode = key
        if self.most:
            del self.windows[: -self.most], self.quarantine[: -self.most * 50]

    def label(self, said: dict[str, Any], wrong: bool, cells: Mapping[str, Any]) -> None:
        """The truth about a row of a window that was added before."""
        said["labels"] += 1
        said["errors"] += wrong
        said["labelled_accuracy"] = round(1 - said["errors"] / said["labels"], 4)
        for part in said["slices"]:
            if str(cells.get(part["column"])) == part["group"]:
                right = round((part["accuracy"] or 0.0) * part["labels"]) + (not wrong)
                part["labels"] += 1
                part["accuracy"] = round(right / part["labels"], 4)

        at = next(place for place in reversed(range(len(self.windows))) if self.windows[place] is said)
        for place in {at, len(self.windows) - 1}:
            self._weigh(place)

    def _weigh(self, place: int) -> None:
        """An estimate is not trusted where labels of its window, or the last labels before it, show that it is off."""
        said = self.windows[place]["estimated_accuracy"]
        if said is None or not said["trusted"]:
            return
        labelled = (one for one in reversed(self.windows[: place + 1]) if one["labels"] >= ENOUGH)
        latest = next(labelled, None)
        if latest is None or latest["estimated_accuracy"] is None:
            return
        if contradicted(latest["estimated_accuracy"], latest["labels"], latest["errors"]):
            own = latest is self.windows[place]
            seen = latest["labelled_accuracy"]
            said |= {"trusted": False, "why": f"{'its labels' if own else 'the labels before it'} show {seen:.1%}"}

    def rang(self, said: dict[str, Any], why: str) -> None:
        """Labels that came after a window was judged show more errors than there were on held-out rows."""
        if said["kind"] == "none":
            said |= {"kind": "accuracy", "alarm": True}
        said["why"] = [*said["why"], why]
        self._tell(show.heading("accuracy", said["from"], said["to"], said["span"], [why]) + "</section>")

    def _tell(self, text: str) -> None:
        if self.most:
            self.alarms_html = [*self.alarms_html, text][-_SHOWN:]
        elif len(self.alarms_html) < _SHOWN:
            self.alarms_html.append(text)
        else:
            self.left_out += 1

    @property
    def alarms(self) -> Counter[str]:
        """How many windows rang, by kind."""
        return Counter(window["kind"] for window in self.windows if window["alarm"])

    def as_json(self) -> dict[str, Any]:
        """`windows`, and how many rang."""
        return {"windows": self.windows, "alarms": dict(self.alarms), "quarantined": len(self.quarantine)}

    def state(self) -> dict[str, Any]:
        """All that `resume` needs, as JSON."""
        tallies = {name: [float(n) for n in tally] for name, tally in self.tallies.items()}
        return {
            "windows": self.windows,
            "alarms": self.alarms_html,
            "quarantine": self.quarantine,
            "answers": tallies,
            "episode": [self._episode[0], list(self._episode[1])] if self._episode else [],
        }

    def resume(self, raw: Mapping[str, Any]) -> None:
        """Go on where `state` was given."""
        self.windows, self.alarms_html, self.quarantine = list(raw["windows"]), list(raw["alarms"]), raw["quarantine"]
        self.tallies = {name: np.array(tally, np.float64) for name, tally in raw["answers"].items()}
        self._episode = (raw["episode"][0], tuple(raw["episode"][1])) if raw["episode"] else ()

    def html(self) -> str:
        """The report."""
        chapters = (
            self._head(),
            self._time(),
            show.came(self.profile, self.windows, self.tallies),
            self._rang(),
            self._changed(),
            show.slices(self.windows),
            show.table(self.windows),
            self._how(),
        )
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{esc(self.name)} · Keepfit monitor</title><style>{_STYLE}</style></head><body><main>"
            + "".join(chapters)
            + "<footer><small>Made by Keepfit. This file needs no network and runs no script.</small></footer></main></body></html>\n"
        )

    def _head(self) -> str:
        rows = sum(window["to"] - window["from"] for window in self.windows)
        rang = ", ".join(f"{n} {kind}" for kind, n in self.alarms.most_common()) or "none"
        expected = self.section.rate * len(self.windows)
        lead = f"{sum(self.alarms.values())} of {len(self.windows)} windows rang: {rang}."
        if not self.windows:
            lead = f"No window is full yet: {self.section.window} records make one."
        elif not self.alarms:
            one = len(self.windows) == 1
            lead = (
                "The only window is like the reference."
                if one
                else f"All {len(self.windows)} windows are like the reference."
            )
        more = (
            f"{len(self.quarantine):,} rows are in quarantine: they show a broken feed and are not to be learned from. "
            if self.quarantine
            else ""
        )
        return (
            f'<h1>{esc(self.name)}</h1><p class="lead">{lead}</p><p>{rows:,} records in windows of {self.section.window}. {more}'
            f"By the budget of {esc(self.section.false_alarms)}, {expected:.2g} false alarms are expected here.</p>"
        )

    def _time(self) -> str:
        estimates = [
            (e["value"], e["low"], e["high"], e["trusted"]) if (e := window["estimated_accuracy"]) else None
            for window in self.windows
        ]
        labelled = [window["labelled_accuracy"] for window in self.windows]
        kinds = [window["kind"] for window in self.windows]
        keys = "".join(f'<b style="background:{colour}"></b>{kind}' for kind, colour in draw.KINDS.items())
        held = None
        if self.profile.labels:
            held = 1 - self.profile.errors / self.profile.labels
        meaning = (
            ""
            if self.profile.classes
            else (
                f" An answer counts as right where it is off by at most {self.profile.large:.4g}, as nine in ten held-out answers were."
            )
        )
        base = "" if held is None else f" On {self.profile.labels:,} held-out rows it was {held:.1%} (dashed)."
        if not any(estimates) and not any(one is not None for one in labelled):
            why = "no labels came, and the reference knows of no errors to estimate from"
            return f'<h2>Windows over time</h2>{draw.over_time(estimates, labelled, kinds, None)}<p class="key"><small>Windows:{keys}. Accuracy is not known: {why}.</small></p>'
        return (
            f"<h2>Accuracy over time</h2>{draw.over_time(estimates, labelled, kinds, held)}"
            f'<p class="key"><small>Windows:{keys}. Bands are 90 % intervals of the accuracy that is estimated without labels, grey where it '
            f"is not to be trusted; dots are accuracies from labels.{base}{meaning} Labels that come to mean something else cannot be seen "
            "without labels.</small></p>"
        )

    def _rang(self) -> str:
        more = f"<p>{self.left_out} more kinds of alarm are in the table below.</p>" if self.left_out else ""
        return f"<h2>What rang, and why</h2>{''.join(self.alarms_html) or '<p>Nothing rang.</p>'}{more}"

    def _changed(self) -> str:
        often = Counter(name for window in self.windows for name in window["features"])
        if not often:
            return ""
        lines = "".join(f"<tr><td>{esc(name)}</td><td>{n}</td></tr>" for name, n in often.most_common(20))
        return f"<h2>Which features changed</h2><table><tr><th>feature</th><th>windows</th></tr>{lines}</table>"

    def _how(self) -> str:
        columns = len(self.profile.rules)
        watched = f"{len(self.profile.inputs)} features of {columns} column{'s' if columns != 1 else ''} were watched."
        if not columns:
            watched = "Only what the model answers was watched: no inputs are recorded."
        return (
            "<h2>How it was judged</h2><p>Each feature is compared with the reference in exact tests of shares, ranks and gaps; the level "
            "is such that all of them together, over all windows, ring by chance as often as the budget says. A feed is called broken "
            "where its values are those of the reference but for a unit, an encoding, a swapped column, a constant or a gap; else a "
            f"change is called a shift. {watched}</p>"
        )
