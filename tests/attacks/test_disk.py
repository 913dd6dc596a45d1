"""Hostile files, by the class of their CVE: each was seen to work on a naive loader, and none does on ours, which runs nothing."""

from __future__ import annotations

import json
import marshal
import os
import pickle
import struct
import tarfile
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import yaml
from files import (
    SECRET,
    SHEET,
    bundle,
    greedy_model,
    listed,
    manifest,
    onnx_model,
    pickled,
    picture,
    torch_tar,
    torch_zip,
    workbook,
    written,
    zipped,
)
from serve_real import write_bundle
from watched import Attack, Bomb, opened, owned, watched

from keepfit.core.errors import KeepfitError
from keepfit.modalities.image import archives, folders
from keepfit.recipe import parse
from keepfit.runtime import pictures, sources
from keepfit.runtime.bundle import Bundle
from keepfit.runtime.network import Network
from keepfit.runtime.reading import Read
from keepfit.store.artifacts import Store
from keepfit.store.registry import Registry
from keepfit.training.existing import kinds

DEEP = b"[" * 100_000 + b"]" * 100_000
COUNTED = np.arange(4, dtype=np.float32)


def of_bundle(path: Path) -> Any:
    made = Bundle.open(path)
    return made.predictor(), made.name, made.version, made.classes


def of_network(path: Path) -> Any:
    return Network(path.read_bytes()).scores(np.zeros((1, 4), np.float32))


def of_model(path: Path) -> Any:
    from keepfit.training.existing import onnx_file
    from keepfit.training.weight_file import read_tensors

    kind = kinds.kind_of(path)
    return onnx_file.read(path) if kind == "onnx" else read_tensors(path) if kind == "state_dict" else kind


def of_program(path: Path) -> Any:
    from keepfit.training.existing.archives import check

    return check(path)


def of_keras(path: Path) -> Any:
    from keepfit.training.existing.keras_file import _check

    return _check(path)


def of_recipe(path: Path) -> Any:
    return parse(path.read_text(), origin="recipe.yaml")


def of_table(path: Path) -> Any:
    return [list(table.columns.values()) for table in sources.chunks(path, Read())]


def of_zip(path: Path) -> Any:
    return list(archives.from_zip(path))


def of_folder(path: Path) -> Any:
    return list(folders.from_folder(path))


def of_picture(path: Path) -> Any:
    return pictures.decode(path.read_bytes())


def escaped(_: Any) -> bool:
    there = Path("escaped.png").exists()
    Path("escaped.png").unlink(missing_ok=True)
    return there


def leaks(value: Any) -> bool:
    return np.array_equal(np.ravel(value), COUNTED) if isinstance(value, np.ndarray) else "17" in str(value)


def counted(value: Any) -> bool:
    return np.array_equal(value, np.arange(7))


def copied(data: bytes) -> bool:
    return data == Path("copy").read_bytes()


def died(value: Any) -> bool:
    return isinstance(value, Exception)


def shape_in(value: Any) -> Any:
    """The largest shape that a preparation asks for."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = value["shape"] if isinstance(value, dict) and "shape" in value else []
    return max([own, *map(shape_in, parts)], key=lambda shape: shape[:1])


def sums_of(path: Path) -> Any:
    """Reads what SHA256SUMS names."""
    return [(path / line.split("  ")[1]).read_text() for line in (path / "SHA256SUMS").read_text().splitlines()[-1:]]


def with_listed(name: str) -> Any:
    def make(folder: Path) -> Path:
        return listed(write_bundle(folder / "bundle"), name.format(folder=folder), SECRET)

    return make


def linked(name: str) -> Any:
    def make(folder: Path) -> Path:
        place = write_bundle(folder / "bundle")
        (folder / "copy").write_bytes((place / name).read_bytes())
        (place / name).unlink()
        (place / name).symlink_to(folder / "copy")
        return place

    return make


def huge(name: str) -> Any:
    def make(folder: Path) -> Path:
        place = write_bundle(folder / "bundle")
        os.truncate(place / name, 3 << 30)
        return place

    return make


def beside(name: str) -> Any:
    """A bundle whose network takes a weight from a file in the working directory."""

    def make(folder: Path) -> Path:
        (folder / "secret.bin").write_bytes(np.arange(7, dtype=np.float32).tobytes())
        return bundle(folder, model_onnx=onnx_model(name, "secret.bin", 7))

    return make


def external(kind: str, location: str = "secret.bin") -> Any:
    def make(folder: Path) -> Path:
        (folder / "secret.bin").write_bytes(COUNTED.tobytes())
        (folder / "inner").mkdir(exist_ok=True)
        (folder / "inner" / "link").unlink(missing_ok=True)
        (folder / "inner" / "link").symlink_to("../secret.bin")
        place = folder if location == "secret.bin" else folder / "inner"
        (place / "model.onnx").write_bytes(onnx_model(kind, location.format(folder=folder)))
        return place / "model.onnx"

    return make


def ort_format(folder: Path) -> Path:
    """A sound network in onnxruntime's own format, of which a check of ONNX files sees nothing."""
    import onnxruntime

    said = onnxruntime.SessionOptions()
    said.optimized_model_filepath = str(folder / "m.ort")
    said.add_session_config_entry("session.save_model_format", "ORT")
    (folder / "secret.bin").write_bytes(COUNTED.tobytes())
    (folder / "m.onnx").write_bytes(onnx_model("initializer", "secret.bin"))
    onnxruntime.InferenceSession(str(folder / "m.onnx"), said, providers=["CPUExecutionProvider"])
    return (folder / "m.ort").rename(folder / "m.onnx")


def program(**changed: Any) -> Any:
    """A torch.export archive with something in it that torch would run."""
    said = {"nodes": [], **changed}
    members = {"m/models/model.json": json.dumps(said).encode(), "m/data/weights/w": pickle.dumps(Bomb())}
    return zipped("m.pt2", members)


def keras(part: dict[str, Any]) -> Any:
    return zipped(
        "m.keras",
        {"config.json": json.dumps({"class_name": "Sequential", "module": "keras", "config": [part]}).encode()},
    )


def tree(folder: Path) -> Path:
    """Folders of classes with a link to a picture outside."""
    (folder / "outside.png").write_bytes(picture())
    for name in ("a", "b"):
        (folder / "tree" / name).mkdir(parents=True)
        (folder / "tree" / name / "1.png").write_bytes(picture(10))
    (folder / "tree" / "a" / "link.png").symlink_to(folder / "outside.png")
    (folder / "tree" / "b" / "loop").symlink_to(folder / "tree")
    return folder / "tree"


def png_bomb(folder: Path) -> Path:
    """A PNG of 60,000 by 60,000 in some hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return written("bomb.png", data)(folder)


LAUGHS = "<!DOCTYPE s [<!ENTITY a 'lol17'>" + "".join(
    f"<!ENTITY {n} '{f'&{p};' * 10}'>" for p, n in zip("abcdef", "bcdefg", strict=True)
) + "]>"  # fmt: skip
ROW = f"<worksheet {SHEET}><sheetData><row><c t='inlineStr'><is><t>{{}}</t></is></c></row></sheetData></worksheet>"
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)
CODE = b64encode(marshal.dumps(compile("__import__('os').system('touch owned')", "x", "exec"))).decode()
CLASSES = {"a/1.png": picture(1), "b/1.png": picture(2)}

ATTACKS = [
    # Deserialization of untrusted data (CWE-502)
    Attack("CVE-2025-32434 torch, objects in a zip", torch_zip, of_model, naive.torch_loaded, owned),
    Attack("CVE-2025-32434 torch, a tar of pickles", torch_tar, of_model, naive.torch_loaded, owned),
    Attack("CVE-2025-32434 torch, a bare pickle as .pth", pickled("m.pth"), of_model, naive.unpickled, owned),
    Attack("CVE-2025-32434 torch, a pickle as .safetensors", pickled("m.safetensors"), of_model, naive.unpickled, owned),
    Attack("CVE-2020-13092 joblib and sklearn pickles", pickled("m.pkl"), of_model, naive.unpickled, owned),
    Attack("CVE-2020-13092 a pickle of another ending", pickled("m.model"), of_model, naive.unpickled, owned),
    Attack("CVE-2024-37054 a pickle as model.onnx", pickled("m.onnx"), of_model, naive.unpickled, owned),
    Attack("CVE-2019-6446 numpy, objects in the arrays of a bundle",
           lambda folder: listed(bundle(folder, preparation_json=pickle.dumps(Bomb())), "x", b""), of_bundle,
           lambda path: naive.unpickled(path / "preparation.json"), owned),
    Attack("CVE-2022-45907 torch.export, a pickled weight", program(weights={"use_pickle": True}), of_program,
           naive.program, owned),
    Attack("CVE-2022-45907 torch.export, text for eval", program(expr_str="__import__('os').system('touch owned')"), of_program,
           naive.program, owned),
    Attack("CVE-2022-45907 torch.export, a call of os.system", program(target="os.system", args=["touch owned"]), of_program,
           naive.program, owned),
    Attack("CVE-2022-45907 torch.export, custom objects",
           zipped("m.pt2", {"m/models/model.json": b"{}", "m/custom_obj_0": pickle.dumps(Bomb())}), of_program,
           naive.program, owned),
    Attack("CVE-2024-3660 keras, a Lambda", keras({"class_name": "Lambda", "module": "keras.layers", "config": {"function": CODE}}), of_keras,
           naive.keras, owned),
    Attack("CVE-2025-1550 keras, a module of ours", keras({"class_name": "system", "module": "os", "config": {"command": "touch owned"}}), of_keras,
           naive.keras, owned),
    Attack("CVE-2025-8747 keras, a function", keras({"class_name": "function", "module": "builtins", "config": {
           "name": "exec", "given": ["__import__('os').system('touch owned')"]}}), of_keras, naive.keras, owned),
    Attack("CVE-2020-14343 YAML, python/object/apply", written("r.yaml", b"name: !!python/object/apply:os.system ['touch owned']\n"),
           of_recipe, lambda path: yaml.unsafe_load(path.read_text()), owned),
    Attack("CVE-2017-18342 YAML, python/name", written("r.yaml", b"data: {source: !!python/name:os.system ''}\n"), of_recipe,
           lambda path: yaml.unsafe_load(path.read_text()), lambda value: callable(value["data"]["source"])),
    Attack("CVE-2017-18342 YAML in a bundle's recipe",
           lambda folder: bundle(folder, recipe_yaml=b"!!python/object/apply:os.system ['touch owned']"),
           lambda path: parse(Bundle.open(path).files["recipe.yaml"].decode()),
           lambda path: yaml.unsafe_load((path / "recipe.yaml").read_text()), owned),
    # Weights in other files (CVE-2022-25882, CVE-2024-27318)
    *(Attack(f"CVE-2024-27318 ONNX external data, {kind}", external(kind), of_network, naive.network, leaks)
      for kind in ("initializer", "attribute", "subgraph", "sparse", "sparse_attribute")),
    *(Attack(f"CVE-2024-27318 ONNX external data of a bundle, {kind}", beside(kind), of_bundle, naive.weights_beside, counted)
      for kind in ("initializer", "subgraph", "sparse", "sparse_attribute")),
    *(Attack(f"CVE-2022-25882 ONNX brought along, {kind} {where}", external(kind, where), of_model, naive.weights_beside, leaks)
      for kind in ("initializer", "subgraph", "sparse") for where in ("../secret.bin", "{folder}/secret.bin", "link")),
    Attack("CVE-2024-27318 ONNX memory address as a place", external("initializer", "*/_ORT_MEM_ADDR_/*"), of_network),
    Attack("CWE-436 a file of ORT format as model.onnx", ort_format, of_network, naive.network_bytes, lambda scores: scores.shape == (1, 4)),
    # Names that climb (CWE-22), links (CWE-59)
    *(Attack(f"CWE-22 SHA256SUMS names {name}", with_listed(name), of_bundle, sums_of, leaks)
      for name in ("../secret", "{folder}/secret", "../bundle/../secret")),
    Attack("CWE-59 a link as model.onnx", linked("model.onnx"), of_bundle, naive.bytes_of("model.onnx"), copied),
    Attack("CWE-59 a link as SHA256SUMS", linked("SHA256SUMS"), of_bundle, naive.bytes_of("SHA256SUMS"), copied),
    Attack("CWE-59 a link as golden.jsonl", linked("golden.jsonl"), of_bundle, naive.bytes_of("golden.jsonl"), copied),
    Attack("CVE-2018-1002200 zip slip", zipped("a.zip", {**CLASSES, "../escaped.png": picture()}), of_zip, naive.extracted, escaped),
    Attack("CVE-2018-1002200 zip slip, an absolute name",
           lambda folder: zipped("a.zip", {**CLASSES, f"{folder}/escaped.png": picture()})(folder), of_zip, naive.extracted, escaped),
    Attack("CVE-2018-1002200 zip slip, backslashes", zipped("a.zip", {**CLASSES, "..\\..\\escaped.png": picture()}), of_zip,
           naive.extracted_by_windows, escaped),
    Attack("CVE-2018-1002200 zip slip, inside a class", zipped("a.zip", {**CLASSES, "a/../../escaped.png": picture()}), of_zip,
           naive.extracted, escaped),
    Attack("CVE-2025-4517 a link in a zip", zipped("a.zip", {**CLASSES, "a/l.png": b"/etc/passwd"}, link="a/l.png"), of_zip,
           naive.links_of, lambda texts: "root:" in texts[0]),
    Attack("CWE-59 a link out of a folder of pictures", tree, of_folder,
           lambda path: (path / "a" / "link.png").read_bytes(), lambda data: data == picture()),
    # What grows (CWE-409, CWE-776, CWE-674, CWE-789)
    Attack("CVE-2019-9674 a zip that blows up", zipped("a.zip", {**CLASSES, "a/2.png": bytes(300 << 20)}), of_zip, naive.inflated,
           lambda size: size > 300 << 20),
    Attack("CVE-2014-3589 a picture of 3.6 gigapixels", png_bomb, of_picture, naive.canvas, lambda size: size > 10 << 30),
    Attack("CVE-2003-1564 XML, a billion laughs", workbook(LAUGHS + ROW.format("&g;")), of_table, naive.sheet_text,
           lambda text: len(text) > 1 << 20),
    Attack("CVE-2014-3529 XML, an external entity",
           lambda folder: workbook(f"<!DOCTYPE s [<!ENTITY x SYSTEM 'file://{folder}/secret'>]>" + ROW.format("&x;"))(folder), of_table,
           naive.sheet_outside, lambda seen: "17" in seen[0]),
    Attack("CVE-2014-3529 XML, an external DTD", workbook("<!DOCTYPE s SYSTEM 'http://127.0.0.1:9/x'>" + ROW.format("a")), of_table,
           naive.sheet_outside, lambda seen: seen[1] > 0),
    Attack("CVE-2019-11253 YAML, aliases of aliases", written("r.yaml", ALIASES.encode()), of_recipe,
           lambda path: yaml.safe_load(path.read_text()), lambda value: value["i"][0][0][0][0][0][0][0][0][0] == "x"),
    Attack("CWE-674 YAML, 100,000 levels", written("r.yaml", DEEP), of_recipe,
           naive.failing(lambda path: yaml.safe_load(path.read_text())), died),
    Attack("CWE-674 JSON, a bundle.json of 100,000 levels", lambda folder: bundle(folder, bundle_json=DEEP), of_bundle,
           naive.failing(naive.json_of("bundle.json")), died),
    Attack("CWE-674 JSON, a preparation of 100,000 levels", lambda folder: bundle(folder, preparation_json=DEEP), of_bundle,
           naive.failing(naive.json_of("preparation.json")), died),
    Attack("CWE-674 JSON, golden rows of 100,000 levels", lambda folder: bundle(folder, golden_jsonl=DEEP), of_bundle,
           naive.failing(naive.json_of("golden.jsonl")), died),
    Attack("CWE-190 a format of infinity", lambda folder: bundle(folder, bundle_json=manifest(lambda m: m.update(format=1e999))), of_bundle,
           naive.failing(lambda path: int(naive.json_of("bundle.json")(path)["format"])), died),
    Attack("CWE-20 a manifest that is a list", lambda folder: bundle(folder, bundle_json=b"[1]"), of_bundle,
           naive.failing(lambda path: naive.json_of("bundle.json")(path)["name"]), died),
    Attack("CWE-789 a network that asks for 40 TB", lambda folder: bundle(folder, model_onnx=greedy_model()), of_bundle,
           naive.failing(naive.network_of_bundle), died),
    Attack("CWE-789 a table of vectors of 10^18 cells", lambda folder: bundle(folder, preparation_json=lambda raw: raw.replace(
        b'"shape":[5,5]', b'"shape":[1000000000,1000000000]').replace(b'"shape": [5, 5]', b'"shape": [1000000000, 1000000000]')),
        of_bundle, naive.failing(lambda path: np.zeros(shape_in(naive.json_of("preparation.json")(path)))), died),
    Attack("CWE-400 a model.onnx of 3 GiB of nothing", huge("model.onnx"), of_bundle),
    Attack("CWE-400 a SHA256SUMS of 3 GiB of nothing", huge("SHA256SUMS"), of_bundle),
    # Tampering (CWE-345, CWE-353)
    Attack("CWE-345 golden rows of another model", lambda folder: bundle(folder, golden_jsonl=lambda raw: raw.replace(b"0.", b"0.9")),
           of_bundle, naive.network_of_bundle, lambda scores: len(scores) == 1),
    Attack("CWE-353 a file that is not listed",
           lambda folder: written("bundle/__init__.py", b"import os; os.system('touch owned')")(
               write_bundle(folder / "bundle").parent).parent, of_bundle, naive.ran("__init__.py"), owned),
    Attack("CWE-353 a byte of the network",
           lambda folder: written("bundle/model.onnx", b"x")(write_bundle(folder / "bundle").parent).parent, of_bundle,
           naive.bytes_of("model.onnx"), lambda data: data == b"x"),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_an_attack_works_on_a_naive_loader_and_not_on_ours(attack, tmp_path, monkeypatch):
    if attack.load is of_model or attack.naive is naive.torch_loaded:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(SECRET)
    path = attack.make(tmp_path)
    if attack.naive is not None:
        try:
            value = attack.naive(path)
        except Exception:
            value = None  # the payload ran before the loader noticed
        assert attack.proof(value), "the attack does not even work on a naive loader"
    before = sorted(tmp_path.rglob("*"))
    with watched() as seen:
        try:
            found = attack.load(path)
        except KeepfitError as error:
            found = None
            assert error.what and error.hint is not None
    assert not seen, dict(seen)
    assert not owned() and not escaped(None)
    assert sorted(tmp_path.rglob("*")) == before
    if found is not None:  # only a set of files is read in part: what is hostile in it has a reason
        assert attack.load in (of_zip, of_folder)
        bad = [one for one in found if type(one).__name__ == "Refused"]
        assert bad and all(one.reason for one in bad)
    assert not any("secret" in one or "passwd" in one for one in opened())


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Imports make code too: what is watched comes after them."""
    folder = tmp_path_factory.mktemp("warm")
    of_bundle(write_bundle(folder / "bundle"))
    for load, name, data in ((of_recipe, "r.yaml", b"data: {source: a.csv}\nmodel: {use: x}\n"), (of_table, "a.xlsx", b"PK"), (of_zip, "a.zip", b"PK"), (of_picture, "a.png", picture()),
                             (of_table, "a.csv", b"a,b\n1,2\n"), (of_keras, "m.keras", b"x"), (of_program, "m.pt2", b"x"), (of_model, "m.pt", b"x"), (of_model, "m.onnx", b"x"),
                             (of_model, "m.safetensors", b"x")):  # fmt: skip
        (folder / name).write_bytes(data)
        try:
            load(folder / name)
        except (KeepfitError, ImportError):
            continue


def test_nearly_every_attack_was_seen_to_work():
    """Not shown are two that would fill the memory of this machine, and one that would read from any place in it."""
    assert len(ATTACKS) >= 60 and sum(attack.naive is None for attack in ATTACKS) <= 3


def test_the_watch_sees_what_it_should():
    with watched() as seen:
        pickle.loads(pickle.dumps(tarfile.TarInfo))
        exec("1 + 1")
    assert seen == {"unpickle": 1, "exec": 1}


@pytest.mark.parametrize("name", ["../people", "people/../../x", "/etc", "..", "people\n", "PEOPLE", "p" * 65, "a\0b"])
def test_registry_names_do_not_climb(tmp_path, name):
    registry = Registry(tmp_path)
    registry.register(write_bundle(tmp_path / "bundle"), "people")
    for reference in (name, f"{name}@champion", f"{name}@1"):
        with pytest.raises(KeepfitError):
            registry.resolve(reference)


@pytest.mark.parametrize("number", ["../1", "1/../../1", "١", "1\n", "-1", "1e3", "9" * 400])
def test_registry_numbers_do_not_climb(tmp_path, number):
    registry = Registry(tmp_path)
    registry.register(write_bundle(tmp_path / "bundle"), "people")
    with pytest.raises(KeepfitError):
        registry.resolve(f"people@{number}")


@pytest.mark.parametrize("data", [DEEP, b"[]", b'{"pointer": 1e999, "sum": ""}', b"\xff", b"", pickle.dumps(Bomb())])
def test_a_hostile_pointer_is_refused(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    registry = Registry(tmp_path)
    registry.register(write_bundle(tmp_path / "bundle"), "people")
    registry.pointer_path("people").write_bytes(data)
    with watched() as seen, pytest.raises(KeepfitError):
        registry.resolve("people@champion")
    assert not seen and not owned()


def test_a_kept_artifact_whose_list_climbs_is_not_taken(tmp_path):
    store = Store(tmp_path)
    name = store.put({"a": b"1"})
    place = next((tmp_path / ".keepfit").rglob("files.json"))
    (tmp_path / "secret").write_bytes(SECRET)
    place.write_text(json.dumps({os.path.relpath(tmp_path / "secret", place.parent): "0" * 64}))
    assert store.get(name) is None
