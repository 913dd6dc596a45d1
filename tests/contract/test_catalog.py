"""Every part of the catalog: options round-trip, its bundle opens without training libraries, and frames answer like CSV."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from made_tables import LEARNERS, csv_text, made_run, mixed

import keepfit as kf
from keepfit import raw
from keepfit.core import catalog
from keepfit.core.errors import RecipeError

PARTS = [(kind, name) for kind, names in catalog.TABLE.items() for name in names]
SMALL = {
    **LEARNERS,
    "auto": "{use: auto}",
    "ensemble": "{use: ensemble}",
    "mlp": "{use: mlp, params: {hidden: [16], periodic: 2}}",
    "custom": "{use: custom, class: net.py:Net}",
}
NEEDED = {(kind, "custom"): {"class": "net.py:Net"} for kind in ("tabular", "image", "text")}
NEEDED |= {(kind, "existing"): {"source": "model.onnx"} for kind in ("tabular", "image", "text")}

NET = """
from torch import nn
def Net(features, classes):
    return nn.Linear(features, classes)
"""
BARE = """
import sys
BLOCKED = {"sklearn", "lightgbm", "pandas", "polars", "torch", "onnx", "skl2onnx", "onnxmltools", "matplotlib", "scipy",
           "transformers", "peft", "safetensors", "onnxscript"}
ROOMS = ("keepfit.engine", "keepfit.stages", "keepfit.modalities", "keepfit.training", "keepfit.recipe")
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED or name.startswith(ROOMS):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Wall())
import json, keepfit as kf
model = kf.load(sys.argv[1])
answers = model.predict(json.load(open(sys.argv[2])))
print(json.dumps(answers.rows()))
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
"""


def test_the_catalog_is_covered():
    assert set(catalog.TABLE["tabular"]) - {"existing"} == set(SMALL) and len(PARTS) >= 32
    rows = ["tabular", "image", "text", "augment", "adapter", "clean", "optimizer", "schedule"]
    assert list(catalog.TABLE) == [*rows, "distributed", "launcher"]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_options_round_trip_and_are_described(kind, name):
    options = catalog.options_of(kind, name)
    said = {} if kind == "clean" else {"use": name}  # a cleaning method is a key of its own
    made = options.model_validate({**said, **NEEDED.get((kind, name), {})})
    assert options.model_validate_json(made.model_dump_json(by_alias=True)) == made
    assert made.do == "report" if kind == "clean" else made.use == name
    assert callable(catalog.load(made.impl)) and options.__doc__
    assert all(field.description for key, field in options.model_fields.items() if key != "use")
    where = catalog.find(kind, name)
    assert where.file.endswith(".py") and where.line >= 1 and where.doc
    with pytest.raises(Exception, match="frozen"):
        setattr(made, "do" if kind == "clean" else "use", "other")
    with pytest.raises(Exception, match="extra"):
        options.model_validate({**said, **NEEDED.get((kind, name), {}), "nope": 1})


def test_unknown_parts_come_near():
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        catalog.options_of("tabular", "linaer")
    with pytest.raises(RecipeError, match="did you mean 'tabular'"):
        catalog.options_of("tabula", "linear")


def check_bare(run, folder, rows):
    """A process without training libraries answers as this one does."""
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "bare.py").write_text(BARE)
    done = subprocess.run(
        [sys.executable, str(folder / "bare.py"), str(run.bundle), str(folder / "rows.json")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-800:]
    found, wanted = json.loads(done.stdout), kf.load(run.bundle).predict(rows)
    assert [f["prediction"] for f in found] == wanted.labels and len(found) == len(rows)
    assert np.allclose([list(f["probabilities"].values()) for f in found], wanted.probabilities, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_a_bundle_opens_without_training_libraries_and_answers_the_same(tmp_path, name):
    more = "preset: fast\nbudget: {time: 2s}\n" if name in ("auto", "ensemble") else ""
    if name in ("mlp", "custom"):
        (tmp_path / "net.py").write_text(NET)
        pytest.importorskip("torch", reason="torch is not installed (extra networks)")
        more = "train: {epochs: 2, precision: fp32}\n"
    run = made_run(tmp_path, learner=SMALL[name], more=more)
    check_bare(run, tmp_path, mixed(15, seed=3))
    saved = json.loads((run.bundle / "bundle.json").read_bytes())
    assert saved["parity"]["rows"] >= 50 and saved["parity"]["labels_equal"] == 1.0


def test_a_bundle_of_pictures_opens_without_training_libraries(finished_pictures, tmp_path):
    check_bare(
        finished_pictures,
        tmp_path,
        [str(p) for p in sorted(finished_pictures.path.parents[2].glob("pictures/*/*9.png"))],
    )


def test_a_bundle_of_texts_opens_without_training_libraries(finished_texts, tmp_path):
    check_bare(finished_texts, tmp_path, ["the room was clean", "awful soup", "", "wunderbar", None])


def test_frames_of_pandas_and_polars_answer_like_the_csv(finished, tmp_path):
    import pandas
    import polars

    rows = mixed(40, seed=5)
    path = tmp_path / "rows.csv"
    path.write_text(csv_text(rows), "utf-8")
    model = kf.load(finished.bundle)
    wanted = model.predict(next(iter(raw.tables_of(path)))).probabilities
    typed = pandas.DataFrame(rows).astype({"city": "category"}).assign(joined=lambda f: pandas.to_datetime(f["joined"]))
    frames = {
        "pandas from csv": pandas.read_csv(path),
        "pandas text": pandas.read_csv(path, dtype=str),
        "pandas typed": typed,
        "polars from csv": polars.read_csv(path),
        "polars dates": polars.read_csv(path, try_parse_dates=True),
        "polars rows": polars.DataFrame(rows),
        "columns": {name: [row[name] for row in rows] for name in rows[0]},
        "rows": rows,
        "arrow-like": pandas.DataFrame(rows).convert_dtypes(),
    }
    for name, frame in frames.items():
        assert np.abs(model.predict(frame).probabilities - wanted).max() < 1e-6, name
    assert len(frames) == 9


def test_fit_on_a_frame_is_fit_on_the_csv(tmp_path, monkeypatch):
    import pandas

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.csv").write_text(csv_text(mixed(150)), "utf-8")
    said = {"overrides": ["model.use=linear", "data.columns.price=ignore"]}
    first = kf.fit("model.csv", "answer", output="one", workspace="a", **said)
    second = kf.fit(pandas.read_csv("model.csv"), "answer", output="two", workspace="b", **said)
    assert first.metrics["test"]["accuracy"] == pytest.approx(second.metrics["test"]["accuracy"], abs=0.2)
    said = [json.loads((run.bundle / "bundle.json").read_bytes())["inputs"] for run in (first, second)]
    assert said[0] == said[1] and len(said[0]) == 4
