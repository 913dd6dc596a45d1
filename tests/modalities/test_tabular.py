"""Columns are recognized with a reason; every learner fits every task, the same way twice, and exports what it learned."""

from __future__ import annotations

import json

import pytest
from made_tables import LEARNERS, mixed, write_recipe

import keepfit as kf
from keepfit.core.errors import DataError, RecipeError
from keepfit.modalities.tabular.schema import infer
from keepfit.runtime.table import Table, text_column
from keepfit.stages.results import json_of, part_of

N = 120
COLUMNS = {
    "running": (range(N), "ignore", "identifier"),
    "code": ([f"K{n:05d}" for n in range(N)], "ignore", "identifier"),
    "zip": ([f"0{n % 40 + 1000}" for n in range(N)], "categorical", "leading zeros"),
    "iso": ([f"2020-{n % 12 + 1:02d}-{n % 28 + 1:02d}" for n in range(N)], "datetime", "dates"),
    "german": ([f"{n % 28 + 1:02d}.{n % 12 + 1:02d}.2020" for n in range(N)], "datetime", "dates"),
    "moment": ([f"2020-01-{n % 28 + 1:02d}T0{n % 10}:30:00Z" for n in range(N)], "datetime", "dates"),
    "note": ([f"the parcel number {n} came late again" for n in range(N)], "text", "words"),
    "same": (["x"] * N, "ignore", "the same value"),
    "gone": ([None, "?", "NA", " "] * (N // 4), "ignore", "missing"),
    "odd": (["?" if n % 9 == 0 else n * 1.5 for n in range(N)], "numeric", "numbers"),
    "spaced": ([f"  {n * 2.25} " for n in range(N)], "numeric", "numbers"),
    "grouped": ([f"{n + 1},000" for n in range(N)], "numeric", "numbers"),
    "few": ([("red", "green")[n % 2] for n in range(N)], "categorical", "2 different"),
    "flag": ([("True", "False")[n % 2] for n in range(N)], "categorical", "true and false"),
    "rare word": (["tbd" if n == 7 else n * 0.5 for n in range(N)], "numeric", "numbers"),
    "repeated whole": ([n % 11 for n in range(N)], "numeric", "numbers"),
    "city": ([("北京", "上海", "Köln")[n % 3] for n in range(N)], "categorical", "3 different"),
}


def found(kinds=None, missing=()):
    table = Table({**{n: text_column(list(v[0])) for n, v in COLUMNS.items()}, "y": text_column(["a", "b"] * (N // 2))})
    return {f.rule.name: f for f in infer(table, "y", kinds or {}, list(missing))}


@pytest.mark.parametrize("name", list(COLUMNS))
def test_kinds_and_reasons(name):
    finding = found()[name]
    assert (finding.rule.kind, COLUMNS[name][2] in finding.rule.why) == (COLUMNS[name][1], True), finding
    assert len(found()) == len(COLUMNS) == 17 and "y" not in found()


def test_what_is_said_wins_and_is_checked():
    said = found({"zip": "numeric", "code": "text", "few": "ignore"})
    assert [said[n].rule.kind for n in ("zip", "code", "few")] == ["numeric", "text", "ignore"]
    assert said["zip"].rule.why == "said in the recipe"
    with pytest.raises(DataError, match="did you mean 'spaced'"):
        found({"spced": "numeric"})
    assert found(missing=["red"])["few"].missing == 0.5 and found()["odd"].missing == pytest.approx(14 / N)
    assert "tbd" in found()["rare word"].rule.missing and "'tbd'" in found()["rare word"].action


def test_nothing_left_to_learn_from_says_why_for_each_column():
    table = Table({"same": text_column(["x"] * 40), "y": text_column(["a", "b"] * 20)})
    with pytest.raises(DataError, match="same value") as caught:
        infer(table, "y", {}, [])
    assert caught.value.code == "no_features"


def test_the_order_of_day_and_month_is_fitted_to_the_column():
    days = [f"{n % 12 + 1:02d}/{n % 28 + 1:02d}/2020" for n in range(N)]
    table = Table({"when": text_column(days), "y": text_column(["a", "b"] * (N // 2))})
    assert infer(table, "y", {}, [])[0].rule.month_first and not found()["german"].rule.month_first


def test_class_weight_for_a_number_is_refused_before_training(tmp_path):
    recipe = write_recipe(tmp_path, target="price", data=", balance: class_weight")
    with pytest.raises(RecipeError, match="this is a regression") as caught:
        kf.run(recipe, workspace=tmp_path)
    assert caught.value.code == "unused_key" and caught.value.where == "data.balance"


TASKS = {
    "binary": ("answer", ("no", "yes")),
    "four classes": ("answer", ("a", "b", "c", "d")),
    "regression": ("price", ("no", "yes")),
}


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("learner", list(LEARNERS))
def test_every_learner_fits_every_task_twice_the_same(tmp_path, learner, task):
    target, classes = TASKS[task]
    made = []
    for name in ("one", "two"):
        recipe = write_recipe(tmp_path / name, mixed(220, classes=classes), target=target, learner=learner)
        made.append(kf.run(recipe, until="package", workspace=tmp_path / name).files)
    names = ["model.onnx", "preparation.json", "profile.json", "golden.jsonl"]
    assert [made[0]["package"][n] == made[1]["package"][n] for n in names] == [True] * 4
    assert made[0]["evaluate"]["predictions.parquet"] == made[1]["evaluate"]["predictions.parquet"]
    manifest = json_of(made[0]["package"], "bundle.json")
    assert manifest["parity"]["largest_difference"] <= 1e-4 and manifest["parity"]["rows"] >= 40
    assert manifest["task"] == ("regression" if target == "price" else "classification")
    assert manifest["classes"] == ([] if target == "price" else list(classes))
    evaluation, metrics = (json_of(made[0]["evaluate"], n) for n in ("evaluation.json", "metrics.json"))
    primary = "rmse" if target == "price" else "accuracy"
    better = metrics["test"][primary] - evaluation["baseline"][primary]
    assert better < 0 if primary == "rmse" else better > 0.05, (metrics["test"], evaluation["baseline"])


def test_another_seed_gives_another_model(tmp_path):
    recipe = write_recipe(tmp_path, mixed(220), learner="gbdt")
    made = {
        kf.run(recipe, [f"seed={seed}"], until="train", workspace=tmp_path).files["train"]["model.onnx"]
        for seed in (0, 1)
    }
    assert len(made) == 2


def test_class_weight_changes_the_answers_and_says_so(tmp_path):
    rows = [row for n, row in enumerate(mixed(500)) if row["answer"] == "yes" or n % 4 == 0]
    recall, runs = [], []
    for balance in ("none", "class_weight"):
        recipe = write_recipe(tmp_path, rows, data=f", balance: {balance}")
        runs.append(kf.run(recipe, workspace=tmp_path))
        confusion = json_of(runs[-1].files["evaluate"], "evaluation.json")["confusion"]
        recall.append(confusion[0][0] / sum(confusion[0]))
    said = [json_of(run.files["train"], "trained.json")["class_weights"] for run in runs]
    assert said[0] is None and len(said[1]) == 2 and said[1][0] > 1 > said[1][1] and recall[1] >= recall[0]
    pages = [(run.report.read_text("utf-8"), (run.bundle / "card.md").read_text("utf-8")) for run in runs]
    assert ["class_weight)" in text for page in pages for text in page] == [False, False, True, True]


def test_auto_writes_the_leaderboard(tmp_path):
    recipe = write_recipe(tmp_path, mixed(220), learner="{use: auto}", more="preset: fast\nbudget: {time: 2s}\n")
    run = kf.run(recipe, workspace=tmp_path)
    board = json_of(run.files["evaluate"], "leaderboard.json")
    assert len(board) >= 1 and (run.path / "leaderboard.csv").exists() == (len(board) > 1)
    assert json_of(run.files["train"], "trained.json")["tried"]


@pytest.mark.parametrize(
    ("numeric", "categorical"),
    [("mean", "most_frequent"), ("median", "missing"), ("constant", "none"), ("none", "missing"), ("auto", "missing")],
)
def test_missing_values_are_filled_as_said(tmp_path, numeric, categorical):
    rows = mixed(300)
    recipe = write_recipe(
        tmp_path, rows, more=f"clean: {{missing: {{numeric: {numeric}, categorical: {categorical}}}}}\n"
    )
    run = kf.run(recipe, until="package", workspace=tmp_path)
    features = json.loads(run.files["train"]["preparation.json"])["features"]
    fill = next(f for f in features if f["op"] == "number" and f["column"] == "age" and f["block"] == "trees")["fill"]
    part = part_of(run.files["clean"]).tolist()
    known = sorted(r["age"] for r, p in zip(rows, part, strict=True) if p == "train" and r["age"] is not None)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    wanted = {"mean": sum(known) / len(known), "median": middle, "constant": 0.0}.get(numeric)
    assert fill == (None if wanted is None else pytest.approx(wanted))
    assert any("city missing" in f["names"] for f in features) == (categorical != "most_frequent")
