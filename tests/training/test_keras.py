"""Keras models of the user's own on the torch backend: shapes, layouts, seeds, averages, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_pictures import write_pictures

import keepfit as kf
from keepfit.core.errors import EnvironmentFault, RecipeError
from keepfit.training.custom import check_shapes, network_of

FILE = """
import keras
from keras import layers

def net(input_shape, classes):
    return keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten(),
                             layers.Dropout(0.3), layers.Dense(classes)])

class Sub(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.flat, self.head = layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)
    def call(self, x):
        return self.head(self.flat(self.conv(x)))

def crooked():
    return keras.Sequential([layers.Flatten(), keras.Sequential([keras.Input((7,)), layers.Dense(2)])])

def soft(classes):
    return keras.Sequential([layers.Flatten(), layers.Dense(classes, activation="softmax")])

def table(features, classes):
    return keras.Sequential([keras.Input((features,)), layers.Dense(8, activation="relu"), layers.Dense(classes)])

def first(classes):
    return keras.Sequential([keras.Input((3, 8, 10)), layers.Flatten(), layers.Dense(classes)])
"""
OFFERED = {"classes": 2, "input_shape": (3, 8, 10)}

if importlib.util.find_spec("keras") is None:  # not imported: it would choose its backend
    pytest.skip("keras is not installed (extra keras)", allow_module_level=True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(FILE)
    return tmp_path


def made(folder, name, offered=OFFERED):
    torch.manual_seed(3)
    return network_of(f"net.py:{name}", folder, {}, offered)


@pytest.mark.parametrize(("name", "last"), [("net", True), ("Sub", True), ("first", False)])
def test_pictures_are_laid_out_as_the_model_wants(folder, name, last):
    network = made(folder, name)
    check_shapes(network, torch.zeros(2, 3, 8, 10), 2)
    assert network.last is last and network.training


def test_the_same_seed_gives_the_same_weights_and_names(folder):
    one, two = made(folder, "net").state_dict(), made(folder, "net").state_dict()
    assert list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one) and len(one) >= 9
    torch.manual_seed(4)
    other = network_of("net.py:net", folder, {}, OFFERED).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_train_and_eval_reach_keras(folder):
    network, x = made(folder, "net"), torch.randn(4, 3, 8, 10)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        assert torch.equal(network.eval()(x), network(x))
    kinds = {name.rpartition("/")[2] for name, value in network.named_buffers() if not value.is_floating_point()}
    assert kinds == {"seed_generator_state"} and all(p.is_floating_point() for p in network.parameters())


def test_tables_are_fed_as_they_are(folder):
    network = made(folder, "table", {"features": 5, "classes": 2, "input_shape": (5,)})
    check_shapes(network, torch.zeros(2, 5), 2)
    assert network.last is False and len(network.state_dict()) >= 4


def test_shapes_that_do_not_meet_name_the_layer_and_both(folder):
    with pytest.raises(RecipeError) as caught:
        made(folder, "crooked")
    error = caught.value
    assert error.code == "shape_mismatch" and "layer" in error.what and "7" in error.seen and "240" in error.seen, error


def test_a_softmax_at_the_end_is_refused(folder):
    with pytest.raises(RecipeError, match="softmax") as caught:
        check_shapes(made(folder, "soft"), torch.zeros(2, 3, 8, 10), 2)
    assert caught.value.code == "not_raw"


def test_pictures_train_with_averages_and_answer(folder):
    write_pictures(folder / "pictures")
    train = "train: {epochs: 2, batch_size: 16, precision: fp32, ema: 0.9}\n"
    recipe = folder / "own.yaml"
    recipe.write_text("version: 1\ndata: {source: pictures}\nmodel: {use: custom, class: 'net.py:net'}\n" + train)
    run = kf.run(recipe, workspace=folder)
    answers = kf.load(run.bundle).predict([str(p) for p in sorted((folder / "pictures").glob("*/*.png"))])
    assert answers.probabilities.shape == (48, 2) and np.isfinite(answers.probabilities).all()


PROBE = """
import os, sys
from pathlib import Path
import keepfit.training.custom, keepfit.training.keras_network
assert "KERAS_BACKEND" not in os.environ and "keras" not in sys.modules
from keepfit.training.custom import network_of
network_of("net.py:net", Path(sys.argv[1]), {}, {"classes": 2, "input_shape": (3, 8, 10)})
import keras
assert keras.config.backend() == "torch" and "KERAS_BACKEND" not in os.environ
"""


def test_the_environment_is_as_before(folder):
    env = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", PROBE, str(folder)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-600:]


def test_without_keras_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(EnvironmentFault) as caught:
        made(folder, "net")
    assert caught.value.code == "missing_extra" and "keepfit[keras]" in caught.value.hint
