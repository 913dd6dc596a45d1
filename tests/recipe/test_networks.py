"""The sections of networks: mistakes in unions of parts, what learners prefer, bare names, and the schema of both modalities."""

from __future__ import annotations

import pytest
import yaml
from made_pictures import write_pictures

from keepfit.cli.main import run as keepfit
from keepfit.core import catalog
from keepfit.core.errors import RecipeError
from keepfit.engine.plan import plan
from keepfit.recipe import fill, parse
from keepfit.recipe.model import learns_by_network
from keepfit.recipe.render import schema

PICTURES = "version: 1\nmodality: image\ndata: {source: pictures}\n"
TABLE = "version: 1\ndata: {source: 'sklearn:iris', target: target}\n"

UNKNOWN = [
    ("train: {epocs: 3}\n", "train.epocs", 4, "did you mean 'epochs'?"),
    ("train:\n  optimizer: {use: adamw, lrr: 1}\n", "train.optimizer.lrr", 5, "did you mean 'lr'?"),
    ("train:\n  optimizer:\n    lrr: 1\n", "train.optimizer.lrr", 6, "did you mean 'lr'?"),
    (
        "train:\n  optimizer:\n    use: sgd\n    momentm: 1\n",
        "train.optimizer.momentm",
        7,
        "did you mean 'momentum'?",
    ),
    ("train:\n  optimizer: {momentum: 0.5}\n", "train.optimizer.momentum", 5, "'momentum' goes with use: sgd"),
    ("train:\n  schedule: {use: step, evry: 3}\n", "train.schedule.evry", 5, "did you mean 'every'?"),
    (
        "train:\n  schedule: {use: onecycle, warmup: 1}\n",
        "train.schedule.warmup",
        5,
        "'warmup' goes with use: plateau, cosine, step, constant",
    ),
    ("train:\n  early_stop: {patiense: 3}\n", "train.early_stop.patiense", 5, "did you mean 'patience'?"),
    ("train:\n  checkpoint: {evry: 3}\n", "train.checkpoint.evry", 5, "did you mean 'every'?"),
    ("augment:\n  - flip\n  - {use: rotate, degres: 3}\n", "augment.1.degres", 6, "did you mean 'degrees'?"),
    ("model: {use: cnn, widht: 2}\n", "model.widht", 4, "did you mean 'width'?"),
    ("model: {use: pretrained, sorce: x}\n", "model.sorce", 4, "did you mean 'source'?"),
    ("model: {use: custom, clas: a.py:B}\n", "model.clas", 4, "did you mean 'class'?"),
    ("model: {use: cnn, dropout: 0.1}\n", "model.dropout", 4, "'dropout' belongs under 'train'"),
    ("optimizer: sgd\n", "optimizer", 4, "'optimizer' belongs under 'train'"),
    ("lr: 0.1\n", "lr", 4, "'lr' belongs under 'train.optimizer'"),
    ("train: {momentum: 0.1}\n", "train.momentum", 4, "'momentum' belongs under 'train.optimizer' with use: sgd"),
    ("flip: true\n", "flip", 4, "'flip' belongs into the list 'augment'"),
]

BAD = [
    ("train:\n  optimizer:\n    use: sgdd\n", "train.optimizer.use", 6, "did you mean 'sgd'?"),
    ("train:\n  optimizer: sgdd\n", "train.optimizer", 5, "did you mean 'sgd'?"),
    ("train:\n  optimizer: 7\n", "train.optimizer", 5, "a mapping with use, lr"),
    ("train:\n  optimizer: {lr: fast}\n", "train.optimizer.lr", 5, "'auto'"),
    ("train:\n  optimizer: {lr: -1}\n", "train.optimizer.lr", 5, "greater than 0 or 'auto'"),
    ("train:\n  optimizer: {betas: [0.9, 1.5]}\n", "train.optimizer.betas.1", 5, "less than 1"),
    ("train:\n  schedule: {use: cosin}\n", "train.schedule.use", 5, "did you mean 'cosine'?"),
    ("train:\n  early_stop: 3\n", "train.early_stop", 5, "a mapping with patience or 'off'"),
    ("train:\n  checkpoint: {every: sometimes}\n", "train.checkpoint.every", 5, "200 steps"),
    ("train:\n  class_weight: balansed\n", "train.class_weight", 5, "did you mean 'balanced'?"),
    ("train:\n  class_weight: {a: x}\n", "train.class_weight.a", 5, "valid number"),
    ("train:\n  epochs: many\n", "train.epochs", 5, "valid integer"),
    ("train:\n  precision: f16\n", "train.precision", 5, "did you mean 'fp16'?"),
    ("train: 7\n", "train", 4, "a mapping with epochs"),
    ("augment:\n  - flip\n  - {use: rotat}\n", "augment.1.use", 6, "did you mean 'rotate'?"),
    ("augment: [flipp]\n", "augment.0", 4, "did you mean 'flip'?"),
    ("augment:\n  - {use: rotate, degrees: lots}\n", "augment.0.degrees", 5, "valid number"),
    ("augment:\n  - {use: crop, scale: [1.0, 0.2]}\n", "augment.0.scale", 5, "must not be above the second"),
    ("augment: flip\n", "augment", 4, "valid list"),
    ("model: {use: cnnn}\n", "model.use", 4, "did you mean 'cnn'?"),
    ("model: {use: gbdt}\n", "model.use", 4, "'gbdt' is for tables, and this recipe reads pictures"),
    ("model: {use: cnn, size: big}\n", "model.size", 4, "valid integer"),
]


@pytest.mark.parametrize(("text", "key", "line", "hint"), UNKNOWN)
def test_a_misspelt_key_inside_a_part_names_line_and_nearest(text, key, line, hint):
    with pytest.raises(RecipeError) as caught:
        parse(PICTURES + text, origin="r.yaml")
    error = caught.value
    assert (error.code, error.where, error.hint) == ("unknown_key", f"r.yaml:{line}, key {key}", hint)
    assert len(UNKNOWN) == 18


@pytest.mark.parametrize(("text", "key", "line", "hint"), BAD)
def test_a_wrong_value_inside_a_part_names_line_and_what_fits(text, key, line, hint):
    with pytest.raises(RecipeError) as caught:
        parse(PICTURES + text, origin="r.yaml")
    error = caught.value
    assert (error.code, error.where) == ("bad_value", f"r.yaml:{line}, key {key}") and hint in error.hint
    assert "more problems" not in error.what and len(BAD) == 22


def test_an_item_without_a_name_and_a_part_of_the_other_modality():
    with pytest.raises(RecipeError) as caught:
        parse(PICTURES + "augment:\n  - {degrees: 3}\n", origin="r.yaml")
    assert (caught.value.code, caught.value.where) == ("key_missing", "r.yaml:5, key augment.0")
    assert "{use: rotate, ...}" in caught.value.hint
    with pytest.raises(RecipeError, match="there is no learner 'cnn'") as caught:
        parse(TABLE + "model: {use: cnn}\n", origin="r.yaml")
    assert "'cnn' is for pictures" in caught.value.hint


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.optimizer.lrr=1", "did you mean 'lr'?"),
        ("train.optimizer=sgdd", "did you mean 'sgd'?"),
        ("augment=[flipp]", "did you mean 'flip'?"),
        ("model.use=cnnn", "did you mean 'cnn'?"),
    ],
)
def test_a_mistake_in_an_override_names_the_override(override, hint):
    with pytest.raises(RecipeError) as caught:
        parse(PICTURES + "train: {optimizer: {lr: 0.1}}\naugment: [flip]\n", [override], origin="r.yaml")
    assert (caught.value.where, caught.value.hint) == (override, hint)


@pytest.mark.parametrize(
    ("base", "text", "key"),
    [
        (TABLE, "model: {use: gbdt}\ntrain: {epochs: 3}\n", "train"),
        (TABLE, "model: {use: linear}\naugment: [flip]\n", "augment"),
        (TABLE, "model: {use: mlp}\naugment: [flip]\n", "augment"),
        (PICTURES, "clean: {missing: {numeric: mean}}\n", "clean.missing"),
        (PICTURES, "explain: {rows: 20}\n", "explain"),
    ],
)
def test_sections_that_a_plan_does_not_read(base, text, key):
    with pytest.raises(RecipeError) as caught:
        parse(base + text, origin="r.yaml")
    assert caught.value.code == "unused_key" and repr(key) in caught.value.what
    assert caught.value.where.startswith("r.yaml:") and caught.value.where.endswith(f"key {key}")


def test_bare_names_and_off():
    text = "train: {optimizer: sgd, schedule: cosine, early_stop: off}\naugment: [flip, {use: rotate, degrees: 5}]\n"
    found = parse(PICTURES + text)
    assert (found.train.optimizer.use, found.train.schedule.use, found.train.early_stop) == ("sgd", "cosine", "off")
    assert [step.use for step in found.augment] == ["flip", "rotate"]
    said = parse(PICTURES, ["train.optimizer=sgd", "train.early_stop=off", "augment=[flip]"])
    assert (said.train.optimizer, said.augment) == (found.train.optimizer, found.augment[:1])


NETWORKS = [(kind, use) for kind in ("tabular", "image") for use in catalog.TABLE[kind] if learns_by_network(kind, use)]


@pytest.mark.parametrize(("kind", "use"), NETWORKS)
@pytest.mark.parametrize("preset", ["fast", "best"])
def test_what_a_learner_prefers_stands_in_the_rendered_recipe(kind, use, preset):
    more = ", class: net.py:Net" if use == "custom" else ""
    text = (PICTURES if kind == "image" else TABLE) + f"model: {{use: {use}{more}}}\npreset: {preset}\n"
    prefers = catalog.options_of(kind, use).train_defaults(preset)
    shown = yaml.safe_load(fill(parse(text)))["train"]
    for key, value in prefers.items():
        assert shown[key] == value or shown[key].items() >= value.items(), key
    asked = parse(text + "train: {epochs: 77, optimizer: {lr: 0.5}}\n")
    assert asked.train.epochs == 77 and asked.train.optimizer.lr == 0.5
    other = parse(text + "train: {optimizer: sgd}\n").train.optimizer
    assert other == catalog.options_of("optimizer", "sgd").model_validate({})
    assert len(NETWORKS) >= 6 and len(prefers) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model: {use: cnn, width: 0.5}\naugment: [flip, {use: crop, scale: [0.5, 1.0]}, mixup]\n",
        "model: {use: cnn}\ntrain: {clip_norm: null, early_stop: {patience: 2}, optimizer: sgd, schedule: step}\n",
        "train: {class_weight: {flat: 2, tall: 1}, checkpoint: {every: 20 steps}, dropout: 0.3}\nbudget: {time: 1m}\n",
        "model: {use: custom, class: net.py:Net, args: {depth: null, width: 3}}\n",
    ],
)
def test_a_rendered_recipe_of_pictures_runs_again_to_the_same_plan(tmp_path, text):
    write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "net.py").write_text("")
    recipe = parse(PICTURES + text, folder=tmp_path)
    again = parse(fill(recipe), folder=tmp_path)
    assert fill(again) == fill(recipe) and again.train == recipe.train and again.model == recipe.model
    assert plan(again).steps == plan(recipe).steps and len(plan(recipe).steps) == 8


def test_the_schema_covers_all_modalities():
    made = schema()
    learners = {ref["$ref"].rpartition("/")[2] for ref in made["properties"]["model"]["anyOf"]}
    said = {made["$defs"][name]["properties"]["use"]["const"] for name in learners}
    assert (
        said == {name for kind in ("tabular", "image", "text") for name in catalog.TABLE[kind]} and len(learners) >= 13
    )
    train = made["$defs"]["TrainOptions"]["properties"]
    for place, kind in (
        (train["optimizer"], "optimizer"),
        (train["schedule"], "schedule"),
        (made["properties"]["augment"]["items"], "augment"),
    ):
        bare = [option["enum"] for option in place["anyOf"] if "enum" in option]
        assert bare == [list(catalog.TABLE[kind])] and len(place["anyOf"]) == len(catalog.TABLE[kind]) + 1
    assert "target" not in made["$defs"]["DataOptions"].get("required", []) and made["required"] == ["data"]


def test_parts_lists_everything_that_a_recipe_may_name(capsys):
    assert keepfit(["parts"]) == 0
    shown = capsys.readouterr().out
    wanted = [f"{kind}.{name}" for kind, names in catalog.TABLE.items() for name in names]
    assert [name for name in wanted if name not in shown] == [] and len(wanted) >= 32
    assert keepfit(["parts", "optimizer"]) == 0 and "optimizer.sgd" in capsys.readouterr().out
    assert keepfit(["parts", "augment.flp"]) == 2 and "did you mean 'flip'?" in capsys.readouterr().err
