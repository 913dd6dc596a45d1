"""The monitor's figures as metrics: what they are called, and how the file that the monitor writes becomes a scrape."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

ALL = "all"
KINDS = ("none", "bug", "shift", "accuracy")
SIGNS = (
    *("nulls", "format", "time zone", "encoding", "unit", "stuck", "filler", "relabelled", "swapped"),
    *("absent", "repeated", "not answered"),
)
MAX_FEATURES, MAX_GROUPS, OTHER = 12, 4, "other"


@dataclass(frozen=True)
class Figure:
    """A metric `keepfit_monitor_NAME`: `values` are those of its one label that are there from the start (zero for counters,
    NaN for gauges that nothing is known of yet); a label without values has those that the monitor names, which are few."""

    name: str
    help: str
    label: str = ""
    values: Sequence[str] = ()
    is_counter: bool = False
    least: float = float("nan")


_SCORE = "-log10 p of each feature in the last window; `other` is the clearest of the rest."
FIGURES = (
    Figure("windows", "Windows judged, by what they showed.", "kind", KINDS, True),
    Figure(
        "rows", "Rows judged, and rows of broken feeds, kept from training.", "result", ("judged", "quarantined"), True
    ),
    Figure("faults", "Signs of broken feeds, by windows that showed them.", "sign", SIGNS, True),
    Figure("labels", "Labels that came, by whether the answer was right.", "result", ("right", "wrong"), True),
    Figure("alarm", "1 while the last window, or the last window of labels, rings.", "kind", KINDS[1:], least=0.0),
    Figure("score", _SCORE, "feature", (OTHER,), least=0.0),
    Figure("score_limit", "The score from which a feature rings, by the budget of false alarms."),
    Figure("estimated_accuracy", "Accuracy without labels, with its 90 % interval.", "bound", ("value", "low", "high")),
    Figure("estimated_accuracy_trusted", "1 where the estimate is to be trusted."),
    Figure("labelled_accuracy", "Accuracy on the last window of labels."),
    Figure("held_out_accuracy", "Accuracy on the held-out rows that the reference is of."),
    Figure("slice_accuracy", "Accuracy from labels of the last window with any, by group.", "group", (ALL,)),
    Figure("slice_rows", "Rows of the last window, by group.", "group", (ALL,)),
    Figure("repeated_ratio", "Share of the last window's rows that repeat another."),
    Figure("looked_timestamp_seconds", "When the monitor last looked at the records."),
    Figure("skipped_seconds", "Time passed over, since records came faster than they can be judged.", is_counter=True),
)


def families(said: Mapping[str, Any]) -> Iterator[Metric]:
    """Every figure; `said` maps names to a number, or to numbers by the value of the label."""
    for figure in FIGURES:
        name = f"keepfit_monitor_{figure.name}"
        made: Any = (CounterMetricFamily if figure.is_counter else GaugeMetricFamily)(
            name, figure.help, labels=[figure.label] if figure.label else []
        )
        least = 0.0 if figure.is_counter else figure.least
        if figure.label:
            known = said.get(figure.name) or {}
            for value in dict.fromkeys((*figure.values, *known)):
                made.add_metric([value], float(known.get(value, least)))
        else:
            number = said.get(figure.name)
            made.add_metric([], least if number is None else float(number))
        yield made


class Figures:
    """Reads the file that the monitor of a service writes, at each scrape; a prometheus_client collector."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        try:
            said = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            said = {}
        yield from families(said if isinstance(said, dict) else {})
