"""What `/metrics` counts, in Prometheus terms; every label has a bounded set of values."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from keepfit.runtime.answers import Answers, class_name

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle

MAX_CLASSES = 100
OTHER = "other"
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PLAIN_ROUTES = frozenset({"/", "/predict", "/healthz", "/metrics", "/docs", "/openapi.json"})
INFER = "/v2/models/{name}/infer"


def route_label(path: str) -> str:
    """The template of a path: never the path itself, which a client chooses."""
    if path in PLAIN_ROUTES:
        return path
    if path == "/v2" or path.startswith("/v2/"):
        return INFER if path.endswith("/infer") else "/v2/*"
    return OTHER


class Meters:
    """Counters of one service, in a registry of their own."""

    def __init__(self, bundle: Bundle) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("keepfit_requests_total", "Requests answered.", ["route", "code"], registry=own)
        self.seconds = Histogram(
            "keepfit_request_duration_seconds",
            "From the first byte of a request to its answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=own,
        )
        self.in_flight = Gauge("keepfit_requests_in_flight", "Requests being answered.", registry=own)
        self.predictions = Counter(
            "keepfit_predictions_total", "Rows answered, by predicted class.", ["class"], registry=own
        )
        self.unseen = Counter(
            "keepfit_unseen_categories_total", "Values that training never saw.", ["column"], registry=own
        )
        model = Gauge("keepfit_model_info", "The model that answers.", ["name", "version", "sha256"], registry=own)
        model.labels(bundle.name, bundle.version, bundle.sha256).set(1)
        self._classes = {class_name(item) for item in bundle.classes[:MAX_CLASSES]}
        self._columns = {column.name for column in bundle.inputs}
        for name in sorted(self._classes):
            self.predictions.labels(name)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request is over."""
        self.requests.labels(route, f"{status // 100}xx").inc()
        self.seconds.labels(route).observe(seconds)

    def predicted(self, answers: Answers) -> None:
        """Rows are answered; a regression counts under the empty class."""
        if answers.classes:
            for name, rows in Tally(map(class_name, answers.labels)).items():
                self.predictions.labels(name if name in self._classes else OTHER).inc(rows)
        else:
            self.predictions.labels("").inc(len(answers.labels))
        for column, cells in answers.unseen.items():
            if column in self._columns:
                self.unseen.labels(column).inc(cells)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
