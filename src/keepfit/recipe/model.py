"""The recipe as one closed model; the `model` section is a union built from the catalog."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, create_model

from keepfit.core import catalog
from keepfit.core.options import Options
from keepfit.recipe.clean import CleanOptions
from keepfit.recipe.data import DataOptions
from keepfit.recipe.outcome import BudgetOptions, EvaluateOptions, ExplainOptions, PackageOptions, ServeOptions
from keepfit.recipe.train import train_class

NOT_YET = {
    "": {"tune", "compress", "export", "monitor", "retrain"},
    "train": {"distributed"},
    "budget": {"memory", "disk"},
    "clean": {"near_duplicates", "outliers"},
    "model": {"adapter"},
    "serve": {"batch"},
}
NOT_YET_VALUES = {
    "task": {"detection", "generation"},
    "evaluate.primary": {"map50", "map50_95", "perplexity"},
    "evaluate.metrics": {"map50", "map50_95", "perplexity"},
}
NOT_YET_LEARNERS = {"text": {"pretrained", "custom"}}


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
    clean: CleanOptions = Field(
        default_factory=lambda: CleanOptions.model_validate({}), description="duplicates and missing values"
    )
    evaluate: EvaluateOptions = Field(
        default_factory=lambda: EvaluateOptions.model_validate({}), description="metrics and slices"
    )
    explain: ExplainOptions = Field(
        default_factory=lambda: ExplainOptions.model_validate({}), description="importance of columns"
    )
    package: PackageOptions = Field(default_factory=lambda: PackageOptions.model_validate({}), description="the bundle")
    serve: ServeOptions = Field(default_factory=lambda: ServeOptions.model_validate({}), description="the service")
    model: Any = None
    train: Any = None
    augment: Any = None
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
        augment=(_augmentations(), Field(default_factory=list, description="changes to training pictures, in turn")),
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


def _augmentations() -> Any:
    """Steps of augmentation; a bare name is read too."""
    parts = [catalog.options_of("augment", name) for name in catalog.TABLE["augment"]]
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="use")]
    spelled: Any = reduce(or_, parts) | Literal[tuple(catalog.TABLE["augment"])]

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
            unused |= {"budget", "preset"}
    elif "time" not in recipe.budget.model_fields_set:
        unused |= {"budget"}
    if recipe.modality != "image":
        unused |= {"augment", "data.image"}
    if recipe.modality != "text":
        unused |= {"data.text"}
    if recipe.modality != "tabular":
        unused |= {"clean.missing", "clean.drop_rows_missing_over", "data.columns", "explain"}
    if recipe.data.train is not None:
        if recipe.data.test is not None:
            unused |= {"data.split.test"}
        if recipe.data.validation is not None:
            unused |= {"data.split.validation"}
    if recipe.task == "regression":
        unused |= {"data.balance"}
    return unused
