"""What is made is kept: second runs, changed fields, fresh runs, damaged artifacts, tampered bundles, interruptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_tables import made_run, mixed, statuses, write_recipe

import keepfit as kf
from keepfit.core.errors import KeepfitError
from keepfit.engine.plan import STAGES
from keepfit.stages.results import part_of
from keepfit.store.artifacts import Store

SAME = ("model.onnx", "preparation.json", "profile.json", "golden.jsonl")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    made_run(folder)
    return folder


@pytest.fixture
def mine(workspace, tmp_path):
    """A copy of the workspace with a finished run, to damage."""
    shutil.copytree(workspace, tmp_path / "w", symlinks=True)
    return tmp_path / "w"


def again(folder: Path, *overrides: str, **said):
    return kf.run(folder / "small.yaml", list(overrides), workspace=folder, **said)


def test_a_second_run_makes_nothing_and_is_the_same_folder(mine):
    before = {p: p.stat().st_mtime_ns for p in sorted((mine / "runs").rglob("*")) if p.is_file() and p.name != ".lock"}
    run = again(mine)
    assert statuses(run) == dict.fromkeys(STAGES, "kept") and len(run.stages) == 8
    assert run.path.resolve() == (mine / "runs/small/0001").resolve()
    after = {p: p.stat().st_mtime_ns for p in before}
    assert after == before and len(before) >= 14
    assert [p.name for p in (mine / "runs/small").iterdir() if p.name.isdigit()] == ["0001"]


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("model.params.c=0.3", "train"),
        ("model.refit=false", "train"),
        ("clean.missing.numeric=mean", "clean"),
        ("evaluate.primary=log_loss", "evaluate"),
        ("explain.rows=15", "explain"),
        ("package.golden=rows", "package"),
        ("clean.duplicates=drop", "clean"),
        ("data.split.test=0.25", "split"),
        ("seed=1", "split"),
        ("serve.port=8001", "package"),
    ],
)
def test_one_changed_field_redoes_only_what_depends_on_it(workspace, override, first):
    from keepfit.engine.plan import plan
    from keepfit.recipe import load

    store = Store(workspace)
    found = dict(plan(load(workspace / "small.yaml", [override])).statuses(store))
    place = STAGES.index(first)
    wanted = {name: "kept" if n < place else "to do" for n, name in enumerate(STAGES)}
    assert found == wanted and len(found) == 8


def test_a_changed_learner_field_makes_train_and_later_in_a_new_folder(mine):
    run = again(mine, "model.params.c=0.3")
    assert statuses(run) == {name: "kept" if n < 3 else "made" for n, name in enumerate(STAGES)}
    assert run.path.name == "0002" and (mine / "runs/small/latest").resolve().name == "0002"
    assert again(mine).path.name in ("0001", "0003")


def test_fresh_makes_everything_again_with_the_same_bytes(mine):
    before = {name: (mine / "runs/small/latest/bundle" / name).read_bytes() for name in SAME}
    run = again(mine, fresh=True)
    assert statuses(run) == dict.fromkeys(STAGES, "made")
    assert {name: (run.bundle / name).read_bytes() for name in SAME} == before


def test_every_damaged_artifact_is_noticed_and_made_again(mine):
    objects = sorted(p for p in (mine / ".keepfit/objects").glob("*/*") if p.is_dir())
    assert len(objects) == 8
    for place in objects:
        victim = max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        raw = bytearray(victim.read_bytes())
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(bytes(raw))
    before = {name: (mine / "runs/small/latest/bundle" / name).read_bytes() for name in SAME}
    run = again(mine)
    assert statuses(run) == dict.fromkeys(STAGES, "made")
    assert {name: (run.bundle / name).read_bytes() for name in SAME} == before


@pytest.mark.parametrize("stage", range(8))
def test_one_damaged_artifact_redoes_only_its_stage(workspace, tmp_path, stage):
    import sqlite3

    shutil.copytree(workspace, tmp_path / "w", symlinks=True)
    folder = tmp_path / "w"
    rows = dict(sqlite3.connect(folder / ".keepfit/journal.sqlite").execute("select stage, artifact from steps"))
    place = folder / ".keepfit/objects" / rows[STAGES[stage]][:2] / rows[STAGES[stage]]
    victim = max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes() + b" ")
    assert statuses(again(folder)) == {n: "made" if n == STAGES[stage] else "kept" for n in STAGES}


def test_a_lost_artifact_folder_is_made_again(mine):
    shutil.rmtree(mine / ".keepfit/objects")
    assert statuses(again(mine)) == dict.fromkeys(STAGES, "made")


@pytest.mark.parametrize(
    "name", ["bundle.json", "model.onnx", "preparation.json", "golden.jsonl", "SHA256SUMS", "card.md"]
)
def test_a_tampered_run_bundle_is_not_handed_out(mine, name):
    victim = mine / "runs/small/0001/bundle" / name
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    run = again(mine)
    assert kf.load(run.bundle).bundle.name == "small" and set(statuses(run).values()) == {"kept"}
    kf.load(mine / "runs/small/latest/bundle")


def test_an_output_folder_of_another_plan_is_rewritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)

    def fit(c, goal):
        return kf.fit("small.csv", "answer", overrides=["model.use=linear", f"model.params.c={c}"], output=goal)

    first = (fit(1.0, "one").bundle / "preparation.json", fit(1.0, "one").bundle / "model.onnx")
    fit(0.01, "two")
    run = fit(1.0, "two")
    assert set(statuses(run).values()) == {"kept"}
    assert [(Path("two/bundle") / p.name).read_bytes() == p.read_bytes() for p in first] == [True, True]


def test_an_interrupted_run_packages_and_is_not_the_finished_step(tmp_path):
    recipe = write_recipe(tmp_path, learner="{use: auto}", more="preset: fast\nbudget: {time: 8s}\n")
    asked = []

    def stopped():
        return bool(asked)

    def emit(event):
        if event.what == "tried":
            asked.append(event)

    run = kf.run(recipe, workspace=tmp_path, stopped=stopped, emit=emit)
    assert run.interrupted and len(asked) == 1 and kf.load(run.bundle).bundle.name == "small"
    done = dict(kf.api.make_plan(recipe).statuses(Store(tmp_path)))
    assert done == {n: "kept" if n in STAGES[:3] else "to do" for n in STAGES}
    whole = kf.run(recipe, ["budget.time=2s"], workspace=tmp_path)
    assert (
        not whole.interrupted
        and statuses(whole)["train"] == "made"
        and set(SAME) <= {p.name for p in whole.bundle.iterdir()}
    )


def test_an_interrupted_run_is_finished_by_the_same_command(tmp_path):
    recipe = write_recipe(tmp_path)
    run = kf.run(recipe, workspace=tmp_path, stopped=lambda: True)
    assert run.interrupted and (run.path / "bundle").is_dir()
    run = kf.run(recipe, workspace=tmp_path)
    assert not run.interrupted and set(statuses(run).values()) == {"made"}
    assert set(statuses(kf.run(recipe, workspace=tmp_path)).values()) == {"kept"}


def test_until_stops_after_the_stage_and_the_rest_is_kept(tmp_path):
    recipe = write_recipe(tmp_path)
    run = kf.run(recipe, until="clean", workspace=tmp_path)
    assert list(statuses(run)) == list(STAGES[:3]) and run.path is None and not (tmp_path / "runs").exists()
    assert statuses(kf.run(recipe, workspace=tmp_path)) == {n: "kept" if n in STAGES[:3] else "made" for n in STAGES}


def dirty() -> str:
    from made_tables import csv_text

    rows = mixed(200)
    for n in range(10):
        rows[n * 20]["answer"] = [None, "?", "NA", " ", "nan"][n % 5]
    for n in range(7):
        rows[n * 20 + 3] |= {"age": None, "city": None, "joined": None, "note": None}
    lines = csv_text([*rows, *rows[40:55]]).splitlines()
    return "\n".join([*lines[:30], "1,2", *lines[30:60], "a,b,c,d,e,f,g,h,i,j", *lines[60:], ""])


def test_every_row_is_kept_or_in_the_ledger(tmp_path):
    from keepfit.engine.run import all_entries, row_counts

    recipe = write_recipe(tmp_path, more="clean: {duplicates: drop, drop_rows_missing_over: 0.7}\n")
    (tmp_path / "small.csv").write_text(dirty(), "utf-8")
    run = kf.run(recipe, workspace=tmp_path)
    came, kept = row_counts(run.files)
    entries = [e for e in all_entries(run.files) if e.action == "dropped"]
    rules = {
        rule: sum(e.rule.startswith(rule) for e in entries)
        for rule in ("missing target", "unreadable line", "repeats", "too many")
    }
    physical = dirty().rstrip("\n").count("\n")
    assert came == physical == 217 and came == kept + len(entries)
    assert rules["missing target"] == 11 and rules["unreadable line"] == 2
    assert rules["repeats"] > 5 and rules["too many"] >= 3 and sum(rules.values()) == len(entries)
    assert len({e.id for e in entries}) == len(entries)
    from keepfit.accounts import ledger

    assert len(ledger(run.path)) == len(all_entries(run.files))


def test_files_of_one_name_in_two_folders_keep_their_samples_apart(tmp_path):
    for name in ("a", "b"):
        write_recipe(tmp_path / name, mixed(120))
    recipe = write_recipe(tmp_path, more="clean: {duplicates: drop}\n")
    recipe.write_text(recipe.read_text().replace("source: small.csv", 'source: "*/small.csv"'))
    run = kf.run(recipe, until="clean", workspace=tmp_path)
    part = part_of(run.files["clean"]).tolist()
    assert len(part) == 240 and part.count("") == part_of(run.files["split"]).tolist().count("train") / 2


def test_a_run_that_fails_leaves_no_half_written_bundle(tmp_path):
    recipe = write_recipe(tmp_path, more="evaluate: {slices: [nope]}\n")
    with pytest.raises(KeepfitError, match="nope"):
        kf.run(recipe, workspace=tmp_path)
    assert not list(tmp_path.glob("runs/*/*/bundle")) and not (tmp_path / "runs/small/latest").exists()
    done = dict(kf.api.make_plan(recipe).statuses(Store(tmp_path)))
    assert done["clean"] == "kept" and done["train"] == "to do"  # refused before the long step
