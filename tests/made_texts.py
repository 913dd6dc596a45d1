"""Short made-up reviews that many tests share: good and bad ones in English, and in Chinese."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf

THINGS = ("room", "soup", "staff", "view", "bed", "breakfast", "pool", "price")
SAID = {
    "good": ("lovely", "clean", "great", "very friendly", "really excellent"),
    "bad": ("awful", "dirty", "poor", "very rude", "really dreadful"),
}
CHINESE = {"good": ("很好", "干净", "满意", "不错"), "bad": ("很差", "太脏", "失望", "吵闹")}
PLACES = ("房间", "早餐", "服务", "酒店", "床", "位置")


def review(number: int, kind: str, chinese: bool = False) -> str:
    """A sentence that follows from the number."""
    rng = np.random.default_rng([number, kind == "good"])
    if chinese:
        return "，".join(f"{rng.choice(PLACES)}{rng.choice(CHINESE[kind])}" for _ in range(3)) + f"{number}。"
    return " and ".join(f"the {rng.choice(THINGS)} was {rng.choice(SAID[kind])}" for _ in range(2)) + f", day {number}"


def rows(each: int = 120, chinese: bool = False) -> list[dict[str, str]]:
    """Rows with `id`, `review` and `label`."""
    kinds = ("good", "bad")
    return [
        {"id": f"r{n}{kind}", "review": review(n, kind, chinese), "label": kind} for n in range(each) for kind in kinds
    ]


def write_csv(path: Path, found: list[dict[str, str]]) -> Path:
    """The rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    return path


def write_folder(folder: Path, each: int = 40, first: int = 0) -> Path:
    """A folder per class of .txt files."""
    for kind in SAID:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            (folder / kind / f"{number:03d}.txt").write_text(review(number, kind), "utf-8")
    return folder


RECIPE = "data: {source: reviews.csv, target: label, text: review}\n"


def made_run(folder: Path, text: str = RECIPE, found: list[dict[str, str]] | None = None) -> Any:
    """A finished run of a recipe beside `reviews.csv`."""
    write_csv(folder / "reviews.csv", found or rows())
    (folder / "recipe.yaml").write_text(text, "utf-8")
    return kf.run(folder / "recipe.yaml", workspace=folder)
