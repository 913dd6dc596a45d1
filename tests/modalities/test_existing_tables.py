"""Table models that exist already become bundles: ONNX of scikit-learn, state dicts, what is refused and the way out."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from made_models import bundled, iris_csv, iris_model
from made_tables import csv_text, mixed

import keepfit as kf
from keepfit import adopt, api
from keepfit.cli.main import run as keepfit
from keepfit.core.errors import DataError, KeepfitError

COLUMNS = ["sepal_l", "sepal_w", "petal_l", "petal_w"]


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra tables)")
    folder = tmp_path_factory.mktemp("iris")
    iris_csv(folder)
    model = iris_model()
    (folder / "iris.onnx").write_bytes(skl2onnx.to_onnx(model, np.zeros((2, 4), np.float32)).SerializeToString())
    return folder, model


def packaged(folder, model, data, target="species", said=None):
    return bundled(folder, model, data, target, **(said or {}))


def test_an_onnx_of_scikit_learn(iris, tmp_path):
    folder, model = iris
    said = {"said": {"columns": COLUMNS}, "output": tmp_path / "out", "workspace": tmp_path}
    run = adopt.package(folder / "iris.onnx", str(folder / "iris.csv"), "species", **said)
    loaded = kf.load(run.bundle)
    rows = [[5.0, 3.4, 1.5, 0.2], [6.1, 2.9, 4.7, 1.4], [6.9, 3.1, 5.4, 2.1]]
    answer = loaded.predict([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    assert np.abs(answer.probabilities - model.predict_proba(np.array(rows, np.float32))).max() < 1e-5
    assert answer.labels == list(model.predict(np.array(rows, np.float32))) and run.metrics["test"]["accuracy"] > 0.9
    card = (run.bundle / "card.md").read_text("utf-8")
    assert "trained elsewhere" in card and "gaps are filled" in card and (run.path / "report.html").is_file()
    said = json.loads((run.bundle / "bundle.json").read_bytes())
    assert said["parity"]["labels_equal"] == 1.0 and said["libraries"].keys() == {
        "numpy",
        "onnxruntime",
        "onnx",
        "duckdb",
    }
    assert keepfit(["verify", str(run.bundle)]) == 0 and keepfit(["verify", str(run.path)]) == 0


def test_the_command_line_and_columns_in_another_order(iris, tmp_path, capsys):
    folder, _ = iris
    argv = [
        "package",
        str(folder / "iris.onnx"),
        "--data",
        str(folder / "iris.csv"),
        "--target",
        "species",
        "-q",
        "--json",
    ]
    ends = ["--workspace", str(tmp_path)]
    assert keepfit([*argv, *ends]) == 3  # the column of ids goes in too
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error["code"] == "wrong_width" and "--columns" in error["hint"]
    assert keepfit([*argv, *ends, "--columns", ",".join(COLUMNS), "-o", str(tmp_path / "good")]) == 0
    good = json.loads(capsys.readouterr().out.splitlines()[-1])
    bad = packaged(folder, "iris.onnx", "iris.csv", said={"columns": COLUMNS[::-1]})
    assert good["metrics"]["test"]["accuracy"] > bad.metrics["test"]["accuracy"] + 0.2
    assert kf.load(good["bundle"]).bundle.name == "iris"


def test_a_pipeline_with_an_input_for_each_column(tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra tables)")
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = mixed(300)
    (tmp_path / "mixed.csv").write_text(csv_text(rows), "utf-8")
    frame = pandas.DataFrame(rows).assign(city=lambda f: f["city"].fillna("").astype(object))
    frame = frame.assign(age=frame["age"].fillna(40.0).astype("float32"), price=frame["price"].astype("float32"))
    parts = [("n", StandardScaler(), ["age", "price"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(
        frame[["age", "price", "city"]], frame["answer"]
    )
    kinds = skl2onnx.common.data_types
    types = [
        ("age", kinds.FloatTensorType([None, 1])),
        ("price", kinds.FloatTensorType([None, 1])),
        ("city", kinds.StringTensorType([None, 1])),
    ]
    (tmp_path / "mixed.onnx").write_bytes(skl2onnx.to_onnx(model, initial_types=types).SerializeToString())
    run = packaged(tmp_path, "mixed.onnx", "mixed.csv", "answer")
    new = [{"age": 31.0, "price": 108.0, "city": "Paris"}, {"age": 52.0, "price": 140.0, "city": "Atlantis"}]
    wanted = model.predict_proba(pandas.DataFrame(new).astype({"age": "float32", "price": "float32"}))
    assert np.abs(kf.load(run.bundle).predict(new).probabilities - wanted).max() < 1e-5
    assert run.metrics["test"]["accuracy"] > 0.8


def test_a_regression_and_the_tests_rows_given(tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra tables)")
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    for name, count in (("train", 60), ("test", 40)):
        x = rng.normal(size=(count, 2)).astype(np.float32)
        lines = [f"{a:.4f},{b:.4f},{2 * a - b:.4f}" for a, b in x]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]))
        if name == "train":
            model = RandomForestRegressor(20, random_state=0).fit(x, 2 * x[:, 0] - x[:, 1])
    (tmp_path / "forest.onnx").write_bytes(skl2onnx.to_onnx(model, x[:2]).SerializeToString())
    given = {"test": str(tmp_path / "test.csv"), "workspace": tmp_path}
    run = adopt.package(tmp_path / "forest.onnx", str(tmp_path / "train.csv"), "y", **given)
    assert run.task == "regression" and run.metrics["test"]["r2"] > 0.7
    assert api.evaluate(run.bundle, tmp_path / "test.csv")["rows"] == 40


TABLE_NET = """
from torch import nn
def Net(features, classes):
    return nn.Sequential(nn.Linear(features, 5), nn.ReLU(), nn.Linear(5, classes))
"""


def test_a_state_dict_with_its_class(iris, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")
    from safetensors.torch import save_file

    folder, _ = iris
    (tmp_path / "net.py").write_text(TABLE_NET)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "iris.csv").write_bytes((folder / "iris.csv").read_bytes())
    said = {"class": str(tmp_path / "net.py") + ":Net", "columns": COLUMNS}
    run = packaged(tmp_path, "net.safetensors", "iris.csv", said=said)
    row = [[5.0, 3.4, 1.5, 0.2]]
    wanted = net(torch.tensor(row)).softmax(1).detach().numpy()
    found = kf.load(run.bundle).predict([dict(zip(COLUMNS, row[0], strict=True))])
    assert np.abs(found.probabilities - wanted).max() < 1e-5
    assert "order was taken to be" in (run.bundle / "card.md").read_text("utf-8")
    with pytest.raises(DataError, match="not those of Net") as caught:
        packaged(tmp_path, "net.safetensors", "iris.csv", said={**said, "columns": COLUMNS[:3]})
    assert "[5, 4], not [5, 3]" in caught.value.seen
    with pytest.raises(DataError, match="no network") as caught:
        packaged(tmp_path, "net.safetensors", "iris.csv", said={"columns": COLUMNS})
    assert "--class" in caught.value.hint


class Bomb:
    """A pickle that leaves a mark when it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_pickles_are_not_opened(iris, tmp_path):
    folder, _ = iris
    (tmp_path / "iris.csv").write_bytes((folder / "iris.csv").read_bytes())
    mark = tmp_path / "opened"
    bomb = pickle.dumps(Bomb(str(mark)))
    for name in ("model.pkl", "model.joblib", "model.dat", "model.pth", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(bomb)
        with pytest.raises(DataError) as caught:
            packaged(tmp_path, name, "iris.csv", said={"class": "net.py:Net"} if name.endswith(("t", "h", "n")) else {})
        assert caught.value.hint and caught.value.code in ("pickled_model", "weights_broken"), (name, caught.value)
    assert not mark.exists()


def test_a_whole_module_in_a_pickle_is_refused_with_the_way_out(iris, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra networks)")
    folder, _ = iris
    torch.save(torch.nn.Linear(4, 3), tmp_path / "whole.pt")
    (tmp_path / "iris.csv").write_bytes((folder / "iris.csv").read_bytes())
    with pytest.raises(DataError) as caught:
        packaged(tmp_path, "whole.pt", "iris.csv")
    assert "torch.save(model.state_dict()" in caught.value.hint


def test_data_outside_the_folder_of_an_onnx_is_refused(iris, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra tables)")
    folder, _ = iris
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/iris.csv").write_bytes((folder / "iris.csv").read_bytes())
    weight = np.eye(4, 3, dtype=np.float32)
    (tmp_path / "secret").write_bytes(weight.tobytes())
    (tmp_path / "deep/beside").write_bytes(weight.tobytes())

    def saved(location):
        tensor = onnx.TensorProto(name="w", data_type=1, dims=[4, 3], data_location=1)
        tensor.external_data.add(key="location", value=location)
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [value("x", 1, ["n", 4])],
            [value("y", 1, ["n", 3])],
            [tensor],
        )
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        (tmp_path / "deep/m.onnx").write_bytes(made.SerializeToString())

    for location in ("../secret", str(tmp_path / "secret"), "sub/../../secret"):
        saved(location)
        with pytest.raises(DataError) as caught:
            packaged(tmp_path / "deep", "m.onnx", "iris.csv", said={"columns": COLUMNS})
        assert caught.value.code == "external_data" and location in caught.value.seen
    saved("beside")
    run = packaged(tmp_path / "deep", "m.onnx", "iris.csv", said={"columns": COLUMNS})
    assert run.metrics["test"]["accuracy"] < 1 and "external" not in str(
        (run.bundle / "model.onnx").read_bytes()[:2000]
    )


def test_what_is_no_model_says_what_would_be(tmp_path, iris):
    folder, _ = iris
    (tmp_path / "iris.csv").write_bytes((folder / "iris.csv").read_bytes())
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.h5").write_bytes(b"x")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    for name, code, hint in (
        ("gone.onnx", "no_model", "file or a folder"),
        ("empty", "model_unknown", "save_pretrained"),
        ("old.h5", "legacy_keras", "model.keras"),
        ("bad.onnx", "model_broken", ""),
    ):
        with pytest.raises(KeepfitError) as caught:
            packaged(tmp_path, name, "iris.csv", said={"columns": COLUMNS})
        assert caught.value.code == code and hint in caught.value.hint, caught.value


def test_classes_in_another_order_are_noticed():
    from keepfit.training.existing.form import better_order

    shares = np.eye(3)[[1, 2, 0] * 10]
    said = better_order(shares, np.array([0, 1, 2] * 10), ["a", "b", "c"])
    assert "--classes c,a,b" in said and "100%" in said
    assert better_order(shares, np.array([1, 2, 0] * 10), ["a", "b", "c"]) == ""
