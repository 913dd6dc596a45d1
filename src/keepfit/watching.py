"""What is worth watching of a service: the one table of panels, recorded series and alerts. Data only, in PromQL.

`WINDOW` in an expression stands for the length of time over which a rate is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

QUESTIONS = 'route=~"/predict|/v2/models/.*"'


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard: `series` are (legend, PromQL); `unit` is Grafana's name of one; `kind` its type of panel."""

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]
    why: str
    kind: str = "timeseries"


@dataclass(frozen=True)
class Board:
    """A dashboard; two panels stand side by side."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Alert:
    """An alert: PromQL that gives something where it is wrong, how long it must stay so, and what to do then."""

    name: str
    expression: str
    waiting: str
    severity: str
    summary: str
    what_to_do: str


def spelled(expression: str, window: str) -> str:
    """The PromQL with its window put in."""
    return expression.replace("WINDOW", window)


def _quantile(share: float) -> str:
    return (
        f"histogram_quantile({share}, sum by (job, le) "
        f"(rate(keepfit_request_duration_seconds_bucket{{{QUESTIONS}}}[WINDOW])))"
    )


def _share(code: str) -> str:
    asked = f"sum by (job) (rate(keepfit_requests_total{{{QUESTIONS}}}[WINDOW]))"
    return f'sum by (job) (rate(keepfit_requests_total{{{QUESTIONS},code="{code}"}}[WINDOW])) / ({asked} > 0)'


RECORDED = {
    "keepfit:requests:rate": "sum by (job, route, code) (rate(keepfit_requests_total[WINDOW]))",
    "keepfit:request_errors:ratio": _share("5xx"),
    "keepfit:request_refusals:ratio": _share("4xx"),
    "keepfit:request_duration_seconds:p50": _quantile(0.5),
    "keepfit:request_duration_seconds:p95": _quantile(0.95),
    "keepfit:request_duration_seconds:p99": _quantile(0.99),
    "keepfit:predictions:share": "sum by (job, class) (rate(keepfit_predictions_total[WINDOW])) "
    "/ on (job) group_left () (sum by (job) (rate(keepfit_predictions_total[WINDOW])) > 0)",
    "keepfit:unseen_categories:per_row": "sum by (job) (rate(keepfit_unseen_categories_total[WINDOW])) "
    "/ (sum by (job) (rate(keepfit_predictions_total[WINDOW])) > 0)",
}

ALERTS = (
    Alert(
        "KeepfitDown",
        'up{job="keepfit"} == 0',
        "1m",
        "critical",
        "the service at {{ $labels.instance }} does not answer Prometheus",
        "Look at its log and at /healthz; a wrong token in prometheus.yml looks like this too.",
    ),
    Alert(
        "KeepfitErrors",
        "keepfit:request_errors:ratio > 0.01",
        "2m",
        "critical",
        "{{ $value | humanizePercentage }} of the questions get a 5xx",
        "A 500 has its trace in the log; a 503 is overload: add workers, or ask for less.",
    ),
    Alert(
        "KeepfitSlow",
        "keepfit:request_duration_seconds:p99 > 0.5",
        "5m",
        "warning",
        "one question in a hundred waits {{ $value | humanizeDuration }}",
        "Compare with the number of requests in flight; if that is low, the model itself is slow: keepfit bench BUNDLE.",
    ),
    Alert(
        "KeepfitRefusals",
        "keepfit:request_refusals:ratio > 0.2",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the questions are refused as wrong",
        "A client sends other columns than the model reads, or no token: the refusals say which.",
    ),
    Alert(
        "KeepfitSwapRefused",
        'increase(keepfit_swaps_total{result="refused"}[WINDOW]) > 0',
        "0s",
        "critical",
        "a promoted model was refused; the one before goes on answering",
        "keepfit models verify NAME, then promote again or roll back.",
    ),
    Alert(
        "KeepfitRecordsDropped",
        'increase(keepfit_records_total{result="dropped"}[WINDOW]) > 0',
        "0s",
        "warning",
        "answers are not recorded",
        "The disk is full or slower than the questions: look at the log, or set serve.record: sketch.",
    ),
    Alert(
        "KeepfitFeedbackFailed",
        'increase(keepfit_feedback_total{result="failed"}[WINDOW]) > 0',
        "0s",
        "critical",
        "feedback could not be made durable",
        "The store of the records cannot be written: clients got a 503 and must send it again.",
    ),
    Alert(
        "KeepfitUnseenCategories",
        "keepfit:unseen_categories:per_row > 0.05",
        "15m",
        "warning",
        "{{ $value }} values a row were never seen in training",
        "See which column it is on the dashboard; keepfit monitor BUNDLE RECORDS says whether it is a fault or a shift.",
    ),
    Alert(
        "KeepfitFeedBroken",
        'keepfit_monitor_alarm{kind="bug"} > 0',
        "0s",
        "critical",
        "the last records look like a broken feed: a unit, an encoding, a gap, swapped columns, a constant",
        "The monitor's report.html says which column and shows rows; mend the feed. Those rows are not to be learned from.",
    ),
    Alert(
        "KeepfitDrift",
        'keepfit_monitor_alarm{kind="shift"} > 0',
        "0s",
        "warning",
        "the last records are not like those that the model learned from",
        "See the features that ring on the dashboard and in report.html; label some of these rows, and train again.",
    ),
    Alert(
        "KeepfitAccuracy",
        'keepfit_monitor_alarm{kind="accuracy"} > 0',
        "0s",
        "critical",
        "labels show more errors than there were on held-out rows",
        "Train again with the labels that came, or roll back: keepfit models rollback NAME.",
    ),
    Alert(
        "KeepfitMonitorBehind",
        "time() - keepfit_monitor_looked_timestamp_seconds > 300",
        "1m",
        "warning",
        "nothing has been watched for {{ $value | humanizeDuration }}",
        "The monitor of the service has ended or cannot read the records: its message is in the service's log.",
    ),
)

SERVICE = Board(
    "keepfit-service",
    "Keepfit: the service",
    (
        Panel(
            "Questions a second",
            "reqps",
            (
                (
                    "{{route}} {{code}}",
                    'sum by (route, code) (rate(keepfit_requests_total{job=~"$job"}[WINDOW]))',
                ),
            ),
            "Every request by its route and the kind of its answer.",
        ),
        Panel(
            "Time to an answer",
            "s",
            tuple((f"p{p}", f'keepfit:request_duration_seconds:p{p}{{job=~"$job"}}') for p in (50, 95, 99)),
            "Percentiles of questions to the model, over five minutes.",
        ),
        Panel(
            "Errors and refusals",
            "percentunit",
            (
                ("errors {{job}}", 'keepfit:request_errors:ratio{job=~"$job"}'),
                ("refusals {{job}}", 'keepfit:request_refusals:ratio{job=~"$job"}'),
            ),
            "5xx are ours, 4xx are what clients sent.",
        ),
        Panel(
            "Requests in flight",
            "short",
            (("{{instance}}", 'keepfit_requests_in_flight{job=~"$job"}'),),
            "At the limit of `concurrency` the next one gets a 503.",
        ),
        Panel(
            "Questions waiting",
            "short",
            (("{{instance}}", 'keepfit_questions_waiting{job=~"$job"}'),),
            "At the limit of `serve.queue` the next one gets a 503.",
        ),
        Panel(
            "Rows in one call of the model",
            "short",
            (
                (
                    "mean",
                    'sum(rate(keepfit_batch_rows_sum{job=~"$job"}[WINDOW]))'
                    ' / sum(rate(keepfit_batch_rows_count{job=~"$job"}[WINDOW]))',
                ),
                ("p99", 'histogram_quantile(0.99, sum by (le) (rate(keepfit_batch_rows_bucket{job=~"$job"}[WINDOW])))'),
            ),
            "Questions that wait are answered together: one row means that there is time to spare.",
        ),
        Panel(
            "Records",
            "short",
            (("{{result}}", 'sum by (result) (rate(keepfit_records_total{job=~"$job"}[WINDOW]))'),),
            "Rows recorded and dropped a second.",
        ),
        Panel(
            "Mean time to an answer, by route",
            "s",
            (
                (
                    "{{route}}",
                    'sum by (route) (rate(keepfit_request_duration_seconds_sum{job=~"$job"}[WINDOW])) '
                    '/ (sum by (route) (rate(keepfit_request_duration_seconds_count{job=~"$job"}[WINDOW])) > 0)',
                ),
            ),
            "Feedback waits for the disk: it is durable before it is acknowledged.",
        ),
    ),
)

MODEL = Board(
    "keepfit-model",
    "Keepfit: the model",
    (
        Panel(
            "The model that answers",
            "short",
            (("", 'keepfit_model_info{job=~"$job"}'),),
            "Name, version and hash.",
            "table",
        ),
        Panel(
            "Swaps",
            "short",
            (("{{result}}", 'sum by (result) (increase(keepfit_swaps_total{job=~"$job"}[WINDOW]))'),),
            "Models switched to, and models refused.",
        ),
        Panel(
            "Share of each class",
            "percentunit",
            (("{{class}}", 'keepfit:predictions:share{job=~"$job"}'),),
            "A share that moves means that the inputs moved, or the model.",
        ),
        Panel(
            "Rows answered a second",
            "short",
            (("{{job}}", 'sum by (job) (rate(keepfit_predictions_total{job=~"$job"}[WINDOW]))'),),
            "A request may hold many rows.",
        ),
        Panel(
            "Values that training never saw, by column",
            "short",
            (("{{column}}", 'sum by (column) (rate(keepfit_unseen_categories_total{job=~"$job"}[WINDOW]))'),),
            "Misspelled, or the world has something more in it.",
        ),
        Panel(
            "Feedback",
            "short",
            (("{{result}}", 'sum by (result) (rate(keepfit_feedback_total{job=~"$job"}[WINDOW]))'),),
            "Without the truth, accuracy is an estimate.",
        ),
    ),
)

MONITOR = Board(
    "keepfit-monitor",
    "Keepfit: the monitor",
    (
        Panel(
            "Alarms",
            "short",
            (("{{kind}}", 'keepfit_monitor_alarm{job=~"$job"}'),),
            "1 while the last window rings: a broken feed, a shifted world, or more errors than before.",
        ),
        Panel(
            "Windows by kind",
            "short",
            (("{{kind}}", 'sum by (kind) (increase(keepfit_monitor_windows_total{job=~"$job"}[WINDOW]))'),),
            "By the budget of false alarms, nearly all are none while nothing changes.",
        ),
        Panel(
            "How clearly each feature has changed (-log10 p)",
            "short",
            (
                ("{{feature}}", 'keepfit_monitor_score{job=~"$job"}'),
                ("rings from here", 'keepfit_monitor_score_limit{job=~"$job"}'),
            ),
            "Features, answers and confidence against the reference; `other` is the clearest of those without a line of their own.",
        ),
        Panel(
            "Accuracy",
            "percentunit",
            (
                ("estimated, {{bound}}", 'keepfit_monitor_estimated_accuracy{job=~"$job"}'),
                ("labelled", 'keepfit_monitor_labelled_accuracy{job=~"$job"}'),
                ("held-out rows", 'keepfit_monitor_held_out_accuracy{job=~"$job"}'),
            ),
            "Estimated without labels with its 90 % interval, on the last window of labels, and what it was to begin with.",
        ),
        Panel(
            "Is the estimate to be trusted",
            "short",
            (("trusted", 'keepfit_monitor_estimated_accuracy_trusted{job=~"$job"}'),),
            "0 where the estimate may well be off by more than five points.",
        ),
        Panel(
            "Labels",
            "short",
            (("{{result}}", 'sum by (result) (rate(keepfit_monitor_labels_total{job=~"$job"}[WINDOW]))'),),
            "Labels a second, by whether the answer was right.",
        ),
        Panel(
            "Signs of broken feeds",
            "short",
            (
                ("{{sign}}", 'sum by (sign) (increase(keepfit_monitor_faults_total{job=~"$job"}[WINDOW]))'),
                ("repeated rows", 'keepfit_monitor_repeated_ratio{job=~"$job"}'),
            ),
            "Windows that showed each sign, and the share of rows that repeat another.",
        ),
        Panel(
            "Rows watched",
            "short",
            (
                ("{{result}}", 'sum by (result) (rate(keepfit_monitor_rows_total{job=~"$job"}[WINDOW]))'),
                ("seconds passed over", 'rate(keepfit_monitor_skipped_seconds_total{job=~"$job"}[WINDOW])'),
            ),
            "Rows judged and rows in quarantine a second.",
        ),
        Panel(
            "Accuracy by group",
            "percentunit",
            (("{{group}}", 'keepfit_monitor_slice_accuracy{job=~"$job"}'),),
            "Of the last window with labels; monitor.slices names the columns.",
        ),
        Panel(
            "Rows by group",
            "short",
            (("{{group}}", 'keepfit_monitor_slice_rows{job=~"$job"}'),),
            "Of the last window.",
        ),
        Panel(
            "Since the monitor looked",
            "s",
            (("{{instance}}", 'time() - keepfit_monitor_looked_timestamp_seconds{job=~"$job"}'),),
            "Some seconds; more means that it has ended or is behind.",
        ),
    ),
)
BOARDS = (SERVICE, MODEL, MONITOR)
