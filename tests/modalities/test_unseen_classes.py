"""A class that the fitted rows lack has a column all the same; target means know no answer they should not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from made_tables import mixed, write_recipe
from sklearn.metrics import roc_auc_score

import keepfit as kf
from keepfit.modalities.tabular import prepare
from keepfit.modalities.tabular.encode import answers, means
from keepfit.modalities.tabular.learners import auto, forest, gbdt, linear
from keepfit.modalities.tabular.learners.data import Fold, Settings
from keepfit.modalities.tabular.learners.graph import constant, joined
from keepfit.modalities.tabular.options import ForestParams, GbdtParams, LinearParams
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.network import Network
from keepfit.runtime.table import Table, text_column
from keepfit.stages.results import json_of, part_of

FITS = {
    "linear": (linear.fit, LinearParams.model_validate({})),
    "gbdt": (gbdt.fit, GbdtParams.model_validate({"rounds": 5})),
    "forest": (forest.fit, ForestParams.model_validate({"trees": 4})),
}


@pytest.mark.parametrize("known", [(0, 1), (0, 2), (1, 2), (1,)])
@pytest.mark.parametrize("name", list(FITS))
def test_scores_and_network_have_every_class(name, known):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    truth = np.array(known)[(features[:, 0] > 0).astype(int) % len(known)]
    fit, params = FITS[name]
    settings = Settings(3, 0, 1, [0, 1, 2], [0, 1, 2])
    made = auto.Candidate(name, fit, params).fitted(params, Fold(features, truth, np.ones(200)), None, settings)
    scores = made.predict(features)
    assert scores.shape == (200, 3) and scores[:, [c for c in range(3) if c not in known]].max() < 1e-6
    assert np.abs(scores.sum(1) - 1).max() < 1e-6 and (scores.argmax(1) == truth).mean() > 0.9
    assert np.abs(Network(joined([made], [1.0], 3), threads=1).scores(features) - scores).max() < 1e-5


def test_a_constant_says_one_class_and_nothing_of_gaps():
    made, features = constant(1, 2), np.array([[np.nan, 1], [2, 3]], np.float32)
    assert made.predict(features).tolist() == [[0, 1]] * 2
    assert Network(joined([made], [1.0], 2), threads=1).scores(features).tolist() == [[0, 1]] * 2


def test_auto_lives_with_a_class_of_one_row(tmp_path):
    rows = mixed(150, classes=("a", "b"))
    rows[7]["answer"] = "r"
    recipe = write_recipe(tmp_path, rows, learner="{use: auto}", more="preset: fast\nbudget: {time: 4s}\n")
    run = kf.run(recipe, workspace=tmp_path)
    assert json_of(run.files["split"], "task.json")["classes"] == ["a", "b", "r"]
    assert part_of(run.files["clean"]).tolist()[7] == "train" and run.metrics["test"]["accuracy"] > 0.6


def fitted(columns, truth, kinds):
    table = Table({name: text_column(values) for name, values in columns.items()})
    rules = [ColumnRule(name, kind) for name, kind in kinds.items()]
    folds = auto.folds_of(truth, 2, 0)
    return prepare.fit(table, rules, answers(truth, 2), folds, missing=prepare.Missing("none"), seed=0, classes=2)


def test_the_preparation_holds_no_text_and_no_rare_category_of_one_row():
    truth = np.arange(300) % 2
    people = [f"Person{n} Surname{n // 2}" for n in range(300)]
    people = [" ".join(reversed(name.split())) for name in people]
    codes = [f"only{n}" if n < 100 else f"twice{n // 2}" for n in range(300)]
    kinds = {"name": "text", "code": "categorical", "few": "categorical"}
    few = ["odd" if n == 3 else f"f{n % 20}" for n in range(300)]
    found = fitted({"name": people, "code": codes, "few": few}, truth, kinds)
    text = found.preparation.to_bytes().decode()
    assert not any(f"person{n}" in text.lower() for n in range(300))
    assert "only" not in text and "twice60" in text and json.loads(text)["features"]
    means_of = next(f for f in found.preparation.features if f["names"] == ["few mean"])
    prior = means_of.arrays["vectors"][-1, 0]
    assert means_of.arrays["vectors"][means_of.index["odd"], 0] == prior == pytest.approx(0.5)


def test_a_mean_of_one_row_is_the_prior():
    table = means(np.array([0, 0, 1, 3, -1]), np.array([[1.0], [1.0], [1.0], [0.0], [0.0]]), 3, least=2)
    assert table[1:, 0].tolist() == pytest.approx([0.6] * 3) and table[0, 0] > 0.6


def test_many_categories_of_noise_are_noise_out_of_fold():
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 1000)
        made = fitted({"c": [f"c{v}" for v in rng.integers(0, 150, 1000)]}, truth, {"c": "categorical"})
        pool = Fold(made.matrix, truth, np.ones(1000), made.encoded)
        params = GbdtParams.model_validate({"rounds": 60, "learning_rate": 0.03, "num_leaves": 7})
        settings = Settings(2, seed, 1, made.plain, made.linear)
        trial = auto._crossed(auto.Candidate("gbdt", gbdt.fit, params), pool, settings)[0]
        found.append(roc_auc_score(truth, trial.scores[:, 1]))
    assert abs(np.mean(found) - 0.5) < 0.04, found


def test_no_mean_outside_a_fold_knows_an_answer_inside():
    rng = np.random.default_rng(0)
    truth, column = rng.integers(0, 2, 400), [f"c{v}" for v in rng.integers(0, 30, 400)]
    made = fitted({"c": column}, truth, {"c": "categorical"})
    folds = auto.folds_of(truth, 2, 0)
    flipped = np.where(folds == 2, 1 - truth, truth)
    one, other = (Fold(made.matrix, y, np.ones(400), made.encoded).held_out(folds, 2, 2) for y in (truth, flipped))
    assert (one[0].features == other[0].features).all() and (one[1].features == other[1].features).all()
    place = made.encoded[0].columns[0]
    assert (one[0].features[:, place] != made.matrix[folds != 2, place]).mean() > 0.9


@pytest.mark.parametrize("helps", [False, True])
def test_pairs_that_do_not_help_end_after_the_first_fold(helps):
    rng = np.random.default_rng(0)
    table = {name: [float(v) for v in rng.uniform(1, 9, size=1200)] for name in "ab"}
    a, b = (np.array(table[name]) for name in "ab")
    truth = (((a / b > 1) if helps else a > 5) ^ (rng.random(1200) < 0.1)).astype(int)
    made = fitted(table, truth, {"a": "numeric", "b": "numeric"})
    pool = Fold(made.matrix, truth, np.ones(1200), made.encoded)
    settings = Settings(2, 0, 1, made.plain, made.linear, made.pairs)
    plain = auto.Candidate("gbdt", gbdt.fit, GbdtParams.model_validate({"rounds": 40}))
    pairs = auto.Candidate("gbdt_pairs", gbdt.fit, plain.params, pairs=True)
    said = []
    limits = auto.Limits(None, True, True, lambda: False, lambda what, data: said.append((what, data["name"])))
    found = auto.search([plain, pairs], pool, pool.take(np.arange(0)), settings, limits)
    assert said == [("tried", "gbdt"), ("tried" if helps else "ended", "gbdt_pairs")]
    assert [ended.why for ended in found.ended] == ([] if helps else ["stopped early: no better on the first fold"])
    calls = iter([False])  # time is up after the first fold of both
    late = Settings(2, 0, 1, made.plain, made.linear, made.pairs, {"late": lambda: next(calls, True)})
    short = GbdtParams.model_validate({"rounds": 15})  # too few to ask for the time while boosting
    kinds = [type(t) for t in auto._crossed(replace(plain, params=short), pool, late, replace(pairs, params=short))]
    assert len(kinds) == 2 and (not helps or kinds == [auto.Ended, auto.Trial])


def test_a_trial_that_ended_is_in_the_leaderboard_and_in_the_events(tmp_path, monkeypatch):
    all_of_them = auto.candidates
    monkeypatch.setattr(auto, "_NO_BETTER", 0.0)
    monkeypatch.setattr(auto, "candidates", lambda rows, preset: all_of_them(rows, preset)[:2])
    (tmp_path / "r.yaml").write_text(
        "version: 1\ndata: {source: 'sklearn:iris', target: target}\npreset: fast\nbudget: {time: 20s}\n"
    )
    events = []
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path, emit=events.append, until="evaluate")
    board = {row["name"]: row for row in json_of(run.files["evaluate"], "leaderboard.json")}
    why = "stopped early: no better on the first fold"
    assert board["gbdt_pairs"]["note"] == why and board["gbdt_pairs"]["validation"] is None
    assert [event.data["why"] for event in events if event.what == "ended"] == [why]


def test_a_candidate_that_runs_out_of_time_gives_no_scores_unless_it_is_the_first():
    features = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    pool = Fold(features, (features[:, 0] > 0).astype(int), np.ones(120))
    settings = Settings(2, 0, 1, [0, 1], [0, 1], extra={"late": lambda: True})
    one = auto.Candidate("linear", linear.fit, LinearParams.model_validate({}))
    assert isinstance(auto._crossed(one, pool, settings)[0], auto.Trial)
    assert auto._crossed(one, pool, settings, may_end=True)[0].why == "stopped early: the time budget"


@pytest.mark.parametrize(("most", "copies"), [(10**9, [5, 5]), (0, [1, 1])])
def test_copies_are_grown_in_turn_while_the_network_is_small(most, copies, monkeypatch):
    monkeypatch.setattr(auto, "_FILE_BYTES", most)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 2)).astype(np.float32)
    pool = Fold(features, (features[:, 0] > 0).astype(int), np.ones(120))
    settings = Settings(2, 0, 1, [0, 1], [0, 1])
    limits = auto.Limits(None, True, True, lambda: False, lambda what, data: None)
    trials = [
        auto._held_out(
            auto.Candidate(f"g{n}", gbdt.fit, GbdtParams.model_validate({"rounds": 3}), 5), pool, pool, settings
        )
        for n in range(2)
    ]
    grown = auto._for_good(trials, pool, settings, True, limits)
    assert [len(members) for members in grown] == copies
    assert len({member.files["gbdt.lightgbm.txt"] for member in grown[0]}) == copies[0]
    late = auto.Limits(0.0, True, True, lambda: False, lambda what, data: None)
    assert [len(members) for members in auto._for_good(trials, pool, settings, True, late)] == [1, 1]
