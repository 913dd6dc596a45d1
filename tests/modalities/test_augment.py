"""What is done to a picture depends on seed, epoch and index alone, and each way to vary it does what it says."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keepfit.core import catalog
from keepfit.modalities.image.augment import augmented, contact_sheet, mixed
from keepfit.modalities.randomness import generator

PICTURES = [
    name for name in catalog.TABLE["augment"] if name not in ("mixup", "cutmix") and not name.startswith("word_")
]
PLACES = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 10_000), st.integers(0, 10**9))


def part(use, **more):
    return catalog.options_of("augment", use).model_validate({"use": use, **more})


def smooth(height=24, width=32, channels=3):
    down, across = np.mgrid[0:height, 0:width]
    planes = [across * 255 // (width - 1), down * 255 // (height - 1), (across + down) * 2 + 20]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def drawn(picture, parts, place):
    return augmented(picture, parts, generator(*place))


EVERYTHING = [part(name) for name in [*PICTURES, "mixup", "cutmix"]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(PLACES, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False), st.sampled_from([1, 3])
)
def test_the_same_place_gives_the_same_bytes_in_any_order(places, shuffler, channels):
    picture = smooth(channels=channels)
    first = {place: drawn(picture, EVERYTHING, place).tobytes() for place in places}
    again = places * 2
    shuffler.shuffle(again)
    assert all(drawn(picture, EVERYTHING, place).tobytes() == first[place] for place in again)
    assert np.array_equal(picture, smooth(channels=channels))  # what is given is never changed


def test_another_process_gives_the_same_bytes():
    code = (
        "import sys, hashlib\nsys.path.insert(0, 'tests/modalities')\nfrom test_augment import EVERYTHING, drawn, smooth\n"
        "print(*(hashlib.sha256(drawn(smooth(), EVERYTHING, (3, 1, n)).tobytes()).hexdigest() for n in reversed(range(20))))"
    )
    here = [hashlib.sha256(drawn(smooth(), EVERYTHING, (3, 1, n)).tobytes()).hexdigest() for n in range(20)]
    root = __file__.rpartition("/tests/")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split()[::-1] == here and len(set(here)) == 20


@settings(max_examples=100, deadline=None)
@given(PLACES, PLACES)
def test_two_places_share_no_numbers(one, other):
    same = one == other
    assert (generator(*one).bytes(16) == generator(*other).bytes(16)) is same
    assert generator(*one).bytes(16) != generator(*one, stream=1).bytes(16)


def test_neighbouring_places_are_all_different():
    """A hash of the numbers put together would confuse (5 + 2**32, 7, 0) with (5, 1, 7)."""
    places = [(seed, epoch, index) for seed in (0, 1, 5, 5 + 2**32) for epoch in range(8) for index in range(8)]
    assert len({generator(*place).bytes(16) for place in places}) == 256
    assert generator(-1, 0, 0).bytes(8) != generator(1, 0, 0).bytes(8)
    shares = [generator(0, 0, index).random() for index in range(2000)]
    assert abs(np.mean(shares) - 0.5) < 0.03 and abs(np.corrcoef(shares[1:], shares[:-1])[0, 1]) < 0.08


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_every_part_keeps_shape_and_changes_pixels_only_with_its_share(name, channels):
    picture = smooth(channels=channels)
    picture[::2, :8] = 255  # an edge for the blur
    results = [drawn(picture, [part(name, p=1)], (0, 0, n)) for n in range(30)]
    assert all(r.shape == picture.shape and r.dtype == np.uint8 and r.flags.writeable for r in results)
    assert sum(not np.array_equal(r, picture) for r in results) >= 25
    assert np.array_equal(drawn(picture, [part(name, p=0)], (0, 0, 0)), picture)
    for size in ((1, 1), (1, 40), (33, 2)):
        tiny = np.full((*size, channels), 90, np.uint8)
        assert drawn(tiny, [part(name, p=1)], (0, 0, 1)).shape == tiny.shape
    half = [np.array_equal(drawn(picture, [part(name, p=0.5)], (1, 0, n)), picture) for n in range(200)]
    assert 60 <= sum(half) <= 140


def test_flips_are_exact_and_the_order_of_parts_counts():
    picture = smooth()
    assert np.array_equal(drawn(picture, [part("flip", p=1)], (0, 0, 0)), picture[:, ::-1])
    assert np.array_equal(drawn(picture, [part("flip", p=1, vertical=True)], (0, 0, 0)), picture[::-1])
    one, two = part("crop", scale=[0.3, 0.4]), part("flip", p=1)
    assert not np.array_equal(drawn(picture, [one, two], (0, 0, 0)), drawn(picture, [two, one], (0, 0, 0)))


def test_rotation_turns_by_the_angle_and_fills_with_the_border():
    line = np.zeros((41, 41, 1), np.uint8)
    line[20, 10:31] = 255
    angles = []
    for n in range(40):
        down, across = np.nonzero(drawn(line, [part("rotate", degrees=30, p=1)], (0, 0, n))[..., 0] > 100)
        angles.append(np.degrees(np.arctan(np.polyfit(across, down, 1)[0])))
    assert -32 < min(angles) < -20 and 20 < max(angles) < 32
    framed = np.full((20, 20, 3), (10, 200, 30), np.uint8)
    framed[5:15, 5:15] = 255
    turned = drawn(framed, [part("rotate", degrees=45, p=1)], (0, 0, 3))
    assert (turned[0, 0] == (10, 200, 30)).all() and (turned[-1, -1] == (10, 200, 30)).all()


def test_scale_translate_and_crop_stay_in_their_limits():
    square = np.zeros((40, 40, 1), np.uint8)
    square[10:30, 10:30] = 255
    sides = [np.sqrt((drawn(square, [part("scale", range=[0.5, 1.5], p=1)], (0, 0, n)) > 127).sum()) for n in range(40)]
    assert 9.5 <= min(sides) < 13 and 27 < max(sides) <= 31
    places = []
    for n in range(60):
        moved = drawn(square, [part("translate", share=0.2, p=1)], (0, 0, n))[..., 0]
        assert (moved == 255).sum() == 400
        places.append([axis.min() - 10 for axis in np.nonzero(moved)])
    assert np.min(places) in (-8, -7) and np.max(places) in (7, 8)
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8)[:, None], (1, 100))[..., None]
    spans = []
    for n in range(60):
        found = drawn(ramp, [part("crop", scale=[0.25, 0.25], ratio=[1, 1])], (0, 0, n)).astype(int)
        spans.append((found[-1, 0, 0] - found[0, 0, 0]) / 198)
    assert 0.46 < min(spans) <= max(spans) < 0.54


def test_colour_is_the_documented_map():
    picture = smooth()
    bright = [drawn(picture, [part("colour", contrast=0, saturation=0, brightness=0.5)], (0, 0, n)) for n in range(30)]
    gains = [b[:10, :10].mean() / picture[:10, :10].mean() for b in bright]
    assert 0.48 < min(gains) < 0.7 and 1.3 < max(gains) < 1.52
    still = part("colour", brightness=0, contrast=0, saturation=0, hue=0)
    assert np.abs(drawn(picture, [still], (0, 0, 0)).astype(int) - picture).max() <= 1
    grey = np.repeat(smooth(channels=1), 3, axis=2)
    hued = drawn(grey, [part("colour", brightness=0, contrast=0, saturation=1, hue=0.5)], (0, 0, 1))
    assert np.abs(hued.astype(int) - grey).max() <= 1  # grey has neither hue nor saturation
    red = np.full((4, 4, 3), (150, 60, 60), np.uint8)
    turned = [
        drawn(red, [part("colour", brightness=0, contrast=0, saturation=0, hue=0.5)], (0, 0, n))[0, 0].argmax()
        for n in range(30)
    ]
    assert set(turned) == {0, 1, 2}
    flat = [drawn(smooth(channels=1), [part("colour", brightness=0, contrast=0.9)], (0, 0, n)) for n in range(30)]
    assert min(f.std() for f in flat) < 25 and all(abs(f.mean() - smooth(channels=1).mean()) < 8 for f in flat)


def test_noise_blur_and_erase_do_what_they_say():
    middle = np.full((64, 64, 3), 128, np.uint8)
    noise = drawn(middle, [part("noise", std=0.1, p=1)], (0, 0, 0)).astype(float) - 128
    assert abs(noise.std() - 25.5) < 1 and abs(noise.mean()) < 1
    edge = np.zeros((16, 16, 1), np.uint8)
    edge[:, 8:] = 255
    assert 0 < drawn(edge, [part("blur", radius=3, p=1)], (0, 0, 2))[8, 7, 0] < 255
    shares = [
        (drawn(middle, [part("erase", area=[0.1, 0.3], p=1)], (0, 0, n)) != 128).any(axis=2).mean() for n in range(40)
    ]
    assert 0.08 < min(shares) < 0.15 and 0.24 < max(shares) < 0.33


def batch():
    inputs = np.stack([np.full((3, 12, 10), n, np.float32) for n in range(6)])
    return inputs, np.eye(6, dtype=np.float32)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixes_share_pictures_and_answers_alike(name):
    inputs, targets = batch()
    values, changed = np.arange(6), 0
    for n in range(40):
        new, answers = mixed(inputs, targets, [part("flip"), part(name, alpha=1.0)], generator(0, 0, n, 1))
        assert new.dtype == answers.dtype == np.float32 and new.shape == inputs.shape
        assert np.allclose(answers.sum(axis=1), 1) and (answers >= 0).all()
        assert np.allclose(new.mean(axis=(1, 2, 3)), answers @ values, atol=1e-4)
        assert name == "mixup" or set(np.unique(new)) <= set(values)
        changed += not np.array_equal(new, inputs)
        same = mixed(inputs, targets, [part("flip"), part(name, alpha=1.0)], generator(0, 0, n, 1))
        assert np.array_equal(new, same[0]) and np.array_equal(answers, same[1])
    assert changed >= 35 and np.array_equal(inputs, batch()[0]) and np.array_equal(targets, batch()[1])


def test_one_mix_at_a_time_and_none_where_there_is_none():
    inputs, targets = batch()
    both = [part("mixup", alpha=1.0), part("cutmix")]
    kinds = [set(np.unique(mixed(inputs, targets, both, generator(0, 0, n))[0])) <= set(range(6)) for n in range(60)]
    assert 15 <= sum(kinds) <= 45
    for parts in ([], [part("flip")], [part("mixup", p=0)]):
        assert mixed(inputs, targets, parts, generator(0, 0, 0))[0] is inputs
    assert mixed(inputs[:1], targets[:1], both, generator(0, 0, 0))[0].shape == (1, 3, 12, 10)
    pictures = smooth()
    assert np.array_equal(drawn(pictures, both, (0, 0, 0)), pictures)


def test_a_contact_sheet_is_a_png_of_all_pictures():
    pictures = [np.full((28, 28, 1), 10 * n, np.uint8) for n in range(5)] + [
        np.full((20, 28, 3), (200, 0, 0), np.uint8)
    ]
    made = contact_sheet(pictures, 4)
    sheet = np.asarray(Image.open(io.BytesIO(made)))
    assert sheet.shape == (4 + 2 * 60, 4 + 4 * 60, 3) and made == contact_sheet(pictures, 4)
    assert [sheet[30, 4 + 60 * n + 20].tolist() for n in range(4)] == [[10 * n] * 3 for n in range(4)]
    assert sheet[64 + 20, 4 + 60 + 20].tolist() == [200, 0, 0] and sheet[100, 4 + 3 * 60].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match="needs pictures"):
        contact_sheet([], 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"use": "rotate", "degrees": -1}, {"use": "rotate", "p": 1.5}, {"use": "crop", "scale": [1.0, 0.5]},
        {"use": "crop", "scale": [0, 1]}, {"use": "crop", "ratio": [0.5]}, {"use": "flip", "vertical": "sideways"},
        {"use": "scale", "range": [1.2, 0.8]}, {"use": "noise", "std": float("nan")}, {"use": "colour", "hue": 0.7},
        {"use": "mixup", "alpha": 0}, {"use": "cutmix", "alpha": float("inf")}, {"use": "erase", "area": 0.1},
        {"use": "blur", "radius": float("nan")}, {"use": "translate", "share": 2}, {"use": "flip", "degrees": 3},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        part(**wrong)


def test_the_contracts_example_is_read():
    said = [
        {"use": "rotate", "degrees": 15, "p": 0.5},
        {"use": "crop", "scale": [0.8, 1.0]},
        {"use": "flip"},
        {"use": "noise", "std": 0.05},
    ]
    made = [part(**one) for one in said]
    assert made[2].p == 0.5 and made[2].vertical is False and made[1].p == 1.0 and made[1].scale == (0.8, 1.0)


def test_options_are_read_without_numpy_and_pillow():
    code = (
        "import sys\nfrom keepfit.core import catalog\n"
        "print(len([catalog.options_of('augment', n) for n in catalog.TABLE['augment']]), {'numpy', 'PIL', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["14", "set()"]
