"""A challenger of a network starts from its champion: classes that the champion does not know, without the old rows or with few."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import keepfit as kf
from keepfit import recipe as recipes
from keepfit.core.errors import RecipeError
from keepfit.loop import training
from keepfit.loop.attempts import Asked, Attempt
from keepfit.loop.rows import Labelled
from keepfit.loop.strategies import kinds_of
from keepfit.runtime.table import Table, text_column
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry

pytest.importorskip("torch")
RECIPE = """version: 1
name: m
data: {{source: rows.csv, target: kind}}
model: {{use: mlp, params: {{hidden: [32, 16], periodic: 0}}}}
clean: {{leaks: "off"}}
train: {{epochs: 6, batch_size: 16, optimizer: {{use: adamw, lr: 0.01}}, early_stop: off}}
retrain: {{strategy: {0}, memory: 60}}
"""
CENTRES = {"a": (0.0, 0.0), "b": (4.0, 0.0), "c": (0.0, 4.0)}


def rows(kinds: str, each: int, seed: int) -> list[dict[str, str]]:
    draw = np.random.default_rng(seed)
    found = [(kind, draw.normal(CENTRES[kind], 0.7)) for kind in kinds for _ in range(each)]
    return [
        {"x": f"{found[n][1][0]:.4f}", "y": f"{found[n][1][1]:.4f}", "kind": found[n][0]}
        for n in draw.permutation(len(found))
    ]


def champion(home: Path, strategy: str) -> None:
    (home / "r.yaml").write_text(RECIPE.format(strategy))
    with (home / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["x", "y", "kind"])
        writer.writeheader()
        writer.writerows(rows("ab", 120, 0))
    done = kf.run(home / "r.yaml", workspace=home)
    Registry(home).register(done.bundle, "m")


def challenger(home: Path, kind: str, new: str = "c") -> tuple[training.Result, dict[str, float]]:
    given = [
        Labelled(f"r{n}", 0, n, n, "", {"x": one["x"], "y": one["y"]}, None, one["kind"])
        for n, one in enumerate(rows(new, 120 // len(new), 1))
    ]
    asked = Asked(str(home / "r.yaml"), (), str(home), "m", 1, (kind,), 60, 0)
    made = training.made(Attempt.write(home / f"attempt-{kind}-{new}", asked, given[20:], given[:20], []))
    assert made.version, made.error
    model = kf.load(Registry(home).get("m", made.version).path)
    seen = rows("abc", 50, 2)
    answers = model.predict([{"x": one["x"], "y": one["y"]} for one in seen]).labels
    right = {kind: [a == s["kind"] for a, s in zip(answers, seen, strict=True) if s["kind"] == kind] for kind in "abc"}
    return made, {kind: float(np.mean(one)) for kind, one in right.items()}


def test_replay_learns_a_new_class_and_keeps_the_old(tmp_path: Path):
    champion(tmp_path, "replay")
    trained = Registry(tmp_path).get("m", 1).open().manifest["lineage"]["trained"]
    assert "weights/00-recall.safetensors" in Store(tmp_path).get(trained)  # of a recipe that will learn on
    made, right = challenger(tmp_path, "replay")
    assert min(right.values()) > 0.9, right
    assert (
        made.forgotten["rows"] >= 20
        and made.forgotten["challenger"] > 0.9
        and set(made.forgotten["by_class"]) == {"a", "b"}
    )
    report = next((tmp_path / "runs" / "m").glob("0002/report.html")).read_text()
    assert "What was forgotten" in report and "rows from before the change" in report
    more = challenger(tmp_path, "replay", "abc")[1]  # classes that it knows already
    assert min(more.values()) > 0.9, more


@pytest.mark.parametrize("kind", ["ewc", "lwf"])
def test_new_classes_without_old_rows(tmp_path: Path, kind: str):
    champion(tmp_path, kind)
    made, right = challenger(tmp_path, kind)
    # Without a method all of it is the new class: 0, 0, 1. How far it gets differs between processors: lwf 0.56 on one of them.
    assert made.kind == kind and min(right.values()) > 0.2 and np.mean(list(right.values())) > 0.5, right


def test_the_source_may_be_gone(tmp_path: Path):
    champion(tmp_path, "replay")
    (tmp_path / "rows.csv").unlink()
    made, right = challenger(tmp_path, "replay")
    assert made.forgotten is None and right["c"] > 0.9
    kinds = Asked(str(tmp_path / "r.yaml"), ("retrain.strategy=ewc",), str(tmp_path), "m", 1, ("ewc",), 60, 0)
    given = [
        Labelled("r", n, n, n, "", {"x": o["x"], "y": o["y"]}, None, o["kind"])
        for n, o in enumerate(rows("abc", 20, 1))
    ]
    made = training.made(Attempt.write(tmp_path / "ewc", kinds, given[20:], given[:20], []))
    assert not made.version and "nothing_remembered" in made.error


@pytest.mark.parametrize(
    ("classes", "written"),
    [([False, True], ["True", "FALSE"]), ([1, 2], ["2.0", " 1 "]), (["no", "yes"], ["yes ", "no"])],
)
def test_old_rows_may_spell_their_classes_otherwise(classes: list, written: list[str]):
    answers = SimpleNamespace(labels=[classes[1], classes[0]])
    opened = SimpleNamespace(
        task="classification",
        classes=classes,
        inputs=[],
        predictor=lambda: SimpleNamespace(predict=lambda rows: answers),
    )
    said = training.forgotten(opened, opened, Table({"kind": text_column(written)}), "kind")
    assert said["champion"] == 1.0 and set(said["by_class"]) == {training.class_name(one) for one in classes}


def test_weights_that_are_gone_end_one_kind_only(tmp_path: Path):
    champion(tmp_path, "auto")
    trained = Registry(tmp_path).get("m", 1).open().manifest["lineage"]["trained"]
    for file in (tmp_path / ".keepfit" / "objects").glob(f"*/{trained}*/weights/*"):
        file.write_bytes(b"")
    asked = Asked(str(tmp_path / "r.yaml"), (), str(tmp_path), "m", 1, ("replay", "full"), 60, 0)
    given = [
        Labelled(f"r{n}", 0, n, n, "", {"x": o["x"], "y": o["y"]}, None, o["kind"])
        for n, o in enumerate(rows("abc", 40, 1))
    ]
    made = training.made(Attempt.write(tmp_path / "attempt", asked, given[20:], given[:20], []))
    assert made.kind == "full" and "no_champion_weights" in made.error


def test_trees_have_no_weights_to_hold(tmp_path: Path):
    text = RECIPE.format("ewc").replace("use: mlp, params: {hidden: [32, 16], periodic: 0}", "use: gbdt")
    (tmp_path / "r.yaml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("train")))
    (tmp_path / "rows.csv").write_text("x,kind\n1,a\n")
    with pytest.raises(RecipeError, match="holds a network"):
        kinds_of("ewc", recipes.load(tmp_path / "r.yaml"), True)


def test_hold_goes_with_ewc_and_lwf(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("x,kind\n1,a\n")
    (tmp_path / "r.yaml").write_text(RECIPE.format("replay").replace("memory: 60", "hold: 2.0"))
    with pytest.raises(RecipeError, match="hold"):
        recipes.load(tmp_path / "r.yaml")
    assert json.loads(json.dumps(recipes.load(tmp_path / "r.yaml", ["retrain.strategy=ewc"]).retrain.hold)) == 2.0
