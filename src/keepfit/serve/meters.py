"""What `/metrics` counts, in Prometheus terms; every label has a bounded set of values."""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily

from keepfit.runtime.answers import Answers, class_name
from keepfit.serve.figures import Figures

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle

MAX_CLASSES, MAX_COLUMNS = 24, 10  # with routes and buckets below 200 series, whatever the model and its clients
OTHER = "other"
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PLAIN_ROUTES = frozenset({"/", "/predict", "/feedback", "/healthz", "/metrics", "/docs", "/openapi.json"})
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096)
INFER = "/v2/models/{name}/infer"
TIMED_ROUTES = ("/predict", "/feedback", INFER)


def route_label(path: str) -> str:
    """The template of a path: never the path itself, which a client chooses."""
    if path in PLAIN_ROUTES:
        return path
    if path == "/v2" or path.startswith("/v2/"):
        return INFER if path.endswith("/infer") else "/v2/*"
    return OTHER


class ModelInfo:
    """The model that answers, as one series however many came before."""

    def __init__(self) -> None:
        self.labels: tuple[str, str, str] = ("", "", "")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client.registry.Collector."""
        family = GaugeMetricFamily(
            "keepfit_model_info", "The model that answers.", labels=["name", "version", "sha256"]
        )
        family.add_metric(self.labels, 1.0)
        yield family


class Level:
    """A number that goes up and down with every request, read when somebody looks; where processes share, written at once."""

    def __init__(self, gauge: Gauge, shared: bool) -> None:
        self.value, self._gauge = 0, gauge if shared else None
        if not shared:
            gauge.set_function(lambda: self.value)

    def set(self, value: int) -> None:
        """It is this."""
        self.value = value
        if self._gauge is not None:
            self._gauge.set(value)


class Meters:
    """Counters of one service, in a registry of their own; where several processes answer, the sum over them."""

    def __init__(self, bundle: Bundle) -> None:
        self.shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self.registry = own = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nothing reads
        self.requests = Counter("keepfit_requests_total", "Requests answered.", ["route", "code"], registry=own)
        self.seconds = Histogram(
            "keepfit_request_duration_seconds",
            "From the first byte of a question to its answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=own,
        )
        self.in_flight = self._level("keepfit_requests_in_flight", "Requests being answered.")
        self.waiting = self._level("keepfit_questions_waiting", "Questions read and not answered.")
        self.batch_rows = Histogram(
            "keepfit_batch_rows", "Rows that went through the model at once.", buckets=BATCH_ROWS, registry=own
        )
        self.predictions = Counter(
            "keepfit_predictions_total", "Rows answered, by predicted class.", ["class"], registry=own
        )
        self.unseen = Counter(
            "keepfit_unseen_categories_total", "Values that training never saw.", ["column"], registry=own
        )
        self.swaps = Counter("keepfit_swaps_total", "Models switched to, or refused.", ["result"], registry=own)
        self.records = Counter("keepfit_records_total", "Rows recorded, or dropped.", ["result"], registry=own)
        self.feedback = Counter("keepfit_feedback_total", "Feedback requests.", ["result"], registry=own)
        for counter, results in (
            (self.swaps, ("done", "refused")),
            (self.records, ("written", "dropped")),
            (self.feedback, ("stored", "unknown", "refused", "failed")),
        ):
            for result in results:
                counter.labels(result)
        self._timed = {route: self.seconds.labels(route) for route in TIMED_ROUTES}
        # From 0, so that a rate sees the first of them.
        self._counted = {(r, code): self.requests.labels(r, f"{code}xx") for r in TIMED_ROUTES for code in (2, 4, 5)}
        self._info = ModelInfo()
        self._figures: Figures | None = None
        self._classes: set[str] = set()
        self._columns: set[str] = set()
        self.model(bundle)
        if self.shared is None:
            own.register(self._info)

    def model(self, bundle: Bundle) -> None:
        """The model that answers from here on; over all models at most 24 classes and 10 columns have a label."""
        self._info.labels = (bundle.name, bundle.version, bundle.sha256)
        fresh = [name for name in map(class_name, bundle.classes[:MAX_CLASSES]) if name not in self._classes]
        self._classes |= set(fresh[: MAX_CLASSES - len(self._classes)])
        known = [column.name for column in bundle.inputs if column.kind == "categorical"]  # only these have categories
        columns = [name for name in known if name not in self._columns]
        self._columns |= set(columns[: MAX_COLUMNS - len(self._columns)])
        for name in sorted(self._classes):
            self.predictions.labels(name)

    def watch(self, path: Path) -> None:
        """Tell what the monitor of this service writes to `path` as well."""
        self._figures = Figures(path)
        if self.shared is None:
            self.registry.register(self._figures)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request is over."""
        counted = self._counted.get((route, status // 100))
        (self.requests.labels(route, f"{status // 100}xx") if counted is None else counted).inc()
        timed = self._timed.get(route)
        if timed is not None:
            timed.observe(seconds)

    def predicted(self, answers: Answers) -> None:
        """Rows are answered; a regression counts under the empty class."""
        if answers.classes:
            for name, rows in Tally(map(class_name, answers.labels)).items():
                self.predictions.labels(name if name in self._classes else OTHER).inc(rows)
        else:
            self.predictions.labels("").inc(len(answers.labels))
        for column, cells in answers.unseen.items():
            if cells:
                self.unseen.labels(column if column in self._columns else OTHER).inc(cells)

    def _level(self, name: str, text: str) -> Level:
        return Level(Gauge(name, text, registry=self.registry, multiprocess_mode="livesum"), self.shared is not None)

    def text(self) -> bytes:
        """The exposition format."""
        if self.shared is None:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        multiprocess.MultiProcessCollector(whole, self.shared)  # type: ignore[no-untyped-call]
        whole.register(self._info)
        if self._figures is not None:
            whole.register(self._figures)
        return generate_latest(whole)
