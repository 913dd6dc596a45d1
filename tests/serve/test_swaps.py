"""Swaps while requests are in flight: a version and its answer always agree; a refused bundle leaves the old one serving."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inprocess import Client
from made_bundles import constant_bundle

from keepfit.core.events import Event
from keepfit.serve.app import app_of
from keepfit.serve.follow import Follower, Source, registered
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings
from keepfit.store.registry import Registry


@pytest.fixture
def place(tmp_path: Path) -> Path:
    registry = Registry(tmp_path)
    for number in (1, 2, 3):
        registry.register(constant_bundle(tmp_path / str(number), number))
    return tmp_path


def opened(place: Path, **said: Any) -> tuple[Current, Follower, list[Event]]:
    source, events = Source(None, "constant@champion", place), []
    bundle = source.bundle()
    current = Current(bundle, bundle.predictor(), ServeSettings(**said))
    return current, Follower(source, current, events.append), events


def test_every_answer_names_the_version_that_gave_it(place):
    registry, (current, follower, events) = Registry(place), opened(place, threads=4)
    seen: Counter[tuple[str, float]] = Counter()
    wrong: list[Any] = []
    with Client(app_of(current)) as client:
        ending = threading.Event()

        def ask() -> None:
            while not ending.is_set():
                answer = client.post("/predict", json={"inputs": [{"x": 1.0}] * 5})
                body = answer.json()
                values = {one["prediction"] for one in body["predictions"]}
                version = body["model"]["version"]
                seen[version, *values] += 1  # type: ignore[index]
                if answer.status_code != 200 or values != {float(version)}:
                    wrong.append(body)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(30):
            registry.promote("constant", (2, 3, 1)[turn % 3])
            follower.look()
        ending.set()
        for thread in threads:
            thread.join()
        metrics = client.get("/metrics").text
    assert wrong == [] and len(seen) == 3 and sum(seen.values()) > 60
    assert [event.what for event in events] == ["swapped"] * 30
    assert 'keepfit_swaps_total{result="done"} 30.0' in metrics and metrics.count("keepfit_model_info{") == 1


def test_the_old_model_is_freed_by_itself(place):
    """Also after it has answered: what is made for the first question may not hold the model in a circle."""
    current, follower, _ = opened(place)
    old = weakref.ref(current.service.predictor)
    with Client(app_of(current)) as client:
        for _ in range(3):
            assert client.post("/predict", json={"input": {"x": 1.0}}).status_code == 200
        assert client.post("/predict", json={"input": {"x": "1"}}).status_code == 200
        gc.disable()
        try:
            Registry(place).promote("constant", 2)
            follower.look()
            assert client.post("/predict", json={"input": {"x": 1.0}}).json()["model"]["version"] == "2"
            assert old() is not None
            follower._retired.clear()
            assert old() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("damage", ["hash", "golden", "gone"])
def test_a_bundle_that_is_not_fit_leaves_the_old_one_serving(place, damage):
    current, follower, events = opened(place)
    registry = Registry(place)
    follower.look()
    registry.promote("constant", 2)
    bundle = registry.get("constant", 2).path
    if damage == "hash":
        (bundle / "model.onnx").write_bytes(b"x")
    elif damage == "gone":
        shutil.rmtree(bundle.parent)
    else:
        _lie(bundle)
    with Client(app_of(current)) as client:
        follower.look()
        follower.look()
        body = client.post("/predict", json={"input": {"x": 1.0}}).json()
        health = client.get("/healthz").json()
        assert (body["prediction"], body["model"]["version"]) == (1.0, "1")
        assert health["model"]["version"] == "1" and health["refused"]["error"]["code"]
        assert 'keepfit_swaps_total{result="refused"} 1.0' in client.get("/metrics").text
        assert [event.what for event in events] == ["swap_refused"]
        registry.promote("constant", 3)
        follower.look()
        assert client.post("/predict", json={"input": {"x": 1.0}}).json()["prediction"] == 3.0
        assert "refused" not in client.get("/healthz").json()


def _lie(bundle: Path) -> None:
    """Other golden answers, with sums and version facts that fit, so that only the replay can tell."""
    lines = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
    for line in lines:
        line["scores"] = [score + 1 for score in line["scores"]]
    (bundle / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = sorted(p.name for p in bundle.iterdir() if p.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (bundle / "SHA256SUMS").write_text(sums)
    from keepfit.core import digest

    facts = json.loads((bundle.parent / "version.json").read_bytes())["version"]
    facts["sha256"] = digest.of_bytes(sums.encode())
    (bundle.parent / "version.json").write_bytes(digest.canonical({"version": facts, "sum": digest.of_json(facts)}))


def test_a_number_is_not_followed_and_a_version_has_its_own_name(place):
    assert Source(None, "constant", place).follows and Source(None, "constant@challenger", place).follows
    assert not Source(None, "constant@2", place).follows and not Source(place).follows
    bundle = registered(Registry(place).get("constant", 2))
    assert (bundle.name, bundle.version) == ("constant", "2")
    assert float(np.float32(bundle.predictor().predict(bundle.predictor().table_of([{"x": "1"}])).labels[0])) == 2.0
