"""A bundle reads files as its training rows were read; overrides change that, and old bundles know nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_tables import LEARNERS, csv_text, mixed

import keepfit as kf
from keepfit import api, raw
from keepfit.core.errors import DataError, EnvironmentFault, RecipeError


def headless(rows, delimiter=";", without=()):
    kept = [{k: v for k, v in row.items() if k not in ("note", *without)} for row in rows]
    return "\n".join(csv_text(kept).replace(",", delimiter).splitlines()[1:]) + "\n"


@pytest.fixture(scope="module", params=["names", "no names"])
def made(request, tmp_path_factory):
    """A run on a file without a header, where `?` is missing; its target is the last column."""
    folder = tmp_path_factory.mktemp("headless")
    rows = mixed()
    for row in rows[::40]:
        row["answer"] = "?"
    (folder / "t.txt").write_text(headless(rows), "utf-8")
    named = request.param == "names"
    names = ", names: [age, city, joined, code, price, answer]" if named else ""
    target, price = ("answer", "price") if named else ("column_5", "column_4")
    (folder / "r.yaml").write_text(
        f"version: 1\ndata:\n  source: t.txt\n  target: {target}\n  columns: {{{price}: ignore}}\n"
        f"  read: {{header: false, delimiter: ';', missing: ['?']{names}}}\nmodel: {LEARNERS['linear']}\n",
        "utf-8",
    )
    return kf.run(folder / "r.yaml", workspace=folder), folder, rows


def test_the_training_file_is_evaluated_as_it_is(made):
    run, folder, _ = made
    found = api.evaluate(run.bundle, folder / "t.txt")
    assert found["rows"] == 234 and found["metrics"]["accuracy"] > 0.8 and found["label_matches"] == {}
    assert "t.txt" not in json.dumps(json.loads((run.bundle / "bundle.json").read_bytes())["read"])


def test_a_file_without_the_target_is_answered_the_same(made):
    run, folder, rows = made
    answers = []
    for name, without in (("q.txt", ()), ("less.txt", ("answer",))):
        (folder / name).write_text(headless(rows, without=without), "utf-8")
        lines = []
        assert api.predict(run.bundle, folder / name, write=lines.append)["errors"] == 0
        answers.append(lines)
    assert answers[0] == answers[1] and len(answers[0]) == 241


def test_overrides_say_how_another_file_is_read(made):
    run, folder, rows = made
    (folder / "bars.txt").write_text(headless(rows, "|"), "utf-8")
    with pytest.raises(DataError) as caught:
        api.evaluate(run.bundle, folder / "bars.txt")
    assert "data.read.delimiter" in caught.value.hint
    found = api.evaluate(run.bundle, folder / "bars.txt", ["data.read.delimiter=|"])
    plain = api.evaluate(run.bundle, folder / "t.txt")
    assert {**found, "left_out": None} == {**plain, "left_out": None}
    assert [one["rows"] for one in found["left_out"]] == [one["rows"] for one in plain["left_out"]]
    first = rows[1]["answer"]
    fewer = api.evaluate(run.bundle, folder / "t.txt", [f"data.read.missing=['?', '{first.upper()}']"])
    assert fewer["rows"] == sum(row["answer"] not in ("?", first) for row in rows)


def test_another_separator_than_in_training_is_said_so(tmp_path):
    (tmp_path / "t.csv").write_text(csv_text(mixed()), "utf-8")
    said = ["model.use=linear", "data.columns={price: ignore}", "data.read.delimiter=,"]
    run = kf.fit(str(tmp_path / "t.csv"), "answer", overrides=said, workspace=tmp_path)
    (tmp_path / "u.csv").write_text(csv_text(mixed()).replace(",", ";"), "utf-8")
    for verb in (api.predict, api.evaluate):
        with pytest.raises(DataError) as caught:
            verb(run.bundle, tmp_path / "u.csv", overrides=[])
        assert caught.value.code == "column_missing" and "data.read.delimiter=;" in caught.value.hint
    assert api.evaluate(run.bundle, tmp_path / "u.csv", ["data.read.delimiter=;"])["rows"] == 240


@pytest.mark.parametrize(
    ("override", "code"),
    [("seed=1", "unused_key"), ("data.read.delimitr=x", "unknown_key"), ("data.read.delimiter=ab", "bad_value")],
)
def test_other_overrides_are_refused(made, override, code):
    with pytest.raises(RecipeError) as caught:
        api.predict(made[0].bundle, made[1] / "t.txt", overrides=[override])
    assert caught.value.code == code and caught.value.where == override and caught.value.hint


def test_a_bundle_that_does_not_say_how_it_was_read_is_read_as_ever(finished, tmp_path):
    assert "read" not in json.loads((finished.bundle / "bundle.json").read_bytes())
    assert kf.load(Path(__file__).parents[1] / "data/golden_bundle").bundle.read == {}
    (tmp_path / "t.csv").write_text(csv_text(mixed()).replace(",", ";"), "utf-8")
    assert api.evaluate(finished.bundle, tmp_path / "t.csv")["rows"] == 240


@pytest.mark.parametrize("said", [3, {"delimiter": 7}, {"nope": 1}])
def test_hostile_read_options_are_a_damaged_bundle(finished, tmp_path, said):
    from keepfit.runtime.bundle import Bundle

    opened = Bundle.open(finished.bundle)
    opened.manifest["read"] = said
    with pytest.raises(EnvironmentFault) as caught:
        list(raw.tables(opened, tmp_path / "t.csv", ())[0])
    assert caught.value.code == "damaged_bundle"
