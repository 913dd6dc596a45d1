"""`keepfit bench --url` against a running service."""

from __future__ import annotations

import json
import socket

import pytest

from keepfit import load_test
from keepfit.cli.main import run
from keepfit.core.errors import DataError, EnvironmentFault, UsageError


def test_bench_measures_a_running_service_with_its_own_example(live, capsys):
    assert run(["bench", "--url", live.url, "--seconds", "0.3", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["connections"] for row in seen["rounds"]] == [1, 16, 64]
    for row in seen["rounds"]:
        assert row["answered"] > 0 and row["failed"] == 0
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["answers_per_s"] == pytest.approx(row["answered"] / 0.3, rel=0.01)


def test_bench_asks_with_a_body_and_a_token_of_yours(start, tmp_path, capsys, row, monkeypatch):
    service = start(0.0, "s3cret")
    monkeypatch.setenv("TOKEN", "s3cret")
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": [row, row]}))
    said = ["bench", "--url", service.url, "--seconds", "0.2", "--body", str(body)]
    assert run([*said, "--token-env", "TOKEN"]) == 0
    assert "answers_per_s" in capsys.readouterr().out
    assert run(said) != 0
    assert "401" in capsys.readouterr().err


def test_what_does_not_answer_is_said(live):
    with pytest.raises(DataError, match="does not answer this body"):
        load_test.bench_url(live.url, b"{}")
    with pytest.raises(UsageError):
        load_test.bench_url("https://127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(EnvironmentFault):
            load_test.bench_url(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert run(["bench"]) == 2
