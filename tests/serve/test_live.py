"""The monitor beside a service: what is recorded becomes figures, alarms and a report; it goes on after a restart."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from serve_real import GOLDEN, write_bundle

from keepfit.monitor import Held, make_profile
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table, text_column
from keepfit.serve.figures import FIGURES, families
from keepfit.serve.live import BEHIND_S, Live
from keepfit.serve.watched import watched_of
from keepfit.serve.watcher import Asked
from keepfit.store.record_files import FileRecords
from keepfit.store.records import Records
from keepfit.store.request_ids import RequestIds

AT = 0.0


def drawn(rows, seed, factor=1.0, wrong=0.1):
    """Inputs as text, probabilities [n, 2] and the truth; one answer in ten is wrong."""
    rng = np.random.default_rng(seed)
    age, city = rng.normal(40, 12, rows).round(1) * factor, rng.choice(["Köln", "Lima"], rows)
    answer = (age / factor > 40).astype(int)
    truth = np.where(rng.random(rows) < wrong, 1 - answer, answer)
    shares = np.where(answer[:, None] == [0, 1], 0.9, 0.1)
    return {"age": [str(one) for one in age], "city": city.tolist()}, shares, truth


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    """Files of records are passed over by when they were written: their rows must be of about that time."""
    monkeypatch.setitem(globals(), "AT", time.time() - 30.0)


@pytest.fixture(scope="module")
def profile():
    columns, shares, truth = drawn(2000, 0)
    table = Table({name: text_column(column) for name, column in columns.items()})
    rules = [ColumnRule("age", "numeric"), ColumnRule("city", "categorical")]
    return make_profile(table, rules, Held(table, shares, truth), ["no", "yes"]).as_json()


def bundle(profile, sha256="a" * 64):
    files = {"profile.json": json.dumps({"monitor": profile}).encode()}
    manifest = {"monitor": {"window": 100, "slices": ["city"]}}
    return SimpleNamespace(name="shop", version="1", sha256=sha256, files=files, manifest=manifest)


class Service:
    """Writes records as a service would, a hundred rows at a time."""

    def __init__(self, folder):
        self.backend = FileRecords(folder)
        self.ids = RequestIds(self.backend.key())
        self.at, self.seed = AT, 1

    def answer(self, sha256="a" * 64, label=False, inputs=True, **how):
        columns, shares, truth = drawn(100, self.seed, **how)
        self.seed, self.at = self.seed + 1, self.at + 1.0
        name = self.ids.new(100, self.at)
        said = [("no", "yes")[place] for place in shares.argmax(1)]
        entry = {"id": name, "t": self.at, "model": ["shop", "1", sha256], "predictions": said}
        entry |= {"probabilities": shares.tolist()} | ({"inputs": columns} if inputs else {})
        self.backend.write("answers", [entry])
        if label:
            self.at += 0.1
            labels = [("no", "yes")[place] for place in truth]
            self.backend.write("feedback", [{"id": name, "t": self.at, "labels": labels}], durable=True)


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path / "records")


def live(tmp_path, profile, keeps_inputs=True, **more):
    made = Live(Records.open(tmp_path / "records"), tmp_path / "watch", AT, **more)
    made.follow(watched_of(bundle(profile), keeps_inputs))
    return made


def figures(tmp_path):
    return json.loads((tmp_path / "watch/figures.json").read_text())


def test_a_request_with_more_rows_than_a_window_is_judged_once(service, tmp_path, profile, monkeypatch):
    for _ in range(3):
        service.answer()
    later = service.at + BEHIND_S + 1

    def short():
        made = Live(Records.open(tmp_path / "records"), tmp_path / "watch", AT)
        found = bundle(profile)
        found.manifest["monitor"]["window"] = 60
        made.follow(watched_of(found, True))
        return made

    short().look(later)
    assert figures(tmp_path)["rows"]["judged"] == 300
    service.answer()
    again = short()  # two rows of three windows wait in the last request
    again.look(service.at + BEHIND_S + 25)
    assert figures(tmp_path)["rows"]["judged"] == 360
    last = short()
    service.answer()
    last.look(service.at + BEHIND_S + 1)
    assert figures(tmp_path)["rows"]["judged"] == 480
    monkeypatch.setattr("keepfit.serve.live.LOOK_S", -1.0)  # every look ends after one row
    service.answer()
    for _ in range(200):
        last.look(service.at + BEHIND_S + 1)
    assert figures(tmp_path)["rows"]["judged"] == 600


def test_quiet_broken_and_wrong_and_a_restart(service, tmp_path, profile):
    served = {"requests_per_s": 3.0, "errors": 1, "latency_s": {"p50": 0.001, "p95": 0.002, "p99": 0.003}}
    one = live(tmp_path, profile, service=lambda: served)
    for _ in range(3):
        service.answer()
    service.answer(sha256="b" * 64)  # of another model
    assert one.look(service.at + BEHIND_S + 1)
    said = figures(tmp_path)
    assert said["windows"] == {"none": 3} and said["rows"]["judged"] == 300 and not any(said["alarm"].values())
    assert set(said["score"]) == {"prediction", "confidence", "age", "city", "other"}
    assert said["score_limit"] > max(said["score"].values()) and said["estimated_accuracy_trusted"] in (0, 1)
    assert said["estimated_accuracy"]["low"] < 0.9 < said["estimated_accuracy"]["high"]
    assert not one.look(service.at + BEHIND_S + 1) and figures(tmp_path)["rows"]["judged"] == 300

    service.answer(factor=1000.0)
    assert one.look(service.at + BEHIND_S + 1)
    said = figures(tmp_path)
    assert said["alarm"] == {"bug": 1, "shift": 0, "accuracy": 0} and said["faults"] == {"unit": 1}
    assert said["rows"]["quarantined"] == 100
    service.answer(factor=1000.0, label=True, wrong=0.9)  # errors of a broken feed are no finding of their own
    assert one.look(service.at + BEHIND_S + 1) and figures(tmp_path)["alarm"] == {"bug": 1, "shift": 0, "accuracy": 0}

    for _ in range(4):
        service.answer(label=True, wrong=0.1)
    again = live(tmp_path, profile)  # as after a restart
    assert again.look(service.at + BEHIND_S + 1)
    said = figures(tmp_path)
    assert said["windows"] == {"none": 7, "bug": 2} and said["labels"]["right"] > 330
    assert not any(said["alarm"].values()) and abs(said["labelled_accuracy"] - 0.9) < 0.1
    assert {"all", "city=Köln", "city=Lima"} == set(said["slice_accuracy"]) == set(said["slice_rows"])

    for _ in range(3):
        service.answer(label=True, wrong=0.5)
    assert again.look(service.at + BEHIND_S + 1)
    said = figures(tmp_path)
    assert said["alarm"] == {"bug": 0, "shift": 0, "accuracy": 1} and said["labelled_accuracy"] < 0.7
    page = (tmp_path / "watch/report.html").read_text()
    assert "a thousand times" in page and "errors:" in page and "What came" in page and "city" in page
    assert "requests a second" in page and "time to an answer, p95" in page
    windows = json.loads((tmp_path / "watch/windows.json").read_text())["windows"]
    assert [one["kind"] for one in windows][:5] == ["none", "none", "none", "bug", "bug"] and windows[-1][
        "labels"
    ] == 100
    assert "accuracy" in [one["kind"] for one in windows]


def test_without_inputs_answers_are_watched_and_without_a_reference_labels(service, tmp_path, profile):
    one = live(tmp_path, profile, keeps_inputs=False)
    for _ in range(2):
        service.answer(inputs=False, label=True)
    one.look(service.at + BEHIND_S + 1)
    assert figures(tmp_path)["windows"] == {"none": 2} and set(figures(tmp_path)["score"]) >= {"prediction"}
    assert figures(tmp_path)["labels"]["right"] > 150
    (tmp_path / "watch/state.json").write_text("{")  # damaged: it begins anew
    two = live(tmp_path, None)
    two.look(service.at + BEHIND_S + 1)
    said = figures(tmp_path)
    assert said["labels"]["right"] > 150 and "score" not in said and "held_out_accuracy" not in said


def test_what_came_too_fast_is_passed_over(service, tmp_path, profile, monkeypatch):
    one = live(tmp_path, profile)
    for _ in range(3):
        service.answer()
    monkeypatch.setattr("keepfit.serve.live.LOOK_S", -1.0)
    one.look(service.at + BEHIND_S + 1)
    one.look(service.at + 1000)
    said = figures(tmp_path)
    assert said["skipped_seconds"] > 900 and said["rows"].get("judged", 0) == 0


def test_every_figure_is_a_metric_from_the_start():
    found = {family.name: family for family in families({})}
    assert len(found) == len(FIGURES) and all(family.samples for family in found.values())
    assert all(name.startswith("keepfit_monitor_") for name in found)


def test_a_running_service_is_watched(tmp_path, live_of):
    server = live_of("serve_real.py", str(write_bundle(tmp_path / "bundle")))
    try:
        for _ in range(3):
            assert httpx.post(f"{server.url}/predict", json={"input": GOLDEN[0]}).status_code == 200
        host, _, port = server.host.partition(":")
        asked = Asked(host, int(port), None)
        httpx.post(f"{server.url}/predict", json={"input": GOLDEN[0]})
        since = asked()
        assert since is not None and since["requests_per_s"] > 0 and since["errors"] == 0
        assert 0 < since["latency_s"]["p50"] <= since["latency_s"]["p99"] < 5
        until = time.monotonic() + 30
        while "keepfit_monitor_looked_timestamp_seconds NaN" in httpx.get(f"{server.url}/metrics").text:
            assert time.monotonic() < until, "nobody looks"
            time.sleep(0.1)
    finally:
        server.close()
    assert Asked(host, int(port), None)() is None
