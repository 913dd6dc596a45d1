"""What a walk may write over: nobody's files, no finished run; what it leaves behind when it fails: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from made_tables import made_run, mixed, statuses, write_recipe

import keepfit as kf
from keepfit.core.errors import EnvironmentFault, KeepfitError, UsageError
from keepfit.engine import folder as folders
from keepfit.engine import run as engine
from keepfit.store.artifacts import Store

LINEAR = ["model.use=linear", "data.columns={price: ignore}", "explain.rows=20"]


def fit(tmp_path, goal, *more, **said):
    return kf.fit(
        str(tmp_path / "small.csv"), "answer", overrides=[*LINEAR, *more], output=goal, workspace=tmp_path, **said
    )


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["bundle/model.bin", "recipe.yaml", "notes.txt", "plan.json", ".lock"])
def test_a_folder_with_somebodys_files_is_refused_before_anything_is_made(tmp_path, name):
    write_recipe(tmp_path)
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text('{"keys": "mine"}')
    with pytest.raises(UsageError) as caught:
        fit(tmp_path, tmp_path / "mine")
    assert caught.value.code == "folder_not_empty" and caught.value.hint and "mine" in caught.value.where
    assert files(tmp_path / "mine") == {name: b'{"keys": "mine"}'}
    assert not list((tmp_path / ".keepfit/objects").glob("*/*"))


def test_a_failed_fit_leaves_nothing(tmp_path):
    write_recipe(tmp_path)
    with pytest.raises(KeepfitError, match="nope"):
        fit(tmp_path, tmp_path / "a/b/goal", "evaluate.slices=[nope]")
    assert not (tmp_path / "a").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeepfitError, match="nope"):
        fit(tmp_path, tmp_path / "empty", "evaluate.slices=[nope]")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_failed_fit_leaves_the_finished_run_that_lay_there(tmp_path):
    write_recipe(tmp_path)
    fit(tmp_path, tmp_path / "goal")
    before = files(tmp_path / "goal")
    with pytest.raises(KeepfitError, match="nope"):
        fit(tmp_path, tmp_path / "goal", "seed=1", "evaluate.slices=[nope]")
    assert files(tmp_path / "goal") == before and len(before) >= 14


def test_another_plan_in_the_same_folder_leaves_nothing_of_the_old_one(tmp_path):
    write_recipe(tmp_path)
    fit(tmp_path, tmp_path / "goal")
    for name in ("leaderboard.csv", "plots/old.png", "mine.txt"):
        (tmp_path / "goal" / name).write_text("old")
    run = fit(tmp_path, tmp_path / "goal", "explain.rows=15")
    names = set(files(run.path))
    assert "mine.txt" in names and not {"leaderboard.csv", "plots/old.png", ".events.part"} & names
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert {line["at"] for line in lines} == {"explain", "package", "report"}
    assert [line["elapsed_s"] for line in lines] == sorted(line["elapsed_s"] for line in lines)


def test_a_folder_that_is_written_is_refused_to_others(tmp_path):
    write_recipe(tmp_path)
    seen = []

    def emit(event):
        if not seen:
            with pytest.raises(EnvironmentFault) as caught:
                fit(tmp_path, tmp_path / "goal")
            seen.append(caught.value.code)

    run = fit(tmp_path, tmp_path / "goal", emit=emit)
    assert seen == ["folder_in_use"] and set(statuses(run).values()) == {"made"}
    assert set(statuses(fit(tmp_path, tmp_path / "goal")).values()) == {"kept"}


def test_the_goal_may_be_the_workspace(tmp_path):
    write_recipe(tmp_path / "data")
    run = kf.fit(
        str(tmp_path / "data/small.csv"), "answer", overrides=LINEAR, output=tmp_path / "w", workspace=tmp_path / "w"
    )
    assert run.path == tmp_path / "w" and (tmp_path / "w/.keepfit").is_dir()


def test_a_killed_fit_may_be_said_again(tmp_path):
    write_recipe(tmp_path)
    code = (
        "import os, sys, keepfit as kf\n"
        "def emit(event):\n    event.at == 'report' and os._exit(9)\n"
        f"kf.fit('small.csv', 'answer', overrides={LINEAR!r}, output='goal', emit=emit)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 9
    assert (tmp_path / "goal/events.jsonl").exists() and not (tmp_path / "goal/plan.json").exists()
    run = fit(tmp_path, tmp_path / "goal")
    assert statuses(run)["report"] == "made" and kf.load(run.bundle)
    assert {json.loads(line)["at"] for line in (run.path / "events.jsonl").read_text().splitlines()} == {"report"}


def test_a_finished_run_is_never_written_over(tmp_path):
    first = made_run(tmp_path)
    before = files(first.path)
    for number in (2, 3):
        run = kf.run(tmp_path / "small.yaml", workspace=tmp_path, fresh=True)
        assert run.path.name == f"000{number}" and (tmp_path / "runs/small/latest").resolve() == run.path.resolve()
        assert (run.path / "events.jsonl").read_text().count('"what": "started"') == 8
    assert files(first.path) == before
    assert kf.run(tmp_path / "small.yaml", workspace=tmp_path).path.resolve() == run.path.resolve()


def test_a_kill_while_files_are_written_leaves_nothing_that_counts(tmp_path, monkeypatch):
    """The store is whole, the folder is not: the same command writes it again."""
    recipe = write_recipe(tmp_path)
    kept = kf.run(recipe, workspace=tmp_path, stopped=lambda: True)
    (kept.path / "metrics.json").write_bytes(b"{}")  # a model that was stopped early has other figures
    old = files(kept.path)
    real = engine._write

    def killed(folder, done):
        real(folder, done)
        shutil.copytree(folder, tmp_path / "as it was when killed", symlinks=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        kf.run(recipe, workspace=tmp_path)
    monkeypatch.setattr(engine, "_write", real)
    assert files(kept.path) == old and not (tmp_path / "as it was when killed/plan.json").exists()
    run = kf.run(recipe, workspace=tmp_path)
    assert set(statuses(run).values()) == {"kept"} and not run.interrupted
    assert run.path.resolve() != kept.path.resolve()  # all is kept, and the interrupted run is not that
    assert (run.path / "metrics.json").read_bytes() == run.files["evaluate"]["metrics.json"]


def test_the_saved_recipe_runs_where_it_lies_and_the_bundle_knows_no_folder(tmp_path):
    runs = []
    for place in ("here", "far/away"):
        write_recipe(tmp_path / place)
        run = kf.fit(str(tmp_path / place / "small.csv"), "answer", overrides=LINEAR, workspace=tmp_path / place)
        assert "source: ../../../small.csv\n" in (run.path / "recipe.yaml").read_text()
        again = kf.run(run.path / "recipe.yaml", workspace=tmp_path / place)
        assert set(statuses(again).values()) == {"kept"} and again.path.resolve() == run.path.resolve()
        assert kf.api.verify(run.bundle)["verified"]
        runs.append(run)
    first, second = (files(run.bundle) for run in runs)
    assert first == second and len(first) == 8 and b"source: small.csv\n" in first["recipe.yaml"]
    for run in runs:
        text = b"".join(files(run.path)[name] for name in ("report.html", "bundle/card.md", "plan.json", "recipe.yaml"))
        assert str(tmp_path).encode() not in text


def test_data_that_moved_is_not_said_to_lie_where_it_was(tmp_path):
    for place in ("a", "b"):
        write_recipe(tmp_path / place)
    first = kf.run(tmp_path / "a/small.yaml", workspace=tmp_path)
    second = kf.run(tmp_path / "b/small.yaml", workspace=tmp_path)
    assert set(statuses(second).values()) == {"kept"} and second.path != first.path
    assert [f"{run.path.parents[2].name}" for run in (first, second)] == [tmp_path.name] * 2
    assert "../../../b/small.csv" in (second.path / "recipe.yaml").read_text()


def test_a_target_of_any_letters(tmp_path):
    rows = [
        {**{k: v for k, v in row.items() if k not in ("price", "answer")}, "prix 😀": row["answer"]} for row in mixed()
    ]
    write_recipe(tmp_path, rows)
    run = kf.fit(str(tmp_path / "small.csv"), "prix 😀", overrides=["model.use=linear"], workspace=tmp_path)
    assert run.task == "classification" and "target: prix 😀" in (run.path / "recipe.yaml").read_text("utf-8")


def test_locks_are_marked_and_husks_are_swept(tmp_path):
    place = folders.RunFolder(Store(tmp_path), tmp_path / "runs", "x", ["k"])
    taken = place.take()
    (taken / ".bundle.abc.part").mkdir()
    (taken / ".metrics.json.abc.part").write_text("x")
    place.begin()
    assert os.listdir(taken) == [".lock"] and (taken / ".lock").read_bytes() == b"keepfit\n"
    place.fail()
    place.release()
    assert not taken.exists()
