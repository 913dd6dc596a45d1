"""Each working verb once, in one workspace; signals, silence and light starts in processes of their own."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from made_tables import csv_text, mixed

from keepfit.cli import main

KEEPFIT = [sys.executable, "-m", "keepfit"]
STAGES = ["ingest", "split", "clean", "train", "evaluate", "explain", "package", "report"]


class Desk:
    """A folder with a table and a recipe that `init` wrote, and the last lines of what verbs say."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.err = folder, capsys, ""

    def text(self, *arguments: str | Path) -> str:
        code = main.run([str(argument) for argument in arguments])
        out, self.err = self.capsys.readouterr()
        assert code == 0, self.err
        return out

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.text(*arguments, "--json").splitlines()[-1])


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(csv_text(mixed()), "utf-8")
    return Desk(tmp_path, capsys)


def test_from_init_to_a_second_run(desk: Desk) -> None:
    made = desk.json("init", "t.csv", "--target", "answer", "-o", "r.yaml")
    assert Path(made["recipe"]) == desk.folder / "r.yaml"
    linear = ["model.use=linear", "data.columns={price: ignore}"]
    checked = desk.json("check", "r.yaml", *linear)
    assert checked["task"] == "classification" and [stage for stage, _ in checked["plan"]] == STAGES
    assert not (desk.folder / "runs").exists() and not (desk.folder / ".keepfit").exists()
    (desk.folder / "full.yaml").write_text(desk.text("render", "r.yaml", *linear), "utf-8")
    first = desk.json("run", "full.yaml")
    assert set(first) >= {
        "run",
        "bundle",
        "task",
        "modality",
        "metrics",
        "primary_metric",
        "stages",
        "seconds",
        "interrupted",
    }
    assert [(stage["name"], stage["status"]) for stage in first["stages"]] == [(name, "made") for name in STAGES]
    assert (
        Path(first["run"]).is_absolute()
        and Path(first["bundle"]).is_dir()
        and set(first["metrics"]) == {"validation", "test"}
    )
    second = desk.json("run", "full.yaml")
    assert {stage["status"] for stage in second["stages"]} == {"kept"} and second["run"] == first["run"]
    fresh = desk.json("run", "full.yaml", "--fresh", "--until", "split")
    assert [stage["status"] for stage in fresh["stages"]] == ["made", "made"] and fresh["bundle"] is None


def test_what_init_comments_out_fits_when_the_marks_are_gone(desk: Desk) -> None:
    from keepfit.recipe import load

    rows = [{**row, "prix: 😀 #1": row["age"], 'a "b"': row["city"]} for row in mixed()]
    (desk.folder / "t.csv").write_text(csv_text(rows), "utf-8")
    desk.json("init", "t.csv", "--target", "answer", "-o", "r.yaml")
    first, *lines = (desk.folder / "r.yaml").read_text("utf-8").splitlines()
    bare = [re.sub(r"^( *)# ", r"\1", line) for line in lines]
    assert first.startswith("# ") and bare != lines
    (desk.folder / "bare.yaml").write_text("\n".join(bare) + "\n", "utf-8")
    found = load(desk.folder / "bare.yaml")
    assert set(found.data.columns) == set(rows[0]) - {"answer"} and found.budget.time == 60
    for use in ("auto", "linear", "gbdt", "forest", "ensemble"):
        assert load(desk.folder / "r.yaml", [f"model.use={use}"]).model.use == use


def test_predict_writes_every_format(desk: Desk, finished: Any) -> None:
    lines = csv_text(mixed(50)).splitlines()
    broken = [lines[0], *lines[1:31], lines[31].replace(lines[31].split(",")[0], "forty", 1), *lines[32:]]
    (desk.folder / "q.csv").write_text("\n".join(broken) + "\n", "utf-8")
    rows = list(csv.DictReader(io.StringIO(desk.text("predict", finished.bundle, "q.csv"))))
    assert list(rows[0]) == ["prediction", "probability_no", "probability_yes", "error"]
    assert len(rows) == 50 and [place for place, row in enumerate(rows) if row["error"]] == [30]
    assert rows[30]["prediction"] == "" and "age" in rows[30]["error"] and "1 of them with an error" in desk.err
    import duckdb

    for ending in ("csv", "parquet", "jsonl"):
        told = desk.json("predict", finished.bundle, "q.csv", "-o", f"a.{ending}")
        assert told["rows"] == 50 and told["errors"] == 1 and told["output"] == str(desk.folder / f"a.{ending}")
        path = desk.folder / f"a.{ending}"
        reader = {
            "csv": f"read_csv('{path}', all_varchar=true)",
            "parquet": f"read_parquet('{path}')",
            "jsonl": f"read_json('{path}')",
        }[ending]
        found = duckdb.sql(f"select prediction, probability_yes::double from {reader}").fetchall()
        assert [str(label or "") for label, _ in found] == [row["prediction"] for row in rows]
        assert all(
            abs(share - float(row["probability_yes"])) < 1e-6
            for (_, share), row in zip(found, rows, strict=True)
            if share is not None
        )


def test_evaluate_matches_a_trailing_dot(desk: Desk, finished: Any) -> None:
    plain = desk.json("evaluate", finished.bundle, "t.csv")
    assert plain["rows"] == 240 and plain["label_matches"] == {} and plain["metrics"]["accuracy"] > 0.8
    dotted = csv_text([{**row, "answer": f" {row['answer']}."} for row in mixed()])
    (desk.folder / "dotted.csv").write_text(dotted, "utf-8")
    found = desk.json("evaluate", finished.bundle, "dotted.csv")
    assert found["label_matches"] == {"no.": "no", "yes.": "yes"} and found["metrics"] == plain["metrics"]


def test_verify_models_ledger_bench(desk: Desk, finished: Any) -> None:
    assert desk.json("verify", finished.bundle)["verified"] is True
    assert desk.json("verify", finished.path)["repeated"] == "the same files"
    space = finished.path.parents[2]
    for action in ("list", "verify"):
        assert [m["name"] for m in desk.json("models", action, "--workspace", space)["models"]] == ["small"]
    shown = desk.json("models", "show", "small@champion", "--workspace", space)
    assert shown["version"] == 1 and shown["run"] == str(finished.path.resolve()) and shown["lineage"]["data"]
    assert desk.json("models", "list", "--workspace", desk.folder)["models"] == []
    (desk.folder / "t.csv").write_text(csv_text([*mixed(), *mixed()[:7], {**mixed()[8], "answer": None}]), "utf-8")
    run = desk.json(
        "fit",
        "t.csv",
        "model.use=linear",
        "data.columns={price: ignore}",
        "clean.duplicates=drop",
        "--target",
        "answer",
        "-o",
        "kept here",
        "--quiet",
    )
    assert desk.err == "" and Path(run["run"]) == desk.folder / "kept here"
    entries = desk.json("ledger", "kept here")["entries"]
    rules = {entry["rule"] for entry in entries}
    assert {"missing target", "repeats an earlier row"} == {r for r in rules if not r.startswith("missing cell: ")}
    some = desk.json("ledger", "kept here", "--where", "missing target")["entries"]
    assert len(some) == 1 and some[0]["row"] == 247
    assert desk.json("ledger", "kept here", "-o", "l.jsonl")["entries"] == len(entries)
    assert len((desk.folder / "l.jsonl").read_text("utf-8").splitlines()) == len(entries)
    bench = desk.json("bench", finished.bundle, "--rows", "20")
    assert 0 < bench["p50_ms"] <= bench["p95_ms"] <= bench["p99_ms"] and bench["size_bytes"] > 1000


def test_verbs_about_keepfit(desk: Desk) -> None:
    assert desk.text("--version").strip() == "keepfit 0.1.0"
    assert "Commands:" in desk.text()
    schema = json.loads(desk.text("schema"))
    assert schema["$schema"].endswith("2020-12/schema") and schema["additionalProperties"] is False
    assert {"version", "data", "model", "serve"} <= set(schema["properties"]) and schema["required"] == ["data"]
    assert desk.json("schema") == schema
    parts = desk.json("parts")["parts"]
    assert {"linear", "gbdt", "forest", "auto"} <= {part["name"] for part in parts}
    assert all(Path(part["file"]).is_file() and part["doc"] for part in parts)
    assert len(desk.json("parts", "tabular.gbdt")["parts"]) == 1
    doctor = desk.json("doctor")
    assert doctor["cores"] >= 1 and doctor["extras"][0]["extra"] == "tables"
    named = re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(schema))
    assert len(named) > 10 and set(named) == set(schema["$defs"])


def test_help_is_light() -> None:
    probe = (
        "import sys; from keepfit.cli.main import run; code = run(['--help']); "
        "print(code, sorted({'numpy', 'pydantic', 'yaml', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []" and "evaluate" in done.stdout


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    """`fit` with auto and much time on 3,000 rows, once it has tried a first model."""
    (folder / "big.csv").write_text(csv_text(mixed(3000)), "utf-8")
    command = [*KEEPFIT, "fit", "big.csv", "--target", "answer", "--time", "10m", "preset=best", "--json", *more]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " tried " in line:
            return process
    raise AssertionError(process.communicate())


def test_ctrl_c_once_packages_the_best_so_far(tmp_path: Path) -> None:
    process = started(tmp_path, "data.columns={price: ignore, note: ignore}", "explain.rows=10")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out.splitlines()[-1])
    assert told["interrupted"] is True and "Traceback" not in err
    assert main.run(["verify", told["bundle"]]) == 0


def test_ctrl_c_twice_ends_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, "data.columns={price: ignore}")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "packaging the best so far" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and not list(tmp_path.glob("runs/**/bundle"))


def test_serve_answers_and_stops(finished: Any) -> None:
    command = [*KEEPFIT, "serve", str(finished.bundle), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        row = {key: value for key, value in mixed(1)[0].items() if key not in ("answer", "price")}
        body = json.dumps({"input": row}).encode()
        request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
        for _ in range(50):
            try:
                with urllib.request.urlopen(request, timeout=10) as reply:
                    answer = json.loads(reply.read())
                break
            except ConnectionError:
                time.sleep(0.1)
        assert answer["prediction"] in ("no", "yes") and set(answer["probabilities"]) == {"no", "yes"}
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err
