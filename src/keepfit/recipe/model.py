"""The recipe as one closed model; the `model` section is a union built from the catalog."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, create_model

from keepfit.core import catalog
from keepfit.core.options import Options
from keepfit.recipe.clean import clean_class
from keepfit.recipe.data import DataOptions
from keepfit.recipe.outcome import BudgetOptions, EvaluateOptions, ExplainOptions, PackageOptions, ServeOptions
from keepfit.recipe.retrain import RetrainOptions
from keepfit.recipe.train import train_class

NOT_YET = {
    "": {"tune", "compress", "export"},
    "budget": {"disk"},
}
NOT_YET_VALUES = {
    "task": {"detection", "generation"},
    "evaluate.primary": {"map50", "map50_95", "perplexity"},
    "evaluate.metrics": {"map50", "map50_95", "perplexity"},
}


class RecipeFields(Options):
    """Recipe, version 1."""

    version: Literal[1] = Field(1, description="version of the recipe's language")
    name: str = Field("model", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="name of runs and bundle")
    seed: int = Field(0, ge=0, lt=2**31, description="every random choice follows from it")
    task: Literal["auto", "classification", "regression"] = Field("auto", description="auto: from the target")
    modality: Literal["tabular", "image", "text"] = Field(
        "tabular", description="kind of input; follows from the source when absent"
    )
    preset: Literal["fast", "balanced", "best"] = Field("balanced", description="how hard auto tries")
    budget: BudgetOptions = Field(default_factory=lambda: BudgetOptions.model_validate({}), description="limits")
    data: DataOptions = Field(description="sources, target, columns, split")
    clean: Any = None
    evaluate: EvaluateOptions = Field(
        default_factory=lambda: EvaluateOptions.model_validate({}), description="metrics and slices"
    )
    explain: ExplainOptions = Field(
        default_factory=lambda: ExplainOptions.model_validate({}), description="importance of columns"
    )
    package: PackageOptions = Field(default_factory=lambda: PackageOptions.model_validate({}), description="the bundle")
    serve: ServeOptions = Field(default_factory=lambda: ServeOptions.model_validate({}), description="the service")
    retrain: RetrainOptions = Field(
        default_factory=lambda: RetrainOptions.model_validate({}), description="when and how the loop retrains"
    )
    model: Any = None
    train: Any = None
    augment: Any = None
    monitor: Any = None
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def folder(self) -> Path:
        """What relative paths are relative to."""
        return self._folder


MODALITIES = ("tabular", "image", "text")


@cache
def recipe_class(modality: str = "tabular") -> type[RecipeFields]:
    """The closed model with the learners of a modality in its `model` section."""
    parts = [catalog.options_of(modality, name) for name in catalog.TABLE[modality]]
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="use")]
    default = catalog.options_of(modality, "auto")
    made: type[RecipeFields] = create_model(
        "Recipe",
        __base__=RecipeFields,
        model=(union, Field(default_factory=default, description="the learner")),
        train=(
            train_class(),
            Field(default_factory=lambda: train_class().model_validate({}), description="how networks learn"),
        ),
        augment=(
            _augmentations(modality),
            Field(default_factory=list, description="changes to training pictures or texts, in turn"),
        ),
        clean=(
            clean_class(),
            Field(
                default_factory=lambda: clean_class().model_validate({}), description="cleaning of the training rows"
            ),
        ),
        monitor=(_monitor(), Field(default_factory=lambda: _monitor()(), description="what is called an alarm")),
    )
    return made


@cache
def schema_class() -> type[RecipeFields]:
    """The model of what editors are told: the learners of all modalities."""
    parts = [catalog.options_of(kind, name) for kind in MODALITIES for name in catalog.TABLE[kind]]
    union: Any = reduce(or_, parts)
    made: type[RecipeFields] = create_model(
        "Recipe", __base__=recipe_class(), model=(union, Field(default=None, description="the learner"))
    )
    return made


def _monitor() -> Any:
    """The options of the monitor, which lives above: reached by name."""
    return catalog.load("keepfit.monitor.options:MonitorOptions")


_VARIED = {"image": ("picture", "batch"), "text": ("text",)}


def augmentations_of(modality: str) -> list[str]:
    """The names of the steps of augmentation that fit a modality; all of them for tables, which have none."""
    fitting, names = _VARIED.get(modality), catalog.TABLE["augment"]
    return [name for name in names if fitting is None or catalog.options_of("augment", name).of in fitting]  # type: ignore[attr-defined]


def _augmentations(modality: str) -> Any:
    """Steps of augmentation; a bare name is read too."""
    names = augmentations_of(modality)
    parts = [catalog.options_of("augment", name) for name in names]
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="use")]
    spelled: Any = reduce(or_, parts) | Literal[tuple(names)]

    def filled(value: object) -> object:
        return {"use": value} if isinstance(value, str) else value

    step = Annotated[union, BeforeValidator(filled, json_schema_input_type=spelled)]
    return list[step]


def learns_by_network(modality: str, use: str) -> bool:
    """Whether a learner is a network, so that the `train` section is read."""
    return use in catalog.TABLE[modality] and hasattr(catalog.options_of(modality, use), "train_defaults")


Recipe = RecipeFields


def unused_keys(recipe: RecipeFields) -> set[str]:
    """Dotted keys that no stage of this recipe's plan reads."""
    learner = recipe.model.use
    unused = set()
    network = learns_by_network(recipe.modality, learner)
    if not network:
        unused |= {"train"}
        if recipe.modality == "text" or learner not in ("auto", "ensemble"):
            unused |= {"budget.time", "preset"}
    elif "time" not in recipe.budget.model_fields_set:
        unused |= {"budget.time"}
    if recipe.modality != "tabular":
        unused |= {"budget.memory"}  # pictures and texts are held whole
    if "budget.time" in unused and recipe.budget.memory is None:
        unused |= {"budget"}
    if recipe.modality == "tabular" or not network:
        unused |= {"augment"}  # what is counted once has no epochs in which it could vary
    if recipe.modality != "image":
        unused |= {"data.image"}
    if recipe.modality != "text":
        unused |= {"data.text"}
    if recipe.modality != "tabular":
        unused |= {"data.columns", "explain"}
        unused |= {f"clean.{name}" for name in ("missing", "drop_rows_missing_over", *catalog.TABLE["clean"])}
    if recipe.data.train is not None:
        if recipe.data.test is not None:
            unused |= {"data.split.test"}
        if recipe.data.validation is not None:
            unused |= {"data.split.validation"}
    if recipe.task == "regression":
        unused |= {"data.balance"}
    if recipe.retrain.strategy not in ("ewc", "lwf"):
        unused |= {"retrain.hold"}
    return unused
