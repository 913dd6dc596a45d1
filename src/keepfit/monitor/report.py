"""The story of a monitored stream: what came, what changed, what rang and why; as JSON and as one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from keepfit.monitor import draw
from keepfit.monitor.check import Report
from keepfit.monitor.draw import esc
from keepfit.monitor.options import MonitorOptions
from keepfit.monitor.profile import Profile
from keepfit.monitor.records import Records

_SHOWN, _ROWS, _PICTURES = 12, 5, 3
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;margin:0}main{max-width:860px;margin:auto;padding:24px}
h1{font-size:26px;margin:0}h2{margin-top:34px;font-size:20px}h3{font-size:16px;margin:22px 0 4px}p.lead{font-size:18px}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #e4e9ed}
svg{width:100%;max-width:640px}svg text{font-size:9px;fill:#52606d}.kind{color:#fff;border-radius:3px;padding:0 7px;font-size:13px}
.key b{display:inline-block;width:11px;height:11px;margin:0 4px 0 12px}.scroll{overflow-x:auto}small{color:#52606d}"""


class Story:
    """Gathers the reports of the windows. Keeps figures of every window, pictures and rows of the first alarms only."""

    def __init__(self, profile: Profile, section: MonitorOptions, name: str, foreign: bool = False) -> None:
        self.profile, self.section, self.name, self.foreign = profile, section, name, foreign
        self.windows: list[dict[str, Any]] = []
        self.quarantine: list[list[Any]] = []
        self.spans: list[tuple[str, str]] = []
        self._alarms: list[str] = []
        self._seen: Counter[tuple[Any, ...]] = Counter()

    def add(self, report: Report, window: Records) -> None:
        """One more window."""
        self.windows.append(report.as_json())
        times = window.times
        self.spans.append((str(times[0]), str(times[-1])) if times is not None and len(times) else ("", ""))
        reason = "; ".join(fault.said for fault in report.faults) or "; ".join(report.why[:1])
        self.quarantine += [[row, reason] for row in report.quarantined]
        if report.alarm:
            key = (report.kind, report.features[:1])
            self._seen[key] += 1
            if self._seen[key] == 1 and len(self._alarms) < _SHOWN:
                self._alarms.append(self._alarm(report, window))

    @property
    def alarms(self) -> Counter[str]:
        """How many windows rang, by kind."""
        return Counter(window["kind"] for window in self.windows if window["alarm"])

    def as_json(self) -> dict[str, Any]:
        """`windows`, and how many rang."""
        return {"windows": self.windows, "alarms": dict(self.alarms), "quarantined": len(self.quarantine)}

    def html(self) -> str:
        """The report."""
        chapters = (self._head(), self._time(), self._rang(), self._changed(), self._table(), self._how())
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
        if not self.alarms:
            lead = f"All {len(self.windows)} windows are like the reference."
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
        held = (
            f" On held-out rows it was {1 - self.profile.errors / self.profile.labels:.1%}."
            if self.profile.labels and self.profile.classes
            else ""
        )
        return (
            f"<h2>Accuracy over time</h2>{draw.over_time(estimates, labelled, kinds)}"
            f'<p class="key"><small>Windows:{keys}. Bands are 90 % intervals of the accuracy that is estimated without labels, grey where it '
            f"is not to be trusted; dots are accuracies from labels.{held} Labels that come to mean something else cannot be seen without "
            "labels.</small></p>"
        )

    def _rang(self) -> str:
        return f"<h2>What rang, and why</h2>{''.join(self._alarms) or '<p>Nothing rang.</p>'}"

    def _alarm(self, report: Report, window: Records) -> str:
        why = "".join(f"<li>{esc(reason)}</li>" for reason in report.why[:6])
        span = self.spans[-1]
        when = f", {esc(span[0])} to {esc(span[1])}" if span[0] else ""
        figures = "".join(
            f"<h3>{esc(name)}</h3>{draw.distributions(self.profile.by_name[name], report.tallies[name])}"
            for name in report.features[:_PICTURES]
            if name in report.tallies
        )
        key = f'<p class="key"><small><b style="background:{draw.BEFORE}"></b>reference<b style="background:{draw.NOW}"></b>this window</small></p>'
        colour = draw.KINDS[report.kind]
        return (
            f'<section><h3><span class="kind" style="background:{colour}">{report.kind}</span> rows {report.start:,} to '
            f"{report.end - 1:,}{when}</h3><ul>{why}</ul>{key if figures else ''}{figures}{self._examples(report, window)}</section>"
        )

    def _examples(self, report: Report, window: Records) -> str:
        """Rows of the bins of the first feature that grew most."""
        name = next((one for one in report.features if one in report.tallies), None)
        feature = self.profile.by_name.get(name or "")
        if feature is None or not any(rule.kind != "image" for rule in self.profile.rules):
            return ""
        rows = next((np.flatnonzero(fault.rows) for fault in report.faults if fault.name == name), None)
        if rows is None:
            rows = self._grown(report, window, name or "")
        columns = [
            rule.name for rule in self.profile.rules if rule.kind != "image" and rule.name in window.table.columns
        ]
        columns = sorted(columns, key=lambda column: column != feature.column)[:8]
        if not columns or not len(rows):
            return ""
        head = "".join(f"<th>{esc(column)}</th>" for column in columns)
        lines = "".join(
            f"<tr><td>{report.start + int(row):,}</td>"
            + "".join(f"<td>{esc(str(window.table.columns[column][row])[:80])}</td>" for column in columns)
            + "</tr>"
            for row in rows[:_ROWS]
        )
        return f'<p><small>Rows that show it:</small></p><div class="scroll"><table><tr><th>row</th>{head}</tr>{lines}</table></div>'

    def _grown(self, report: Report, window: Records, name: str) -> Any:
        from keepfit.monitor.describe import describe
        from keepfit.monitor.profile import outputs_of

        feature = self.profile.by_name[name]
        values = describe(window.table, self.profile.rules, self.profile.lens)
        if window.scores is not None:
            values |= outputs_of(window.scores, self.profile.classes)
        before = feature.counts / max(feature.counts.sum(), 1.0)
        grown = int((report.tallies[name] / max(len(window), 1) - before).argmax())
        return np.flatnonzero(feature.code(values[name]) == grown)

    def _changed(self) -> str:
        often = Counter(name for window in self.windows for name in window["features"])
        if not often:
            return ""
        lines = "".join(f"<tr><td>{esc(name)}</td><td>{n}</td></tr>" for name, n in often.most_common(20))
        return f"<h2>Which features changed</h2><table><tr><th>feature</th><th>windows</th></tr>{lines}</table>"

    def _table(self) -> str:
        lines = []
        for window in [w for w in self.windows if w["alarm"]][:200]:
            estimate = window["estimated_accuracy"]
            said = (
                f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%}){'' if estimate['trusted'] else ', not trusted'}"
                if estimate
                else ""
            )
            seen = "" if window["labelled_accuracy"] is None else f"{window['labelled_accuracy']:.1%}"
            names = ", ".join(window["features"][:4])
            lines.append(
                f"<tr><td>{window['from']:,} to {window['to'] - 1:,}</td><td>{window['kind']}</td><td>{esc(names)}</td><td>{said}</td><td>{seen}</td></tr>"
            )
        if not lines:
            return ""
        head = "<tr><th>rows</th><th>kind</th><th>features</th><th>estimated accuracy</th><th>labelled</th></tr>"
        return f'<h2>Every window that rang</h2><div class="scroll"><table>{head}{"".join(lines)}</table></div>'

    def _how(self) -> str:
        return (
            "<h2>How it was judged</h2><p>Each feature is compared with the reference in exact tests of shares, ranks and gaps; the level "
            "is such that all of them together, over all windows, ring by chance as often as the budget says. A feed is called broken "
            "where its values are those of the reference but for a unit, an encoding, a swapped column, a constant or a gap; else a "
            f"change is called a shift. {len(self.profile.inputs)} features of {len(self.profile.rules)} columns were watched.</p>"
        )
