"""A column of percentages, units or decimal commas takes plain numbers over JSON, and its own spelling."""

import json
import random

import numpy as np
import pytest

import keepfit as kf
from keepfit.core.errors import DataError
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.coerce import numbers
from keepfit.runtime.figures import Form, as_written, number_as
from keepfit.runtime.sources import Read, chunks
from keepfit.runtime.table import concat, from_rows

FORMS = [Form("%"), Form("oz"), Form("", True), Form("€", True), Form("$")]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back(form):
    draw = random.Random(0)
    for _ in range(300):
        number = draw.uniform(-1, 1) * 10 ** draw.randint(-6, 9)
        assert number_as(as_written(number, form), form) == number
    assert number_as(as_written(1.234, form), form) == 1.234 and number_as(as_written(40, form), form) == 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    home, draw = tmp_path_factory.mktemp("forms"), random.Random(0)
    lines = ["rate;price;weight;y"]
    for _ in range(300):
        rate, price, weight = draw.uniform(0, 100), draw.uniform(0, 2000), draw.uniform(0, 30)
        kind = "ab"[rate / 100 + price / 2000 + weight / 30 + draw.gauss(0, 0.2) > 1.5]
        lines.append(
            f"{rate:.1f}%;{price:.2f}".replace(f"{price:.2f}", f"{price:.2f}".replace(".", ","))
            + f";{weight:.1f} oz;{kind}"
        )
    (home / "t.csv").write_text("\n".join(lines) + "\n")
    (home / "r.yaml").write_text(
        "version: 1\ndata: {source: t.csv, target: y}\nmodel: {use: linear}\nclean: {leaks: report}\n"
    )
    return kf.load(kf.run(home / "r.yaml", workspace=home).bundle)


def test_numbers_and_spellings_are_the_same_question(model):
    plain = {"rate": 40.5, "price": 1.234, "weight": 12}
    said = {"rate": "40.5%", "price": "1,234", "weight": "12 oz"}
    wanted = model.predict([said])
    assert not any(wanted.errors)
    for table in (model.check_rows([plain]), model.check_rows([said])):
        assert np.array_equal(model.answer(table).probabilities, wanted.probabilities)
    frame = {name: [value] for name, value in plain.items()}
    for given in ([plain], frame):
        assert np.array_equal(model.predict(given).probabilities, wanted.probabilities)
    body = json.dumps({"input": plain}).encode()
    quick = model._predictor.quick_body(body, 10)
    assert quick is None or np.array_equal(model.answer(quick[0]).probabilities, wanted.probabilities)
    with pytest.raises(DataError):
        model.check_rows([{**plain, "rate": "40 kg"}])


def test_golden_rows_are_written_as_the_columns_are(model):
    rows = [json.loads(line)["input"] for line in model.bundle.files["golden.jsonl"].decode().splitlines()]
    assert all(row["rate"] is None or row["rate"].endswith("%") for row in rows)
    answers = model.predict(rows)
    assert not any(answers.errors)


def test_a_column_that_the_recipe_calls_numeric_is_read_as_most_of_it_is_written():
    table = from_rows([{"spent": f"${n}.50" if n % 10 else f"{n} €", "y": "a"} for n in range(1, 101)], ["spent", "y"])
    (said,) = looked(table, "y", {"spent": "numeric"}, [])
    values, bad = numbers(table.columns["spent"], said.rule)
    assert bad.sum() == 10 and values[0] == 1.5
    assert looked(table, "y", {}, [])[0].rule.kind != "numeric"


@pytest.mark.parametrize("name", ["c0=9/a.csv", "year=2024/a.csv", "a[1].csv", "b*.csv"])
def test_names_of_files_are_names(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "bad.csv").write_text("x,y\n7,q\n")
    table = concat(list(chunks(path, Read())))
    assert table.columns["x"].tolist() == ["1", "2"] and table.columns["y"].tolist() == ["a", "b"]
