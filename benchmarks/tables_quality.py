"""Quality on three real tables, beside LightGBM's defaults on the very same splits: adult, California housing, Titanic.

`--mutant linear` trains the linear learner in place of auto: it must miss the goals.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightgbm
import pandas as pd
from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

import keepfit as kf
from benchmarks.measuring import is_quick, mutant, shared_table, skipped, told

GOAL = (
    "tables: adult accuracy 0.873 and roc_auc 0.928, California rmse 45,500, Titanic accuracy 0.83, "
    "never below LightGBM defaults"
)
ANCHOR = {"adult": {"accuracy": 0.873, "roc_auc": 0.928}, "california": {"rmse": 45_500}, "titanic": {"accuracy": 0.83}}
FILES = ("adult_train.csv.gz", "adult_test.csv.gz", "california_housing.csv.gz", "titanic.csv.gz")


def defaults(train: pd.DataFrame, test: pd.DataFrame, target: str, kind: str) -> dict[str, float]:
    """LightGBM as it comes: numbers as they are, texts of at most 100 values as categories, other texts left out."""
    texts = [name for name in train.columns if name != target and not pd.api.types.is_numeric_dtype(train[name])]
    wide = [name for name in texts if train[name].nunique() > 100]
    left, right = train.drop(columns=[target, *wide]), test.drop(columns=[target, *wide])
    for name in set(texts) - set(wide):
        values = pd.CategoricalDtype(sorted(train[name].dropna().unique()))
        left[name], right[name] = left[name].astype(values), right[name].astype(values)
    if kind == "regression":
        made = lightgbm.LGBMRegressor(verbose=-1, n_jobs=2, random_state=0).fit(left, train[target])
        return {"rmse": float(root_mean_squared_error(test[target], made.predict(right)))}
    made = lightgbm.LGBMClassifier(verbose=-1, n_jobs=2, random_state=0).fit(left, train[target])
    return {
        "accuracy": float(accuracy_score(test[target], made.predict(right))),
        "roc_auc": float(roc_auc_score(test[target] == made.classes_[1], made.predict_proba(right)[:, 1])),
    }


def adult(folder: Path, train: Path, test: Path, budget: str) -> dict[str, Any]:
    """`keepfit fit` on the training file, `keepfit evaluate` on the test file."""
    begun = time.monotonic()
    linear = {"overrides": ["model.use=linear"]} if mutant() == "linear" else {"time": budget}
    run = kf.fit(str(train), "income", workspace=folder, **linear)
    spent = time.monotonic() - begun
    ours = kf.evaluate(run.bundle, test)["metrics"]
    frames = [pd.read_csv(path, skipinitialspace=True, na_values="?") for path in (train, test)]
    for frame in frames:
        frame["income"] = frame["income"].str.rstrip(".")
    size = sum(file.stat().st_size for file in run.bundle.iterdir())
    return {
        "ours": {name: ours[name] for name in ("accuracy", "roc_auc")},
        "defaults": defaults(*frames, "income", "classification"),
        "seconds": round(spent, 1),
        "bundle_mb": round(size / 1e6, 2),
    }


def seeded(folder: Path, path: Path, target: str, kind: str, metric: str, budget: str, seeds: int) -> dict[str, Any]:
    """Mean of seeds: 20 % test, cut here, given to both."""
    frame = pd.read_csv(path)
    ours, theirs = [], []
    for seed in range(seeds):
        stratum = frame[target] if kind == "classification" else None
        train, test = train_test_split(frame, test_size=0.2, random_state=seed, stratify=stratum)
        here = folder / f"{target.lower()}-{seed}"
        here.mkdir()
        train.to_csv(here / "train.csv", index=False)
        test.to_csv(here / "test.csv", index=False)
        (here / "recipe.yaml").write_text(
            f"version: 1\nname: bench\nseed: {seed}\ntask: {kind}\n"
            + ("model: {use: linear}\n" if mutant() == "linear" else f"budget: {{time: {budget}}}\n")
            + f"data: {{train: train.csv, test: test.csv, target: {target}}}\n"
        )
        ours.append(kf.run(here / "recipe.yaml", workspace=here).metrics["test"][metric])
        theirs.append(defaults(train, test, target, kind)[metric])
    return {
        "ours": {metric: statistics.mean(ours)},
        "defaults": {metric: statistics.mean(theirs)},
        "each": [[round(a, 4), round(b, 4)] for a, b in zip(ours, theirs, strict=True)],
    }


def is_met(name: str, found: dict[str, Any]) -> bool:
    """The anchor is reached, and LightGBM's defaults too."""
    sign = -1 if "rmse" in ANCHOR[name] else 1
    return all(
        sign * found["ours"][metric] >= sign * bound
        and sign * found["ours"][metric] >= sign * found["defaults"][metric]
        for metric, bound in ANCHOR[name].items()
    )


def main() -> int:
    """All three tables; `--quick` has less time and fewer seeds."""
    paths = [shared_table(name) for name in FILES]
    if None in paths:
        return skipped(GOAL, ANCHOR, "the shared data is not here: set KEEPFIT_SHARED to its folder")
    train, test, california, titanic = [path for path in paths if path is not None]
    quick = is_quick()
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        folder = Path(scratch)
        found = {
            "adult": adult(folder, train, test, "30s" if quick else "60s"),
            "california": seeded(
                folder, california, "median_house_value", "regression", "rmse", *(("30s", 1) if quick else ("60s", 3))
            ),
            "titanic": seeded(
                folder, titanic, "Survived", "classification", "accuracy", *(("10s", 2) if quick else ("20s", 5))
            ),
        }
    met = {name: is_met(name, figures) for name, figures in found.items()}
    return told(GOAL, found, ANCHOR, all(met.values()), met=met, quick=quick, mutant=mutant())


if __name__ == "__main__":
    sys.exit(main())
