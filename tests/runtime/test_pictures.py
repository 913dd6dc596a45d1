"""Every odd picture decodes to the right pixels, every broken one is a DataError, and preparation is exact."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import odd_pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_pictures import pixels, png, saved, turned
from PIL import Image, ImageFile

from keepfit.core.errors import DataError
from keepfit.runtime.pictures import PicturePreparation, decode, encode_array

FILES = odd_pictures.pictures()
PINNED = [[115, 91, 105, 126], [118, 138, 160, 181]]
PLAIN = PicturePreparation(8, 6, 3, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_sixty_pictures_come_to_what_is_expected(tmp_path, capfd):
    listed = odd_pictures.make(tmp_path)
    assert len(listed) == 60 and sum(expected == "ok" for _, expected in listed) == 29
    assert {expected for _, expected in listed} == {
        "ok",
        odd_pictures.BROKEN,
        odd_pictures.CUT,
        odd_pictures.BOMB,
        odd_pictures.FORMAT,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, expected in listed:
            data = (tmp_path / name).read_bytes()
            if expected == "ok":
                found, notes = decode(data)
                assert found.dtype == np.uint8 and found.shape[2] == 3 and all(notes), name
                continue
            with pytest.raises(DataError) as caught:
                decode(data, where=name)
            error = caught.value
            assert (error.code, error.where) == (expected, name) and error.seen and error.hint and error.what, name
            assert "0x" not in str(error), name  # an address would differ from run to run
    assert odd_pictures.pictures() == FILES and capfd.readouterr().err == ""
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False and Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.parametrize(
    ("name", "notes", "away"),
    [
        ("plain.jpg", [], 30),
        ("cmyk.jpg", ["CMYK"], 30),
        ("alpha.webp", ["alpha over white"], None),
        ("colour_16.png", ["16 bit"], 0),
        ("key_colour.png", ["alpha over white"], None),
        ("animated.png", ["animated: first frame of 4"], 0),
        ("animated.gif", ["animated: first frame of 4"], 120),
        ("animated.webp", ["animated: first frame of 4"], 0),
        ("pages.tif", ["pages: first page of 4"], 0),
        ("colour.bmp", [], 0),
        ("really_png.jpg", [], 0),
        ("garbage_behind.jpg", [], 30),
        ("several.mpo", [], 30),
    ],
)
def test_notes_and_pixels(name, notes, away):
    found, said = decode(FILES[name][0])
    assert said == notes and found.shape == (24, 32, 3)
    if away is not None:
        assert np.abs(found.astype(int) - pixels()).mean() <= away / 4 and np.abs(
            found.astype(int) - pixels()
        ).max() <= max(4 * away, 0)


@pytest.mark.parametrize("name", ["grey_16.png", "float.tif", "grey_16.pgm", "one_bit.png"])
def test_grey_of_any_depth_is_scaled(name):
    found, notes = decode(FILES[name][0])
    wanted = (
        pixels()[..., 0] if name != "one_bit.png" else np.asarray(Image.fromarray(pixels()[..., 0]).convert("1")) * 255
    )
    assert (found == wanted[..., None]).all() and notes == {"f": ["float"], "o": []}.get(name[0], ["16 bit"])


def test_16_bit_is_rounded_and_wide_ranges_are_stretched():
    deep = np.arange(0, 65536, 8, dtype=np.uint16).reshape(64, 128)
    assert (decode(saved(deep, "PNG"))[0][..., 0] == np.rint(deep / 257)).all()
    wide = np.array([[-2.0, 0.0, 2.0, np.nan]], np.float32)
    found, notes = decode(saved(wide, "TIFF"))
    assert found[0, :, 0].tolist() == [0, 128, 255, 0] and notes == ["float"]
    whole = np.array([[-70_000, 0, 70_000]], np.int32)
    found, notes = decode(saved(whole, "TIFF"))
    assert found[0, :, 0].tolist() == [0, 128, 255] and notes == ["32 bit"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    more = {"lossless": True} if kind == "WEBP" else {}
    stored = pixels()
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1), 7: stored[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    found, notes = decode(saved(stored, kind, exif=turned(orientation), **more))
    assert np.array_equal(found, upright) and notes == ([] if orientation == 1 else [f"EXIF orientation {orientation}"])


def test_alpha_lies_over_white_in_files_and_arrays():
    clear = pixels(channels=4)
    clear[..., 3] = np.arange(32) * 8
    share = clear[..., 3:] / 255
    wanted = clear[..., :3] * share + 255 * (1 - share)
    for data in (saved(clear, "PNG"), encode_array(clear)):
        assert np.abs(decode(data)[0] - wanted).max() <= 1
    clear[..., 3] = 255
    found, notes = decode(saved(clear, "PNG"))
    assert np.array_equal(found, clear[..., :3]) and notes == []


def test_the_limit_of_pixels_is_the_callers_and_comes_before_decoding():
    data = saved(pixels(), "PNG")
    assert decode(data, most_pixels=24 * 32)[0].shape == (24, 32, 3)
    with pytest.raises(DataError, match="32 x 24 pixels, at most 767 are read"):
        decode(data, most_pixels=24 * 32 - 1)
    code = (
        "import resource, sys\nfrom keepfit.core.errors import DataError\nfrom keepfit.runtime.pictures import decode, encode_array\n"
        "decode(encode_array([[0]]))\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode(sys.stdin.buffer.read())\nexcept DataError as error:\n    print(error.code)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    bomb = png(7000, 7000, 1, 0, bytes(7000 * 876))
    done = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, check=True)
    said, grown_kb = done.stdout.decode().split()
    assert said == "picture_bomb" and int(grown_kb) < 20_000 and len(bomb) < 20_000


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
    st.integers(1, 3000),
)
def test_damage_never_raises_anything_else(name, changes, length):
    data = bytearray(FILES[name][0][:length])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found, _ = decode(bytes(data), most_pixels=1_000_000)
        except DataError as error:
            assert error.code.startswith("picture_")
        else:
            assert found.ndim == 3 and found.dtype == np.uint8


def test_warnings_of_others_are_left_alone():
    before = list(warnings.filters)
    noisy = FILES["warned.png"][0]
    threads = [threading.Thread(target=lambda: [_code(noisy) for _ in range(40)]) for _ in range(4)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        warnings.warn("mine", UserWarning, stacklevel=1)
        for thread in threads:
            thread.join()
    assert [str(one.message) for one in caught] == ["mine"] and warnings.filters == before


def _code(data):
    try:
        decode(data)
    except DataError as error:
        return error.code


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_arrays_come_back_as_they_were(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for given_ in (array, array.tolist(), array.astype(np.float64), array.astype(np.int64)):
        found, notes = decode(encode_array(given_))
        assert notes == [] and np.array_equal(found, np.broadcast_to(array.reshape(5, 7, -1), (5, 7, 3)))
    kind = b"P6" if shape[-1] == 3 else b"P5"
    assert encode_array(array) == kind + b"\n7 5\n255\n" + array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        [], 3, [1, 2], [[1], [1, 2]], [["a"]], [[None]], [[True]], [[256]], [[-1]], [[1e300]], [[float("nan")]], [[0.5, 1.0]],
        np.zeros((2, 2, 2)), np.zeros((0, 4)), np.zeros((1, 2, 3, 3)), [[10**400]], [[1j]], np.zeros((1, 1), "M8[s]"),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(array):
    with pytest.raises(DataError) as caught:
        encode_array(array)
    assert caught.value.code == "picture_array" and caught.value.hint and caught.value.seen


def test_fractions_are_rounded_half_to_even():
    assert encode_array([[0.5, 1.5, 254.5]])[-3:] == bytes([0, 2, 254])


def test_squash_and_cover():
    """The reference resizes the whole picture, then cuts out the centre."""
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    for channels in (1, 3):
        fixed = {"channels": channels, "mean": (0.0,) * channels, "std": (1.0,) * channels}
        cover = PicturePreparation(10, 10, resize="cover", **fixed).fit_size(wide)
        squash = PicturePreparation(10, 10, resize="squash", **fixed).fit_size(wide)
        whole = np.array(Image.fromarray(wide).resize((30, 10), Image.Resampling.BILINEAR))
        assert np.array_equal(cover, whole[:, 10:20, :channels]) and squash.shape == (10, 10, channels)
        assert squash[:, 0].max() == 0 and squash[:, 4:6].min() > 200
        same = PicturePreparation(20, 60, resize="cover", **fixed).fit_size(wide)
        assert np.array_equal(same, wide[..., :channels])
    tall = PicturePreparation(8, 8, 3, "cover", (0.0,) * 3, (1.0,) * 3)
    assert tall.fit_size(pixels(1, 5000)).shape == (8, 8, 3) and tall.fit_size(pixels(3000, 1)).shape == (8, 8, 3)


def test_shrinking_is_antialiased_and_its_values_are_pinned():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = PicturePreparation(8, 8, 3, "squash", (0.0,) * 3, (1.0,) * 3).fit_size(stripes)
    assert np.abs(small[:, 1:-1].astype(int) - 128).max() <= 4
    grey = PicturePreparation(2, 4, 1, "cover", (0.0,), (1.0,)).fit_size(pixels())
    assert (
        grey[..., 0].tolist() == PINNED
    )  # what a served model was trained on: a Pillow that gives others breaks parity


def test_grey_is_itu_601():
    one = PicturePreparation(1, 1, 1, "squash", (0.0,), (1.0,))
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30)):
        wanted = (colour[0] * 19595 + colour[1] * 38470 + colour[2] * 7471 + 0x8000) >> 16
        assert one.fit_size(np.full((1, 1, 3), colour, np.uint8)).item() == wanted


def test_input_is_float32_in_the_documented_order():
    batch = np.random.default_rng(1).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    found = PLAIN.to_input(batch)
    mean, std = np.array(PLAIN.mean, np.float32), np.array(PLAIN.std, np.float32)
    wanted = (batch.astype(np.float32) / np.float32(255) - mean) / std
    assert found.dtype == np.float32 and found.shape == (4, 3, 8, 6) and found.flags.c_contiguous
    assert np.array_equal(found, wanted.transpose(0, 3, 1, 2))
    assert PLAIN.to_input(batch[:0]).shape == (0, 3, 8, 6)


def test_preparation_is_json():
    told = json.loads(json.dumps(PLAIN.to_json()))
    assert PicturePreparation.from_json(told) == PLAIN and told["kind"] == "image" and told["version"] == 1
    assert hash(PLAIN) == hash(PicturePreparation.from_json(told))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"kind": "text"}, {"version": True}, {"height": 0}, {"width": 2049}, {"height": 8.0}, {"width": True},
        {"channels": 2}, {"channels": "3"}, {"resize": "pad"}, {"mean": [0.5]}, {"mean": [0.5, 0.5, float("nan")]}, {"std": [1, 1, 0]},
        {"std": [1, 1, float("inf")]}, {"mean": "abc"}, {"mean": [1, 2, "3"]}, {"more": 1}, {"std": None}, {"resize": None}, {"std": [1, 1, -1]},
    ],
)  # fmt: skip
def test_preparation_is_validated(change):
    with pytest.raises(ValueError):
        PicturePreparation.from_json({**PLAIN.to_json(), **change})


@pytest.mark.parametrize("value", [None, [], 3, "x", {}, {"kind": "image", "version": 1}])
def test_other_json_is_no_preparation(value):
    with pytest.raises(ValueError, match=re.escape("a preparation of pictures has the keys")):
        PicturePreparation.from_json(value)


def test_without_pillow_the_extra_is_named():
    code = (
        "import sys\nsys.modules['PIL'] = None\nfrom keepfit.runtime.pictures import decode\n"
        "from keepfit.core.errors import EnvironmentFault\ntry:\n    decode(b'')\nexcept EnvironmentFault as error:\n    print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'keepfit[image]'"


def test_importing_loads_no_pillow():
    code = "import sys, keepfit.runtime.pictures\nprint('PIL' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
