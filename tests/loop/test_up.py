"""`keepfit up` as a process: it answers, outlives a killed loop, is taken over, and ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.loop.made_stream import RECIPE, rows_of

from keepfit.cli.main import run


def started(home: Path) -> tuple[subprocess.Popen[str], str]:
    """`keepfit up`, once it answers."""
    log = (home / "up.log").open("w")
    command = [sys.executable, "-m", "keepfit", "up", "recipe.yaml", "serve.port=0", "--workspace", ".", "--json"]
    command.append("serve.publish=${FAR}")
    env = {**os.environ, "FAR": str(home / "far")}
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        told = [line for line in (home / "up.log").read_text().splitlines() if line.startswith("answers at ")]
        if told:
            return process, told[0].split()[-1]
        time.sleep(0.1)
    raise AssertionError((home / "up.log").read_text()[-2000:])


def post(url: str, value: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def test_it_answers_outlives_a_killed_loop_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = ["a,b,y", *(f"{r['a']},{r['b']},{r['y']}" for r in rows_of(400, False, 99))]
    (tmp_path / "first.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    process, url = started(tmp_path)
    answer = post(f"{url}/predict", {"input": {"a": 1.5, "b": 0.0}})
    assert answer["prediction"] == "yes" and answer["model"]["version"]
    assert post(f"{url}/feedback", {"request_id": answer["request_id"], "label": "yes"})
    process.kill()
    process.wait()
    assert post(f"{url}/predict", {"input": {"a": -1.5, "b": 0.0}})["prediction"] == "no"
    pid = json.loads((tmp_path / ".keepfit" / "loop" / "stream" / "service.json").read_text())["pid"]
    again, same = started(tmp_path)
    assert same == url
    again.send_signal(signal.SIGINT)
    out, _ = again.communicate(timeout=60)
    found = json.loads(out.splitlines()[-1])
    far = json.loads((tmp_path / "far" / "stream" / "pointer.json").read_bytes())["pointer"]
    assert far["aliases"] == {"champion": 1} and (tmp_path / "far/stream/versions/0001/bundle/model.onnx").is_file()
    assert again.returncode == 0 and found["champion"] == 1 and found["decisions"]["retrain"] == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/healthz", timeout=2)
    assert not Path(f"/proc/{pid}").exists() or ") Z" in Path(f"/proc/{pid}/stat").read_text()
    capsys.readouterr()
    assert run(["why", answer["request_id"], "--workspace", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["answers"][0]["label"] == "yes" and told["model"]["version"] == answer["model"]["version"]
    assert told["data"]["rows"] == 400 and len(told["data"]["alike"]) == 5 and "data" in told["recipe"]


@pytest.mark.parametrize(
    ("overrides", "code", "exit_code"),
    [
        (["serve.record=sketch"], "record_needed", 2),
        (["retrain.strategy=ewc"], "bad_value", 2),
        (["retrain.every=1h"], "bad_value", 2),
        (["retrain.wen=[drift]"], "unknown_key", 2),
    ],
)
def test_what_the_loop_cannot_do_is_refused_before_anything_runs(tmp_path, capsys, overrides, code, exit_code):
    (tmp_path / "first.csv").write_text("a,b,y\n1,2,yes\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("strategy: fresh, ", ""))
    assert run(["up", str(tmp_path / "recipe.yaml"), *overrides, "--workspace", str(tmp_path), "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["code"] == code
    assert not (tmp_path / "runs").exists()


def test_a_run_by_hand_needs_a_loop(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert run(["up", str(tmp_path / "r.yaml"), "--retrain", "--workspace", str(tmp_path), "--json"]) == 2
    assert "no_loop" in capsys.readouterr().err


def test_an_unknown_answer_is_said(tmp_path, capsys):
    assert run(["why", "nothing", "--workspace", str(tmp_path), "--json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["code"] == "unknown_request"
