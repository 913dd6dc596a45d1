"""Picture models that exist already: state dict, program, Keras, ONNX, Hugging Face folder; layouts, colours, and classes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from made_models import bundled, torch_net
from made_pictures import pixels, write_pictures

import keepfit as kf
from keepfit.core.errors import DataError

torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("existing")
    write_pictures(place / "pictures", 20)
    return place


def packaged(folder, model, **said):
    return bundled(folder, model, "pictures", **said)


def fed(number, kind="flat", mean=MEAN, std=STD):
    x = torch.from_numpy(pixels(number, kind)).permute(2, 0, 1)[None].float() / 255
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def agrees(run, wanted, number=3):
    found = kf.load(run.bundle).predict([pixels(number, "flat")]).probabilities
    assert np.abs(found - wanted.detach().numpy()).max() < 1e-5, (found, wanted)
    return json.loads((run.bundle / "bundle.json").read_bytes())


def test_a_state_dict_a_program_and_an_onnx_of_one_network(folder):
    net = torch_net(folder)
    wanted = net(fed(3)).softmax(1)
    said = {"mean": list(MEAN), "std": list(STD), "size": 16}
    torch.save(net.state_dict(), folder / "net.pth")
    run = packaged(folder, "net.pth", **{"class": str(folder / "net.py") + ":Net"}, **said)
    assert agrees(run, wanted)["parity"]["labels_equal"] == 1.0
    swapped = packaged(
        folder, "net.pth", **{"class": str(folder / "net.py") + ":Net"}, classes=["tall", "flat"], **said
    )
    agrees(swapped, wanted[:, [1, 0]])
    program = torch.export.export(net, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, folder / "net.pt2")
    agrees(packaged(folder, "net.pt2", mean=list(MEAN), std=list(STD)), wanted)
    torch.onnx.export(
        net, (torch.zeros(2, 3, 16, 16),), folder / "net.onnx", dynamo=True, verbose=False, external_data=False,
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )  # fmt: skip
    agrees(packaged(folder, "net.onnx", mean=list(MEAN), std=list(STD)), wanted)
    bgr = (torch.from_numpy(pixels(3, "flat")).permute(2, 0, 1)[None].float() / 255)[:, [2, 1, 0]]
    bgr = (bgr - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    agrees(packaged(folder, "net.onnx", mean=list(MEAN), std=list(STD), colour="bgr"), net(bgr).softmax(1))


def test_channels_last_pixels_to_255_and_probabilities(folder):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    weight = np.linspace(-0.02, 0.02, 6).reshape(3, 2).astype(np.float32)
    nodes = [
        onnx.helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        onnx.helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        onnx.helper.make_node("Softmax", ["logits"], ["shares"], axis=1),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [value("image", 1, [None, 16, 16, 3])],
        [value("shares", 1, [None, 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (folder / "last.onnx").write_bytes(made.SerializeToString())
    mean = torch.from_numpy(pixels(3, "flat")).double().mean((0, 1))[None]
    agrees(packaged(folder, "last.onnx", scale=255), (mean @ torch.from_numpy(weight).double()).softmax(1))


def test_hostile_and_unfit_programs_are_refused(folder, tmp_path):
    import zipfile

    net = torch_net(tmp_path)
    write_pictures(tmp_path / "pictures", 12)
    program = torch.export.export(net, (torch.zeros(2, 3, 16, 16),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    with pytest.raises(DataError, match="exactly 2 rows") as caught:
        packaged(tmp_path, "fixed.pt2")
    assert "dynamic_shapes" in caught.value.hint
    program = torch.export.export(net, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "good.pt2")

    def changed(change):
        with (
            zipfile.ZipFile(tmp_path / "good.pt2") as old,
            zipfile.ZipFile(tmp_path / "evil.pt2", "w", zipfile.ZIP_STORED) as new,
        ):
            for name in old.namelist():
                new.writestr(*change(name, old.read(name)))

    tricks = {
        "code in a shape": lambda n, d: (n, d.replace(b'"expr_str": "', b'"expr_str": "__import__(\'os\').system(\'true\') or ') if "/models/" in n else d),
        "a pickled weight": lambda n, d: (n, d.replace(b'"use_pickle": false', b'"use_pickle": true')),
        "a call out of aten": lambda n, d: (n, d.replace(b"torch.ops.aten.relu.default", b"torch.hub.load")),
        "sample inputs": lambda n, d: (n, b"\x80\x04cos\nsystem\n." if "/sample_inputs/" in n else d),
    }  # fmt: skip
    seen = []
    for what, trick in tricks.items():
        changed(trick)
        if (tmp_path / "evil.pt2").read_bytes() == (tmp_path / "good.pt2").read_bytes():
            continue
        with pytest.raises(DataError) as caught:
            packaged(tmp_path, "evil.pt2")
        assert caught.value.code == "program_refused", (what, caught.value)
        seen.append(what)
    assert len(seen) == 4, seen


def test_a_keras_file(folder):
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed (extra keras)")
    from keepfit.training.keras_network import torch_backend

    with torch_backend():
        import keras

    net = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    net.save(folder / "net.keras")
    x = torch.from_numpy(pixels(3, "flat"))[None].float() / 255
    agrees(packaged(folder, "net.keras"), net(x))
    lamb = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    lamb.save(folder / "lambda.keras")
    with pytest.raises(DataError) as caught:
        packaged(folder, "lambda.keras")
    assert caught.value.code == "foreign_code"


def hf_folder(folder: Path, name: str = "vit", **more):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra networks)")
    torch.manual_seed(1)
    labels = {"id2label": {0: "tall", 1: "flat"}, "label2id": {"tall": 0, "flat": 1}}
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 16,
    }
    config = transformers.ViTConfig(**small, patch_size=8, **labels)
    model = transformers.ViTForImageClassification(config).eval()
    (model.vit if name == "bare" else model).save_pretrained(folder / name)
    said = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 16, "width": 16},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
    }
    (folder / name / "preprocessor_config.json").write_text(json.dumps({**said, **more}))
    return model


def test_a_hugging_face_folder(folder):
    model = hf_folder(folder)
    run = packaged(folder, "vit")
    wanted = model(pixel_values=fed(3, mean=(0.5,) * 3, std=(0.5,) * 3)).logits.softmax(1)
    said = agrees(run, wanted[:, [1, 0]])
    assert said["classes"] == ["flat", "tall"] and "transformers" in said["libraries"]


def test_a_hugging_face_processor_that_cuts(folder, tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (extra networks)")
    write_pictures(tmp_path / "pictures", 12, side=37)
    cut = {
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
        "size": {"shortest_edge": 20},
        "resample": 3,
    }
    hf_folder(tmp_path, **cut, image_processor_type="CLIPImageProcessor")
    run = packaged(tmp_path, "vit")  # the gate compares with the folder's own processor
    prepared = json.loads((run.bundle / "preparation.json").read_bytes())
    assert (prepared["edge"], prepared["filter"], prepared["height"]) == (20, "bicubic", 16)


def test_an_encoder_without_a_head_is_refused(tmp_path):
    write_pictures(tmp_path / "pictures", 12)
    hf_folder(tmp_path, "bare")
    with pytest.raises(DataError) as caught:
        packaged(tmp_path, "bare")
    assert caught.value.code == "no_head" and "use: pretrained" in caught.value.hint


def test_classes_that_do_not_fit(folder):
    torch.save(torch_net(folder).state_dict(), folder / "net.pth")
    said = {"class": str(folder / "net.py") + ":Net", "size": 16}
    with pytest.raises(DataError, match="not the model's") as caught:
        packaged(folder, "net.pth", classes=["flat", "round"], **said)
    assert "round" in caught.value.seen
    sequence, x = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3)), torch.zeros(2, 3, 16, 16)
    for name, code, axes in (("map", "not_scores", ({0: torch.export.Dim("n")},)), ("two", "model_failed", None)):
        more = {"dynamo": True, "verbose": False, "external_data": False, "dynamic_shapes": axes}
        torch.onnx.export(sequence, (x,), folder / f"{name}.onnx", **more)
        with pytest.raises(DataError) as caught:
            packaged(folder, f"{name}.onnx")
        assert caught.value.code == code, caught.value
