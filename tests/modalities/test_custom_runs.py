"""Networks of the user's own from recipe to bundle: tables, the article's SimpleCNN as written, and what `check` says."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit import start
from keepfit.core.errors import RecipeError

pytest.importorskip("torch", reason="torch is not installed (extra networks)")
EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, features, classes=None, outputs=None):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, outputs))
    def forward(self, x):
        return self.body(x)

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)
    def forward(self, x):
        return self.fc(x)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "rows.csv").write_text(csv_text(mixed(240)), "utf-8")
    return tmp_path


def recipe(folder, name, target="answer", more=""):
    path = folder / "own.yaml"
    path.write_text(
        f"version: 1\ndata: {{source: rows.csv, target: {target}}}\nmodel: {{use: custom, class: 'net.py:{name}'}}\n"
        f"train: {{epochs: 10, precision: fp32, optimizer: {{use: adam, lr: 1e-2}}}}\n{more}"
    )
    return path


def test_a_table_with_gaps_and_categories(folder):
    run = kf.run(recipe(folder, "Net"), workspace=folder)
    assert run.metrics["test"]["roc_auc"] > 0.6
    answers = kf.load(run.bundle).predict(mixed(30, seed=4))
    assert len(answers) == 30 and not any(answers.errors)
    checked = start.check(recipe(folder, "Net"), [], folder)["network"]
    assert (
        checked["name"] == "Net" and checked["parameters"] == 16 * (checked["input"][0] + 1) + 17 * checked["outputs"]
    )


def test_a_number_as_target(folder):
    rows = [{**row, "answer": f"{3 * float(row['age'] or 40) + n % 3:g}"} for n, row in enumerate(mixed(240))]
    (folder / "rows.csv").write_text(csv_text(rows), "utf-8")
    run = kf.run(recipe(folder, "Net"), workspace=folder)
    assert run.task == "regression" and run.metrics["test"]["r2"] > 0.5


def test_check_opens_the_class_before_anything_is_trained(folder):
    with pytest.raises(RecipeError) as caught:
        start.check(recipe(folder, "Fixed"), [], folder)
    error = caught.value
    assert error.code == "shape_mismatch" and "'fc' (Linear)" in error.what and "(3, 5)" in error.seen
    assert error.seen.startswith("it was given (2, ") and not (folder / "runs").exists()
    with pytest.raises(RecipeError, match="no class"):
        start.check(recipe(folder, "Nett"), [], folder)


def cifar(folder: Path, each: int) -> Path:
    """The first pictures of every class of the archive, in a folder per class."""
    shared = os.environ.get("KEEPFIT_SHARED", str(Path(__file__).parents[3] / "shared"))
    source = Path(shared, "data/images/cifar10_train_subset.zip")
    if not source.is_file():
        pytest.skip("the shared data is not there (KEEPFIT_SHARED)")
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".png", ".jpg")))
        seen: dict[str, int] = {}
        for name in names:
            kind = Path(name).parent.name
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= each:
                archive.extract(name, folder / "cifar")
    return next(path for path in (folder / "cifar").rglob("*.*")).parents[1]


def test_the_simple_cnn_trains_as_written(folder):
    pictures = cifar(folder, 40)
    shutil.copy(EXAMPLES / "simple_cnn.py", folder)
    path = folder / "cifar.yaml"
    path.write_text(
        f"version: 1\ndata: {{source: {str(pictures)!r}}}\nmodel: {{use: custom, class: 'simple_cnn.py:SimpleCNN'}}\n"
        "train: {epochs: 4, batch_size: 32, precision: fp32, optimizer: {use: adam, lr: 1e-3}}\n"
    )
    run = kf.run(path, workspace=folder)
    assert run.metrics["test"]["accuracy"] > 0.15  # ten classes; 400 pictures
    with pytest.raises(RecipeError) as caught:
        start.check(path, ["model.size=28"], folder)
    assert (
        "'fc1' (Linear)" in caught.value.what
        and "(10, 14400)" in caught.value.seen
        and "(2, 10816)" in caught.value.seen
    )
