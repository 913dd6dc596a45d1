"""Every picture source gives the same names, labels and bytes in a fixed order; hostile members are told of and end nothing."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
import stat
import struct
import sys
import tracemalloc
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from keepfit.core.errors import DataError
from keepfit.modalities.image import found
from keepfit.modalities.image.read import Found, Refused, from_arrays, looks_like_pictures, pictures
from keepfit.runtime.sources import Read

FASHION = "/usr/share/datasets/fashion-mnist"
TWO = {"cat/1.jpg": "c1", "cat/2.jpg": "c2", "dog/1.jpg": "d1"}


def pnm(array):
    array = np.asarray(array)
    kind = b"P6" if array.ndim == 3 and array.shape[2] == 3 else b"P5"
    return b"%s\n%d %d\n255\n" % (kind, array.shape[1], array.shape[0]) + array.astype(np.uint8).tobytes()


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    """These tests are of names and bytes, so they run where the runtime's own encoder is not installed."""
    if importlib.util.find_spec("keepfit.runtime.pictures") is None:
        stand_in = types.ModuleType("keepfit.runtime.pictures")
        stand_in.encode_array = pnm
        monkeypatch.setitem(sys.modules, "keepfit.runtime.pictures", stand_in)


def folder_of(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def zip_of(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def told(items):
    """(name, label, part, text) of pictures and (name, reason) of the rest, in order."""
    return [
        (i.name, i.label, i.part, i.data.decode("latin-1")) if isinstance(i, Found) else (i.name, i.reason)
        for i in items
    ]


def both_ways(tmp_path, files):
    """What a folder says; the same files in a zip must say the same."""
    folder_of(tmp_path / "in", files)
    zip_of(tmp_path / "in.zip", dict(reversed(files.items())))
    said = told(pictures("in", tmp_path))
    assert said == told(pictures("in.zip", tmp_path))
    return said


def refused(items):
    return {item.name: item.reason for item in items if isinstance(item, Refused)}


PLAIN = [("cat/1.jpg", "cat", "", "c1"), ("cat/2.jpg", "cat", "", "c2"), ("dog/1.jpg", "dog", "", "d1")]


def test_a_folder_per_class_in_a_folder_and_in_a_zip(tmp_path):
    assert both_ways(tmp_path, TWO) == PLAIN


def test_what_is_not_a_picture_is_told_of_and_what_systems_strew_about_is_not(tmp_path):
    strewn = {"__MACOSX/cat/._1.jpg": "x", "cat/.DS_Store": "x", ".git/a/1.jpg": "x"}
    odd = {"cat/Thumbs.db": "BMW", "dog/read.txt": "hello", "README": "of all", "dog/9.heic": "h", "loose.png": "l"}
    inside = {"dog/deeper/3.PNG": "d3", "dog/hash": b"\xff\xd8\xff\xe0", "dog/empty.jpg": ""}
    said = both_ways(tmp_path, TWO | strewn | odd | inside)
    assert said == [
        ("README", "not a picture"),
        *PLAIN[:2],
        ("cat/Thumbs.db", "not a picture"),
        PLAIN[2],
        ("dog/9.heic", "not a picture that is read: convert .heic to JPEG or PNG"),
        ("dog/deeper/3.PNG", "dog", "", "d3"),
        ("dog/empty.jpg", "an empty file"),
        ("dog/hash", "dog", "", "\xff\xd8\xff\xe0"),
        ("dog/read.txt", "not a picture"),
        ("loose.png", "not in a class folder"),
    ]


@pytest.mark.parametrize("top", ["", "set/", "a/b/"])
@pytest.mark.parametrize("spelling", ["validation", "valid", "val", "Val"])
def test_given_splits_and_a_single_folder_above_them(tmp_path, top, spelling):
    names = ["test/cat/1.png", f"{spelling}/dog/2.png", "train/cat/3.png", "train/dog/4.png"]
    said = both_ways(tmp_path, {top + name: name for name in names} | {"note.txt": "n", top + "train/5.png": "x"})
    good = [item[1:] for item in said if len(item) == 4]
    parts = sorted([("cat", "test", names[0]), ("dog", "validation", names[1])])
    assert sorted(good) == sorted([*parts, ("cat", "train", names[2]), ("dog", "train", names[3])])
    assert [item for item in said if len(item) == 2] == sorted(
        [("note.txt", "not a picture"), (top + "train/5.png", "not in a class folder")]
    )


def test_a_class_may_be_called_train(tmp_path):
    said = both_ways(tmp_path, {"train/1.jpg": "", "bus/1.jpg": "b", "car/1.jpg": "c", "train/2.jpg": "t"})
    assert [item[1:] for item in said] == [("bus", "", "b"), ("car", "", "c"), ("an empty file",), ("train", "", "t")]


def test_pictures_beside_given_splits_are_refused(tmp_path):
    said = both_ways(tmp_path, {"train/a/1.jpg": "1", "train/b/1.jpg": "2", "test/a/1.jpg": "3", "more/a/1.jpg": "4"})
    assert said[0] == ("more/a/1.jpg", "not under train, validation or test") and len(said) == 4


def test_accents_are_one_class_however_they_are_written(tmp_path):
    said = both_ways(
        tmp_path, {"train/e\u0301t\u00e9/1.jpg": "1", "train/b/1.jpg": "2", "test/\u00e9t\u00e9/1.jpg": "3"}
    )
    assert {item[1] for item in said} == {"b", "\u00e9t\u00e9"} and len(said) == 3


def test_names_that_are_no_utf8_can_be_written_anywhere(tmp_path):
    folder_of(tmp_path, TWO)
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xe9.jpg")).write_text("e")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    names = [item.name for item in pictures(".", tmp_path)]
    assert names == ["cat/1.jpg", "cat/2.jpg", r"cat/\xe9.jpg", "dog/1.jpg"] and "".join(names).encode()


def test_links_and_things_that_are_no_files(tmp_path):
    root = folder_of(tmp_path / "in", TWO)
    folder_of(tmp_path, {"out/3.jpg": "secret"})
    (root / "cat/inside.jpg").symlink_to("../dog/1.jpg")
    (root / "cat/out.jpg").symlink_to(tmp_path / "out/3.jpg")
    (root / "cat/up.jpg").symlink_to("../../out/3.jpg")
    (root / "cat/nowhere.jpg").symlink_to("nothing.jpg")
    (root / "cat/self.jpg").symlink_to("self.jpg")
    (root / "cat/loop").symlink_to("..")
    (root / "fox").symlink_to(tmp_path / "out")
    os.mkfifo(root / "dog/pipe.jpg")
    os.mkfifo(root / "dog/pipe")
    items = list(pictures("in", tmp_path))
    assert refused(items) == {
        "cat/out.jpg": "a link out of the folder",
        "cat/up.jpg": "a link out of the folder",
        "cat/nowhere.jpg": "a link to nothing",
        "cat/self.jpg": "a link that ends in itself",
        "cat/loop": "a link to a folder is not followed",
        "fox": "a link out of the folder",
        "dog/pipe.jpg": "not a regular file",
        "dog/pipe": "not a regular file",
    }
    assert [item.data for item in items if isinstance(item, Found)] == [b"c1", b"c2", b"d1", b"d1"]
    (tmp_path / "by").symlink_to(root)
    assert told(pictures("by", tmp_path)) == told(items)


def test_what_may_not_be_read_is_told_of(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    root = folder_of(tmp_path / "in", TWO | {"fox/1.jpg": "f"})
    (root / "cat/2.jpg").chmod(0)
    (root / "fox").chmod(0)
    (root / "dog/1").write_text("1")
    (root / "dog/1").chmod(0)
    try:
        said = refused(pictures("in", tmp_path))
    finally:
        (root / "fox").chmod(0o700)
    assert said["dog/1"] == said["cat/2.jpg"] == "cannot be read: Permission denied"
    assert said["fox"].startswith("the folder cannot be opened")


def test_a_deep_folder_ends_nothing(tmp_path):
    folder_of(tmp_path / "in", TWO | {"d/" * 200 + "1.jpg": "deep"})
    said = told(pictures("in", tmp_path))
    assert said[:2] == PLAIN[:2] and said[3:] == PLAIN[2:]
    assert said[2] == (("d/" * 64).rstrip("/"), "the path is too long or too deep")
    assert looks_like_pictures("in/d", tmp_path) is False


def test_large_files_are_refused_without_being_read(tmp_path):
    root = folder_of(tmp_path / "in", TWO)
    with (root / "cat/3.jpg").open("wb") as file:
        file.truncate(found.MOST_BYTES + 1)
    assert refused(pictures("in", tmp_path)) == {"cat/3.jpg": "larger than 64 MiB"}


@pytest.mark.parametrize(
    ("files", "code", "seen"),
    [
        ({}, "no_classes", "no files"),
        ({"a.csv": "x,y\n1,2\n"}, "no_classes", "1 x not a picture"),
        ({"1.jpg": "1", "2.jpg": "2"}, "no_classes", "2 x not in a class folder"),
        ({"cat/1.jpg": "1", "cat/2.jpg": "2"}, "one_class", "2 pictures, all in the folder 'cat'"),
        ({"cat/1.jpg": "1", "dog/read.txt": "2"}, "one_class", "1 pictures, all in the folder 'cat'"),
        ({"train/cat/1.jpg": "1", "test/dog/1.jpg": "2"}, "one_class", "1 pictures, all in the folder 'cat'"),
    ],
)
def test_a_source_without_two_classes_is_refused(tmp_path, files, code, seen):
    folder_of(tmp_path / "in", files).mkdir(exist_ok=True)
    zip_of(tmp_path / "in.zip", files)
    for source in ("in", "in.zip"):
        with pytest.raises(DataError) as error:
            pictures(source, tmp_path)
        if files or source == "in":
            assert (error.value.code, error.value.seen) == (code, seen)
        else:
            assert error.value.code == "empty_zip"
        assert error.value.where.endswith(source) and error.value.hint


def with_member(path, info, data, *, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(info, data)


def test_hostile_members_are_refused_one_by_one(tmp_path):
    path = zip_of(tmp_path / "in.zip", TWO)
    for name in ("../../up.jpg", "cat/../../up2.jpg", "/etc/root.jpg", "C:\\disk.jpg", "..\\win.jpg"):
        with_member(path, name, "x")
    with pytest.warns(UserWarning, match="Duplicate name"):
        with_member(path, "cat/1.jpg", "again")
    with_member(path, "./cat//1.jpg", "again too")
    with_member(path, "cat/bomb.jpg", bytes(3_000_000))
    with_member(path, "cat/large.jpg", bytes(found.MOST_BYTES + 1))
    with_member(path, "cat/bz.jpg", bytes(2_000_000), method=zipfile.ZIP_BZIP2)
    with_member(path, "cat/in.zip", path.read_bytes())
    with_member(path, "/".join(["cat", *["d"] * 500, "1.jpg"]), "x")
    for name, mode in (("cat/link.jpg", stat.S_IFLNK), ("cat/pipe.jpg", stat.S_IFIFO)):
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        with_member(path, info, "../../../etc/passwd")
    items = list(pictures("in.zip", tmp_path))
    said = refused(items)
    deep = next(name for name in said if name.startswith("cat/d/d"))
    assert said.pop(deep) == "the path is too long or too deep" and len(deep) <= 200
    assert said == {
        "../../up.jpg": "a path that climbs out of the zip",
        "cat/../../up2.jpg": "a path that climbs out of the zip",
        "../win.jpg": "a path that climbs out of the zip",
        "/etc/root.jpg": "a path from the root of a disk",
        "C:/disk.jpg": "a path from the root of a disk",
        "cat/1.jpg~2": "the name stands in the zip before",
        "cat/1.jpg~3": "the name stands in the zip before",
        "cat/bomb.jpg": "expands more than 100 times, as zip bombs do",
        "cat/large.jpg": "larger than 64 MiB",
        "cat/bz.jpg": "packed in another way than deflate",
        "cat/in.zip": "not a picture",
        "cat/link.jpg": "a link in a zip is not followed",
        "cat/pipe.jpg": "not a regular file",
    }
    assert told(i for i in items if isinstance(i, Found)) == PLAIN
    assert sorted(os.listdir(tmp_path)) == ["in.zip"]


def test_an_encrypted_member_is_refused(tmp_path):
    path = zip_of(tmp_path / "in.zip", TWO | {"dog/2.jpg": "d2"})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag stands in both headers
        data[data.rfind(mark) + place] |= 1
    path.write_bytes(data)
    assert told(pictures("in.zip", tmp_path)) == [*PLAIN, ("dog/2.jpg", "encrypted")]


def test_a_member_that_lies_about_its_size_costs_no_memory(tmp_path):
    path = zip_of(tmp_path / "in.zip", TWO | {"dog/2.jpg": bytes(200_000_000)})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.rfind(mark) + place
        data[start : start + 4] = struct.pack("<I", 900_000)
    path.write_bytes(data)
    tracemalloc.start()
    said = told(pictures("in.zip", tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said[:3] == PLAIN and said[3][1].startswith("damaged in the zip") and peak < 8_000_000


def test_members_that_share_their_bytes_are_refused_as_a_whole(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("cat/1.jpg", random.Random(1).randbytes(5000))
        archive.writestr("dog/1.jpg", b"d")
        info = archive.infolist()[0]
        for n in range(50):
            twin = zipfile.ZipInfo(f"cat/{n + 2}.jpg")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, name, getattr(info, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    with pytest.raises(DataError, match="overlap") as error:
        pictures("in.zip", tmp_path)
    assert error.value.code == "bad_zip"


def test_a_damaged_zip_ends_in_our_errors_only(tmp_path):
    whole = zip_of(tmp_path / "in.zip", TWO | {"dog/2.jpg": "d" * 300, "dog/hash": "x" * 99}).read_bytes()
    chance = random.Random(7)
    ends = {"good": 0, "refused": 0, "error": 0}
    for turn in range(600):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "in.zip").write_bytes(data[: chance.randrange(len(data))] if turn % 5 == 0 else data)
        try:
            items = list(pictures("in.zip", tmp_path))
            ends["refused" if len(refused(items)) > 1 else "good"] += 1
        except DataError as error:
            assert error.code in ("bad_zip", "empty_zip", "one_class", "no_classes"), error
            ends["error"] += 1
        assert looks_like_pictures("in.zip", tmp_path) in (True, False)
    assert min(ends.values()) > 20 and sum(ends.values()) == 600


def test_a_file_that_is_no_zip_says_so(tmp_path):
    whole = zip_of(tmp_path / "in.zip", {"caf\u00e9/1.jpg": "1"}).read_bytes()
    for content in (b"", b"not a zip", b"PK\x03\x04", whole[:-9], whole.replace(b"\xc3\xa9", b"\xc3\xc3")):
        (tmp_path / "in.zip").write_bytes(content)
        with pytest.raises(DataError) as error:
            pictures("in.zip", tmp_path)
        assert (error.value.code, error.value.where) == ("bad_zip", str(tmp_path / "in.zip")) and error.value.seen


def test_names_in_a_zip_without_the_utf8_flag(tmp_path):
    path = zip_of(tmp_path / "in.zip", {"caf\u00e9/1.jpg": "1", "dog/1.jpg": "2"})
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark) + place
        data[start : start + 2] = b"\0\0"
    path.write_bytes(data)
    assert [item.label for item in pictures("in.zip", tmp_path)] == ["caf\u00e9", "dog"]


def test_a_table_of_paths(tmp_path):
    folder_of(tmp_path / "t", TWO | {"cat/read.txt": "t", "hash": b"GIF89a"})
    folder_of(tmp_path, {"secret.jpg": "s"})
    (tmp_path / "t/out.jpg").symlink_to(tmp_path / "secret.jpg")
    rows = [
        "./cat/2.jpg,1.5", "dog\\1.jpg,2", "cat/2.jpg,3", "hash,", "cat/9.jpg,1", "cat,1", ",1", "../secret.jpg,1",
        f"{tmp_path}/secret.jpg,1", "cat/read.txt,1", "out.jpg,1", "a,b,c",
    ]  # fmt: skip
    (tmp_path / "t/list.csv").write_text("path,age\n" + "\n".join(rows) + "\n")
    items = list(pictures("t/list.csv", tmp_path, image_column="path", target="age", read=Read()))
    assert [item[:2] + item[3:] for item in told(items) if len(item) == 4] == [
        ("cat/2.jpg", "1.5", "c2"),
        ("dog/1.jpg", "2", "d1"),
        ("cat/2.jpg~2", "3", "c2"),
        ("hash", None, "GIF89a"),
    ]
    said = refused(items)
    assert said.pop("list.csv#line13").startswith("unreadable line")
    assert said == {
        "cat/9.jpg": "there is no such file",
        "cat": "not a regular file",
        "list.csv#row7": "no path in this row",
        "../secret.jpg": "a path that climbs out of the folder of the table",
        f"{tmp_path}/secret.jpg".strip("/"): "a path from the root of a disk: write it relative to the table",
        "cat/read.txt": "not a picture",
        "out.jpg": "a link out of the folder",
    }
    unlabelled = [i.label for i in pictures("t/list.csv", tmp_path, image_column="path") if isinstance(i, Found)]
    assert unlabelled == [None] * 4


def test_a_table_without_the_columns_says_which_it_has(tmp_path):
    folder_of(tmp_path, {"list.csv": "file,age\ncat/1.jpg,2\n", "none.csv": "file,age\n"})
    for said, code, hint in (
        ({}, "no_image_column", "data.image: file"),
        ({"image_column": "fil"}, "no_column", "did you mean 'file'?"),
        ({"image_column": "file", "target": "Age_"}, "no_column", "did you mean 'age'?"),
    ):
        with pytest.raises(DataError) as error:
            list(pictures("list.csv", tmp_path, **said))
        assert (error.value.code, error.value.hint) == (code, hint) and "file, age" in error.value.seen
    with pytest.raises(DataError) as error:
        list(pictures("none.csv", tmp_path, image_column="file"))
    assert error.value.code == "no_rows"
    with pytest.raises(DataError) as error:
        pictures("lost.csv", tmp_path)
    assert looks_like_pictures("x" * 300, tmp_path) is False
    assert error.value.code == "no_file"


def idx(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_set(root, start="", ending=".gz", count=12):
    root.mkdir(exist_ok=True)
    made = {}
    for part, n in (("train", count), ("t10k", 3)):
        images = np.random.default_rng(n).integers(0, 256, (n, 4, 5))
        labels = np.arange(n) % 3
        for name, data in ((f"{part}-images-idx3-ubyte", idx(images)), (f"{part}-labels-idx1-ubyte", idx(labels))):
            (root / f"{start}{name}{ending}").write_bytes(gzip.compress(data, 1) if ending else data)
        made[part] = (images, labels)
    return made


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(("start", "source"), [("", "in"), ("", "in/"), ("letters-", "in/letters"), ("letters-", "in")])
def test_idx_files_by_folder_and_by_prefix(tmp_path, ending, start, source):
    made = idx_set(tmp_path / "in", start, ending)
    items = list(pictures(source, tmp_path))
    assert [(i.name, i.part) for i in items] == [(f"test/{n}", "test") for n in range(3)] + [
        (f"train/{n:02}", "train") for n in range(12)
    ]
    images = np.concatenate([made["t10k"][0], made["train"][0]])
    labels = np.concatenate([made["t10k"][1], made["train"][1]])
    assert [i.data for i in items] == [pnm(image) for image in images]
    assert [i.label for i in items] == [str(label) for label in labels]
    assert looks_like_pictures(source, tmp_path)


def test_one_part_of_an_idx_set_and_two_sets_in_a_folder(tmp_path):
    idx_set(tmp_path / "in", "a-")
    idx_set(tmp_path / "in", "b-", "")
    idx_set(tmp_path / "in", "b-")  # plain and gz of the same name are one
    assert {i.part for i in pictures("in/b-train", tmp_path)} == {"train"}
    assert len(list(pictures("in/b-", tmp_path))) == 15
    with pytest.raises(DataError) as error:
        pictures("in", tmp_path)
    assert error.value.code == "idx_ambiguous" and "b-t10k" in error.value.seen


IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
GOOD = idx(np.zeros((4, 2, 2)))


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({IMAGES: GOOD[:-1]}, "idx_size"),
        ({IMAGES: GOOD + b"x"}, "idx_size"),
        ({IMAGES: GOOD[:10]}, "idx_size"),
        ({IMAGES: b""}, "idx_header"),
        ({IMAGES: b"\0\0\x0d" + GOOD[3:]}, "idx_header"),
        ({IMAGES: idx([0, 1, 0, 1])}, "idx_header"),
        ({IMAGES: idx(np.zeros((3, 2, 2)))}, "idx_count"),
        ({IMAGES: idx(np.zeros((0, 2, 2))), LABELS: idx([])}, "idx_count"),
        ({IMAGES: idx(np.zeros((4, 0, 2)))}, "idx_shape"),
        ({IMAGES: struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 2**31, 2**31)}, "idx_shape"),
        ({LABELS: idx([0, 1, 2])}, "idx_count"),
        ({LABELS: idx([0, 1, 2, 0])[:-1]}, "idx_size"),
        ({LABELS: idx([0, 1, 2, 0]) + b"x"}, "idx_size"),
        ({LABELS: struct.pack(">BBBBI", 0, 0, 8, 1, 2**32 - 1)}, "idx_size"),
        ({LABELS: GOOD}, "idx_header"),
        ({LABELS: idx([7, 7, 7, 7])}, "one_class"),
        ({LABELS: None}, "idx_labels"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_wrong_sizes(tmp_path, files, code, packed):
    for name, data in ({IMAGES: GOOD, LABELS: idx([0, 1, 2, 0])} | files).items():
        if data is not None:
            path = tmp_path / f"train-{name}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError) as error:
        list(pictures(".", tmp_path))
    assert error.value.code == code and error.value.where and error.value.seen and error.value.hint


def test_a_cut_or_broken_gzip_of_idx(tmp_path):
    idx_set(tmp_path / "in")
    path = tmp_path / "in/train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[:-20], whole[:5], b"plain", whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]):
        path.write_bytes(data)
        with pytest.raises(DataError) as error:
            list(pictures("in", tmp_path))
        assert error.value.code in ("damaged_gzip", "idx_size", "idx_header"), data


def test_fashion_mnist_as_debian_has_it():
    if not os.path.isdir(FASHION):
        pytest.skip("the package dataset-fashion-mnist is not installed")
    sums, counts, first = {}, {}, {}
    for item in pictures(FASHION, Path("/")):
        first.setdefault(item.part, item)
        counts[item.part, item.label] = counts.get((item.part, item.label), 0) + 1
        sums[item.part] = zlib.crc32(item.data[-784:], sums.get(item.part, 0))
    assert counts == {(part, str(n)): size for part, size in (("test", 1000), ("train", 6000)) for n in range(10)}
    assert (first["test"].name, first["test"].label, first["train"].name) == ("test/0000", "9", "train/00000")
    for part, start in (("test", "t10k"), ("train", "train")):
        plain = gzip.decompress(Path(FASHION, f"{start}-images-idx3-ubyte.gz").read_bytes())
        assert sums[part] == zlib.crc32(plain[16:])


def test_digits_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    items = list(pictures("sklearn:digits", tmp_path))
    assert len(items) == 1797 and items[5].name == "0005" and {i.label for i in items} == set("0123456789")
    assert items[5].data == pnm(np.rint(load_digits().images[5] * 255 / 16)) and items[5].data.startswith(b"P5")
    with pytest.raises(DataError, match="digits"):
        pictures("sklearn:iris", tmp_path)


def test_arrays(tmp_path):
    colour = np.arange(11 * 2 * 3 * 3, dtype=np.uint8).reshape(11, 2, 3, 3)
    items = list(from_arrays(colour, np.arange(11) / 2))
    assert [(i.name, i.label, i.part) for i in items][::10] == [("00", "0", ""), ("10", "5", "")]
    assert [i.data for i in items] == [pnm(picture) for picture in colour]
    assert [i.label for i in from_arrays(colour[..., 0], None)] == [None] * 11
    for images, labels in ((colour[0, 0], None), (colour[:0], None), (colour, [1])):
        with pytest.raises(DataError):
            from_arrays(images, labels)


def test_what_looks_like_pictures(tmp_path):
    folder_of(tmp_path, {f"set/{name}": text for name, text in TWO.items()})
    folder_of(tmp_path, {"tables/a.csv": "a,b\n", "tables/.x/1.jpg": "x", "list.csv": "a\n"})
    (tmp_path / "nothing").mkdir()
    zip_of(tmp_path / "set.zip", TWO)
    zip_of(tmp_path / "tables.zip", {"a.csv": "a,b\n"})
    (tmp_path / "broken.zip").write_bytes(b"PK")
    yes = ["set", "set.zip", "broken.zip"]
    no = ["tables", "tables.zip", "list.csv", "nothing", "lost", "*.csv", "sklearn:digits"]
    assert [looks_like_pictures(name, tmp_path) for name in yes + no] == [True] * 3 + [False] * 7


def test_a_zip_is_read_one_member_at_a_time(tmp_path):
    noise = random.Random(3)
    zip_of(tmp_path / "in.zip", {f"{'ab'[n % 2]}/{n}.jpg": noise.randbytes(1_000_000) for n in range(20)}, 0)
    tracemalloc.start()
    sizes = [len(item.data) for item in pictures("in.zip", tmp_path)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [1_000_000] * 20 and peak < 6_000_000
