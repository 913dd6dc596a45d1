"""Whole runs on pictures from every kind of source: the bundle verifies, answers raw files and is kept."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest
from made_pictures import CNN, KINDS, TRAIN, pixels, png, write_pictures, write_recipe
from made_tables import statuses

import keepfit as kf
from keepfit import api
from keepfit.cli.main import run as keepfit
from keepfit.core.errors import KeepfitError, RecipeError
from keepfit.engine.plan import STAGES
from keepfit.stages.results import part_of

pytest.importorskip("torch", reason="torch is not installed (extra image)")


def bundle_of(run, folder):
    """The bundle of a walk that ended before the report."""
    folder.mkdir(parents=True)
    for name, data in run.files["package"].items():
        (folder / name).write_bytes(data)
    assert api.verify(folder)["verified"]
    return folder


def walked(folder, data, more="", overrides=(), **said):
    """A run until its bundle, in `folder`; the last stage only draws."""
    recipe = write_recipe(folder, data, more, **said)
    return kf.run(recipe, overrides, workspace=folder, until="package")


def parts_of(run):
    found = part_of(run.files["clean"]).tolist()
    return {name: found.count(name) for name in ("train", "validation", "test")}


def rows_in(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_per_class_ends_with_a_bundle_that_answers(finished_pictures, tmp_path):
    run = finished_pictures
    assert (run.task, run.modality) == ("classification", "image") and parts_of(run) == {
        "train": 34,
        "validation": 4,
        "test": 10,
    }
    api.verify(run.bundle)
    assert (run.path / "report.html").read_text("utf-8").count("fig-") >= 2
    manifest = json.loads((run.bundle / "bundle.json").read_bytes())
    assert (manifest["modality"], manifest["classes"]) == ("image", list(KINDS)) and manifest["parity"]["rows"] >= 18
    assert manifest["inputs"] == [{"name": "image", "kind": "image", "datatype": "BYTES"}]
    write_pictures(tmp_path / "more", 5, first=100)
    found = api.evaluate(run.bundle, tmp_path / "more")
    assert found["rows"] == 10 and found["errors"] == 0 and set(found["metrics"]) >= {"accuracy", "log_loss"}


def test_predict_on_a_folder_a_zip_one_file_and_a_broken_one(finished_pictures, tmp_path, capsys):
    more = write_pictures(tmp_path / "more", 4, first=100)
    (more / "flat/050.png").write_bytes(png(pixels(100, "flat"))[:200])
    (more / "flat/060.jpg").write_bytes(b"")
    (more / "notes.txt").write_text("not a picture")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for path in sorted(more.rglob("*.*")):
            archive.write(path, path.relative_to(more))
    bundle = str(finished_pictures.bundle)
    for source in ("more", "more.zip"):
        assert keepfit(["predict", bundle, str(tmp_path / source), "-o", str(tmp_path / "out.csv")]) == 0
        rows = rows_in(tmp_path / "out.csv")
        assert [row["file"] for row in rows][:2] == ["flat/050.png", "flat/060.jpg"] and len(rows) == 11, source
        broken = [row for row in rows if row["error"]]
        assert [row["file"] for row in broken] == ["flat/050.png", "flat/060.jpg", "notes.txt"]
        reasons = [row["error"].partition(" (")[0] for row in broken]
        assert reasons == ["the picture ends too early", "an empty file", "not a picture"]
        assert all(row["prediction"] == row["probability_flat"] == "" for row in broken)
        assert all(
            row["prediction"] in KINDS
            and abs(float(row["probability_flat"]) + float(row["probability_tall"]) - 1) < 1e-6
            for row in rows
            if not row["error"]
        )
    (tmp_path / "list.csv").write_text("n,path\n1,more/tall/101.png\n2,more/flat/050.png\n")
    assert keepfit(["predict", bundle, str(tmp_path / "list.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    assert [bool(row["error"]) for row in rows_in(tmp_path / "out.csv")] == [False, True]
    assert keepfit(["predict", bundle, str(more / "tall/101.png"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["rows"], said["errors"]) == (1, 0)
    loose = tmp_path / "loose"
    loose.mkdir()
    shutil.copy(more / "tall/101.png", loose / "one.png")
    assert keepfit(["predict", bundle, str(loose), "-o", str(tmp_path / "out.parquet")]) == 0
    paths = [more / "tall/101.png", png(pixels(101, "tall")), pixels(101, "tall")]
    answers = kf.load(bundle).predict([str(paths[0]), paths[1], paths[2]])
    assert np.ptp(answers.probabilities, axis=0).max() == 0 and len(answers) == 3
    with pytest.raises(KeepfitError):
        api.predict(bundle, tmp_path / "absent")


def test_the_same_seed_gives_the_same_bytes_and_a_second_run_keeps_everything(finished_pictures, tmp_path):
    shutil.copytree(finished_pictures.path.parents[2] / "pictures", tmp_path / "pictures")
    recipe = write_recipe(tmp_path)
    first = kf.run(recipe, workspace=tmp_path)
    names = sorted(path.name for path in finished_pictures.bundle.iterdir())
    assert names == sorted(path.name for path in first.bundle.iterdir()) and len(names) == 8
    assert [n for n in names if (first.bundle / n).read_bytes() != (finished_pictures.bundle / n).read_bytes()] == []
    again = kf.run(recipe, workspace=tmp_path)
    assert set(statuses(again).values()) == {"kept"} and again.path == first.path
    for same in (["train.workers=2"], ["train.checkpoint.every=3 steps"], ["train.checkpoint.keep=1"]):
        found = statuses(kf.run(recipe, same, workspace=tmp_path, until="package"))
        assert found == {n: "made" if n == "package" else "kept" for n in STAGES[:7]}, same  # it holds the recipe
    other = kf.run(recipe, ["train.epochs=2"], workspace=tmp_path, until="package")
    assert statuses(other) == {n: "kept" if n in STAGES[:3] else "made" for n in STAGES[:7]}
    assert len(json.loads(other.files["train"]["trained.json"])["epochs"]) == 2


def test_a_zip_is_the_folder_that_it_holds(finished_pictures, tmp_path):
    folder = finished_pictures.path.parents[2] / "pictures"
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(path, path.relative_to(folder))
    run = walked(tmp_path, "source: pictures.zip", overrides=["train.workers=2"])
    bundle = bundle_of(run, tmp_path / "bundle")
    for name in ("model.onnx", "preparation.json", "golden.jsonl", "profile.json"):
        assert (bundle / name).read_bytes() == (finished_pictures.bundle / name).read_bytes(), name
    found = api.evaluate(bundle, tmp_path / "pictures.zip")
    assert (found["rows"], found["errors"]) == (48, 0)


def test_given_train_validation_and_test_folders(tmp_path):
    for number, (part, each) in enumerate({"train": 12, "val": 3, "test": 4}.items()):
        write_pictures(tmp_path / "set" / part, each, first=100 * number)
    run = walked(tmp_path, "source: set")
    assert parts_of(run) == {"train": 24, "validation": 6, "test": 8}
    bundle = bundle_of(run, tmp_path / "bundle")
    assert api.evaluate(bundle, tmp_path / "set/test")["rows"] == 8
    said = "train: set/train, validation: set/val, test: set/test"
    apart = kf.run(write_recipe(tmp_path / "apart", said.replace("set/", "../set/")), workspace=tmp_path, until="clean")
    assert parts_of(apart) == parts_of(run)


def test_a_table_of_pictures_and_numbers_is_a_regression(tmp_path):
    (tmp_path / "files").mkdir()
    lines = ["where,bright"]
    for number in range(40):
        made = np.minimum(pixels(number, "flat") // 2 + 3 * number, 255).astype(np.uint8)
        (tmp_path / f"files/{number:02d}.png").write_bytes(png(made))
        lines.append(f"files/{number:02d}.png,{made.mean():.3f}")
    (tmp_path / "list.csv").write_text("\n".join([*lines, "files/absent.png,7", "files/00.png,", "../out.png,3"]))
    recipe = write_recipe(
        tmp_path, "source: list.csv, image: where, target: bright", train=TRAIN.replace("1,", "3,", 1)
    )
    run = kf.run(recipe, workspace=tmp_path)
    assert (run.task, run.primary) == ("regression", "rmse") and set(run.metrics["test"]) == {"rmse", "mae", "r2"}
    api.verify(run.bundle)
    assert api.evaluate(run.bundle, tmp_path / "list.csv")["rows"] == 40
    answers = kf.load(run.bundle).predict([tmp_path / "files/03.png", tmp_path / "files/30.png"])
    assert answers.probabilities is None and all(isinstance(label, float) for label in answers.labels)
    (tmp_path / "new.csv").write_text("where\nfiles/03.png\nfiles/gone.png\n")
    assert keepfit(["predict", str(run.bundle), str(tmp_path / "new.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    rows = rows_in(tmp_path / "out.csv")
    assert [row["error"] for row in rows] == ["", "there is no such file"]
    assert float(rows[0]["prediction"]) == pytest.approx(answers.labels[0], abs=1e-4)
    said = json.loads(run.files["ingest"]["ledger.json"]) + json.loads(run.files["split"]["ledger.json"])
    assert len([e for e in said if e["action"] == "dropped"]) == 3
    for more, key in (
        ("train: {class_weight: balanced}", "train.class_weight is for classes"),
        ("train: {label_smoothing: 0.1}", "train.label_smoothing is for classes"),
        ("train: {loss: focal}", "the loss focal is not for regression"),
        ("augment: [mixup]", "augment: mixup is for classes"),
    ):
        with pytest.raises(RecipeError, match=key):
            text = f"version: 1\ndata: {{source: list.csv, image: where, target: bright}}\n{CNN}{more}\n"
            recipe.write_text(text)
            kf.run(recipe, workspace=tmp_path, until="train")


def test_weights_by_class_and_losses_that_do_not_fit(finished_pictures):
    folder = finished_pictures.path.parents[2]
    recipe = folder / "shapes.yaml"
    found = kf.run(recipe, ["train.class_weight={flat: 3, tall: 0.5}"], workspace=folder, until="train")
    assert json.loads(found.files["train"]["trained.json"])["class_weights"] == [3.0, 0.5]
    for override, said in (
        ("train.class_weight={flatt: 3}", "did you mean 'flat'"),
        ("train.loss=mse", "known: auto, cross_entropy, focal"),
    ):
        with pytest.raises(RecipeError) as caught:
            kf.run(recipe, [override], workspace=folder, until="train")
        assert said in caught.value.hint


def test_idx_files(tmp_path):
    for part, first, count in (("train", 0, 30), ("t10k", 50, 10)):
        kinds = [KINDS[n % 2] for n in range(count)]
        grey = np.stack([pixels(first + n, kind).max(2) for n, kind in enumerate(kinds)])
        images = struct.pack(">IIII", 0x803, count, 16, 16) + grey.tobytes()
        labels = struct.pack(">II", 0x801, count) + bytes(KINDS.index(kind) for kind in kinds)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    run = walked(tmp_path, f"source: {tmp_path}")
    assert parts_of(run)["test"] == 10 and sum(parts_of(run).values()) == 40
    bundle = bundle_of(run, tmp_path / "bundle")
    assert kf.load(bundle).predict([grey[0]]).labels[0] in (0, 1)
    assert json.loads((bundle / "preparation.json").read_bytes())["channels"] == 1
    assert api.evaluate(bundle, tmp_path)["rows"] == 40


def test_digits_of_scikit_learn(tmp_path):
    run = walked(tmp_path, "source: 'sklearn:digits'", "modality: image\n", train=TRAIN.replace("16", "64"))
    bundle = bundle_of(run, tmp_path / "bundle")
    assert kf.load(bundle).bundle.classes == list(range(10)) and sum(parts_of(run).values()) == 1797
    assert run.metrics["test"]["accuracy"] > 0.5


def test_arrays_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = [KINDS[n % 2] for n in range(40)]
    stack = np.stack([pixels(n, kind) for n, kind in enumerate(kinds)])
    said = ["model.use=cnn", "model.width=0.25", "train.epochs=1", "train.precision=fp32"]
    run = kf.fit((stack, kinds), "kind", overrides=said, workspace=tmp_path)
    api.verify(run.bundle)
    assert (run.modality, run.task) == ("image", "classification") and sum(parts_of(run).values()) == 40
    assert kf.load(run.bundle).predict(stack[:3]).labels[0] in KINDS
    again = kf.fit((stack, kinds), "kind", overrides=said, workspace=tmp_path)
    assert set(statuses(again).values()) == {"kept"}
    with pytest.raises(KeepfitError, match="disagree in number"):
        kf.fit((stack, kinds[:-1]), "kind", workspace=tmp_path)


@pytest.mark.parametrize(("target", "hint"), [("image", "another name")])
def test_labels_may_not_be_called_like_the_pictures(tmp_path, target, hint):
    write_pictures(tmp_path / "pictures", 1)
    with pytest.raises(RecipeError) as caught:
        kf.run(write_recipe(tmp_path, f"source: pictures, target: {target}"), workspace=tmp_path)
    assert hint in caught.value.hint


def test_a_folder_needs_no_target_in_fit_and_init_and_may_be_called_none(tmp_path, monkeypatch, capsys):
    from keepfit.cli.main import run as command

    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures")
    (tmp_path / "pictures" / "flat").rename(tmp_path / "pictures" / "None")
    assert command(["init", "pictures"]) == 0 and command(["check", "recipe.yaml"]) == 0
    said = ["model.use=cnn", "model.width=0.25", "train.epochs=1", "train.batch_size=16", "train.precision=fp32"]
    assert command(["fit", "pictures", *said, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["modality"] == "image" and kf.load(facts["bundle"]).bundle.classes == ["None", "tall"]
