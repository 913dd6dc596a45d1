"""A mistake in a recipe ends with file, line and the nearest right name; what is right is rendered and loads again."""

from __future__ import annotations

import pytest
import yaml

from keepfit.core.errors import RecipeError, nearest
from keepfit.engine.plan import plan
from keepfit.recipe import fill, load, parse
from keepfit.recipe.model import NOT_YET, NOT_YET_VALUES, recipe_class
from keepfit.recipe.render import file_name, quoted, schema, seen_from

BASE = "version: 1\ndata: {source: 'sklearn:iris', target: target}\n"

MISSPELT = [
    ("sede: 1\n", "sede", "did you mean 'seed'?", 3),
    ("budget: {tme: 60s}\n", "tme", "did you mean 'time'?", 3),
    ("clean: {duplicate: drop}\n", "duplicate", "did you mean 'duplicates'?", 3),
    ("clean:\n  missing:\n    numerc: mean\n", "numerc", "did you mean 'numeric'?", 5),
    ("model: {use: linear, refitt: true}\n", "refitt", "did you mean 'refit'?", 3),
    ("model:\n  use: gbdt\n  params:\n    num_leafs: 9\n", "num_leafs", "did you mean 'num_leaves'?", 6),
    ("model:\n  use: forest\n  params: {tree: 9}\n", "tree", "did you mean 'trees'?", 5),
    ("model:\n  use: linear\n  params: {cc: 9}\n", "cc", "did you mean 'c'?", 5),
    ("evaluate: {primry: accuracy}\n", "primry", "did you mean 'primary'?", 3),
    ("explain: {row: 20}\n", "row", "did you mean 'rows'?", 3),
    ("package: {goldn: 'off'}\n", "goldn", "did you mean 'golden'?", 3),
    ("serve: {prt: 80}\n", "prt", "did you mean 'port'?", 3),
]
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
DATA = [
    ("tagret: y", "tagret", "did you mean 'target'?"),
    ("target: y, split: {tset: 0.2}", "tset", "did you mean 'test'?"),
    ("target: y, read: {delimitr: ';'}", "delimitr", "did you mean 'delimiter'?"),
    ("target: y, colums: {a: ignore}", "colums", "did you mean 'columns'?"),
]


@pytest.mark.parametrize(("text", "key", "hint", "line"), MISSPELT)
def test_a_misspelt_key_names_file_line_and_the_nearest(text, key, hint, line):
    with pytest.raises(RecipeError) as caught:
        parse(BASE + text, origin="r.yaml")
    error = caught.value
    assert (error.code, error.hint, error.exit_code) == ("unknown_key", hint, 2)
    assert error.where.startswith(f"r.yaml:{line}, key ") and error.where.endswith(key) and f"'{key}'" in error.what
    assert len(MISSPELT) + len(DATA) == 16


@pytest.mark.parametrize(("text", "key", "hint"), DATA)
def test_a_misspelt_key_of_data(text, key, hint):
    with pytest.raises(RecipeError) as caught:
        parse(f"version: 1\ndata: {{source: a.csv, {text}}}\n", origin="r.yaml")
    assert (caught.value.code, caught.value.hint) == ("unknown_key", hint) and "r.yaml:2" in caught.value.where


@pytest.mark.parametrize("dotted", [f"{s}.{n}".lstrip(".") for s, names in NOT_YET.items() for n in sorted(names)])
def test_what_is_to_come_is_refused_by_name(dotted):
    section, _, name = dotted.rpartition(".")
    text = f"{name}: {{a: 1}}\n" if not section else f"{section}: {{{name}: x}}\n"
    base = f"version: 1\ndata: {{source: a.csv, target: y, {name}: x}}\n" if section == "data" else BASE + text
    with pytest.raises(RecipeError, match="not available yet") as caught:
        parse(base, origin="r.yaml")
    assert caught.value.code == "not_available" and dotted in str(caught.value) and "r.yaml:" in caught.value.where
    assert sum(map(len, NOT_YET.values())) >= 1


@pytest.mark.parametrize(("dotted", "value"), [(k, v) for k, many in NOT_YET_VALUES.items() for v in sorted(many)])
def test_values_to_come_are_refused_by_name(dotted, value):
    with pytest.raises(RecipeError, match=f"{dotted}: {value} is not available yet"):
        parse(BASE, [f"{dotted}={value}"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("time: 60s\n", "belongs under 'budget'"),
        ("target: y\n", "belongs under 'data'"),
        ("split: {test: 0.1}\n", "belongs under 'data'"),
        ("clean: {seed: 1}\n", "section of its own"),
        ("evaluate: {golden: 'off'}\n", "belongs under 'package'"),
    ],
)
def test_a_misplaced_key_is_told_its_home(text, hint):
    with pytest.raises(RecipeError) as caught:
        parse(BASE + text)
    assert caught.value.code == "unknown_key" and hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("model: {use: linear}\nbudget: {time: 60s}\n", "budget"),
        ("model: {use: gbdt}\npreset: fast\n", "preset"),
        ("task: regression\ndata: {source: a.csv, target: y, balance: class_weight}\n", "data.balance"),
        ("data: {train: a.csv, test: b.csv, target: y, split: {test: 0.3}}\n", "data.split.test"),
    ],
)
def test_a_key_that_nothing_reads_is_an_error(text, key):
    base = "version: 1\n" if "data:" in text else BASE
    with pytest.raises(RecipeError) as caught:
        parse(base + text, origin="r.yaml")
    assert caught.value.code == "unused_key" and repr(key) in caught.value.what and "r.yaml:" in caught.value.where


@pytest.mark.parametrize(
    "text",
    [
        "a: [1\n",
        "- 1\n",
        "7\n",
        "",
        "seed: 1\nseed: 2\n",
        "data: 7\n",
        BASE + "seed: x\n",
        BASE + "seed: -1\n",
        BASE + "name: 'Not Good'\n",
        BASE + "model: {use: lineer}\n",
        BASE + "model: {}\n" * 2,
        BASE + "budget: {time: soon}\n",
        BASE + "version: 2\n",
        "version: 2\ndata: {source: a, target: y}\n",
        "version: 1\ndata: {source: a, train: b, target: y}\n",
        "version: 1\ndata: {source: a, target: y, split: {by: group}}\n",
        "version: 1\ndata: {source: a, target: y, split: {test: 0.9, validation: 0.1}}\n",
        "version: 1\ndata: {source: a}\n",
        "version: 1\ndata: {source: a, target: y, columns: {y: numeric}}\n",
        BASE + "model: [linear]\n",
        BASE + "clean: no\n",
        BASE + "evaluate: {slices: sex}\n",
        "? [a, b]\n: 1\n",
        BASE + "x: !!python/object:os.system {}\n",
        "a: &a [*a]\n",
        "a: " + "[" * 5000,
        BOMB,
        BASE + "seed: 2020-99-99\n",
        BASE + "model:\n",
    ],
)
def test_other_mistakes_are_coded_errors(text):
    with pytest.raises(RecipeError) as caught:
        parse(text, origin="r.yaml")
    assert caught.value.exit_code == 2 and caught.value.code and caught.value.what


@pytest.mark.parametrize(
    "override", ["seed", "=1", "data.target.x=1", "seed=one", "modle.use=linear", "budget.tiem=1s"]
)
def test_overrides_that_do_not_fit(override):
    with pytest.raises(RecipeError):
        parse(BASE, [override])


@pytest.mark.parametrize(
    ("text", "overrides", "where"),
    [
        (BASE + "seed: 1\n", ["seed=abc"], "seed=abc"),
        (BASE + "seed: 1\n", ["seed=abc", "seed=-1"], "seed=-1"),
        (BASE, ["seed=abc"], "seed=abc"),
        (BASE + "model: {use: gbdt}\n", ["model={use: gdbt}"], "model={use: gdbt}"),
        (BASE + "model: {use: gbdt}\n", ["model.use=gdbt"], "model.use=gdbt"),
        (BASE, ["data.columns={age: numbr}"], "data.columns={age: numbr}"),
        (BASE, ["data.split.by=group"], "data.split.by=group"),
        (BASE, ["data.train=a.csv"], "data.train=a.csv"),
        (BASE + "evaluate: {primary: accuracy}\n", ["evaluate.primary=map50"], "evaluate.primary=map50"),
        (BASE + "model: {use: gbdt}\n", ["preset=fast"], "preset=fast"),
        (BASE + "seed: x\n", ["name=y"], "r.yaml:3, key seed"),
        (BASE + "clean: {duplicates: x}\n", ["clean.missing.numeric=mean"], "r.yaml:3, key clean.duplicates"),
    ],
)
def test_a_mistake_in_an_override_is_not_blamed_on_the_file(text, overrides, where):
    with pytest.raises(RecipeError) as caught:
        parse(text, overrides, origin="r.yaml")
    assert caught.value.where == where


def test_metrics_to_come_are_refused_inside_lists_too():
    with pytest.raises(RecipeError, match="evaluate.metrics: perplexity is not available yet") as caught:
        parse(BASE + "evaluate: {metrics: [accuracy, perplexity]}\n", origin="r.yaml")
    assert caught.value.code == "not_available" and caught.value.where == "r.yaml:3, key evaluate.metrics"


def test_names_say_that_there_is_no_header_also_in_the_saved_recipe():
    base = "version: 1\ndata: {{source: a.csv, target: y, read: {{names: [x, y]{}}}}}\n"
    for more, header in (("", False), (", header: true", True), (", header: false", False)):
        recipe = parse(base.format(more))
        assert recipe.data.read.header is header and parse(fill(recipe)).data.read.header is header


@pytest.mark.parametrize(
    "text", ["plain", "prix 😀", 'a "b": #c', "\u2028 \x85 \x7f", "no", "- x", "", "line\nbreak", "\\"]
)
def test_any_text_can_be_quoted(text):
    assert yaml.safe_load(f"a:\n  b: {quoted(text)}\n") == {"a": {"b": text}} and "\n" not in quoted(text)


def test_sources_are_spelled_for_the_place_where_they_stand(tmp_path, monkeypatch):
    monkeypatch.setenv("HERE_OR_THERE", str(tmp_path))
    rename = seen_from(tmp_path / "home", tmp_path / "runs/x/0001")
    found = {
        "a.csv": "../../../home/a.csv",
        "../b/*.csv": "../../../b/*.csv",
        str(tmp_path / "c.csv"): "../../../c.csv",
        "/nowhere/d.csv": "/nowhere/d.csv",
        "${HERE_OR_THERE}/e.csv": "${HERE_OR_THERE}/e.csv",
    }
    assert {source: rename(source) for source in found} == found
    recipe = parse("version: 1\ndata: {train: ../x/a.csv, test: '${HERE_OR_THERE}/b.csv', target: y}\n")
    data = yaml.safe_load(fill(recipe, file_name))["data"]
    assert (data["train"], data["test"]) == ("a.csv", "b.csv")
    assert yaml.safe_load(fill(parse(BASE), file_name))["data"]["source"] == "sklearn:iris"


RECIPES = [
    BASE,
    BASE + "model: {use: linear}\nseed: 3\n",
    BASE + "model: {use: gbdt, params: {rounds: 7}}\nclean: {duplicates: drop}\n",
    BASE + "budget: {time: 90s}\npreset: best\nserve: {max_body: 2MB}\n",
    "version: 1\ndata: {source: 'sklearn:diabetes', target: target, split: {by: random}}\ntask: regression\nmodel: {use: forest}\n",
]


@pytest.mark.parametrize("text", RECIPES)
def test_what_is_rendered_loads_again_to_the_same_plan(text):
    recipe = parse(text)
    again = parse(fill(recipe))
    assert fill(again) == fill(recipe)
    assert plan(again).steps == plan(recipe).steps and len(plan(recipe).steps) == 8


def test_variables_stay_unexpanded_and_passwords_are_redacted(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_PLACE", str(tmp_path))
    (tmp_path / "a.csv").write_text("x,y\n1,a\n")
    recipe = parse("version: 1\ndata: {source: '${SECRET_PLACE}/a.csv', target: y}\n")
    made = plan(recipe)
    assert (
        "${SECRET_PLACE}/a.csv" in fill(recipe) and str(tmp_path) not in fill(recipe) and str(tmp_path) not in made.text
    )
    secret = parse("version: 1\ndata: {source: 'postgresql://me:hunter2@host/db', target: y}\n")
    assert "hunter2" not in fill(secret) and "me:***@host" in fill(secret)


def test_files_that_are_no_recipe(tmp_path):
    (tmp_path / "junk.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "junk.yaml"):
        with pytest.raises(RecipeError):
            load(path)
    (tmp_path / "My Churn.yaml").write_text(BASE)
    assert load(tmp_path / "My Churn.yaml").name == "my-churn"


def test_the_schema_describes_every_key():
    made = schema()
    assert made["additionalProperties"] is False and set(made["properties"]) == set(recipe_class().model_fields)
    seen = 0
    for definition in [made, *made["$defs"].values()]:
        for name, field in definition["properties"].items():
            seen += 1
            assert field.get("description") or name == "use", (definition.get("title"), name)
    assert seen > 50 and yaml.safe_dump(made)


def test_a_bare_off_is_the_word(tmp_path):
    said = "version: 1\ndata: {source: a.csv, target: y}\nserve: {record: off}\npackage: {golden: off}\n"
    made = parse(said, origin="r.yaml")
    assert (made.serve.record, made.package.golden) == ("off", "off")


def test_another_name_of_a_metric_is_known():
    assert nearest("auroc", ["accuracy", "roc_auc"]) == "did you mean 'roc_auc'?"


def test_an_indicator_of_gaps_that_are_filled_before_is_refused():
    with pytest.raises(RecipeError, match="indicator: true is of no use with numeric: knn"):
        parse(BASE + "clean: {missing: {numeric: knn, indicator: true}}\n", origin="r.yaml")
