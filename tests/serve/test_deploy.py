"""The files of deploy/ name routes, options and ports that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve_fake import Bundle

from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
OPTIONS = {"--host", "--port", "--token-env", "--workers", "--record", "--workspace"}


def manifests() -> list[dict[str, Any]]:
    return [
        one for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
    ]


def containers() -> list[dict[str, Any]]:
    found = []
    for one in manifests():
        if one["kind"] == "Deployment":
            found += one["spec"]["template"]["spec"]["containers"]
        if one["kind"] == "InferenceService":
            found += one["spec"]["predictor"]["containers"]
    return found


def test_the_kinds_are_there():
    assert [one["kind"] for one in manifests()] == ["InferenceService", "Deployment", "Service"]


@pytest.mark.parametrize("container", containers(), ids=lambda one: one["name"])
def test_probes_and_arguments_are_those_of_the_service(container):
    made = Bundle()
    routes = {getattr(route, "path", "") for route in create_app(made, made.predictor(), ServeSettings()).routes}  # type: ignore[arg-type]
    probes = [container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")]
    assert probes and set(probes) <= routes
    assert {word for word in container["args"] if word.startswith("--")} <= OPTIONS
    assert container["ports"][0]["containerPort"] == ServeSettings().port
    assert any("secretKeyRef" in one["valueFrom"] for one in container["env"])


def test_options_and_times_of_the_other_files():
    unit, image = (DEPLOY / "keepfit.service").read_text(), (DEPLOY / "Dockerfile").read_text()
    start = re.search(r"ExecStart=(.*)", unit)
    assert start
    assert {word for word in start[1].split() if word.startswith("--")} <= OPTIONS
    command = re.search(r"^CMD (\[.*)", image, re.MULTILINE)
    assert command and {word for word in yaml.safe_load(command[1]) if word.startswith("--")} <= OPTIONS
    stop = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert stop and int(stop[1]) > ServeSettings().drain_timeout_s
    deployment = next(one for one in manifests() if one["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > ServeSettings().drain_timeout_s
