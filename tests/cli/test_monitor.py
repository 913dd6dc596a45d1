"""The verb on files: windows, kinds, the report, options, foreign models; errors are four-part."""

from __future__ import annotations

import csv
import json

import pytest
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit.cli.main import run


def lines(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def monitored(capsys, *words):
    code = run(["monitor", *map(str, words), "--json"])
    return code, lines(capsys)


def test_a_stream_that_breaks_is_reported(finished, tmp_path, capsys):
    rows = mixed(400, seed=3)
    for row in rows[200:]:
        row["age"] = None if row["age"] is None else row["age"] * 1000
    path = tmp_path / "records.csv"
    path.write_text(csv_text(rows), "utf-8")
    code, found = monitored(capsys, finished.bundle, path, "monitor.window=100", "-o", tmp_path / "out")
    assert (
        code == 0 and found["rows"] == 400 and [w["kind"] for w in found["windows"]] == ["none", "none", "bug", "bug"]
    )
    assert found["windows"][2]["features"][0] == "age" and (found["windows"][3]["from"], found["windows"][3]["to"]) == (
        300,
        400,
    )
    first = found["windows"][0]
    assert first["labelled_accuracy"] > 0.6 and set(first) >= {"alarm", "estimated_accuracy", "why"}
    assert found["windows"][2]["estimated_accuracy"] is None or not found["windows"][2]["estimated_accuracy"]["trusted"]
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "a thousand times" in page and page.count("<svg") >= 2 and "script" not in page.replace("no script", "")
    with (tmp_path / "out/quarantine.csv").open(encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == found["quarantined"] and 150 < len(kept) <= 200 and int(kept[0]["row"]) >= 200


def test_rows_too_few_for_a_window_are_said(finished, tmp_path, capsys):
    path = tmp_path / "records.csv"
    path.write_text(csv_text(mixed(230, seed=4)), "utf-8")
    code, found = monitored(capsys, finished.bundle, path, "monitor.window=100")
    assert code == 0 and found["rows"] == 200 and found["left"] == 30 and len(found["windows"]) == 2
    assert run(["monitor", str(finished.bundle), str(path), "monitor.window=100"]) == 0
    assert "230" not in capsys.readouterr().out


def test_a_model_trained_elsewhere_needs_a_reference(tmp_path, capsys):
    def rows(seed, size, older):
        return [
            {**row, "age": (row["age"] or 40) + older, "prediction": row["answer"], "label": row["answer"]}
            for row in mixed(size, seed=seed)
        ]

    for name, made in (("before", rows(0, 600, 0)), ("now", rows(1, 300, 15))):
        for row in made:
            row.pop("answer")
        (tmp_path / f"{name}.csv").write_text(csv_text(made), "utf-8")
    code, found = monitored(capsys, tmp_path / "now.csv", "--reference", tmp_path / "before.csv", "monitor.window=300")
    assert code == 0 and found["windows"][0]["kind"] == "shift" and found["windows"][0]["features"][0] == "age"
    code, found = monitored(capsys, tmp_path / "now.csv")
    assert code == 2 and found["error"]["code"] == "usage" and "--reference" in found["error"]["hint"]


def test_a_bundle_with_a_given_reference(finished, tmp_path, capsys):
    for name, seed in (("before", 0), ("now", 1)):
        (tmp_path / f"{name}.csv").write_text(csv_text(mixed(300, seed=seed)), "utf-8")
    code, found = monitored(capsys, finished.bundle, tmp_path / "now.csv", "--reference", tmp_path / "before.csv")
    assert code == 0 and [w["alarm"] for w in found["windows"]] == [False]
    assert found["windows"][0]["labels"] == 300


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("monitor.window=3", "bad_value"),
        ("monitor.false_alarms=never", "bad_value"),
        ("monitor.windw=100", "unused_key"),
        ("train.epochs=3", "unused_key"),
    ],
)
def test_options_are_checked(finished, tmp_path, capsys, word, code):
    path = tmp_path / "records.csv"
    path.write_text(csv_text(mixed(60, seed=4)), "utf-8")
    exit_code, found = monitored(capsys, finished.bundle, path, word)
    assert exit_code == 2 and found["error"]["code"] == code and found["error"]["where"]


def test_the_golden_bundle_has_no_reference(tmp_path, capsys):
    from pathlib import Path

    path = tmp_path / "records.csv"
    path.write_text(csv_text(mixed(60, seed=4)), "utf-8")
    code, found = monitored(capsys, Path(__file__).parents[1] / "data/golden_bundle", path)
    assert code == 3 and found["error"]["code"] == "no_reference" and "--reference" in found["error"]["hint"]


def test_texts_and_pictures(finished_texts, finished_pictures, tmp_path, capsys):
    (tmp_path / "texts.csv").write_text("review\n" + "the room was clean and quiet\n" * 80, "utf-8")
    code, found = monitored(capsys, finished_texts.bundle, tmp_path / "texts.csv", "data.read.delimiter=;")
    assert code == 0 and found["windows"][0]["alarm"]
    folder = finished_pictures.path.parents[2] / "pictures"
    code, found = monitored(capsys, finished_pictures.bundle, folder)
    assert code == 0 and found["rows"] >= 40 and len(found["windows"]) == 1


def test_what_a_service_recorded_is_monitored(finished, tmp_path, monkeypatch, capsys):
    from keepfit.store.record_files import FileRecords

    rows = [{name: cell for name, cell in row.items() if name not in ("answer", "price")} for row in mixed(120, seed=6)]
    model = kf.load(finished.bundle)
    answers = model.predict(rows)
    backend = FileRecords(tmp_path / ".keepfit/records/shop")
    backend.key()
    names = [column.name for column in model.bundle.inputs]
    entry = {
        "t": 1_700_000_000.0,
        "id": "a",
        "model": ["shop", "1", model.bundle.sha256],
        "inputs": {name: [None if row[name] is None else str(row[name]) for row in rows] for name in names},
        "predictions": answers.labels,
        "probabilities": answers.probabilities.tolist(),
    }
    backend.write("answers", [entry], durable=True)
    monkeypatch.chdir(tmp_path)
    code, found = monitored(capsys, finished.bundle, "shop", "monitor.window=100")
    assert code == 0 and found["rows"] == 100 and found["left"] == 20 and not found["windows"][0]["alarm"]
    backend.write("answers", [{**entry, "t": 1_700_000_001.0, "inputs": None}], durable=True)
    code, found = monitored(capsys, finished.bundle, tmp_path / ".keepfit/records/shop", "monitor.window=100")
    assert code == 3 and found["error"]["code"] == "no_inputs"
    backend.write("answers", [{**entry, "t": 1_700_000_002.0, "model": ["shop", "2", "f" * 64]}], durable=True)
    other = tmp_path / "other"
    backend = FileRecords(other)
    backend.key()
    backend.write("answers", [{**entry, "model": ["shop", "2", "f" * 64]}], durable=True)
    code, found = monitored(capsys, finished.bundle, f"records:{other}")
    assert code == 3 and found["error"]["code"] == "no_rows" and "shop 2" in found["error"]["message"]


def test_a_registered_model_and_recorded_answers(finished, tmp_path, capsys, monkeypatch):
    kf.registry(tmp_path).register(finished.bundle, name="shop")
    kf.registry(tmp_path).promote("shop", 1)
    rows = [{name: cell for name, cell in row.items() if name != "answer"} for row in mixed(100, seed=8)]
    first = kf.load(finished.bundle).bundle.classes[0]
    for row in rows[:99]:
        row |= {"prediction": first, "label": first, "time": "2026-03-01T00:00:00Z"}
    rows[99] |= {"prediction": None, "label": first, "time": "2026-03-01T00:01:40Z"}
    (tmp_path / "records.csv").write_text(csv_text(rows), "utf-8")
    monkeypatch.setattr("keepfit.runtime.predictor.Predictor.scores", None)  # it is not asked
    words = ("shop@champion", tmp_path / "records.csv", "monitor.window=100", "--workspace", tmp_path)
    code, found = monitored(capsys, *words)
    assert code == 0, found
    assert found["windows"][0]["labelled_accuracy"] == 1.0 and found["windows"][0]["labels"] == 99
    assert found["windows"][0]["quality"]["not_answered"] == 1 and found["windows"][0]["quality"]["rows_per_s"] == 1.0
    assert "prediction" in found["windows"][0]["features"]
    code, found = monitored(capsys, "shopp@champion", tmp_path / "records.csv", "--workspace", tmp_path)
    assert code == 2 and "shop" in found["error"]["hint"]


def test_a_table_that_lists_pictures(finished_pictures, tmp_path, capsys):
    folder = finished_pictures.path.parents[2] / "pictures"
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))[:60]
    lines = [
        "image,label,time",
        *(f"{file},{file.parent.name},2026-03-01T00:{n:02}:00" for n, file in enumerate(files)),
    ]
    (tmp_path / "records.csv").write_text("\n".join(lines) + "\n", "utf-8")
    code, found = monitored(capsys, finished_pictures.bundle, tmp_path / "records.csv", "-o", tmp_path / "out")
    assert code == 0, found
    assert found["rows"] == len(files) and found["windows"][0]["labels"] == len(files)
    code, found = monitored(capsys, tmp_path / "records.csv", "--reference", tmp_path / "records.csv")
    assert code == 0, found
    assert found["rows"] == len(files) and not found["windows"][0]["alarm"]
