"""VOC, YOLO and COCO sets as pictures with one class each: the rule, what is quarantined, hostile files."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made_pictures import write_recipe

import keepfit as kf
from keepfit import recipe as recipes
from keepfit.core.errors import DataError
from keepfit.modalities.image.boxes import BadAnnotation, label_of, of_voc, of_yolo
from keepfit.modalities.image.found import Found, Refused
from keepfit.modalities.image.read import looks_like_pictures, pictures
from keepfit.recipe.render import file_name, seen_from
from keepfit.runtime.pictures import encode_array
from keepfit.runtime.sources import files_of
from keepfit.stages.results import all_entries
from keepfit.start import first_recipe

BOMB = b'<!DOCTYPE a [<!ENTITY e "xxxxxxxx"><!ENTITY f "&e;&e;&e;">]><annotation><object><name>&f;</name></object></annotation>'


def picture(shade: int) -> bytes:
    noise = np.random.default_rng(shade).integers(0, 40, (12, 12, 3))
    return encode_array((noise + shade % 200).astype(np.uint8))


def voc(*boxes: tuple[str, int, int]) -> bytes:
    objects = "".join(
        f"<object><name>{name}</name><part><name>head</name><bndbox><xmin>0</xmin></bndbox></part>"
        f"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{1 + w}</xmax><ymax>{2 + h}</ymax></bndbox></object>"
        for name, w, h in boxes
    )
    return f"<annotation><filename>x.jpg</filename>{objects}</annotation>".encode()


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def zipped(root: Path) -> Path:
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root).as_posix())
    return target


def told(source: str, folder: Path, **more: object) -> tuple[dict[str, tuple[str | None, str]], dict[str, str]]:
    found = list(pictures(source, folder, **more))
    good = {one.name: (one.label, one.part) for one in found if isinstance(one, Found)}
    return good, {one.name: f"{one.rule}: {one.reason}" for one in found if isinstance(one, Refused)}


def test_the_class_with_the_largest_area():
    assert label_of([("a", 3.0), ("b", 2.0), ("b", 2.0)]) == ("b", "")
    assert label_of([]) == (None, "no boxes")
    assert label_of([("a", 0.0)]) == (None, "its boxes have no area")
    assert label_of([("b", 2.0), ("a", 1.0), ("a", 1.0)])[1] == "a tie: the boxes of 'a' and 'b' have the same area"
    assert of_yolo(b"0 .5 .5 .2 .1\n1 0 0 1 0 1 1 0 1\n", str) == [("0", pytest.approx(0.02)), ("1", 1.0)]


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (of_voc, BOMB),
        (of_voc, b"<annotation><object>"),
        (of_voc, b"<html></html>"),
        (of_voc, b"<annotation><object><name>a</name></object></annotation>"),
        (of_voc, voc(("a", -5, 3))),
        (of_voc, b"<annotation>" + b"<a>" * 40 + b"</a>" * 40 + b"</annotation>"),
        (lambda data: of_yolo(data, str), b"0 0.5 0.5 nan 1"),
        (lambda data: of_yolo(data, str), b"cat 0.5 0.5 1 1"),
        (lambda data: of_yolo(data, str), b"0 0.5 0.5 1"),
        (lambda data: of_yolo(data, str), b"-1 0.5 0.5 1 1"),
    ],
)
def test_what_is_no_annotation_says_why(parse, data):
    with pytest.raises(BadAnnotation):
        parse(data)


VOC = {
    "set/train/images/1.jpg": picture(1),
    "set/train/annotations/1.xml": voc(("cat", 5, 5), ("dog", 4, 4), ("dog", 4, 4)),
    "set/train/images/2.jpg": picture(2),
    "set/train/annotations/2.xml": voc(("cat", 5, 5)),
    "set/test/images/1.jpg": picture(3),
    "set/test/annotations/1.xml": voc(("cat", 2, 2), ("dog", 2, 2)),
    "set/test/images/4.jpg": picture(4),
    "set/test/annotations/4.xml": voc(),
    "set/test/images/5.jpg": picture(5),
    "set/test/images/6.jpg": picture(6),
    "set/test/annotations/6.xml": BOMB,
    "set/test/annotations/7.xml": voc(("dog", 2, 2)),
    "set/test/images/8.jpg": b"",
    "set/test/annotations/8.xml": voc(("dog", 2, 2)),
    "set/README.txt": "about",
}


@pytest.mark.parametrize("packed", [False, True])
def test_a_voc_set_with_its_splits(tmp_path, packed):
    root = put(tmp_path, VOC) / "set"
    source = f"voc:{zipped(root).name if packed else 'set'}"
    good, bad = told(source, tmp_path)
    assert good == {"train/images/1.jpg": ("dog", "train"), "train/images/2.jpg": ("cat", "train")}
    assert bad["test/images/1.jpg"] == "no single class: a tie: the boxes of 'cat' and 'dog' have the same area"
    assert bad["test/images/4.jpg"] == "no single class: no boxes"
    assert bad["test/images/5.jpg"] == "no single class: no boxes: no .xml file goes with it"
    assert "document type" in bad["test/images/6.jpg"]
    assert bad["test/annotations/7.xml"] == "unreadable picture: an annotation without its picture"
    assert "empty" in bad["test/images/8.jpg"]
    assert set(bad) == {f"test/images/{n}.jpg" for n in (1, 4, 5, 6, 8)} | {"test/annotations/7.xml"}
    good, bad = told(source, tmp_path, loose=True)
    assert good["test/images/5.jpg"][0] is None and set(bad) == {"test/images/8.jpg"}


def test_a_yolo_set_with_names(tmp_path):
    put(
        tmp_path / "y",
        {
            "data.yaml": "names: [cat, dog]\n",
            "images/train/1.jpg": picture(1),
            "labels/train/1.txt": "1 .5 .5 .2 .2\n0 .5 .5 .1 .1\n",
            "images/val/2.jpg": picture(2),
            "labels/val/2.txt": "0 .5 .5 .1 .1\n",
            "images/val/3.jpg": picture(3),
            "labels/val/3.txt": "",
            "images/val/4.jpg": picture(4),
            "labels/val/4.txt": "7 .5 .5 .1 .1\n",
        },
    )
    good, bad = told("yolo:y", tmp_path)
    assert good == {"images/train/1.jpg": ("dog", "train"), "images/val/2.jpg": ("cat", "validation")}
    assert bad["images/val/3.jpg"] == "no single class: no boxes"
    assert "class 7 has no name: the names are cat, dog" in bad["images/val/4.jpg"]
    (tmp_path / "y/data.yaml").unlink()
    assert told("yolo:y", tmp_path)[0]["images/train/1.jpg"] == ("1", "train")
    (tmp_path / "y/classes.txt").write_text("Katze\nHund\n")
    assert told("yolo:y", tmp_path)[0]["images/train/1.jpg"] == ("Hund", "train")


def test_a_coco_file_and_its_pictures(tmp_path):
    value = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(1, 5)]
        + [{"id": 9, "file_name": "../../out.jpg"}, {"id": 1, "file_name": "1.jpg"}, {"id": 8}, 3],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "bbox": [0, 0, 2, 2]},
            {"image_id": 1, "category_id": 6, "bbox": [0, 0, 3, 2.5]},
            {"image_id": 2, "category_id": 5, "bbox": [0, 0, 3]},
            {"image_id": 4, "category_id": 5, "bbox": [0, 0, 3, 3]},
        ],
    }
    put(tmp_path / "c", {f"train2017/{n}.jpg": picture(n) for n in (1, 2, 3)})
    put(tmp_path / "c/annotations", {"instances_train2017.json": json.dumps(value)})
    good, bad = told("coco:c/annotations/instances_train2017.json", tmp_path)
    assert good == {"1.jpg": ("dog", "")}
    assert "not four numbers" in bad["2.jpg"] and bad["3.jpg"] == "no single class: no boxes"
    assert "there is no such file" in bad["4.jpg"] and "climbs out" in bad["../../out.jpg"]
    assert len(bad) == 7
    for text in ("{}", "[]", "not json", '{"images": [], "annotations": []}', "[" * 100_000):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="no COCO file"):
            told("coco:bad.json", tmp_path)


def test_what_cannot_be_a_source(tmp_path):
    put(tmp_path / "plain", {"a/1.jpg": picture(1)})
    with pytest.raises(DataError, match="there are no annotations"):
        told("voc:plain", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        told("voc:plane", tmp_path)
    with pytest.raises(DataError, match="no table"):
        files_of("voc:plain", tmp_path)
    assert looks_like_pictures("yolo:anything", tmp_path)
    recipe = recipes.parse("version: 1\ndata: {source: 'voc:plain/set.zip'}\n", folder=tmp_path)
    assert "voc:set.zip" in recipes.fill(recipe, file_name)
    assert os.path.join("..", "plain", "set.zip") in recipes.fill(recipe, seen_from(tmp_path, tmp_path / "runs"))
    assert 'source: "voc:' in first_recipe("voc:plain", None, tmp_path)


def test_a_run_on_a_voc_set_has_an_account_of_every_picture(tmp_path):
    files = {}
    for n in range(40):
        name = "cat" if n % 2 else "dog"
        files[f"images/{n}.jpg"] = picture(n if n % 2 else 120 + n)
        files[f"annotations/{n}.xml"] = voc((name, 5, 5)) if n else voc((name, 5, 5), ("cat", 5, 5))
    put(tmp_path / "v", files)
    pytest.importorskip("torch", reason="torch is not installed (extra image)")
    run = kf.run(write_recipe(tmp_path, "source: 'voc:v'"), workspace=tmp_path / "w")
    assert run.modality == "image"
    dropped = [e for e in all_entries(run.files) if e.action == "dropped"]
    assert [(e.source, e.rule.partition(":")[0]) for e in dropped] == [("images/0.jpg", "no single class")]
    text = (run.path / "recipe.yaml").read_text()
    assert "voc:" in text and str(tmp_path) not in text
    again = kf.run(run.path / "recipe.yaml", workspace=tmp_path / "w2", until="ingest")
    assert again.files["ingest"]["table"] == run.files["ingest"]["table"]
    assert "no single class" in (run.path / "report.html").read_text()


def test_real_voc_sets():
    folder = Path(os.environ.get("KEEPFIT_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "detection"
    if not folder.is_dir():
        pytest.skip("the shared data is not there (KEEPFIT_SHARED)")
    good, bad = told(f"voc:{folder / 'nuts_voc.zip'}", Path.cwd())
    assert good and {part for _, part in good.values()} == {"train", "test"} and not bad
    with zipfile.ZipFile(folder / "nuts_voc.zip") as archive:
        for name, (label, _) in good.items():
            areas: dict[str, int] = {}
            text = archive.read(name.replace("images", "annotations").replace(".jpg", ".xml"))
            for thing in ElementTree.fromstring(text).iter("object"):
                left, top, right, bottom = (
                    int(thing.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")
                )
                said = thing.findtext("name")
                areas[said] = areas.get(said, 0) + (right - left) * (bottom - top)
            assert label == max(areas, key=areas.get), name
    good, bad = told(f"voc:{folder / 'raccoon_voc.zip'}", Path.cwd())
    assert {label for label, _ in good.values()} == {"raccoon"} and not bad and len(good) > 100
