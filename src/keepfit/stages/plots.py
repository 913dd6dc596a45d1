"""Pictures of a run: inline SVG whose text stays text and follows the page's colours, and PNG copies (matplotlib)."""

from __future__ import annotations

import html
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.tasks.task import class_name
from keepfit.tasks.wording import metric_text, number, percent, points, title

INK, MUTED, LINE, MAIN, OTHER = "#1b1f24", "#6b7281", "#d9dde3", "#2f6fde", "#d9731a"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", MAIN: "main", OTHER: "other"}
_SERIES = (MAIN, OTHER, "#2e9e6b", "#a14fc4", "#c43d52", "#1695a3", "#8a6d1f", "#7a7ff0", "#c25fa0", "#5f8f2f")
HALF = 4.8
_WIDTH, _SHOWN, _CELLS = 6.4, 20, 15
_CJK = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)


@dataclass(frozen=True)
class Picture:
    """A named drawing: `alt` says in words what it shows; `draw` fills axes of `height` inches."""

    name: str
    title: str
    alt: str
    draw: Callable[[Any], None]
    height: float = 3.6
    width: float = _WIDTH


def svg(picture: Picture) -> str:
    """The picture as an SVG element to place inside HTML: no prolog, no URL, ids of its own, colours from CSS."""
    with _style(picture):
        buffer = io.StringIO()
        _figure(picture).savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font, sans-serif)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    label = html.escape(picture.alt, quote=True)
    text = re.sub(
        r'(<svg) [^>]*?(viewBox="[^"]*")[^>]*>',
        rf'\1 \2 role="img" aria-labelledby="{picture.name}-alt">',
        text,
        count=1,
    )
    start = text.index(">") + 1
    return f'{text[:start]}<title id="{picture.name}-alt">{label}</title>{text[start:]}'


def png(picture: Picture, path: Path) -> Path:
    """The picture as a PNG file on white."""
    with _style(picture):
        figure = _figure(picture)
        figure.suptitle(picture.title, fontsize=10, color=INK)
        figure.savefig(path, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return path


@contextmanager
def _style(picture: Picture) -> Iterator[None]:
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in _CJK if name in installed)]
    style = {
        "svg.hashsalt": picture.name,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": fonts,
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "axes.unicode_minus": False,
    }
    log = logging.getLogger("matplotlib.font_manager")
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        log.addFilter(_other_than_weights)
        try:
            yield
        finally:
            log.removeFilter(_other_than_weights)


def _other_than_weights(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("findfont: Failed to find font weight")


def _figure(picture: Picture) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(picture.width, picture.height), layout="constrained")
    picture.draw(figure.add_subplot())
    return figure


def short(text: object, length: int = 28) -> str:
    """A label that fits: one line of printable characters, cut with an ellipsis."""
    flat = "".join(mark if mark.isprintable() else " " for mark in class_name(text))
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def confusion(classes: Sequence[Any], counts: Sequence[Sequence[int]]) -> Picture:
    """Rows are the truth, columns the answers; shade is the share of the row. At most 15 classes are drawn."""
    support = [sum(row) for row in counts]
    kept = sorted(sorted(range(len(classes)), key=lambda code: -support[code])[:_CELLS])
    labels = [short(classes[code], 16) for code in kept]

    def draw(axes: Any) -> None:
        for line, row in enumerate(kept):
            for place, column in enumerate(kept):
                share = counts[row][column] / max(support[row], 1)
                colour = MAIN if row == column else OTHER
                axes.bar(place, 0.94, 0.94, line - 0.47, color=colour, alpha=0.06 + 0.6 * share, linewidth=0)
                if len(kept) <= 8 or counts[row][column]:
                    words = f"{counts[row][column]:,}" + (f"\n{percent(share)}" if len(kept) <= 8 else "")
                    axes.text(place, line, words, ha="center", va="center", fontsize=9 if len(kept) <= 8 else 6.5)
        axes.set(
            xlim=(-0.5, len(kept) - 0.5), ylim=(len(kept) - 0.5, -0.5), xlabel="answer of the model", ylabel="truth"
        )
        tilt, anchor = (0, "center") if len(kept) <= 5 else (45, "right")
        axes.set_xticks(range(len(kept)), labels, rotation=tilt, ha=anchor)
        axes.set_yticks(range(len(kept)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    right = sum(counts[code][code] for code in range(len(classes)))
    more = f" The {len(kept)} most frequent of {len(classes)} classes." if len(kept) < len(classes) else ""
    alt = f"Confusion matrix: the {right:,} of {sum(support):,} answers on the diagonal are right.{more}"
    return Picture("confusion", "Truth and answers", alt, draw, min(2.0 + 0.55 * len(kept), 7))


def roc(curves: Sequence[dict[str, Any]], area: float | None) -> Picture:
    """True against false positives."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="guessing")
        for curve, colour in zip(curves, _SERIES, strict=False):
            axes.plot(
                curve["roc"]["false_positive_rate"],
                curve["roc"]["true_positive_rate"],
                color=colour,
                label=short(curve["class"], 20),
            )
        _unit_square(axes, "false positive rate", "true positive rate", "lower right")

    return Picture(
        "roc",
        "ROC curve",
        "True against false positives at every threshold; the area under the curve is "
        f"{metric_text('roc_auc', area)}, guessing has 50.0 %.",
        draw,
        4.0,
        4.6,
    )


def precision_recall(curves: Sequence[dict[str, Any]]) -> Picture:
    """Precision against recall."""

    def draw(axes: Any) -> None:
        for curve, colour in zip(curves, _SERIES, strict=False):
            axes.plot(curve["pr"]["recall"], curve["pr"]["precision"], color=colour, label=short(curve["class"], 20))
        if len(curves) == 1:
            axes.axhline(curves[0]["base_rate"], color=MUTED, linewidth=1, linestyle=":", label="guessing")
        _unit_square(
            axes, "recall: share of the class that is found", "precision: share of findings that is right", "lower left"
        )

    said = "; ".join(f"{short(curve['class'])} {percent(curve['average_precision'])}" for curve in curves)
    alt = f"Precision against recall at every threshold; average precision: {said}."
    return Picture("precision_recall", "Precision and recall", alt, draw, 4.0, 4.6)


def calibration(facts: dict[str, Any]) -> Picture:
    """Predicted probability against observed share."""

    def draw(axes: Any) -> None:
        bins = facts["bins"]
        most = max(row["count"] for row in bins)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="perfect")
        axes.plot([row["predicted"] for row in bins], [row["observed"] for row in bins], color=MAIN, label="model")
        axes.scatter(
            [row["predicted"] for row in bins],
            [row["observed"] for row in bins],
            s=[12 + 90 * row["count"] / most for row in bins],
            color=MAIN,
            alpha=0.55,
            linewidth=0,
        )
        _unit_square(axes, f"predicted probability of the {facts['of']}", "how often it was true", "upper left")

    return Picture(
        "calibration",
        "Calibration",
        "Predicted probability against what happened; on "
        f"average {points(facts['ece'])} apart. Larger dots hold more rows.",
        draw,
        4.0,
        4.6,
    )


def _unit_square(axes: Any, across: str, up: str, legend: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(True)
    axes.legend(loc=legend, fontsize=8)


def residuals(facts: dict[str, Any]) -> Picture:
    """Histogram of answer minus truth."""

    def draw(axes: Any) -> None:
        edges, counts = facts["residuals"]["edges"], facts["residuals"]["counts"]
        axes.bar(edges[:-1], counts, width=edges[1] - edges[0], align="edge", color=MAIN, alpha=0.75, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlabel="answer minus truth (the outer bars hold everything beyond)", ylabel="rows")
        _plain_numbers(axes.xaxis)

    return Picture(
        "residuals",
        "How far off",
        f"Histogram of errors; on average the answer is {number(facts['bias'])} away from the truth.",
        draw,
    )


def predicted_and_actual(facts: dict[str, Any]) -> Picture:
    """Scatter of answers and truth."""

    def draw(axes: Any) -> None:
        truth, predicted = facts["sample"]["truth"], facts["sample"]["predicted"]
        ends = [min(*truth, *predicted), max(*truth, *predicted)] if truth else [0, 1]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        axes.scatter(truth, predicted, s=9, color=MAIN, alpha=0.4, linewidth=0)
        axes.set(xlabel="truth", ylabel="answer of the model")
        axes.grid(True)
        _plain_numbers(axes.xaxis)
        _plain_numbers(axes.yaxis)

    rows = len(facts["sample"]["truth"])
    alt = f"Scatter of {rows:,} rows: answers against the truth; on the dotted line they are equal."
    return Picture("predicted_and_actual", "Answer and truth", alt, draw, 4.0)


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def bars(
    name: str,
    heading: str,
    alt: str,
    rows: Sequence[tuple[str, float, str]],
    *,
    spread: Sequence[float] = (),
    marked: Sequence[bool] = (),
    full: float | None = None,
    flush: bool = False,
    width: float = _WIDTH,
) -> Picture:
    """Horizontal bars from (label, value, text), at most 20 of them; `marked` ones in the strong colour.

    The text stands after its bar, or flush at the right; `full` is the length of the axis.
    """
    kept = list(rows[:_SHOWN])

    def draw(axes: Any) -> None:
        places, values = range(len(kept)), [value for _, value, _ in kept]
        colours = [MAIN if not marked or marked[place] else MUTED for place in places]
        axes.barh(
            places,
            values,
            0.66,
            color=colours,
            alpha=0.85,
            linewidth=0,
            ecolor=INK,
            xerr=list(spread[:_SHOWN]) or None,
            error_kw={"linewidth": 1},
        )
        wide = spread if spread else [0.0] * len(kept)
        reach = max([abs(value) + more for value, more in zip(values, wide, strict=False)] + [1e-12])
        for place, (_, value, text) in enumerate(kept):
            beyond = reach if flush else max(value, 0) + (spread[place] if spread else 0)
            axes.text(beyond + 0.012 * (full or reach), place, text, va="center", fontsize=8, color=INK)
        axes.set_yticks(places, [short(label, 40) for label, _, _ in kept])
        axes.set(xlim=(min([0.0, *values]) * 1.1, (full or reach) * 1.25), ylim=(max(len(kept), 2) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", length=0, labelbottom=False)
        axes.spines[["bottom"]].set_visible(False)

    return Picture(name, heading, alt, draw, 0.4 + 0.27 * max(len(kept), 2), width)


def target_histogram(values: dict[str, float]) -> Picture:
    """The target's quantiles as a strip."""

    def draw(axes: Any) -> None:
        levels = sorted((float(level), value) for level, value in values.items())
        axes.plot([value for _, value in levels], [level for level, _ in levels], color=MAIN, marker="o", markersize=4)
        axes.set(xlabel="value of the target", ylabel="share of rows at or below")
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(True)
        _plain_numbers(axes.xaxis)

    return Picture("target", "The target", "Share of rows at or below each value of the target.", draw, 3.0, HALF)


def group_rates(column: dict[str, Any], metric: str, overall: float | None, place: int) -> Picture:
    """The primary metric per group of a column, and the line of all rows."""
    groups = [group for group in column["groups"] if group["metrics"].get(metric) is not None]

    def draw(axes: Any) -> None:
        bar = bars(
            "",
            "",
            "",
            [
                (
                    f"{short(group['value'], 22)} (n = {group['n']:,})",
                    group["metrics"][metric],
                    metric_text(metric, group["metrics"][metric]),
                )
                for group in groups
            ],
            flush=True,
        )
        bar.draw(axes)
        if overall is not None:
            axes.axvline(overall, 0.02, 0.98, color=OTHER, linewidth=1.2, linestyle="--")

    alt = f"{title(metric)} per group of {column['column']}; dashed: all rows, {metric_text(metric, overall)}."
    return Picture(f"slice_{place}", f"By {short(column['column'])}", alt, draw, 0.5 + 0.27 * max(len(groups), 2))
