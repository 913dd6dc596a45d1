"""Small made-up tables and runs that many tests share."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf

CITIES = ("Köln", "Paris", "北京", "Lima")
WORDS = ("late", "early", "parcel", "refund", "kind", "broken", "blue", "invoice", "again", "window")
LEARNERS = {
    "linear": "{use: linear}",
    "gbdt": "{use: gbdt, params: {rounds: 12, min_data_in_leaf: 5}}",
    "forest": "{use: forest, params: {trees: 6, max_depth: 5}}",
}


def mixed(rows: int = 240, seed: int = 0, classes: tuple[str, ...] = ("no", "yes")) -> list[dict[str, Any]]:
    """Rows with a number, a category, a date and a text that tell of `answer` (a class) and `price` (a number)."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(rows):
        age, city = float(rng.normal(40, 12)), int(rng.integers(len(CITIES)))
        score = (age - 40) / 12 + city + float(rng.normal(0, 0.7))
        place = int(np.clip((score + 1) / 5 * len(classes), 0, len(classes) - 1))
        note = " ".join(WORDS[int(n)] for n in rng.integers(0, len(WORDS), 4)) + (" urgent" if place else "")
        day = np.datetime64("2020-01-01") + np.timedelta64(int(rng.integers(0, 900)), "D")
        made.append(
            {
                "age": None if row % 17 == 3 else round(age, 2),
                "city": None if row % 23 == 5 else CITIES[city],
                "joined": str(day),
                "note": note,
                "code": f"K{row:05d}",
                "price": round(100 + 20 * score + float(rng.normal()), 3),
                "answer": classes[place],
            }
        )
    return made


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    return out.getvalue()


def write_recipe(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    target: str = "answer",
    learner: str = "linear",
    data: str = "",
    more: str = "",
) -> Path:
    """`small.yaml` and `small.csv` in a folder; `price` is ignored where `answer` is the target, and the other way."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.csv").write_text(csv_text(rows or mixed()), "utf-8")
    other = "price" if target == "answer" else "answer"
    path = folder / "small.yaml"
    path.write_text(
        f"version: 1\ndata: {{source: small.csv, target: {target}, columns: {{{other}: ignore}}{data}}}\n"
        f"model: {LEARNERS.get(learner, learner)}\nexplain: {{rows: 20}}\n{more}",
        "utf-8",
    )
    return path


def made_run(folder: Path, **said: Any) -> Any:
    """A finished run in `folder`."""
    return kf.run(write_recipe(folder, **said), workspace=folder)


def statuses(run: Any) -> dict[str, str]:
    """Stage -> made or kept."""
    return {stage["name"]: stage["status"] for stage in run.stages}
