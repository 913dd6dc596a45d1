"""Small models of other libraries, saved as their users save them: a linear rule over colour, and one over columns of iris."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from keepfit import adopt
from keepfit.core.events import silent
from keepfit.engine.plan import plan
from keepfit.engine.run import run
from keepfit.store.artifacts import Store

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=2, hidden=4):
        super().__init__()
        self.conv = nn.Conv2d(3, hidden, 3, padding=1)
        self.head = nn.Linear(hidden, classes)
    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))
"""


def torch_net(folder: Path):
    """The class in net.py with weights that follow from a seed."""
    import torch

    (folder / "net.py").write_text(NET)
    found: dict = {}
    exec(compile(NET, "net.py", "exec"), found)
    torch.manual_seed(0)
    return found["Net"]().eval()


def iris_csv(folder: Path) -> Path:
    """iris with names as classes, and a column that no model reads."""
    from sklearn.datasets import load_iris

    data = load_iris()
    names = ["sepal_l", "sepal_w", "petal_l", "petal_w"]
    lines = [",".join(["id", *names, "species"])]
    for row, (values, code) in enumerate(zip(data.data, data.target, strict=True)):
        lines.append(",".join([f"n{row}", *map(str, values), str(data.target_names[code])]))
    path = folder / "iris.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def iris_model():
    """A logistic regression of scikit-learn, fitted on every second row."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris()
    rows = np.arange(0, 150, 2)
    return LogisticRegression(max_iter=500).fit(
        data.data[rows].astype(np.float32), data.target_names[data.target[rows]]
    )


def bundled(folder: Path, model: str, data: str, target: str | None = None, **said):
    """The bundle that `keepfit package` would make, without report and run folder; its path and its test figures."""
    made = plan(adopt.described(folder / model, str(folder / data), target, said), until="package")
    walked = run(made, Store(folder), folder / "runs", silent)
    place = folder / f"bundle-{model}-{len(list(folder.glob('bundle-*')))}"
    place.mkdir()
    for name, content in walked.files["package"].items():
        (place / name).write_bytes(content)
    return SimpleNamespace(bundle=place, metrics=walked.metrics, task=walked.task, recipe=made.text)
