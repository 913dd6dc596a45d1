"""Texts end to end: tables, folders, odd encodings, Chinese, numbers, balance, same bytes, answers, and refusals."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from made_texts import RECIPE, made_run, rows, write_folder

import keepfit as kf
from keepfit import api
from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError, RecipeError
from keepfit.recipe import parse
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.decoding import text_of
from keepfit.runtime.texts import Block, TextPreparation, cjk_share, grams, words
from keepfit.stages.results import part_of


def test_a_column_of_texts_is_learned_and_answered(finished_texts):
    run = finished_texts
    assert run.metrics["test"]["accuracy"] > 0.95 and run.modality == "text"
    saved = json.loads((run.bundle / "bundle.json").read_bytes())
    assert saved["modality"] == "text" and saved["text_column"] == "review" and saved["ignored"] == ["id"]
    assert saved["inputs"] == [{"name": "text", "kind": "text", "datatype": "BYTES"}]
    assert saved["parity"]["rows"] >= 40 and saved["parity"]["labels_equal"] == 1.0
    model = kf.load(run.bundle)
    said = model.predict(["the soup was lovely", "the staff was awful", "", None])
    assert said.labels[:2] == ["good", "bad"] and not any(said.errors)
    assert np.array_equal(said.probabilities[2], said.probabilities[3])
    frame = model.predict([{"review": "the soup was lovely"}, {"review": "the staff was awful"}])
    assert np.allclose(frame.probabilities, said.probabilities[:2], atol=1e-6)
    report = run.report.read_text("utf-8")
    assert "Heaviest n-grams" in report and "of the letters in the training texts" in report
    profile = json.loads((run.bundle / "profile.json").read_bytes())["columns"]["text"]
    assert profile["cjk"] == 0 and len(profile["characters"]) == 41 and "room" in profile["frequent"]
    golden = [json.loads(line)["input"]["text"] for line in (run.bundle / "golden.jsonl").open(encoding="utf-8")]
    assert len(golden) == 12 and not set(filter(None, golden)) & {row["review"] for row in rows()}


def test_the_same_bytes_again_and_from_verify(finished_texts, tmp_path):
    again = made_run(tmp_path)
    for name in ("model.onnx", "preparation.json", "profile.json", "golden.jsonl"):
        assert (again.bundle / name).read_bytes() == (finished_texts.bundle / name).read_bytes(), name


def test_a_long_text_is_answered_soon(finished_texts):
    model = kf.load(finished_texts.bundle)
    start = time.monotonic()
    assert len(model.predict(["the room was dirty " * 55_000, "字" * 300_000])) == 2
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(("chinese", "kinds"), [(True, ["char"]), (False, ["word", "char"])])
def test_the_analyzer_follows_the_letters(tmp_path, chinese, kinds):
    found = rows(60, chinese)
    run = made_run(tmp_path, found=found)
    blocks = json.loads((run.bundle / "preparation.json").read_bytes())["blocks"]
    assert [block["analyzer"] for block in blocks] == kinds and blocks[-1]["ngrams"][1] == (3 if chinese else 4)
    assert run.metrics["test"]["accuracy"] > 0.9


def test_folders_with_odd_files(tmp_path):
    write_folder(tmp_path / "mail")
    odd = tmp_path / "mail" / "good"
    (odd / "latin.txt").write_bytes("die Suppe war köstlich, wunderschön".encode("cp1252"))
    (odd / "wide.txt").write_text("the view was lovely", "utf-16")
    (odd / "junk.txt").write_bytes(bytes(range(256)) * 4)
    (odd / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "r.yaml").write_text("modality: text\ndata: {source: mail}\nmodel: {use: auto}\n")
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path)
    assert run.modality == "text" and run.task == "classification" and run.metrics["test"]["accuracy"] > 0.9
    rules = {row["source"]: row["rule"] for row in _ledger(run)}
    assert rules["good/junk.txt"].startswith("unreadable text") and "not a .txt" in rules["good/photo.jpg"]
    assert rules["good/latin.txt"] == "text: read as cp1252" and rules["good/wide.txt"] == "text: read as utf-16"
    found = api.evaluate(run.bundle, tmp_path / "mail")
    assert (found["in"], found["rows"]) == (84, 82)
    assert {one["first"] for one in found["left_out"]} == {"good/junk.txt", "good/photo.jpg"}
    (odd / "junk.txt").unlink()
    counts = api.predict(run.bundle, tmp_path / "mail", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text("utf-8").splitlines()
    assert counts["rows"] == 82 == len(lines) - 1 and lines[0].endswith("error,file")
    assert api.predict(run.bundle, odd / "000.txt", tmp_path / "one.csv")["rows"] == 1
    assert api.evaluate(run.bundle, tmp_path / "mail")["rows"] == 82


def _ledger(run):
    from keepfit.accounts import ledger

    return ledger(run.path)


def test_given_folders_and_jsonl(tmp_path):
    for part, first, each in (("train", 0, 30), ("validation", 50, 8), ("test", 80, 10)):
        write_folder(tmp_path / "all" / part, each, first)
    run = kf.fit(tmp_path / "all", output=tmp_path / "a", workspace=tmp_path, overrides=["clean.leaks=report"])
    assert run.modality == "text"
    splits = part_of(run.files["clean"]).tolist()
    assert [splits.count(name) for name in ("train", "validation", "test")] == [60, 16, 20]
    lines = [json.dumps({"text": row["review"], "label": row["label"]}) for row in rows(50)]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    run = kf.fit(
        tmp_path / "some.jsonl", "label", overrides=["modality=text"], output=tmp_path / "b", workspace=tmp_path
    )
    assert run.modality == "text" and run.metrics["test"]["accuracy"] > 0.9
    assert api.evaluate(run.bundle, tmp_path / "some.jsonl")["rows"] == 100


def test_equal_texts_stay_on_one_side_and_blank_ones_teach_nothing(tmp_path):
    found = rows(40)
    found += [{**row, "id": f"again{row['id']}"} for row in found] + [{"id": "e", "review": " ", "label": "bad"}] * 8
    run = made_run(tmp_path, found=found)
    part = part_of(run.files["split"]).tolist()
    sides = {}
    for side, row in zip(part, found, strict=True):
        sides.setdefault(row["review"], set()).add(side)
    assert len(sides) == 81 and all(len(side) == 1 for side in sides.values())
    kept = part_of(run.files["clean"]).tolist()
    assert not [1 for side, row in zip(kept, found, strict=True) if side == "train" and not row["review"].strip()]


def test_numbers_and_class_weights(tmp_path):
    found = [{"review": row["review"], "stars": "4.5" if row["label"] == "good" else "1.5"} for row in rows(60)]
    found = [{**row, "stars": str(float(row["stars"]) + n % 5 / 10)} for n, row in enumerate(found)]
    recipe = "task: regression\ndata: {source: reviews.csv, target: stars, text: review}\nmodel: {use: tfidf, c: 5}\n"
    run = made_run(tmp_path, recipe, found)
    assert run.metrics["test"]["r2"] > 0.8
    some = [row for n, row in enumerate(rows(80)) if row["label"] == "good" or n % 8 == 1]
    (tmp_path / "w").mkdir()
    run = made_run(tmp_path / "w", RECIPE.replace("}", ", balance: class_weight}"), some)
    assert "Rare classes weighed more" in run.report.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("modality: text\nmodel: {adapter: {use: lora}}\n", "unknown_key"),
        ("modality: text\nmodel: {use: gbdt}\n", "bad_value"),
        ("modality: text\nmodel: {use: tfidf, ngrams: [3, 1]}\n", "bad_value"),
        ("modality: text\ntrain: {epochs: 3}\n", "unused_key"),
        ("modality: text\nbudget: {time: 3s}\n", "unused_key"),
        ("modality: text\naugment: [word_swap]\n", "unused_key"),
        ("model: {use: tfidf}\n", "bad_value"),
    ],
)
def test_what_is_refused(text, code):
    with pytest.raises(RecipeError) as error:
        parse(f"data: {{source: a.csv, target: y}}\n{text}")
    assert error.value.code == code, error.value


def test_a_column_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no column 'revue'"):
        made_run(tmp_path, RECIPE.replace("text: review", "text: revue"))
    with pytest.raises(KeepfitError, match="does not say which column"):
        made_run(tmp_path, "modality: text\ndata: {source: reviews.csv, target: label}\n")


def test_damaged_preparations_are_refused(finished_texts):
    bundle = Bundle.open(finished_texts.bundle)
    raw = json.loads(bundle.files["preparation.json"])
    shorter = {**raw, "blocks": raw["blocks"][:1]}
    twice = {**raw, "blocks": [{**raw["blocks"][0], "vocabulary": ["a"] * len(raw["blocks"][0]["vocabulary"])}]}
    for bad in (shorter, twice, {**raw, "version": 2}, {**raw, "blocks": [{**raw["blocks"][0], "analyzer": "x"}]}):
        files = {**bundle.files, "preparation.json": json.dumps(bad).encode()}
        with pytest.raises(EnvironmentFault):
            Bundle(bundle.path, bundle.manifest, bundle.sha256, files).predictor()


def test_grams_and_weights_by_hand():
    assert words("It's 5 天气OK_x") == ["it", "s", "5", "天", "气", "ok", "x"]
    assert list(grams("a b  c", "word", 1, 2)) == ["a", "b", "c", "a b", "b c"]
    assert list(grams("A\n b", "char", 2, 3)) == ["a ", " b", "a b"]
    assert cjk_share(["ab", None, "天气"]) == 0.5 and cjk_share([]) == 0
    block = Block("word", 1, 1, ("a", "b"), np.array([1.0, 2.0], np.float32))
    where, weight = TextPreparation((block, block)).weights("a a b z")
    first = np.array([1 + np.log(2), 2.0]) / np.hypot(1 + np.log(2), 2.0)
    assert where.tolist() == [0, 1, 2, 3] and np.allclose(weight, [*first, *first])


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ("é".encode(), "é", ""),
        ("\ufeffa\r\nb".encode(), "a\nb", ""),
        ("酒店很好，房间干净".encode("gb18030"), "酒店很好，房间干净", "read as gb18030"),
        (
            "早餐很好吃，服务不错".encode() + b"\xe5",
            "早餐很好吃，服务不错\ufffd",
            "read as utf-8 with 1 broken characters",
        ),
    ],
)
def test_encodings(data, text, note):
    assert text_of(data) == (text, note)
