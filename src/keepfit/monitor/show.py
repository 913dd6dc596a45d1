"""Chapters of the monitor's report as HTML: what came, one alarm with its pictures and rows, slices, every window that rang."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keepfit.core.errors import DataError
from keepfit.monitor import draw
from keepfit.monitor.check import Report
from keepfit.monitor.describe import describe
from keepfit.monitor.draw import esc
from keepfit.monitor.profile import Profile, outputs_of
from keepfit.monitor.records import Records
from keepfit.runtime.pictures import decode

_ROWS, _PICTURES, _SIDE = 5, 3, 160
_KEY = (
    f'<p class="key"><small><b style="background:{draw.BEFORE}"></b>reference<b style="background:{draw.NOW}"></b>{{}}'
    "</small></p>"
)


def heading(kind: str, start: int, end: int, span: Sequence[str], why: Sequence[str]) -> str:
    """The opening of a section about an alarm, which the caller closes."""
    when = f", {esc(span[0])} to {esc(span[1])}" if span[0] else ""
    reasons = "".join(f"<li>{esc(reason)}</li>" for reason in why[:6])
    if len(why) > 6:
        reasons += f"<li>and {len(why) - 6} more</li>"
    return (
        f'<section><h3><span class="kind" style="background:{draw.KINDS[kind]}">{kind}</span> rows {start:,} to '
        f"{end - 1:,}{when}</h3><ul>{reasons}</ul>"
    )


def alarm(profile: Profile, report: Report, window: Records, span: Sequence[str]) -> str:
    """Why a window rang, both distributions of the clearest features, and the rows that show it."""
    figures = "".join(
        f"<h3>{esc(name)}</h3>{draw.distributions(profile.by_name[name], report.tallies[name])}"
        for name in report.features[:_PICTURES]
        if name in report.tallies
    )
    opening = heading(report.kind, report.start, report.end, span, report.why)
    key = _KEY.format("this window") if figures else ""
    return f"{opening}{key}{figures}{_examples(profile, report, window)}</section>"


def _examples(profile: Profile, report: Report, window: Records) -> str:
    """Rows of the bins of the first feature that grew most."""
    name = next((one for one in report.features if one in report.tallies), None)
    feature = profile.by_name.get(name or "")
    if feature is None or not window.table.columns:
        return ""
    rows = next((np.flatnonzero(fault.rows) for fault in report.faults if fault.name == name), None)
    if rows is None:
        rows = _grown(profile, report, window, name or "")
    rows = rows[:_ROWS]
    if not len(rows):
        return ""
    pictures = [rule.name for rule in profile.rules if rule.kind == "image" and rule.name in window.table.columns]
    if pictures:
        shots = "".join(_shot(window.table.columns[pictures[0]][row], report.start + int(row)) for row in rows)
        return f'<p><small>Pictures that show it ({esc(name)}):</small></p><div class="shots">{shots}</div>'
    columns = [rule.name for rule in profile.rules if rule.name in window.table.columns]
    columns = sorted(columns, key=lambda column: column != feature.column)[:8]
    head = "".join(f"<th>{esc(column)}</th>" for column in columns)
    lines = "".join(
        f"<tr><td>{report.start + int(row):,}</td>"
        + "".join(f"<td>{_cell(window.table.columns[column][row])}</td>" for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<p><small>Rows that show it ({esc(name)}):</small></p><div class="scroll"><table><tr><th>row</th>{head}</tr>'
        f"{lines}</table></div>"
    )


def _cell(value: Any) -> str:
    return "<small>missing</small>" if value is None else esc(str(value)[:120])


def _grown(profile: Profile, report: Report, window: Records, name: str) -> Any:
    feature = profile.by_name[name]
    rules = [rule for rule in profile.rules if rule.name == feature.column]
    values = describe(window.table, rules, profile.lens)
    if window.scores is not None:
        values |= outputs_of(window.scores, profile.classes)
    before = feature.counts / max(feature.counts.sum(), 1.0)
    grown = int((report.tallies[name] / max(len(window), 1) - before).argmax())
    return np.flatnonzero(feature.code(values[name]) == grown)


def _shot(data: Any, row: int) -> str:
    """A small copy of a picture inside the page."""
    from PIL import Image

    if not isinstance(data, bytes):
        return f"<figure><small>row {row:,}: no picture</small></figure>"
    try:
        picture = Image.fromarray(decode(data)[0])
    except DataError:
        return f"<figure><small>row {row:,}: cannot be read</small></figure>"
    picture.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    picture.save(held, "PNG")
    code = base64.b64encode(held.getvalue()).decode()
    return f'<figure><img alt="row {row:,}" src="data:image/png;base64,{code}"><br><small>row {row:,}</small></figure>'


def came(profile: Profile, windows: Sequence[Mapping[str, Any]], answers: Mapping[str, Any]) -> str:
    """What came: how much, how fast, how well formed, and what was answered."""
    if not windows:
        return ""
    lines = [("records", f"{sum(one['to'] - one['from'] for one in windows):,}")]
    first, last = windows[0]["span"][0], windows[-1]["span"][1]
    if first:
        lines.append(("from, to", f"{first} to {last}"))
    rates = [one["quality"].get("rows_per_s") for one in windows]
    if any(rate is not None for rate in rates):
        lines.append(("records a second", _range([rate for rate in rates if rate is not None])))
    served = [one["service"] for one in windows if one.get("service")]
    if served:
        lines.append(("requests a second", _range([one["requests_per_s"] for one in served])))
        lines.append(("requests that failed", f"{sum(one['errors'] for one in served):,}"))
    slow = [(one.get("service") or {}).get("latency_s") or one["quality"].get("latency_s") for one in windows]
    for name in ("p50", "p95", "p99"):
        known = [1000 * one[name] for one in slow if one and one[name] is not None]
        if known:
            lines.append((f"time to an answer, {name}, ms", _range(known)))
    labels = sum(one["labels"] for one in windows)
    lines.append(("labels that came", f"{labels:,}"))
    lines.append(("rows that could not be answered", f"{sum(one['quality']['not_answered'] for one in windows):,}"))
    absent = sorted({name for one in windows for name in one["quality"]["absent"]})
    if absent:
        lines.append(("columns that were not there", ", ".join(absent)))
    table = "".join(f"<tr><td>{esc(name)}</td><td>{esc(said)}</td></tr>" for name, said in lines)
    figures = ""
    if "prediction" in answers:
        feature = profile.by_name["prediction"]
        figures = f"<h3>Answers</h3>{_KEY.format('all windows')}{draw.distributions(feature, answers['prediction'])}"
    pace = ""
    if len([rate for rate in rates if rate is not None]) > 1:
        pace += f"<h3>Records a second, by window</h3>{draw.line(rates)}"
    p95 = [one["p95"] if one else None for one in slow]
    if len([one for one in p95 if one is not None]) > 1:
        milliseconds = [None if one is None else 1000 * one for one in p95]
        pace += f"<h3>Time to an answer, p95 in milliseconds, by window</h3>{draw.line(milliseconds)}"
    return f"<h2>What came</h2><table>{table}</table>{pace}{figures}"


def _range(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return f"{middle:.4g}" if len(values) == 1 else f"{middle:.4g} (by window {low:.4g} to {high:.4g})"


def slices(windows: Sequence[Mapping[str, Any]]) -> str:
    """Rows and labelled accuracy of each group that is followed, over all windows and in the last one."""
    whole: dict[tuple[str, str], list[float]] = {}
    for one in windows:
        for part in one["slices"]:
            sums = whole.setdefault((part["column"], part["group"]), [0.0, 0.0, 0.0])
            right = (part["accuracy"] or 0.0) * part["labels"]
            whole[part["column"], part["group"]] = [
                sums[0] + part["rows"],
                sums[1] + part["labels"],
                sums[2] + right,
            ]
    if not whole:
        return ""
    latest = {(part["column"], part["group"]): part["accuracy"] for part in windows[-1]["slices"]}
    lines = []
    for (column, group), (rows, labels, right) in sorted(whole.items(), key=lambda item: -item[1][0])[:40]:
        accuracy = f"{right / labels:.1%}" if labels else ""
        now = latest.get((column, group))
        lines.append(
            f"<tr><td>{esc(column)}</td><td>{esc(group)}</td><td>{rows:,.0f}</td><td>{labels:,.0f}</td><td>{accuracy}</td>"
            f"<td>{'' if now is None else f'{now:.1%}'}</td></tr>"
        )
    head = (
        "<tr><th>column</th><th>group</th><th>rows</th><th>labels</th><th>accuracy</th><th>in the last window</th></tr>"
    )
    return f'<h2>Slices</h2><div class="scroll"><table>{head}{"".join(lines)}</table></div>'


def table(windows: Sequence[Mapping[str, Any]]) -> str:
    """Every window that rang, the latest 200."""
    lines = []
    for window in [one for one in windows if one["alarm"]][-200:]:
        estimate = window["estimated_accuracy"]
        said = ""
        if estimate:
            doubt = "" if estimate["trusted"] else ", not trusted"
            said = f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%}){doubt}"
        seen = "" if window["labelled_accuracy"] is None else f"{window['labelled_accuracy']:.1%}"
        why = window["why"][0] if window["why"] else ", ".join(window["features"][:4])
        lines.append(
            f"<tr><td>{window['from']:,} to {window['to'] - 1:,}</td><td>{window['kind']}</td><td>{esc(why)}</td>"
            f"<td>{said}</td><td>{seen}</td></tr>"
        )
    if not lines:
        return ""
    head = "<tr><th>rows</th><th>kind</th><th>first reason</th><th>estimated accuracy</th><th>labelled</th></tr>"
    return f'<h2>Every window that rang</h2><div class="scroll"><table>{head}{"".join(lines)}</table></div>'
