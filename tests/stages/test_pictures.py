"""Broken and odd pictures beside clean ones: the same model to the bit, every file told of, nothing lost."""

from __future__ import annotations

import json
import shutil

import duckdb
import pytest
from made_pictures import write_pictures, write_recipe
from odd_pictures import make

import keepfit as kf

pytest.importorskip("torch", reason="torch is not installed (extra image)")

PLAIN = {  # readable, and nothing about them needs saying
    "plain.jpg",
    "grey.jpg",
    "progressive.jpg",
    "broken_exif.jpg",
    "garbage_behind.jpg",
    "several.mpo",
    "palette.png",
    "palette_clear.png",  # its clear colour is nowhere in it
    "one_bit.png",
    "one_pixel.png",
    "very_long.png",
    "really_png.jpg",
    "lossy.webp",
    "colour.bmp",
}


def test_broken_pictures_change_nothing_and_are_all_in_the_ledger(tmp_path):
    full, clean = tmp_path / "full", tmp_path / "clean"
    write_pictures(full / "pictures", 20)
    expected = dict(make(full / "pictures/tall"))
    (full / "pictures/tall/list.txt").write_text("flat/000.png")
    shutil.copytree(full, clean)
    broken = {name for name, came_to in expected.items() if came_to != "ok"}
    assert len(expected) == 60 and len(broken) == 31
    for name in [*broken, "list.txt"]:
        (clean / "pictures/tall" / name).unlink()
    runs = [kf.run(write_recipe(full), workspace=full)]
    runs.append(kf.run(write_recipe(clean), workspace=clean, until="train"))
    with_them, without = (run.files["train"] for run in runs)
    assert with_them["model.onnx"] == without["model.onnx"] and len(with_them["model.onnx"]) > 10_000
    assert with_them["preparation.json"] == without["preparation.json"]

    ledger = duckdb.sql(f"select source, rule, action from '{runs[0].path}/ledger.parquet'").fetchall()
    gone = {source: rule for source, rule, action in ledger if action == "dropped"}
    assert set(gone) == {f"tall/{name}" for name in [*broken, "list.txt"]}
    assert all(rule.startswith("unreadable picture: ") and len(rule) > 25 for rule in gone.values())
    noted = {}
    for source, rule, action in ledger:
        if action == "noted" and rule.startswith("picture: "):
            noted.setdefault(source.removeprefix("tall/"), []).append(rule.removeprefix("picture: "))
    odd = set(expected) - broken - PLAIN
    assert set(noted) == odd and len(odd) == 15, noted
    assert noted["turned.png"] == ["EXIF orientation 6"] and noted["animated.gif"] == ["animated: first frame of 4"]
    rows = json.loads((runs[0].path / "plan.json").read_bytes())["rows"]
    assert rows["in"] == rows["kept"] + len(gone) == 40 + len(expected) + 1
