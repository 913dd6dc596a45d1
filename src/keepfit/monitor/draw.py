"""Pictures of the report as SVG, by hand: two distributions side by side, and accuracy over time. No drawing library."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.monitor.features import Feature

Floats = NDArray[np.float64]
BEFORE, NOW, KINDS = (
    "#8aa1b4",
    "#c2410c",
    {"none": "#cfd8df", "bug": "#7c3aed", "shift": "#c2410c", "accuracy": "#b91c1c"},
)
_WIDE, _HIGH, _LEFT, _BASE = 560, 190, 8, 150


def esc(text: object) -> str:
    """Text made harmless for HTML."""
    shown = "".join(mark if mark.isprintable() else " " for mark in str(text))
    return html.escape(shown, quote=True)


def distributions(feature: Feature, tally: Floats) -> str:
    """Shares of each bin in the reference and in the window, missing and unreadable cells at the end."""
    names, before, now = _columns(feature, tally)
    top = max(float(before.max()), float(now.max()), 1e-9)
    step = (_WIDE - 2 * _LEFT) / len(names)
    bars, texts = [], []
    for place, name in enumerate(names):
        x = _LEFT + place * step
        for share, colour, offset in ((before[place], BEFORE, 0.08), (now[place], NOW, 0.5)):
            tall = share / top * (_BASE - 20)
            bars.append(
                f'<rect x="{x + offset * step:.1f}" y="{_BASE - tall:.1f}" width="{0.42 * step:.1f}" height="{tall:.1f}" '
                f'fill="{colour}"><title>{esc(name)}: {share:.1%}</title></rect>'
            )
        shown = name if len(name) <= 12 else name[:11] + "…"
        if len(names) <= 12 or place % 2 == 0:
            at = x + step / 2
            texts.append(
                f'<text x="{at:.1f}" y="{_BASE + 10}" transform="rotate(35 {at:.1f} {_BASE + 10})">{esc(shown)}</text>'
            )
    label = f"{feature.name}: shares in the reference (grey) and in the window (orange)"
    return _svg(label, "".join((*bars, *texts)), _HIGH + 20)


def _columns(feature: Feature, tally: Floats) -> tuple[list[str], Floats, Floats]:
    counts = np.vstack([feature.counts, tally])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if feature.edges is None:
        named = feature.bins - 1 - feature.groups
        names = [*feature.values[:named], *(["less frequent"] if feature.groups else []), "rare or unknown"]
        parts = [shares[:, n] for n in range(named)]
        parts += [shares[:, named : named + feature.groups].sum(1)] if feature.groups else []
        parts.append(shares[:, feature.bins - 1])
    else:
        ends = feature.edges
        keep = [n for n in range(feature.bins) if shares[:, n].sum() > 0]
        names = [f"over {ends[-1]:.4g}" if n == len(ends) else f"to {ends[n]:.4g}" for n in keep]
        parts = [shares[:, n] for n in keep]
        if 0 in keep:
            names[0] = f"under {ends[0]:.4g}"
    for place, name in ((-2, "missing"), (-1, "unreadable")):
        if shares[:, place].sum() > 0:
            names.append(name)
            parts.append(shares[:, place])
    both = np.array(parts)
    return names, both[:, 0], both[:, 1]


def over_time(
    estimated: Sequence[tuple[float, float, float, bool] | None],
    labelled: Sequence[float | None],
    kinds: Sequence[str],
    held: float | None = None,
) -> str:
    """Estimated accuracy with its interval, labelled accuracy as dots, that on `held` out rows as a dashed line, and a mark for
    each window that rang."""
    known = [held] if held is not None else []
    known += [v for one in estimated if one for v in one[:3]] + [v for v in labelled if v is not None]
    low = max(min(known, default=0.0) - 0.03, 0.0)
    high = min(max(known, default=1.0) + 0.03, 1.0)
    step = (_WIDE - 60) / max(len(kinds), 1)

    def y(value: float) -> float:
        return 20 + (high - value) / max(high - low, 1e-9) * 120

    parts = [f'<text x="2" y="{y(v) + 4:.0f}">{v:.0%}</text>' for v in (low, (low + high) / 2, high) if known]
    if held is not None:
        parts.append(
            f'<line x1="45" x2="{_WIDE - 15}" y1="{y(held):.1f}" y2="{y(held):.1f}" stroke="#52606d" stroke-dasharray="4 3"/>'
        )
    for place, kind in enumerate(kinds):
        x = 45 + place * step
        parts.append(
            f'<rect x="{x:.1f}" y="150" width="{max(step - 0.5, 0.6):.1f}" height="14" fill="{KINDS[kind]}"><title>window {place + 1}: {kind}</title></rect>'
        )
        one = estimated[place]
        if one:
            value, least, most, trusted = one
            shade = "#2563eb" if trusted else "#9ca3af"
            parts.append(
                f'<rect x="{x:.1f}" y="{y(most):.1f}" width="{step:.1f}" height="{y(least) - y(most):.1f}" fill="{shade}" opacity=".25"/>'
            )
            parts.append(f'<rect x="{x:.1f}" y="{y(value) - 1:.1f}" width="{step:.1f}" height="2" fill="{shade}"/>')
        seen = labelled[place]
        if seen is not None:
            parts.append(f'<circle cx="{x + step / 2:.1f}" cy="{y(seen):.1f}" r="2.5" fill="#111"/>')
    return _svg(
        "Accuracy over time: estimated (blue, grey where it is not to be trusted), labelled (dots); alarms below",
        "".join(parts),
        170,
    )


def line(values: Sequence[float | None]) -> str:
    """A figure by window, from zero up."""
    top = max((one for one in values if one is not None), default=0.0) or 1.0
    step = (_WIDE - 60) / max(len(values), 1)
    parts = [f'<text x="2" y="{20 + (1 - share) * 70 + 4:.0f}">{share * top:.3g}</text>' for share in (0.0, 0.5, 1.0)]
    for place, one in enumerate(values):
        if one is not None:
            tall = max(one / top * 70, 0.5)
            parts.append(
                f'<rect x="{45 + place * step:.1f}" y="{90 - tall:.1f}" width="{max(step - 0.5, 0.6):.1f}" height="{tall:.1f}" '
                f'fill="{BEFORE}"><title>window {place + 1}: {one:.4g}</title></rect>'
            )
    return _svg("a figure by window", "".join(parts), 100)


def _svg(label: str, body: str, high: int) -> str:
    return f'<svg viewBox="0 0 {_WIDE} {high}" role="img" aria-label="{esc(label)}"><g>{body}</g></svg>'
