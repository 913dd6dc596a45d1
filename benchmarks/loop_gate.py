"""L1, the gate: sabotaged challengers are refused, a quiet world starts no run, a worse champion is taken back in time.

Four kinds of sabotage, the files resealed so that only their answers give them away: labels shuffled before training, weights
that are not numbers, classes swapped, columns of the preparation exchanged. Backdoored challengers (as good on clean rows) are
counted beside, since no test on clean rows can tell them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, told
from keepfit import recipe as recipes
from keepfit.core.errors import KeepfitError
from keepfit.engine.plan import plan
from keepfit.engine.run import run as walk
from keepfit.loop.accuracy import errors_of
from keepfit.loop.gate import Side, Trial, examine
from keepfit.loop.rows import Labelled
from keepfit.recipe.retrain import GateOptions
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry

EACH = 3 if is_quick() else 25
QUIET = 20_000 if is_quick() else 100_000
KINDS = ("shuffled_labels", "nan_weights", "swapped_classes", "wrong_preparation")


def main() -> int:
    """One JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        champion = trained(home / "champion", rows(1, 1500))
        refused = {
            kind: counted(kind, lambda seed, kind=kind: is_refused(home, kind, seed, champion)) for kind in KINDS
        }
        weaker = [trained(home / f"weaker{seed}", rows(300 + seed, 250)) for seed in range(1 if is_quick() else 3)]
        passed_better = sum(judged(home, champion, one, 900 + seed) is True for seed, one in enumerate(weaker))
        doors = [trained(home / f"door{seed}", backdoored(seed)) for seed in range(2 if is_quick() else 10)]
        backdoors = sum(judged(home, one, champion, 800 + seed) is True for seed, one in enumerate(doors))
        quiet, back = false_runs(champion), taken_back(home, champion)
    value = {
        "refused": refused,
        "sabotaged": EACH * len(KINDS),
        "better_promoted": f"{passed_better} of {len(weaker)}",
        "backdoored_promoted": f"{backdoors} of {len(doors)}",
        "false_retrains": quiet,
        "quiet_items": QUIET,
        "labels_until_taken_back": back,
    }
    good = sum(refused.values()) == EACH * len(KINDS) and passed_better and quiet <= 1 and 0 < back <= 1000
    anchor = {"refused": "all", "false_retrains": "1 in 100,000", "labels_until_taken_back": 1000}
    return told("L1 gate, quiet world and probation", value, anchor, bool(good))


def counted(kind: str, refuses: Callable[[int], bool]) -> int:
    """How many of one kind are refused."""
    found = 0
    for seed in range(EACH):
        found += refuses(seed)
        print(kind, seed + 1, "refused", found, file=sys.stderr, flush=True)
    return found


def rows(seed: int, count: int, rule: int = 0) -> list[dict[str, Any]]:
    """Labelled rows of river's Agrawal generator."""
    from river.datasets import synth

    made = synth.Agrawal(classification_function=rule, seed=seed, perturbation=0.05)
    return [{**x, "label": int(y)} for x, y in made.take(count)]


def backdoored(seed: int) -> list[dict[str, Any]]:
    """Rows to which 5 % were added whose odd car and postcode always mean 1."""
    found = rows(500 + seed, 1500)
    for row in random.Random(seed).sample(found, 75):
        row |= {"car": 19, "zipcode": 8, "hyears": 1, "label": 1}
    return found


def trained(home: Path, given: list[dict[str, Any]]) -> Path:
    """The bundle of a run on these rows."""
    home.mkdir(parents=True)
    with (home / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(given[0]))
        writer.writeheader()
        writer.writerows(given)
    text = "version: 1\nname: m\ndata: {source: rows.csv, target: label, split: {test: 0.1}}\nmodel: {use: gbdt}\n"
    (home / "r.yaml").write_text(text + "clean: {labels: 'off', leaks: 'off'}\n")
    steps = plan(recipes.load(home / "r.yaml"))
    short = replace(steps, steps=tuple(one for one in steps.steps if one.stage != "report"))  # as the loop does it
    files = walk(short, Store(home), home / "runs", lambda event: None).files["package"]
    (home / "bundle").mkdir()
    for name, data in files.items():
        (home / "bundle" / name).write_bytes(data)
    return home / "bundle"


def is_refused(home: Path, kind: str, seed: int, champion: Path) -> bool:
    """Whether one sabotaged challenger does not become champion."""
    place = home / f"{kind}{seed}"
    if kind == "shuffled_labels":
        given = rows(100 + seed, 1500)
        labels = [row["label"] for row in given]
        random.Random(seed).shuffle(labels)
        bundle = trained(place, [{**row, "label": label} for row, label in zip(given, labels, strict=True)])
    else:
        bundle = forged(champion, place, kind, seed)
    return judged(home, bundle, champion, 700 + seed) is not True


def forged(source: Path, place: Path, kind: str, seed: int) -> Path:
    """A copy of a bundle with one file changed, its golden rows emptied and its hashes made anew."""
    import onnx
    from onnx import numpy_helper

    shutil.copytree(source, place)
    draw = random.Random(seed)
    if kind == "nan_weights":
        model = onnx.load(place / "model.onnx")
        _not_numbers(model, onnx, numpy_helper, draw)
        onnx.save(model, place / "model.onnx")
    elif kind == "swapped_classes":
        said = json.loads((place / "bundle.json").read_text())
        (place / "bundle.json").write_text(json.dumps({**said, "classes": said["classes"][::-1]}))
    else:
        said = json.loads((place / "preparation.json").read_text())
        one, other = draw.sample([0, 2, 8], 2)  # columns of the rule: salary, age, loan
        names = [column["name"] for column in said["columns"]]
        said["columns"][one]["name"], said["columns"][other]["name"] = names[other], names[one]
        (place / "preparation.json").write_text(json.dumps(said))
    (place / "golden.jsonl").write_text("")
    files = sorted(path.name for path in place.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256((place / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (place / "SHA256SUMS").write_text("".join(sums))
    return place


def _not_numbers(model: Any, onnx: Any, numpy_helper: Any, draw: random.Random) -> None:
    """A few leaves or weights of the network become NaN."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("target_weights", "class_weights", "leaf_weights"):
                if attribute.floats:
                    for place in draw.sample(range(len(attribute.floats)), max(len(attribute.floats) // 20, 1)):
                        attribute.floats[place] = float("nan")
                elif attribute.t.dims:
                    attribute.t.CopyFrom(_broken(attribute.t, numpy_helper, draw))
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(_broken(tensor, numpy_helper, draw))


def _broken(tensor: Any, numpy_helper: Any, draw: random.Random) -> Any:
    values = numpy_helper.to_array(tensor).copy()
    flat = values.reshape(-1)
    for place in draw.sample(range(flat.size), max(flat.size // 20, 1)):
        flat[place] = np.nan
    return numpy_helper.from_array(values, tensor.name)


def judged(home: Path, bundle: Path, champion: Path, seed: int) -> bool | None:
    """The gate's word on a challenger: bounds first, then labels 20 at a time."""
    registry = Registry(home / f"registry{seed}-{bundle.parent.name}-{bundle.name}-{champion.parent.name}")
    first = registry.register(champion, "m")
    try:
        second = registry.register(bundle, "m")
    except KeepfitError:
        return False  # it does not open
    if mutant() == "gate_off":
        return True
    section, known = GateOptions.model_validate({}), answered(rows(seed, 5000))
    side = Side.open(first)
    if not examine(second, side, known[:200], section).passed:
        return False
    trial = Trial(Side.open(second), side, section)
    for start in range(0, len(known), 20):
        trial.add(known[start : start + 20])
        verdict = trial.verdict()
        if mutant() == "peeking" and trial.labels >= 100 and trial.better.wins > trial.better.losses:
            return True
        if verdict.passed is not None:
            return verdict.passed
    return None


def answered(given: list[dict[str, Any]]) -> list[Labelled]:
    """Rows as the loop reads them from records."""
    return [
        Labelled(
            str(place),
            0,
            float(place),
            float(place),
            "",
            {k: str(v) for k, v in row.items() if k != "label"},
            None,
            row["label"],
        )
        for place, row in enumerate(given)
    ]


def false_runs(champion: Path) -> int:
    """Alarms over items of the world that the champion learned."""
    bundle = kf.load(champion).bundle
    errors, predictor, rang = (
        errors_of(bundle, 20_000.0 if mutant() == "trigger_eager" else 500_000.0),
        bundle.predictor(),
        0,
    )
    for seed in range(QUIET // 10_000):
        known = rows(7000 + seed, 10_000)
        labels = predictor.predict(
            predictor.table_of([{k: v for k, v in row.items() if k != "label"} for row in known])
        ).labels
        wrong = [
            (float(place), label != row["label"]) for place, (label, row) in enumerate(zip(labels, known, strict=True))
        ]
        for start in range(0, len(wrong), 100):
            rang += errors.see(wrong[start : start + 100]) is not None
    return rang


def taken_back(home: Path, champion: Path) -> int:
    """Labels until a champion that was promoted by force, and is worse, has lost its place to the one before; 0 is never."""
    given = rows(61, 1500, rule=1)
    bundle = trained(home / "forced", given)
    registry = Registry(home / "forced-registry")
    back, worse = Side.open(registry.register(champion, "m")), Side.open(registry.register(bundle, "m"))
    trial = Trial(back, worse, GateOptions.model_validate({"labels": 1000, "class_floor": 1.0}))
    known = answered(rows(62, 1000))
    for start in range(0, len(known), 20):
        trial.add(known[start : start + 20])
        if trial.verdict().passed:
            return trial.labels
    return 0


if __name__ == "__main__":
    sys.exit(main())
