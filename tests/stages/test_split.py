"""Shares of rows: stable, stratified, by group, by time, as given; equal rows stay together; nothing leaks."""

from __future__ import annotations

import json
import os
import time
from collections import Counter

import numpy as np
import pytest
from made_tables import csv_text, mixed, write_recipe

import keepfit as kf
from keepfit.core.errors import DataError
from keepfit.recipe.data import DataOptions
from keepfit.runtime.samples import repeated
from keepfit.runtime.table import Table, text_column
from keepfit.stages.ingest import _named, ingest
from keepfit.stages.packing import pack_column, pack_table, unpack_table
from keepfit.stages.results import given_of, json_of, part_of, row_counts, task_of, truth_of
from keepfit.stages.split import split


def parts(columns, *, task="auto", seed=0, given=None, **said):
    section = DataOptions.model_validate({"source": "x", "target": "y", "split": said})
    table = _named(
        Table({name: text_column(values) for name, values in columns.items()}),
        "x",
        range(len(next(iter(columns.values())))),
    )
    files = {"table": pack_table(table), "given": pack_column(text_column(given or [""] * len(table)))}
    return np.array(part_of(split(section, task, seed, files)).tolist(), object)


def regression(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {"x": [float(v) for v in rng.normal(size=rows)], "y": [float(v) for v in rng.normal(size=rows)]}


def test_a_random_split_of_many_rows_is_stable_when_rows_are_added():
    old, more = regression(3000), regression(500, seed=1)
    new = {name: [*more[name][:250], *old[name], *more[name][250:]] for name in old}
    before, after = parts(old, by="random"), parts(new, by="random")
    assert (after[250:3250] == before).all() and len(before) == 3000
    assert 0.17 < (before == "test").mean() < 0.23 and 0.08 < (before == "validation").mean() < 0.12
    assert (parts(old, by="random", seed=1) != before).mean() > 0.2


@pytest.mark.parametrize("rows", [40, 333, 2500])
def test_stratified_shares_of_every_class(rows):
    labels = ["rare" if n % 10 == 0 else "often" for n in range(rows)]
    found = parts({"x": list(range(rows)), "y": labels}, by="stratified")
    for label in ("rare", "often"):
        inside = found[np.array(labels) == label]
        slack = 1 if len(inside) < 200 else 3 * (0.2 * 0.8 * len(inside)) ** 0.5
        assert abs((inside == "test").sum() - 0.2 * len(inside)) <= slack
        assert abs((inside == "validation").sum() - 0.1 * len(inside)) <= slack
    assert (parts({"x": list(range(rows)), "y": labels}) == found).all()


def test_a_group_never_straddles():
    rng = np.random.default_rng(0)
    groups = [f"g{n}" for n in rng.integers(0, 60, 900)]
    found = parts({**regression(900), "g": groups}, by="group", column="g")
    sets = [set(found[np.array(groups) == group]) for group in set(groups)]
    assert len(sets) == 60 and all(len(inside) == 1 for inside in sets)
    assert set(found) == {"train", "validation", "test"}


@pytest.mark.parametrize(("by", "kind"), [("stratified", "classification"), ("random", "regression")])
def test_old_rows_stay_where_they_are_when_rows_are_added(by, kind):
    columns = regression(1200)
    if kind == "classification":
        columns["y"] = [("a", "b", "c")[n % 3] for n in range(1200)]
    old = parts({name: values[:1000] for name, values in columns.items()}, by=by)
    assert (parts(columns, by=by)[:1000] == old).all() and set(old) == {"train", "validation", "test"}


@pytest.mark.parametrize("by", ["random", "stratified"])
def test_every_class_of_an_own_split_has_a_row_in_train(by):
    for seed in range(5):
        labels = [*["a", "b"] * 40, "lone", "two", "two", "same", "same"]
        x = [*range(83), 99, 99]
        found = parts({"x": x, "y": labels}, by=by, seed=seed, test=0.6, validation=0.3)
        assert all((found[np.array(labels) == label] == "train").any() for label in set(labels))
        assert found[80] == "train" and found[-1] == found[-2] == "train"


def test_a_class_of_the_test_rows_only_is_refused_by_name():
    rows = {"x": range(300), "y": [*["a", "b"] * 140, *["a", "quux"] * 10]}
    for said in ({"given": ["train"] * 280 + ["test"] * 20}, {"by": "time", "column": "x", "test": 0.07}):
        with pytest.raises(DataError) as caught:
            parts({name: list(values) for name, values in rows.items()}, **said)
        assert "'quux'" in caught.value.seen and caught.value.exit_code == 3


def matched(train, validation, test, repeat=40):
    labels = [*train * repeat, *validation * 5, *test * 5]
    given = ["train"] * len(train * repeat) + ["validation"] * len(validation * 5) + ["test"] * len(test * 5)
    section = DataOptions.model_validate({"train": "x", "target": "y"})
    table = _named(
        Table({"x": text_column(list(range(len(labels)))), "y": text_column(labels)}), "x", range(len(labels))
    )
    return split(section, "auto", 0, {"table": pack_table(table), "given": pack_column(text_column(given))})


def test_labels_of_given_files_are_matched_but_for_spaces_and_a_dot():
    found = matched(["no", "yes"], [" no ", "yes."], ["no.", "yes"])
    task, ledger = json_of(found, "task.json"), json_of(found, "ledger.json")
    assert task["classes"] == ["no", "yes"] and task["label_matches"] == {"no.": "no", "yes.": "yes"}
    assert [entry["action"] for entry in ledger] == ["changed"] * 10 and ledger[0]["after"] == "yes"
    assert truth_of(text_column(["yes.", " no"]), task_of(task)).tolist() == [1, 0]
    more = json_of(matched(["no", "yes"], ["maybe", "yes."], ["no", "maybe."]), "task.json")
    assert more["classes"] == ["maybe", "no", "yes"] and more["label_matches"] == {"yes.": "yes", "maybe.": "maybe"}
    assert json_of(matched(["true", "false"], ["True."], ["FALSE"]), "task.json")["classes"] == [False, True]


@pytest.mark.parametrize("test", [["nope"], ["yes..."]])
def test_labels_that_match_nothing_are_refused_with_both_lists(test):
    with pytest.raises(DataError) as caught:
        matched(["no", "yes"], ["no"], test)
    assert caught.value.exit_code == 3 and test[0] in caught.value.seen and "['no', 'yes']" in caught.value.hint
    with pytest.raises(DataError, match="not classes"):
        matched(["yes", " yes.", "no"], ["no"], ["yes . "])


def test_a_run_with_dotted_test_labels_says_so(tmp_path):
    rows = mixed(300)
    for row in rows[200:]:
        row["answer"] += "."
    for name, some in (("train", rows[:200]), ("test", rows[200:])):
        (tmp_path / f"{name}.csv").write_text(csv_text(some))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "version: 1\ndata: {train: train.csv, test: test.csv, target: answer, columns: {price: ignore}}\n"
        "model: {use: linear}\nexplain: {rows: 20}\n"
    )
    run = kf.run(recipe, workspace=tmp_path)
    assert json_of(run.files["evaluate"], "metrics.json")["label_matches"] == {"no.": "no", "yes.": "yes"}
    assert run.metrics["test"]["accuracy"] > 0.7 and "100 rows" in run.report.read_text("utf-8")
    assert kf.evaluate(run.bundle, tmp_path / "test.csv")["label_matches"] == {"no.": "no", "yes.": "yes"}


def test_the_asked_way_cuts_validation_from_a_given_train():
    rows = {**regression(400), "t": list(range(400)), "g": [n // 10 for n in range(400)]}
    given = ["train"] * 300 + ["test"] * 100
    found = parts(rows, given=given, by="time", column="t")
    assert found.tolist() == ["train"] * 270 + ["validation"] * 30 + ["test"] * 100
    grouped = parts(rows, given=given, by="group", column="g")[:300].reshape(30, 10)
    assert all(len(set(group)) == 1 for group in grouped) and set(grouped[:, 0]) == {"train", "validation"}


def test_one_order_of_day_and_month_rules_a_time_column():
    days = [np.datetime64("2020-01-01") + np.timedelta64(n, "D") for n in range(360)]
    american = [f"{str(d)[5:7]}/{str(d)[8:]}/{str(d)[:4]}" for d in days]
    found = parts({**regression(360), "t": american}, by="time", column="t")
    assert found.tolist() == ["train"] * 252 + ["validation"] * 36 + ["test"] * 72


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
def test_time_order_does_not_depend_on_the_zone_of_the_machine(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        days = [str(np.datetime64("2019-03-01T00:30") + np.timedelta64(int(n), "h")) for n in range(400)]
        order = np.random.default_rng(0).permutation(400)
        found = parts({**regression(400), "t": [days[n] for n in order]}, by="time", column="t")
        assert found[order < 280].tolist() == ["train"] * 280 and (order[found == "test"] >= 320).all()
        assert [(found == name).sum() for name in ("train", "validation", "test")] == [280, 40, 80]
        old = parts({**regression(30), "t": [f"{n + 1:04d}-01-01" for n in range(30)]}, by="time", column="t")
        assert old[:20].tolist() == ["train"] * 20
    finally:
        monkeypatch.undo()
        time.tzset()


def test_numbers_are_times_too_and_a_word_is_not():
    found = parts({**regression(100), "t": list(range(100))}, by="time", column="t")
    assert found.tolist() == ["train"] * 70 + ["validation"] * 10 + ["test"] * 20
    with pytest.raises(DataError, match="no date and no number"):
        parts({**regression(100), "t": [*range(99), "soon"]}, by="time", column="t")


def test_given_parts_stay_and_only_what_is_absent_is_cut_from_train():
    rows = {"x": list(range(300)), "y": ["a", "b"] * 150}
    given = ["train"] * 200 + ["test"] * 100
    found = parts(rows, given=given)
    assert (found[200:] == "test").all() and set(found[:200]) == {"train", "validation"}
    assert (found == "validation").sum() == 20
    whole = parts(rows, given=["train"] * 150 + ["validation"] * 50 + ["test"] * 100)
    assert whole.tolist() == ["train"] * 150 + ["validation"] * 50 + ["test"] * 100


@pytest.mark.parametrize("by", ["random", "stratified"])
@pytest.mark.parametrize("rows", [308, 2401])
def test_equal_rows_stay_on_one_side(by, rows):
    values = [n // 7 for n in range(rows)]
    found = parts({"x": values, "y": [("a", "b")[v % 2] for v in values]}, by=by)
    sides = [set(found[n : n + 7]) for n in range(0, rows, 7)]
    assert len(sides) == rows // 7 and all(len(side) == 1 for side in sides)
    assert abs((found == "test").mean() - 0.2) < 0.1


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"x": range(30), "y": [None] * 30}, "no_answers"),
        ({"x": range(30), "y": ["a"] * 30}, "one_class"),
        ({"x": range(5), "y": ["a", "b", "a", "b", "a"]}, "too_few_rows"),
        ({"x": range(300), "y": [f"name {n}" for n in range(300)]}, "too_many_classes"),
    ],
)
def test_targets_that_cannot_be_learned_are_coded_errors(columns, code):
    with pytest.raises(DataError) as caught:
        parts({name: list(values) for name, values in columns.items()})
    assert caught.value.code == code


def three_files(folder, change=None):
    rows = mixed(300)
    for row in rows:
        row["noise"] = str(row["code"][-1])
    train, valid, test = rows[:200], rows[200:240], rows[240:]
    for part in (valid, test):
        for row in part:
            if change:
                change(row)
    write_recipe(folder)
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        (folder / f"{name}.csv").write_text(csv_text(part), "utf-8")
    return folder / "small.yaml"


def read(path):
    """A file of a bundle, less what is measured on held-out rows on purpose: the monitor's reference."""
    if path.name != "profile.json":
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_bytes()).items() if key != "monitor"}


@pytest.mark.parametrize("learner", ["linear", "gbdt"])
def test_what_is_fitted_is_fitted_on_the_training_rows_only(tmp_path, learner):
    def other(row):
        row |= {"age": 9999.0, "city": "Atlantis", "joined": "1901-01-01", "note": "zebra quagga okapi", "noise": "77"}

    made = []
    for name, change in (("calm", None), ("changed", other)):
        recipe = three_files(tmp_path / name, change)
        recipe.write_text(
            "version: 1\ndata: {train: train.csv, validation: valid.csv, test: test.csv, target: answer, "
            f"columns: {{price: ignore}}}}\nmodel: {{use: {learner}, refit: false}}\n"
        )
        made.append(kf.run(recipe, ["model.params.rounds=10"] if learner == "gbdt" else [], workspace=tmp_path / name))
    names = ["preparation.json", "profile.json"] + (["model.onnx"] if learner == "linear" else [])
    same = [read(made[0].bundle / n) == read(made[1].bundle / n) for n in names]
    assert same == [True] * len(names) and len(names) >= 2
    rows = [json.loads((run.bundle / "golden.jsonl").read_text().splitlines()[0])["input"] for run in made]
    assert rows[0] == rows[1]
    assert made[0].metrics["test"]["accuracy"] != made[1].metrics["test"]["accuracy"]


def test_a_copy_of_the_target_in_test_rows_only_helps_nobody(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"x": float(rng.normal()), "leak": int(rng.integers(2)), "answer": ("no", "yes")[int(rng.integers(2))]}
        for _ in range(400)
    ]
    for row in rows[250:]:
        row["leak"] = int(row["answer"] == "yes")
    for name, part in (("train", rows[:250]), ("test", rows[250:])):
        (tmp_path / f"{name}.csv").write_text(csv_text(part))
    recipe = tmp_path / "r.yaml"
    recipe.write_text("version: 1\ndata: {train: train.csv, test: test.csv, target: answer}\nmodel: {use: linear}\n")
    run = kf.run(recipe, workspace=tmp_path)
    chance = run.metrics["test"]["roc_auc"]
    assert part_of(run.files["clean"]).tolist().count("test") == 150
    # the weight of the column was learned where it says nothing: it may point either way, but not be certain
    table = [json.loads(line)["scores"] for line in (run.bundle / "golden.jsonl").read_text().splitlines()]
    assert len(table) == 12 and max(max(s) for s in table) < 0.9 and chance is not None
    assert all(abs(row["drop"]) < 0.2 for row in json_of(run.files["explain"], "importance.json"))


def test_the_order_of_hash_seeds_changes_nothing(tmp_path):
    import subprocess
    import sys

    recipe = write_recipe(tmp_path, mixed(120))
    code = (
        "import sys, keepfit as kf, hashlib; r = kf.run(sys.argv[1], until='clean', workspace=sys.argv[2]);"
        "print(hashlib.sha256(repr(sorted(r.files['clean'].items())).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(recipe), str(tmp_path / seed)],
            check=True,
            text=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_several_files_of_a_split_and_one_without_rows(tmp_path):
    for part, files in (("train", 3), ("test", 2)):
        (tmp_path / part).mkdir()
        for number in range(files):
            text = "".join(
                f"{n * 7 % 97},{('yes', 'no')[n % 2]}{'.' * (part == 'test' and number)}\n" for n in range(60)
            )
            (tmp_path / part / f"{number}.csv").write_text("x,y\n" + ("" if part == "train" and number == 0 else text))
    section = DataOptions.model_validate({"train": "train/*.csv", "test": "test/*.csv", "target": "y"})
    found = ingest(section, tmp_path, None)
    assert Counter(given_of(found).tolist()) == {"train": 120, "test": 120}
    made = split(section, "auto", 0, found)
    assert json_of(made, "task.json")["classes"] == ["no", "yes"]
    assert Counter(part_of(made).tolist())["test"] == 120 and row_counts({"ingest": found, "split": made}) == (240, 240)


def test_two_sources_of_one_name_are_two(tmp_path, monkeypatch):
    rows = {"a": list(range(80)), "b": list(range(80, 160))}
    monkeypatch.setattr(
        "keepfit.stages.ingest.read_table",
        lambda source, *_: Table(
            {"x": text_column(rows[source[8]]), "y": text_column([n % 2 for n in rows[source[8]]])}
        ),
    )
    section = DataOptions.model_validate({"train": "records:a/service", "test": "records:b/service", "target": "y"})
    ids = unpack_table(ingest(section, tmp_path, None)["table"]).ids
    assert repeated(ids) == 0 and len(ids) == 160 and {one.partition("#")[0] for one in ids} == {"service", "service~2"}
