"""Wrong labels: flipped ones are found, clean ones are left alone, and the ledger has every change."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keepfit.cleaning import labels, plain_features
from keepfit.modalities.image.embed import embedded
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.pictures import encode_array
from keepfit.runtime.table import Table, text_column
from keepfit.stages.labelling import is_no_worse, labelling
from keepfit.tasks.task import Task


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    truth = found.target[:900].astype(np.int64)
    flipped = np.zeros(900, bool)
    rng = np.random.default_rng(0)
    flipped[rng.choice(700, 70, replace=False)] = True
    flipped[rng.choice(100, 10, replace=False) + 700] = True
    dirty = np.where(flipped, (truth + rng.integers(1, 10, 900)) % 10, truth)
    return found.data[:900].astype(np.float32), truth, dirty, flipped


def test_flipped_labels_are_found(digits):
    features, truth, dirty, flipped = digits
    found = labels.wrong_labels(features, dirty, 10, 0)
    right = flipped[found.rows]
    assert right.mean() >= 0.7 and right.sum() / flipped.sum() >= 0.8 and not found.blind
    assert (found.proposed == truth[found.rows])[right].mean() > 0.9
    assert len(labels.wrong_labels(features, truth, 10, 0).rows) <= 9


def test_labels_that_nothing_tells_are_not_judged():
    for classes, seed in ((3, 0), (2, 1), (2, 2), (2, 3)):
        rng = np.random.default_rng(seed)
        found = labels.wrong_labels(rng.normal(size=(150, 5)), rng.integers(0, classes, 150), classes, 0)
        assert found.blind and not len(found.rows), (classes, seed)


def test_far_values_of_a_number_are_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = 10 * x[:, 0] + x[:, 1] + rng.normal(0, 0.3, 500)
    y[[3, 77, 401]] += [60, -80, 70]
    assert set(labels.wrong_values(x, y, 0).rows[:3]) == {3, 77, 401}
    assert len(labels.wrong_values(x, y, 0).rows) <= 12


def test_the_ends_of_a_steep_curve_are_doubted_less_since_trees_must_agree() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (600, 8))
    y = 30 * x[:, 0] ** 3 + rng.normal(0, 0.1, 600)
    forest = labels.crossed(x, y, 0, 0, 60)[:, 0]
    assert (labels._deviations(y, forest) > labels._FAR).sum() > len(labels.wrong_values(x, y, 0).rows)


@pytest.mark.parametrize("way", ["relabel", "drop"])
def test_what_is_applied_stands_in_the_ledger(digits, way):
    features, _, dirty, flipped = digits
    columns = {f"p{n}": text_column(features[:, n]) for n in range(64)}
    ids = np.array([f"d.csv#{n}:{n:x}" for n in range(900)], object)
    table = Table({**columns, "y": text_column(dirty)}, ids)
    part = np.array(["train"] * 700 + ["validation"] * 100 + ["test"] * 100, object)
    rules = [finding.rule for finding in looked(table, "y", {}, [])]
    task = Task("classification", "y", tuple(range(10)))
    done = labelling(way, table, part, rules, "tabular", task, 0)
    trained = [entry for entry in done.entries if entry.row < 700]
    assert len(trained) == len(done.findings[0].ids) >= 50 and done.findings[0].rule == "wrong_labels"
    assert {entry.action for entry in done.entries} == {{"relabel": "changed", "drop": "dropped"}[way]}
    choosing = [entry.row for entry in done.entries if entry.row >= 700]
    assert max(choosing) < 800 and flipped[choosing].mean() >= 0.7 and sum(flipped[choosing]) >= 8
    assert f"so are {len(choosing)} of 100 validation rows" in done.findings[0].proposal
    assert all(entry.rule.endswith("(validation)") == (entry.row >= 700) for entry in done.entries)
    undone = [done.entries[0], done.entries[-1]]
    left = done.less([entry.key for entry in undone])
    assert [entry.action for entry in (left.entries[0], left.entries[-1])] == ["noted", "noted"]
    assert left.mended == {key: text for key, text in done.mended.items() if key not in {e.id for e in undone}}
    assert len(done.mended) == (len(done.entries) if way == "relabel" else 0)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_rows_that_choose_the_model_are_judged_by_what_training_rows_taught(digits, share):
    features, truth, dirty, _ = digits
    known, mended = labels.mend(
        "relabel", features[:700], dirty[:700], labels.wrong_labels(features[:700], dirty[:700], 10, 0)
    )
    rng = np.random.default_rng(1)
    wrong = rng.random(200) < share
    asked = np.where(wrong, (truth[700:] + rng.integers(1, 10, 200)) % 10, truth[700:])
    found = labels.suspects_among(known, mended, features[700:], asked, 10, 0)
    assert wrong[found.rows].sum() >= 0.7 * wrong.sum() and (~wrong[found.rows]).sum() <= 2
    assert (found.proposed == truth[700:][found.rows])[wrong[found.rows]].mean() > 0.9 if share else True
    far = np.where(wrong, truth[700:] + 500.0, truth[700:])
    numbers = labels.suspects_among(features[:700], truth[:700].astype(float), features[700:], far, 0, 0)
    assert not wrong.any() or set(numbers.rows) == set(np.flatnonzero(wrong))
    assert labels.suspects_among(known, mended, features[700:720], asked[:20], 10, 0).blind


def test_rows_of_another_kind_and_classes_that_were_not_learned_are_not_doubted(digits):
    features, truth, _, _ = digits
    for asked in ((truth[500:] + 1) % 10, np.random.default_rng(0).permutation(truth[500:])):
        assert labels.suspects_among(features[:500], truth[:500], features[500:], asked, 10, 0).blind
    few = np.flatnonzero((truth[:500] != 9) | (np.cumsum(truth[:500] == 9) <= 3))
    found = labels.suspects_among(features[few], truth[few], features[500:], truth[500:], 10, 0)
    assert not (truth[500:][found.rows] == 9).any() and not found.blind


def test_a_class_that_learning_folds_lack_is_no_error():
    texts = plain_features.of_texts([f"good day number {n}" for n in range(200)])
    truth = np.zeros(200, np.int64)
    truth[5] = 1
    assert labels.wrong_labels(texts, truth, 2, 0).agreement > 0.98


def test_what_helps_one_kind_of_model_and_harms_another_is_not_applied():
    better, worse = (
        labels.Compared("a forest", 0.2, 0.1, 0.01, 500),
        labels.Compared("boosted trees", 0.1, 0.102, 0.01, 500),
    )
    even = labels.Compared("boosted trees", 0.1, 0.1, 0.01, 500)
    assert is_no_worse([better, even], overlapping=False) and not is_no_worse([better, worse], overlapping=False)
    assert is_no_worse([better, even], overlapping=True) and not is_no_worse([even, even], overlapping=True)


def test_a_proposal_that_makes_models_worse_stays_one_and_says_so(digits, monkeypatch):
    features, _, dirty, _ = digits
    columns = {f"p{n}": text_column(features[:300, n]) for n in range(64)}
    table = Table(
        {**columns, "y": text_column(dirty[:300])}, np.array([f"d.csv#{n}:{n:x}" for n in range(300)], object)
    )
    rules = [finding.rule for finding in looked(table, "y", {}, [])]
    worse = [labels.Compared("a forest", 0.2, 0.21, 0.01, 300), labels.Compared("boosted trees", 0.3, 0.2, 0.01, 300)]
    monkeypatch.setattr(labels, "compared", lambda *_: worse)
    done = labelling(
        "relabel",
        table,
        np.array(["train"] * 300, object),
        rules,
        "tabular",
        Task("classification", "y", tuple(range(10))),
        0,
    )
    told = done.findings[0]
    assert done.entries == [] and done.mended == {} and len(told.ids) >= 10
    assert told.proposal.startswith(
        "kept, since what is learned so is worse for one kind of model: a forest 0.2 of answers wrong before"
    )
    assert [one["judge"] for one in told.scores] == ["a forest", "boosted trees"]


def test_pictures_are_judged_by_their_edges_and_where_installed_by_a_network():
    odd = plain_features.of_pictures(
        [encode_array(np.random.default_rng(n).integers(0, 255, (40, 30, 3), np.uint8)) for n in range(3)]
    )
    assert odd.shape == (3, 1956) and odd.dtype == np.float32 and np.isfinite(odd).all()
    flat = plain_features.of_pictures([encode_array(np.full((9, 9, 3), 128, np.uint8))])
    assert np.abs(flat[0, 192:]).max() == 0
    shown = embedded([encode_array(np.full((9, 9, 3), 40 * n, np.uint8)) for n in range(3)])
    if shown is None:
        pytest.skip("the weights of MobileNetV2 are not installed")
    assert shown.shape == (3, 1280) and np.isfinite(shown).all() and np.abs(shown[0] - shown[2]).max() > 0.01


def test_without_weights_pictures_are_judged_by_their_edges_alone(monkeypatch):
    monkeypatch.setattr("keepfit.modalities.packaged.places_of", lambda _: [])
    assert embedded([]) is None
