"""Dashboards and rules cannot rot: every metric and label in them is in a live scrape, and promtool accepts the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from inprocess import Client
from serve_fake import Bundle
from serve_real import GOLDEN, write_bundle

from keepfit import dashboards
from keepfit.core.errors import UsageError
from keepfit.runtime.bundle import InputColumn
from keepfit.serve.app import app_of
from keepfit.serve.figures import MAX_FEATURES, MAX_GROUPS
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings

NAME = re.compile(r"\bkeepfit[_:][a-z0-9_:]+")
SELECTED = re.compile(r"\b(keepfit_[a-z0-9_]+)\{([^}]*)\}")
MADE_BY_PROMETHEUS = {"job", "instance"}


def expressions(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Recorded series with their expressions, and every other expression of rules, panels and variables."""
    said = yaml.safe_load((folder / "prometheus/keepfit.rules.yml").read_text())
    every = [rule for group in said["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in every if "record" in rule}
    others = [rule["expr"] for rule in every if "alert" in rule]
    for file in sorted((folder / "grafana/dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        others += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        others += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return recorded, others


def scraped(text: str) -> dict[str, list[dict[str, str]]]:
    from prometheus_client.parser import text_string_to_metric_families as families

    found: dict[str, list[dict[str, str]]] = {}
    for family in families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def missing(folder: Path, live: dict[str, list[dict[str, str]]]) -> list[str]:
    """What dashboards and rules ask for and a scrape does not have."""
    recorded, others = expressions(folder)
    lost = []
    for expression in [*recorded.values(), *others]:
        names = set(NAME.findall(expression)) - set(recorded)
        lost += [name for name in names if name not in live]
        for name, selectors in SELECTED.findall(expression):
            for label, how, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selectors):
                known = {labels.get(label) for labels in live.get(name, [])}
                if label in MADE_BY_PROMETHEUS:
                    continue
                if not any(
                    one is not None and (one == value if how == "=" else re.fullmatch(value, one)) for one in known
                ):
                    lost.append(f"{name}{{{label}{how}{value!r}}}")
    return lost


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dashboards.write(tmp_path / "boards", ["127.0.0.1:8000"])
    return tmp_path / "boards"


def test_every_metric_of_every_panel_and_rule_is_in_a_live_scrape(folder, tmp_path, live_of):
    server = live_of("serve_real.py", str(write_bundle(tmp_path / "bundle")))
    try:
        row = {**GOLDEN[0], "city": "Atlantis"}
        assert httpx.post(f"{server.url}/predict", json={"input": row}).status_code == 200
        live = scraped(httpx.get(f"{server.url}/metrics").text)
    finally:
        server.close()
    recorded, others = expressions(folder)
    assert len(recorded) >= 8 and len(others) >= 20
    assert missing(folder, live) == []
    used = {name for text in [*recorded.values(), *others] for name in NAME.findall(text)}
    forgotten = {name for name in live if name.startswith("keepfit_")} - used
    assert not forgotten, "metrics that no panel and no rule shows"
    gone = {name: labels for name, labels in live.items() if name != "keepfit_swaps_total"}
    assert any("keepfit_swaps_total" in one for one in missing(folder, gone))


def test_promtool_accepts_rules_and_configuration(folder):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: it comes with Debian's prometheus package")
    for what, name in (("rules", "keepfit.rules.yml"), ("config", "prometheus.yml")):
        command = ["promtool", "check", what, str(folder / "prometheus" / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mounted_is_written(folder):
    said = yaml.safe_load((folder / "compose.yaml").read_text())
    for service in said["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert (folder / source).is_dir() if source.startswith(".") else source in said["volumes"]
    for path in (folder / "grafana/dashboards").glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
        assert len(places) == len({p["id"] for p in panels}) == len({p["title"] for p in panels}) == len(panels)


def test_the_verb_writes_a_token_by_file_only(tmp_path):
    (tmp_path / "token").write_text("s3cret")
    command = [sys.executable, "-m", "keepfit", "dashboards", "-o", "boards", "--token-file", "token", "--json"]
    done = subprocess.run([*command, "--target", "ml:80"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    files = [Path(name) for name in json.loads(done.stdout.splitlines()[-1])["files"]]
    assert all(file.is_file() and "s3cret" not in file.read_text() for file in files)
    said = yaml.safe_load((tmp_path / "boards/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert said["static_configs"] == [{"targets": ["ml:80"]}]
    assert said["authorization"]["credentials_file"] == "/run/secrets/keepfit_token"
    secret = yaml.safe_load((tmp_path / "boards/compose.yaml").read_text())["secrets"]["keepfit_token"]
    assert Path(secret["file"]) == tmp_path / "token"


@pytest.mark.parametrize("target", ["http://here:80", "here", "here:80\n- evil", ""])
def test_a_target_is_host_and_port(tmp_path, target):
    with pytest.raises(UsageError):
        dashboards.write(tmp_path / "boards", [target])
    assert not (tmp_path / "boards").exists()


def test_series_are_bounded_whatever_clients_send(tmp_path):
    wide = [InputColumn(f"c{i}", "categorical", "BYTES") for i in range(300)]
    bundle = Bundle(classes=[f"class {i}" for i in range(500)])
    bundle.inputs = [*bundle.inputs, *wide]
    current = Current(bundle, bundle.predictor(), ServeSettings())
    full = {
        "score": {f"feature {i}": 1.0 for i in range(MAX_FEATURES)},
        "slice_accuracy": {f"group {i}": 1.0 for i in range(MAX_GROUPS)},
        "slice_rows": {f"group {i}": 1.0 for i in range(MAX_GROUPS)},
    }
    (tmp_path / "figures.json").write_text(json.dumps(full))
    current.meters.watch(tmp_path / "figures.json")
    with Client(app_of(current)) as one:
        hostile(one)
        lines = [line for line in one.get("/metrics").text.splitlines() if not line.startswith("#")]
    assert len(lines) <= 200, len(lines)
    assert sum(line.startswith("keepfit_monitor_") for line in lines) >= 50
    text = "\n".join(lines)
    assert "town" not in text and "BREW" not in text and "/149" not in text


def hostile(one: Client) -> None:
    row = {"age": 1, "hours": 2, "married": True, "city": "x", "since": None}
    paths = ["/predict", "/feedback", "/v2/models/mixed/infer", "/v2/x", "/healthz", "/docs", "/openapi.json", "/"]
    for number in range(150):
        one.post("/predict", json={"input": {**row, "age": number, "city": f"town {number}"}})
        one.request(("GET", "PUT", "POST", "BREW")[number % 4], f"/{number}/../{number}?{number}")
        one.post(f"/v2/models/{number}/infer", content=b"{")
        one.request(("GET", "DELETE", "POST")[number % 3], paths[number % len(paths)], headers={"x-a": str(number)})
