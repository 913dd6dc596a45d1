"""Networks for pictures: shapes, strides, export, freezing."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from keepfit.core.errors import RecipeError

torch = pytest.importorskip("torch", reason="torch is not installed (extra image)")
if torch:
    from keepfit.modalities.backbone import Backbone, Classifier, layer_groups
    from keepfit.modalities.image import efficientnet, mobilenet
    from keepfit.modalities.image.networks import SmallCnn


def has(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


# ---- the small network ----


@pytest.mark.parametrize(
    ("size", "last"),
    [
        ((8, 8), (4, 4)),
        ((12, 9), (3, 3)),
        ((28, 28), (4, 4)),
        ((32, 32), (4, 4)),
        ((40, 40), (5, 5)),
        ((64, 64), (4, 4)),
        ((96, 96), (6, 6)),
        ((128, 128), (4, 4)),
        ((224, 224), (4, 4)),
        ((32, 96), (4, 12)),
        ((1, 1), (1, 1)),
    ],
)
def test_small_network_fits_its_strides_to_the_picture(size, last):
    seen = []
    net = SmallCnn(3, 7, *size).eval()
    pool = next(part for part in net.features if isinstance(part, torch.nn.AdaptiveAvgPool2d))
    pool.register_forward_hook(lambda _, given, made: seen.append(tuple(given[0].shape[2:])))
    with torch.no_grad():
        made = net(torch.zeros(2, 3, *size))
    assert made.shape == (2, 7) and all(s <= 6 for s in seen[0] if size[0] == size[1])
    if size not in ((12, 9),):
        assert seen == [last]


def test_small_network_grows_with_its_factor():
    sizes = [sum(p.numel() for p in SmallCnn(1, 10, 28, 28, factor).parameters()) for factor in (0.1, 0.5, 1.0, 2.0)]
    assert sizes == sorted(sizes) and sizes[2] < 500_000 and sizes[3] > 3 * sizes[2] and len(set(sizes)) == 4


def test_small_network_learns_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    train, test = order[:1300], order[1300:]
    net = SmallCnn(1, 10, 8, 8, width_factor=0.34)
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs=4, steps_per_epoch=25)
    for _ in range(4):
        for batch in train[torch.randperm(len(train))].split(52):
            loss = torch.nn.functional.cross_entropy(net(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = (net(pictures[test]).argmax(1) == labels[test]).float().mean().item()
    assert right > 0.93 and len(test) == 497, right


# ---- the definitions ----


def networks():
    return {
        "mobilenet_v2": mobilenet.MobileNetV2,
        **{f"efficientnet_lite{v}": (lambda v=v: efficientnet.EfficientNetLite(v)) for v in range(3)},
    }


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mobilenet_v2", 2.224),
        ("efficientnet_lite0", 3.371),
        ("efficientnet_lite1", 4.135),
        ("efficientnet_lite2", 4.811),
    ],
)
def test_definitions_have_the_published_number_of_weights(name, millions):
    net = networks()[name]().eval()
    # Published with their last layer: 3.505, 4.652, 5.416 and 6.092 millions; it has 1,281,000.
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 64, 48)).shape == (2, 1280)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "around"),
    [(224, 3, 2, 1), (225, 3, 2, 2), (56, 5, 2, 3), (7, 5, 1, 4), (9, 1, 1, 0), (1, 3, 2, 2)],
)
def test_same_padding_is_tensorflows(side, kernel, stride, around):
    assert efficientnet.same_padding(side, kernel, stride) == around
    made = efficientnet.SameConv2d(1, 1, kernel, stride)(torch.zeros(1, 1, side, side))
    assert made.shape[-1] == -(-side // stride)


def test_the_odd_pixel_of_same_padding_goes_to_the_end():
    convolution = efficientnet.SameConv2d(1, 1, 3, 2)
    with torch.no_grad():
        convolution.weight.zero_()[0, 0, 0, 0] = 1  # picks the top left of each window
        made = convolution(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert made.flatten().tolist() == [0, 2, 8, 10]


def test_width_scaling_keeps_multiples_of_eight():
    assert [efficientnet.scaled_width(c, 1.1) for c in (16, 24, 40, 80, 112, 192, 320)] == [
        16,
        24,
        48,
        88,
        120,
        208,
        352,
    ]


def exported(net, size, tmp_path):
    """The largest difference between torch and onnxruntime on 5 pictures, exported from 2."""
    import onnxruntime

    net.eval()
    path = tmp_path / "net.onnx"
    given = torch.randn(2, 3, size, size)
    torch.onnx.export(net, (given,), path, dynamo=True, opset_version=18, input_names=["image"], output_names=["scores"], dynamic_shapes=({0: torch.export.Dim("n")},), external_data=False, verbose=False)  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, size, size] and not isinstance(
        session.get_inputs()[0].shape[0], int
    )
    pictures = torch.randn(5, 3, size, size)
    with torch.no_grad():
        wanted = net(pictures).numpy()
    made = session.run(None, {"image": pictures.numpy()})[0]
    assert made.shape == wanted.shape
    return float(np.abs(made - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.skipif(not has("onnxscript", "onnxruntime"), reason="onnxscript is not installed (extra image)")
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0", "small"])
def test_export_agrees_with_torch(name, tmp_path):
    net = SmallCnn(3, 4, 32, 32) if name == "small" else networks()[name]()
    net.train()
    with torch.no_grad():
        net(torch.randn(8, 3, 64, 64))  # moves the statistics of the batch norms off 0 and 1
    assert exported(net, 32 if name == "small" else 64, tmp_path) <= 1e-5


# ---- freezing ----


def small_backbone():
    torch.manual_seed(0)
    net = mobilenet.MobileNetV2().eval()
    return Backbone(net, 1280, 224, (0.5,) * 3, (0.5,) * 3, "mobilenet_v2", layer_groups(net), "")


def moved(classifier):
    """The names of parameters and statistics that a step of training changes."""
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], 0.1)
    loss = torch.nn.functional.cross_entropy(classifier(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    optimizer.step()
    return {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("n", [True, 19, 2, 0, False])
def test_what_is_frozen_keeps_its_weights_and_statistics(n):
    classifier = Classifier(small_backbone(), 2)
    classifier.freeze(n)
    classifier.train()
    changed = moved(classifier)
    assert {"head.weight", "head.bias"} <= changed
    still = {f"backbone.features.{i}." for i in range(19 if n is True else int(n))}
    assert [name for name in changed if any(name.startswith(start) for start in still)] == []
    learning = {".".join(name.split(".")[:3]) for name in changed if name.startswith("backbone")}
    assert len(learning) == 19 - len(still)
    if still:
        assert not classifier.backbone.features[0][1].training and classifier.training


def test_freezing_can_be_taken_back():
    classifier = Classifier(small_backbone(), 2, dropout=0.0)
    classifier.freeze(True)
    classifier.freeze(False)
    assert all(p.requires_grad for p in classifier.parameters()) and classifier.backbone.features[0][1].training
    classifier.eval()
    classifier.freeze(1)
    assert not any(part.training for part in classifier.modules())


@pytest.mark.parametrize("n", [20, -1])
def test_freezing_more_than_there_is_is_refused(n):
    with pytest.raises(RecipeError) as caught:
        Classifier(small_backbone(), 2).freeze(n)
    assert caught.value.code == "freeze_too_many" and "0 to 19" in caught.value.hint


def test_the_classifier_names_every_parameter_once():
    classifier = Classifier(small_backbone(), 1)
    named = [name for group in classifier.layers for name in group]
    assert sorted(named) == sorted(name for name, _ in classifier.named_parameters()) and len(classifier.layers) == 20
    assert classifier.layers[-1] == ["head.weight", "head.bias"] and classifier(torch.zeros(2, 3, 32, 32)).shape == (
        2,
        1,
    )
