"""What a user may say about learners for tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from keepfit.core.options import Options

_LEARNERS = "keepfit.modalities.tabular.learners"


class LinearParams(Options):
    """Parameters of the linear learner."""

    c: float = Field(1.0, gt=0, description="inverse of the strength of the L2 penalty")


class GbdtParams(Options):
    """Parameters of gradient boosted trees, as LightGBM names them."""

    learning_rate: float = Field(0.05, gt=0, le=1, description="shrinkage of each tree")
    num_leaves: int = Field(31, ge=2, le=4096, description="leaves of a tree")
    rounds: int = Field(2000, ge=1, le=20_000, description="most trees; stopped early on the validation split")
    min_data_in_leaf: int = Field(20, ge=1, description="least rows in a leaf")
    feature_fraction: float = Field(0.8, gt=0, le=1, description="share of features seen by a tree")
    bagging_fraction: float = Field(0.9, gt=0, le=1, description="share of rows seen by a tree")
    lambda_l2: float = Field(1.0, ge=0, description="L2 penalty on leaf values")


class ForestParams(Options):
    """Parameters of the forest of randomized trees."""

    trees: int = Field(100, ge=1, le=5000, description="number of trees")
    min_leaf: int = Field(3, ge=1, description="least rows in a leaf")
    max_depth: int = Field(14, ge=1, le=60, description="deepest level")


class MlpParams(Options):
    """Parameters of the network for tables."""

    hidden: list[int] = Field([256, 128], min_length=1, max_length=20, description="width of each hidden layer")
    embedding: int = Field(32, ge=1, le=512, description="most numbers by which a category is described")
    periodic: int = Field(16, ge=0, le=256, description="waves by which a number is described; 0 for the number alone")
    sigma: float = Field(0.1, gt=0, description="spread of the waves' first frequencies")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout where train.dropout does not say another")


class LinearOptions(Options):
    """Logistic or ridge regression on standardized numbers and one-hot categories."""

    impl: ClassVar[str] = f"{_LEARNERS}.linear:fit"
    use: Literal["linear"] = "linear"
    refit: bool = Field(True, description="after choosing, fit again on training and validation rows")
    params: LinearParams = Field(
        default_factory=lambda: LinearParams.model_validate({}), description="the learner's own parameters"
    )


class GbdtOptions(Options):
    """Gradient boosted trees (LightGBM)."""

    impl: ClassVar[str] = f"{_LEARNERS}.gbdt:fit"
    use: Literal["gbdt"] = "gbdt"
    refit: bool = Field(True, description="after choosing, fit again on training and validation rows")
    params: GbdtParams = Field(
        default_factory=lambda: GbdtParams.model_validate({}), description="the learner's own parameters"
    )


class ForestOptions(Options):
    """Extremely randomized trees (scikit-learn)."""

    impl: ClassVar[str] = f"{_LEARNERS}.forest:fit"
    use: Literal["forest"] = "forest"
    refit: bool = Field(True, description="after choosing, fit again on training and validation rows")
    params: ForestParams = Field(
        default_factory=lambda: ForestParams.model_validate({}), description="the learner's own parameters"
    )


class AutoOptions(Options):
    """Tries linear, gbdt and forest within `budget.time`, picks by validation, writes the leaderboard."""

    impl: ClassVar[str] = f"{_LEARNERS}.auto:search"
    use: Literal["auto"] = "auto"
    refit: bool = Field(True, description="after choosing, fit again on training and validation rows")


class EnsembleOptions(Options):
    """A weighted blend of everything that auto tries."""

    impl: ClassVar[str] = f"{_LEARNERS}.auto:search"
    use: Literal["ensemble"] = "ensemble"
    refit: bool = Field(True, description="after choosing, fit again on training and validation rows")


class MlpOptions(Options):
    """A network with embeddings for categories and numbers, on the shared trainer."""

    impl: ClassVar[str] = f"{_LEARNERS}.mlp:fit"
    use: Literal["mlp"] = "mlp"
    refit: ClassVar[bool] = False
    params: MlpParams = Field(
        default_factory=lambda: MlpParams.model_validate({}), description="the learner's own parameters"
    )

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {
            "epochs": {"fast": 15, "balanced": 40, "best": 100}[preset],
            "batch_size": 256,
            "optimizer": {"use": "adamw", "lr": 2e-3, "weight_decay": 0.02},
            "schedule": {"use": "cosine", "warmup": 1.0},
            "early_stop": {"patience": 8},
        }


class CustomOptions(Options):
    """Your own network, torch or Keras, on the encoded columns: `class: my_model.py:Net`."""

    impl: ClassVar[str] = f"{_LEARNERS}.custom:fit"
    rehearsal: ClassVar[str] = "keepfit.modalities.tabular.learn:rehearse"
    use: Literal["custom"] = "custom"
    refit: ClassVar[bool] = False
    class_: str = Field(
        alias="class", pattern=r"^.+\.py:[A-Za-z_]\w*$", description="file and class or function, file.py:Class"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="what the constructor is called with")

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {"epochs": {"fast": 10, "balanced": 30, "best": 100}[preset], "early_stop": {"patience": 8}}

    def files(self, folder: Path) -> list[Path]:
        """The file with the class, for the step key."""
        return [folder / self.class_.rpartition(":")[0]]


class ExistingOptions(Options):
    """A model that is trained already: ONNX, a torch state dict with its class, torch.export, Keras."""

    impl: ClassVar[str] = "keepfit.modalities.tabular.existing:fit"
    fits_itself: ClassVar[bool] = True
    use: Literal["existing"] = "existing"
    refit: ClassVar[bool] = False
    source: str = Field(description="the model: a file, or a folder")
    columns: list[str] | None = Field(None, description="the columns that it reads, in its order; all when absent")
    class_: str | None = Field(
        None,
        alias="class",
        pattern=r"^.+\.py:[A-Za-z_]\w*$",
        description="for a state dict: file and class, file.py:Class",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="what the constructor is called with")
    classes: list[str | int | bool | float] | None = Field(
        None, description="the classes in the order of the model's scores; its own names where it has some"
    )
    gives: Literal["auto", "probabilities", "scores"] = Field(
        "auto", description="what comes out: probabilities, or scores that a softmax follows"
    )
    output: str = Field("auto", description="the output of an ONNX file that holds the scores")

    def files(self, folder: Path) -> list[Path]:
        """The model's files and its class, for the step key."""
        path = (folder / self.source).expanduser()
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return [*inside, *([folder / self.class_.rpartition(":")[0]] if self.class_ is not None else [])]
