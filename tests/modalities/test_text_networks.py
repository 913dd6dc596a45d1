"""Networks on texts: an encoder tuned whole, in part and by LoRA, the user's own, numbers, augmentation, and refusals."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_texts import review, rows, write_csv, write_folder

import keepfit as kf
from keepfit import start as first_looks
from keepfit.core.errors import DataError, EnvironmentFault, RecipeError
from keepfit.modalities.text.weight_files import folder_of
from keepfit.recipe import parse
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.tokens import TokenPreparation
from keepfit.serve.app import create_app
from keepfit.serve.settings import ServeSettings
from keepfit.stages.results import given_of

torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")
pytest.importorskip("transformers", reason="transformers is not installed (extra networks)")

from made_encoders import write_encoder  # noqa: E402

from keepfit.modalities.room import Way  # noqa: E402
from keepfit.modalities.text.augment import varied  # noqa: E402
from keepfit.modalities.text.encoders import load_encoder  # noqa: E402
from keepfit.modalities.text.examples import TextExamples  # noqa: E402
from keepfit.modalities.text.learners.pretrained import start  # noqa: E402
from keepfit.modalities.text.options import (  # noqa: E402
    PretrainedOptions,
    WordDeleteOptions,
    WordDropoutOptions,
    WordSwapOptions,
)
from keepfit.modalities.text.vocabulary import made  # noqa: E402
from keepfit.recipe.train import train_class  # noqa: E402

SOURCE = "data: {source: reviews.csv, target: label, text: review}\n"
TUNED = "augment: [word_swap]\nmodel: {use: auto, source: bert}\ntrain: {epochs: 5, batch_size: 16, precision: fp32, optimizer: {lr: 3e-3}}\n"
NET = """
import torch
from torch import nn

class Bag(nn.Module):
    def __init__(self, vocabulary_size, classes, max_length, width=16):
        super().__init__()
        assert max_length >= 8
        self.words = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.head = nn.Linear(width, classes)

    def forward(self, ids):
        return self.head(self.words(ids).mean(1) * 8)
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="module")
def tuned(bert):
    write_csv(bert.parent / "reviews.csv", rows(60))
    (bert.parent / "r.yaml").write_text(SOURCE + TUNED)
    said = []
    run = kf.run(bert.parent / "r.yaml", workspace=bert.parent, emit=said.append)
    return run, [event for event in said if event.what == "tokens"]


def test_named_weights_are_tuned_packaged_and_answered_without_torch(tuned, tmp_path):
    run, events = tuned
    assert run.metrics["test"]["accuracy"] > 0.8
    saved = json.loads((run.bundle / "bundle.json").read_bytes())
    assert saved["model"]["chosen"] == "pretrained" and saved["parity"]["labels_equal"] == 1.0
    assert set(saved["libraries"]) >= {"torch", "tokenizers"} and saved["model"]["features"] % 8 == 0
    assert len(events) == 1 and events[0].data["unknown"] == 0 and events[0].data["warnings"] == []
    report = run.report.read_text("utf-8")
    assert "tokens and were cut there" in report and "weights learned" in report
    texts = ["the soup was lovely", "", None, "the room was dirty " * 5000, "\ud800 awful"]
    code = (
        "import sys, json, keepfit as kf\n"
        f"print(json.dumps(kf.load({str(run.bundle)!r}).predict(json.load(sys.stdin)).rows()))\n"
        "assert not {'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    model = kf.load(run.bundle)
    assert [one["prediction"] for one in json.loads(done.stdout)] == model.predict(texts).labels
    alone = np.concatenate([model.predict([text]).probabilities for text in texts])
    assert np.allclose(alone, model.predict(texts).probabilities, atol=1e-5)


def test_the_service_answers_texts_as_the_bundle_does(tuned):
    client = runpy.run_path(str(Path(__file__).parents[1] / "serve" / "inprocess.py"))["Client"]
    bundle = Bundle.open(tuned[0].bundle)
    texts = ["the soup was lovely", "awful", ""]
    wanted = kf.load(bundle.path).predict(texts)
    with client(create_app(bundle, bundle.predictor(), ServeSettings(max_rows=50))) as ask:
        many = ask.request("POST", "/predict", json={"inputs": texts}).json()["predictions"]
        assert [one["prediction"] for one in many] == wanted.labels
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": texts}]}
        found = ask.request("POST", f"/v2/models/{bundle.name}/infer", json=body).json()["outputs"]
        shares = next(one["data"] for one in found if one["name"] == "probabilities")
        assert np.allclose(np.reshape(shares, (3, 2)), wanted.probabilities, atol=1e-5)
        assert ask.request("POST", "/predict", json={"input": 5}).status_code == 422


def test_a_changed_tokenizer_is_refused(tuned):
    bundle = Bundle.open(tuned[0].bundle)
    for raw in (b"{}", bundle.files["tokenizer.json"].replace(b"room", b"rook"), None):
        files = {**bundle.files, "tokenizer.json": raw}
        with pytest.raises(EnvironmentFault):
            Bundle(bundle.path, bundle.manifest, bundle.sha256, files).predictor()
    raw = json.loads(bundle.files["preparation.json"])
    for bad in ({"max_length": 10**9}, {"pad": None}, {"version": 2}, {"unknown": "a"}):
        with pytest.raises((ValueError, TypeError)):
            TokenPreparation.from_json({**raw, **bad}, bundle.files["tokenizer.json"])


def way(folder):
    return Way("mean", "missing", "none", 0, None, "balanced", train=train_class().model_validate({}), folder=folder)


def test_what_learns_is_what_was_said(bert):
    pytest.importorskip("peft", reason="peft is not installed (extra lora)")
    learned = {}
    said = {
        "all": {},
        "head": {"freeze": True},
        "upper": {"freeze": 2},
        "lora": {"adapter": {"use": "lora", "r": 1}},
        "query": {"adapter": {"use": "lora", "r": 1, "targets": ["query"]}},
    }
    for name, more in said.items():
        begun = start(PretrainedOptions(source=str(bert), **more), [review(1, "good")], 2, way(bert))
        learned[name] = begun.params["learns"]
        assert begun.params["of"] >= learned["all"] and begun.network.layers[-1] == ["head.weight", "head.bias"]
    assert learned["head"] == 66 < learned["query"] < learned["lora"] < learned["upper"] < learned["all"], learned
    with pytest.raises(RecipeError, match="no linear layer 'qery'"):
        start(PretrainedOptions(source=str(bert), adapter={"targets": ["qery"]}), ["a"], 2, way(bert))
    with pytest.raises(RecipeError, match="groups of layers"):
        start(PretrainedOptions(source=str(bert), freeze=9), ["a"], 2, way(bert))


def test_lora_is_merged_for_the_bundle_and_distilbert_is_read(tmp_path):
    pytest.importorskip("peft", reason="peft is not installed (extra lora)")
    write_encoder(tmp_path / "small", "distilbert")
    write_csv(tmp_path / "reviews.csv", rows(40))
    model = "model: {use: pretrained, source: small, max_length: 16, adapter: {use: lora, r: 4}}\ntrain: {epochs: 1, precision: fp32}\n"
    (tmp_path / "r.yaml").write_text(SOURCE + model)
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path, until="package")
    assert run.files["package"]["tokenizer.json"] and b"lora" not in run.files["package"]["model.onnx"]
    assert json.loads(run.files["package"]["bundle.json"])["parity"]["largest_difference"] < 1e-5


def test_own_network_for_numbers(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    found = [
        {**row, "label": str((4.5 if row["label"] == "good" else 1.5) + n % 5 / 10)} for n, row in enumerate(rows(60))
    ]
    write_csv(tmp_path / "reviews.csv", found)
    model = "task: regression\nmodel: {use: custom, class: 'net.py:Bag', args: {width: 8}}\ntrain: {epochs: 20, batch_size: 16, optimizer: {lr: 0.03}}\n"
    (tmp_path / "r.yaml").write_text(SOURCE + model)
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path, until="package")
    assert json.loads(run.files["evaluate"]["metrics.json"])["test"]["r2"] > 0.6
    broken = model.replace("width: 8", "wide: 8")
    (tmp_path / "r.yaml").write_text(SOURCE + broken)
    with pytest.raises(RecipeError, match="making Bag failed"):
        first_looks.check(tmp_path / "r.yaml", [], tmp_path)


def test_check_warns_of_a_tokenizer_for_another_language_and_of_cut_texts(bert, tmp_path):
    write_csv(tmp_path / "reviews.csv", rows(30, chinese=True))
    (tmp_path / "r.yaml").write_text(f"{SOURCE}model: {{use: pretrained, source: {bert}, max_length: 8}}\n")
    found = first_looks.check(tmp_path / "r.yaml", [], tmp_path)
    assert found["network"]["tokens"]["unknown"] > 0.3 and found["network"]["tokens"]["cut"] > 0
    assert [said for said in found["warnings"] if "does not know" in said] and [
        s for s in found["warnings"] if "are cut" in s
    ]


def test_what_may_not_be_an_encoder(bert, tmp_path):
    with pytest.raises(DataError, match="no such encoder"):
        load_encoder("berrt", tmp_path)
    with pytest.raises(EnvironmentFault, match="fetched only"):
        load_encoder("owner/name", tmp_path)
    with pytest.raises(DataError, match="names no folder"):
        folder_of("package:os/../etc", tmp_path)
    with pytest.raises(EnvironmentFault, match="not installed"):
        folder_of("package:no_such_package_here/model", tmp_path)
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises((DataError, ValueError)):
        load_encoder(str(tmp_path), tmp_path)


PARTS = [WordDropoutOptions(rate=0.5, p=1), WordDeleteOptions(rate=0.5, p=1), WordSwapOptions(rate=0.5, p=1)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.use)
def test_augmentation_follows_from_seed_epoch_and_place_and_leaves_a_word(part):
    prepared = made([review(n, "good") for n in range(20)], 100)
    prepared = TokenPreparation(prepared.tokenizer, 32, prepared.pad, prepared.unknown)
    texts = [review(n, "good") for n in range(6)] + ["one", "", "天气很好"]
    found = [
        TextExamples(texts, np.zeros(9), prepared, classes=2, augment=[part], seed=seed, blank="[UNK]")
        for seed in (0, 0, 1)
    ]
    tokens = [[one.tokens(row, 3) for row in range(9)] for one in found]
    assert tokens[0] == tokens[1] != tokens[2] and tokens[0] != [found[0].tokens(row, 4) for row in range(9)]
    assert [found[0].tokens(row, None) for row in range(9)] == found[0].ids and found[0].tokens(7, 3) == []
    assert all(
        varied(text, [part], np.random.default_rng(n), "[UNK]").strip() for n, text in enumerate(texts * 20) if text
    )
    if part.use == "word_swap":
        assert sorted(varied("天气很好", [part], np.random.default_rng(1), "")) == sorted("天气很好")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("model: {use: tfidf}\naugment: [word_swap]\n", "unused_key"),
        ("model: {source: bert}\naugment: [flip]\n", "bad_value"),
        ("model: {use: pretrained, freeze: true, adapter: {use: lora}}\n", "bad_value"),
        ("model: {use: tfidf, source: bert}\n", "unknown_key"),
        ("model: {use: custom}\n", "key_missing"),
    ],
)
def test_what_recipes_may_not_say(text, code):
    with pytest.raises(RecipeError) as error:
        parse(f"modality: text\ndata: {{source: a.csv, target: y}}\n{text}")
    assert error.value.code == code, error.value


def test_few_weights_learn_by_larger_steps():
    plain, lora = (
        parse(f"modality: text\ndata: {{source: a.csv, target: y}}\nmodel: {{source: b{more}}}\n").train.optimizer.lr
        for more in ("", ", adapter: {use: lora}")
    )
    assert lora > plain


def test_a_zip_of_texts_and_its_odd_members(tmp_path):
    write_folder(tmp_path / "mail", 30)
    with zipfile.ZipFile(tmp_path / "mail.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "mail").rglob("*.txt")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("mail/good/../../evil.txt", "x")
        archive.writestr("mail/good/photo.jpg", b"\xff\xd8")
        archive.writestr("mail/good/bomb.txt", b"a " * (8 << 20))
    (tmp_path / "r.yaml").write_text("modality: text\ndata: {source: mail.zip}\nmodel: {use: tfidf}\n")
    run = kf.run(tmp_path / "r.yaml", workspace=tmp_path, until="evaluate")
    assert first_looks.part("keepfit.modalities.text.read:looks_like_texts")("mail.zip", tmp_path)
    said = {entry["source"]: entry["rule"] for entry in json.loads(run.files["ingest"]["ledger.json"])}
    assert "climbs out" in said["mail/good/../../evil.txt"] and "not a .txt" in said["mail/good/photo.jpg"]
    assert "zip bombs" in said["mail/good/bomb.txt"] and len(given_of(run.files["ingest"]).tolist()) == 60
    assert not (tmp_path.parent / "evil.txt").exists()
