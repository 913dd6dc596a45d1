"""Records and feedback over HTTP: what is kept, what comes back, and labels that are late, doubled, unknown or wrong."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from inprocess import Client
from made_bundles import constant_bundle

from keepfit.core.errors import DataError
from keepfit.runtime.bundle import Bundle
from keepfit.serve.app import app_of, create_app
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings
from keepfit.store.record_files import FileRecords
from keepfit.store.recorder import Limits, Recorder
from keepfit.store.records import Records, checked_labels
from keepfit.tasks.task import class_name

GOLDEN = Path(__file__).parents[1] / "data" / "golden_bundle"
ROW = {"age": 34.5, "city": "Paris", "joined": "2021-06-01", "note": "blue refund"}


class Asked:
    """A client of the golden bundle whose answers are recorded in `folder`."""

    def __init__(self, folder: Path, mode: str = "full", place: Path = GOLDEN, token: str | None = None) -> None:
        bundle = Bundle.open(place)
        self.recorder = Recorder(FileRecords(folder), mode, Limits(pause_s=0.02))  # type: ignore[arg-type]
        self.client = Client(create_app(bundle, bundle.predictor(), ServeSettings(token=token), self.recorder))
        self.folder = folder

    def __enter__(self) -> Asked:
        self.client.__enter__()
        return self

    def __exit__(self, *gone: object) -> None:
        self.client.__exit__(None, None, None)
        self.recorder.close()

    def rows(self) -> list:
        self.recorder.flush()
        return list(Records(FileRecords(self.folder)).rows())

    def tell(self, said: object) -> tuple[int, dict]:
        answer = self.client.post("/feedback", json=said)
        return answer.status_code, answer.json()


def test_every_kind_of_answer_is_recorded_and_takes_feedback(tmp_path):
    with Asked(tmp_path) as asked:
        one = asked.client.post("/predict", json={"input": ROW}).json()
        many = asked.client.post("/predict", json={"inputs": [ROW, {**ROW, "age": None}]}).json()
        tensor = [
            {"name": n, "datatype": "FP64" if n == "age" else "BYTES", "shape": [1], "data": [v]}
            for n, v in ROW.items()
        ]
        infer = asked.client.post("/v2/models/small/infer", json={"id": "mine", "inputs": tensor}).json()
        assert infer["id"] == "mine" and infer["parameters"]["sha256"] == one["model"]["sha256"]
        ids = [one["request_id"], many["request_id"], infer["parameters"]["request_id"]]
        assert asked.tell({"request_id": ids[1], "labels": ["yes", None]}) == (
            200, {"request_id": ids[1], "known": True, "stored": True, "labels": 2}
        )  # fmt: skip
        for label in ("no", "no", "yes"):
            assert asked.tell({"request_id": ids[0], "label": label})[0] == 200
        rows = asked.rows()
        assert [(r.request_id, r.label) for r in rows] == [
            (ids[0], "yes"),
            (ids[1], "yes"),
            (ids[1], None),
            (ids[2], None),
        ]
        assert rows[0].inputs == {"age": "34.5", "city": "Paris", "joined": "2021-06-01", "note": "blue refund"}
        assert rows[2].inputs["age"] is None and rows[3].inputs == rows[0].inputs
        assert [r.prediction for r in rows[:2]] == [one["prediction"], many["predictions"][0]["prediction"]]
        assert rows[0].probabilities == pytest.approx(list(one["probabilities"].values()), abs=1e-7)
        metrics = asked.client.get("/metrics").text
        assert (
            'keepfit_feedback_total{result="stored"} 4.0' in metrics
            and 'keepfit_records_total{result="written"} 4.0' in metrics
        )


def test_what_is_wrong_with_feedback_is_said_by_name(tmp_path):
    with Asked(tmp_path) as asked:
        known = asked.client.post("/predict", json={"inputs": [ROW, ROW]}).json()["request_id"]
        for said, code in [
            ({"request_id": known, "label": "yes"}, "labels_count"),
            ({"request_id": known, "labels": ["yes"] * 3}, "labels_count"),
            ({"request_id": known, "labels": ["yes", "maybe"]}, "label_unknown"),
            ({"request_id": known, "labels": ["yes", ["no"]]}, "label_unknown"),
            ({"request_id": known, "labels": "yes"}, "labels_type"),
            ({"request_id": known, "labels": []}, "labels_type"),
            ({"request_id": known, "label": None}, "label_type"),
            ({"request_id": known}, "key_count"),
            ({"request_id": known, "label": "yes", "labels": ["yes", "no"]}, "key_count"),
            ({"request_id": known, "lable": "yes"}, "key_unknown"),
            ({"request_id": 3, "label": "yes"}, "request_id_type"),
            ({"request_id": "x" * 300, "label": "yes"}, "request_id_type"),
            ([known, "yes"], "body_type"),
        ]:
            status, body = asked.tell(said)
            assert (status, body["error"]["code"]) == (422, code) and body["error"]["hint"], said
        for stranger in ("0" * 32, "x", known[:-1] + ("0" if known[-1] != "0" else "1"), "ü"):
            status, body = asked.tell({"request_id": stranger, "label": "yes"})
            assert status == 200 and (body["known"], body["stored"]) == (False, False) and body["message"]
        assert asked.tell({"request_id": known, "labels": ["yes", "no"]})[0] == 200
        assert len(list(Records(FileRecords(tmp_path)).feedback())) == 1


def test_a_web_page_cannot_send_feedback_where_there_is_no_token(tmp_path):
    with Asked(tmp_path / "a") as asked:
        answer = asked.client.post("/feedback", content=b"{}", headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "content_type")
        said = json.dumps({"request_id": "x", "label": "yes"})
        for origin, status in (
            ("http://127.0.0.1:8000", 200), ("http://localhost:3000", 200), ("http://[::1]:8000", 200),
            ("http://evil.example:8000", 403), ("http://127.0.0.1.evil.example", 403), ("null", 403), ("http://[", 403),
        ):  # fmt: skip
            headers = {"Content-Type": "application/json", "Origin": origin}
            answer = asked.client.post("/feedback", content=said, headers=headers)
            assert answer.status_code == status, origin
    with Asked(tmp_path / "b", token="t") as asked:
        assert asked.tell({"request_id": "x", "label": "yes"})[0] == 401
        answer = asked.client.post(
            "/feedback", content=b'{"request_id": "x", "label": "yes"}', headers={"Authorization": "Bearer t"}
        )
        assert answer.status_code == 200


def test_a_number_is_the_truth_of_a_regression(tmp_path):
    with Asked(tmp_path / "r", place=constant_bundle(tmp_path / "c", 2)) as asked:
        known = asked.client.post("/predict", json={"input": {"x": 1}}).json()["request_id"]
        assert asked.tell({"request_id": known, "label": 2.5})[0] == 200
        assert asked.tell({"request_id": known, "label": "2.5"})[0] == 422
        assert [(r.prediction, r.label, r.probabilities) for r in asked.rows()] == [(2.0, 2.5, None)]


def test_a_late_label_may_be_a_class_that_only_the_model_of_before_knows(tmp_path):
    """After a swap, and after a restart."""
    old = Bundle.open(GOLDEN)
    new = replace(old, manifest={**old.manifest, "classes": ["no", "perhaps"]}, sha256="cd" * 32)
    recorder = Recorder(FileRecords(tmp_path), "full", Limits(pause_s=0.02))
    current = Current(old, old.predictor(), ServeSettings(), recorder)
    with Client(app_of(current)) as client:
        known = client.post("/predict", json={"input": ROW}).json()["request_id"]
        current.swap(new, old.predictor())
        for label, status in (("yes", 200), ("perhaps", 200), ("never", 422)):
            assert client.post("/feedback", json={"request_id": known, "label": label}).status_code == status, label
    recorder.close()
    recorder = Recorder(FileRecords(tmp_path), "full", Limits(pause_s=0.02))
    with Client(create_app(new, old.predictor(), ServeSettings(), recorder)) as client:
        assert client.post("/feedback", json={"request_id": known, "label": "yes"}).status_code == 200
        assert "yes" in str(client.get("/openapi.json").json()["paths"]["/feedback"])
    recorder.close()


def test_feedback_that_is_not_durable_is_not_acknowledged(tmp_path, monkeypatch):
    from keepfit.store import segments

    with Asked(tmp_path) as asked:
        known = asked.client.post("/predict", json={"input": ROW}).json()["request_id"]
        asked.recorder.flush()

        def broken(handle: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(segments.os, "fsync", broken)
        status, body = asked.tell({"request_id": known, "label": "yes"})
        assert (status, body["error"]["code"]) == (503, "feedback_not_stored")
        monkeypatch.undo()
        assert asked.tell({"request_id": known, "label": "yes"})[0] == 200


def test_recording_does_not_hold_up_answers(tmp_path, monkeypatch):
    with Asked(tmp_path) as asked:
        asked.client.post("/predict", json={"input": ROW})
        monkeypatch.setattr(FileRecords, "write", lambda *said, **more: time.sleep(2.0))
        asked.client.post("/predict", json={"input": ROW})
        time.sleep(0.2)
        begun = time.monotonic()
        for _ in range(5):
            assert asked.client.post("/predict", json={"input": ROW}).status_code == 200
        assert time.monotonic() - begun < 1.5
        monkeypatch.undo()


def test_a_class_that_the_model_does_not_know_is_taken_only_where_that_is_said():
    texts, numbers = ("yes", "no"), (0, 1)
    assert checked_labels(["maybe", "no"], "classification", texts, class_name, True) == ["maybe", "no"]
    assert checked_labels([2, "1"], "classification", numbers, class_name, True) == [2, 1]
    for labels, classes in (
        ([" "], texts),
        (["x" * 201], texts),
        ([3], texts),
        (["2"], numbers),
        ([2.5], numbers),
        ([True], numbers),
    ):
        with pytest.raises(DataError, match="none of the model's classes"):
            checked_labels(labels, "classification", classes, class_name, True)
    with pytest.raises(DataError):
        checked_labels(["maybe"], "classification", texts, class_name)
