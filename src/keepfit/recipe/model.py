"""The recipe as one closed model; the `model` section is a union built from the catalog."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, create_model

from keepfit.core import catalog
from keepfit.core.options import Options
from keepfit.recipe.clean import CleanOptions
from keepfit.recipe.data import DataOptions
from keepfit.recipe.outcome import BudgetOptions, EvaluateOptions, ExplainOptions, PackageOptions, ServeOptions

NOT_YET = {
    "": {"augment", "train", "tune", "compress", "export", "monitor", "retrain"},
    "data": {"text", "image"},
    "budget": {"memory", "disk"},
    "clean": {"near_duplicates", "outliers", "labels", "leaks"},
    "model": {"pretrained", "adapter", "custom"},
    "serve": {"record", "batch"},
}
NOT_YET_VALUES = {
    "task": {"detection", "generation"},
    "modality": {"image", "text"},
    "model.use": {"mlp", "cnn", "pretrained", "tfidf", "custom"},
    "data.balance": {"oversample", "undersample", "smote"},
    "evaluate.primary": {"map50", "map50_95", "perplexity"},
    "evaluate.metrics": {"map50", "map50_95", "perplexity"},
}


class RecipeFields(Options):
    """Recipe, version 1."""

    version: Literal[1] = Field(1, description="version of the recipe's language")
    name: str = Field("model", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="name of runs and bundle")
    seed: int = Field(0, ge=0, lt=2**31, description="every random choice follows from it")
    task: Literal["auto", "classification", "regression"] = Field("auto", description="auto: from the target")
    modality: Literal["tabular"] = Field("tabular", description="kind of input")
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
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def folder(self) -> Path:
        """What relative paths are relative to."""
        return self._folder


@cache
def recipe_class() -> type[RecipeFields]:
    """The closed model with the learners of the catalog in its `model` section."""
    parts = [catalog.options_of("tabular", name) for name in catalog.TABLE["tabular"]]
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="use")]
    default = catalog.options_of("tabular", "auto")
    made: type[RecipeFields] = create_model(
        "Recipe", __base__=RecipeFields, model=(union, Field(default_factory=default, description="the learner"))
    )
    return made


Recipe = RecipeFields


def unused_keys(recipe: RecipeFields) -> set[str]:
    """Dotted keys that no stage of this recipe's plan reads."""
    learner = recipe.model.use
    unused = set()
    if learner not in ("auto", "ensemble"):
        unused |= {"budget", "preset"}
    if recipe.data.train is not None:
        if recipe.data.test is not None:
            unused |= {"data.split.test"}
        if recipe.data.validation is not None:
            unused |= {"data.split.validation"}
    if recipe.task == "regression":
        unused |= {"data.balance"}
    return unused
