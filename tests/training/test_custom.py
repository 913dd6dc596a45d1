"""The user's own network: what is wrong with it is said by name."""

from __future__ import annotations

import pytest
import torch

from keepfit.core.errors import RecipeError
from keepfit.training.custom import check_shapes, network_of

FILE = """
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, classes, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, classes)
    def forward(self, x):
        return self.head(self.body(x))

class Crooked(Good):
    def __init__(self, classes):
        super().__init__(classes)
        self.head = nn.Linear(9, classes)

class Failing(nn.Module):
    def __init__(self, classes, depth):
        raise ValueError("depth must be even")

class Listing(Good):
    def forward(self, x):
        return [x]

class Plain:
    pass

loose = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    return tmp_path


def refused(folder, reference, args=None):
    with pytest.raises(RecipeError) as caught:
        network_of(reference, folder, args or {}, {"classes": 3, "channels": 1})
    assert caught.value.hint and caught.value.seen
    return caught.value


def test_what_is_offered_is_taken_by_name(folder):
    torch.manual_seed(0)
    made = network_of("net.py:Good", folder, {"width": 4}, {"classes": 3, "channels": 1})
    assert (made.head.in_features, made.head.out_features) == (4, 3)
    check_shapes(made, torch.zeros(2, 6), 3)
    assert made.training and made.body[2].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("reference", "code", "hint"),
    [
        ("nets.py:Good", "no_class_file", "net.py"),
        ("no/such.py:Good", "no_class_file", "relative to the recipe"),
        ("Good", "no_class_file", ""),
        ("net.py:Goood", "no_class", "'Good'"),
        ("net.py:loose", "no_class", "did you mean"),
        ("net.py:Plain", "not_a_network", "torch.nn.Module"),
        ("broken.py:Net", "class_failed", "broken.py"),
        ("leaving.py:Net", "class_failed", "leaving.py"),
    ],
)
def test_what_cannot_be_made_is_refused(folder, reference, code, hint):
    error = refused(folder, reference)
    assert error.code == code and hint in error.hint and error.where == "model.class"


def test_a_constructor_that_fails(folder):
    error = refused(folder, "net.py:Failing", {"depth": 3})
    assert (
        error.code == "class_failed"
        and "ValueError: depth must be even" in error.seen
        and "classes, depth" in error.hint
    )
    error = refused(folder, "net.py:Good", {"breadth": 3})
    assert "breadth" in error.seen and "classes, width" in error.hint


def wrong(folder, name, example, outputs=3):
    made = network_of(f"net.py:{name}", folder, {}, {"classes": 3})
    with pytest.raises(RecipeError) as caught:
        check_shapes(made, example, outputs)
    assert caught.value.code == "shape_mismatch" and made.training and not made.head._forward_pre_hooks
    return caught.value


def test_shapes_that_do_not_meet_name_the_layer_and_both(folder):
    error = wrong(folder, "Crooked", torch.zeros(2, 6))
    assert "'head' (Linear)" in error.what and "(2, 8)" in error.seen and "(3, 9)" in error.seen
    error = wrong(folder, "Good", torch.zeros(2, 5))
    assert "'body.0'" in error.what and "(2, 5)" in error.seen and "(8, 6)" in error.seen and "(2, 5)" in error.hint


def test_outputs_that_do_not_fit(folder):
    assert "(2, 3)" in wrong(folder, "Good", torch.zeros(2, 6), 4).seen
    assert "list" in wrong(folder, "Listing", torch.zeros(2, 6)).seen
