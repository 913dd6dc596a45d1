"""Grafana dashboards, Prometheus rules and a compose file, all from the table of `keepfit.watching`; pure but for `write`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keepfit.core import atomic
from keepfit.core.errors import UsageError
from keepfit.watching import ALERTS, BOARDS, RECORDED, Board, Panel, spelled

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 12, 8
_TARGET = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
PROMETHEUS, GRAFANA = "prom/prometheus:v3.5.0", "grafana/grafana:12.1.0"


def rules(window: str = "5m", waiting: str | None = None) -> dict[str, Any]:
    """Recording and alert rules over `window`; `waiting` replaces how long each alert's condition must hold."""
    recorded = [{"record": name, "expr": spelled(expression, window)} for name, expression in RECORDED.items()]
    alerts = [
        {
            "alert": alert.name,
            "expr": spelled(alert.expression, window),
            "for": waiting or alert.waiting,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "description": alert.what_to_do},
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "keepfit-recorded", "rules": recorded}, {"name": "keepfit-alerts", "rules": alerts}]}


def dashboard(board: Board) -> dict[str, Any]:
    """A Grafana dashboard (schema 39) as JSON; the data source and the job are variables of it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["keepfit"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "job",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": "label_values(keepfit_model_info, job)", "refId": "job"},
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "refresh": 2,
                },
            ]
        },
        "panels": [_panel(panel, place) for place, panel in enumerate(board.panels)],
    }


def _panel(panel: Panel, place: int) -> dict[str, Any]:
    return {
        "id": place + 1,
        "title": panel.title,
        "description": panel.why,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": place % 2 * WIDTH, "y": place // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": spelled(expression, "$__rate_interval"),
                "legendFormat": legend,
                "format": "table" if panel.kind == "table" else "time_series",
                "instant": panel.kind == "table",
            }
            for number, (legend, expression) in enumerate(panel.series)
        ],
    }


def prometheus(targets: Sequence[str], *, token: bool = False, every: str = "15s") -> dict[str, Any]:
    """prometheus.yml, which scrapes `targets` and reads the rules beside it. Raises UsageError for no HOST:PORT."""
    for target in targets:
        if not _TARGET.fullmatch(target):
            raise UsageError(
                "usage", "a target is HOST:PORT", where="--target", seen=target[:100], hint="--target 127.0.0.1:8000"
            )
    scrape: dict[str, Any] = {"job_name": "keepfit", "static_configs": [{"targets": list(targets)}]}
    if token:
        scrape["authorization"] = {"type": "Bearer", "credentials_file": "/run/secrets/keepfit_token"}
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": ["keepfit.rules.yml"],
        "scrape_configs": [scrape],
    }


def compose(token_file: Path | None = None) -> dict[str, Any]:
    """Prometheus and Grafana on the loopback of the host, where a service without a token listens too."""
    made: dict[str, Any] = {
        "services": {
            "prometheus": {
                "image": PROMETHEUS,
                "network_mode": "host",
                "command": ["--config.file=/etc/prometheus/prometheus.yml", "--web.listen-address=127.0.0.1:9090"],
                "volumes": ["./prometheus:/etc/prometheus:ro", "prometheus:/prometheus"],
                "restart": "unless-stopped",
            },
            "grafana": {
                "image": GRAFANA,
                "network_mode": "host",
                "environment": {"GF_SERVER_HTTP_ADDR": "127.0.0.1", "GF_ANALYTICS_REPORTING_ENABLED": "false"},
                "volumes": [
                    "./grafana/provisioning:/etc/grafana/provisioning:ro",
                    "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
                    "grafana:/var/lib/grafana",
                ],
                "depends_on": ["prometheus"],
                "restart": "unless-stopped",
            },
        },
        "volumes": {"prometheus": {}, "grafana": {}},
    }
    if token_file is not None:
        made["secrets"] = {"keepfit_token": {"file": str(token_file.absolute())}}
        made["services"]["prometheus"]["secrets"] = ["keepfit_token"]
    return made


def write(folder: Path, targets: Sequence[str], token_file: Path | None = None) -> list[Path]:
    """Write every file below `folder` and give their paths; other files there stay. Raises UsageError."""
    if token_file is not None and not token_file.is_file():
        raise UsageError(
            "token_missing", "there is no such file", where="--token-file", seen=str(token_file), hint="write it first"
        )
    source = {"name": "Prometheus", "type": "prometheus", "uid": "keepfit", "url": "http://127.0.0.1:9090"}
    shelf = {"name": "keepfit", "type": "file", "options": {"path": "/var/lib/grafana/dashboards"}}
    texts = {
        "compose.yaml": _yaml(compose(token_file)),
        "prometheus/prometheus.yml": _yaml(prometheus(targets, token=token_file is not None)),
        "prometheus/keepfit.rules.yml": _yaml(rules()),
        "grafana/provisioning/datasources/keepfit.yml": _yaml(
            {"apiVersion": 1, "datasources": [{**source, "access": "proxy", "isDefault": True}]}
        ),
        "grafana/provisioning/dashboards/keepfit.yml": _yaml({"apiVersion": 1, "providers": [shelf]}),
        **{f"grafana/dashboards/{board.uid}.json": _json(dashboard(board)) for board in BOARDS},
    }
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in texts]


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
