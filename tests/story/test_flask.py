"""`examples/flask_service.py`: a bundle answers inside an application of one's own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from keepfit import api

SERVICE = Path(__file__).parents[2] / "examples" / "flask_service.py"


def test_flask_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.fit("sklearn:wine", "grower", overrides=["model.use=linear"], workspace=tmp_path)
    assert run.bundle is not None
    monkeypatch.setenv("BUNDLE", str(run.bundle))
    spec = importlib.util.spec_from_file_location("flask_service", SERVICE)
    assert spec is not None and spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)

    model = api.load(run.bundle)
    rows = [json.loads(line)["input"] for line in (run.bundle / "golden.jsonl").read_text("utf-8").splitlines()]
    rows = [{name: float(text) if text is not None else None for name, text in row.items()} for row in rows]
    client = service.app.test_client()
    answers = [client.post("/predict", json={"input": row}) for row in rows]
    assert len(answers) >= 5
    assert [answer.status_code for answer in answers] == [200] * len(rows)
    assert [answer.get_json()["prediction"] for answer in answers] == model.predict(rows).labels
    assert {answer.get_json()["error"] for answer in answers} <= {"", None}
    assert len(SERVICE.read_text("utf-8").splitlines()) <= 20
