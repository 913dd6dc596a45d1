"""What a user may say about texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from keepfit.core.options import Options


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number must not be above the second: {list(pair)}")
    return pair


_AUGMENT = "keepfit.modalities.text.augment"
_LEARNERS = "keepfit.modalities.text.learners"
_Length = Annotated[int, Field(ge=1, le=10)]
_Lengths = Annotated[tuple[_Length, _Length], AfterValidator(_ascending)]


class TfidfOptions(Options):
    """N-grams of words and characters weighed by TF-IDF, and a linear model on them (scikit-learn)."""

    impl: ClassVar[str] = "keepfit.modalities.text.tfidf:fit"
    use: Literal["tfidf"] = "tfidf"
    analyzer: Literal["auto", "word", "char", "both"] = Field(
        "auto", description="what is counted; auto: char where most letters are Chinese, Japanese or Korean, else both"
    )
    ngrams: _Lengths | Literal["auto"] = Field(
        "auto",
        description="least and most words or characters of an n-gram (with both: of characters); "
        "auto: 1 to 2 words, 2 to 4 characters, 1 to 3 where those are Chinese, Japanese or Korean",
    )
    max_features: int = Field(
        200_000, ge=1, le=5_000_000, description="at most so many n-grams of each kind; the frequent stay"
    )
    c: float = Field(10.0, gt=0, le=1e6, description="inverse strength of the penalty on the weights")
    refit: bool = Field(True, description="fit the linear model again on training and validation rows")

    def settled(self) -> TfidfOptions:
        """These options."""
        return self


class WordDropoutOptions(Options):
    """Hides words of a text: the tokenizer's mask or unknown token stands in their place."""

    impl: ClassVar[str] = f"{_AUGMENT}:dropped_out"
    of: ClassVar[Literal["text"]] = "text"
    use: Literal["word_dropout"] = "word_dropout"
    rate: float = Field(0.1, gt=0, le=1, description="share of the words of a text that are hidden")
    p: float = Field(0.5, ge=0, le=1, description="share of the texts that are changed")


class WordDeleteOptions(Options):
    """Takes words out of a text."""

    impl: ClassVar[str] = f"{_AUGMENT}:deleted"
    of: ClassVar[Literal["text"]] = "text"
    use: Literal["word_delete"] = "word_delete"
    rate: float = Field(0.1, gt=0, le=1, description="share of the words of a text that are taken out")
    p: float = Field(0.5, ge=0, le=1, description="share of the texts that are changed")


class WordSwapOptions(Options):
    """Lets words of a text change places."""

    impl: ClassVar[str] = f"{_AUGMENT}:swapped"
    of: ClassVar[Literal["text"]] = "text"
    use: Literal["word_swap"] = "word_swap"
    rate: float = Field(0.1, gt=0, le=1, description="pairs that change places, as a share of the words; at least one")
    p: float = Field(0.5, ge=0, le=1, description="share of the texts that are changed")


TextAugmentation = WordDropoutOptions | WordDeleteOptions | WordSwapOptions
Length = Annotated[int, Field(ge=8, le=8192)] | Literal["auto"]
_LENGTH = (
    "most tokens of a text, what is longer is cut and counted; auto: what 99 % of the training texts need, at most 256"
)


class LoraOptions(Options):
    """Low-rank adapters (peft): a small share of new weights learns, and is merged into the encoder in the end."""

    impl: ClassVar[str] = "keepfit.modalities.text.adapters:add"
    use: Literal["lora"] = "lora"
    r: int = Field(8, ge=1, le=512, description="rank of an adapter")
    alpha: float = Field(16.0, gt=0, le=10_000, description="what an adapter says counts alpha / r")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout before an adapter")
    targets: Literal["auto"] | list[str] = Field(
        "auto", description="names of the linear layers that get one; auto: all in the encoder's blocks"
    )


class PretrainedOptions(Options):
    """A pretrained encoder of the transformers library with a head of its own, fine-tuned."""

    impl: ClassVar[str] = f"{_LEARNERS}.pretrained:start"
    rehearsal: ClassVar[str] = "keepfit.modalities.text.networks:rehearse"
    use: Literal["pretrained"] = "pretrained"
    source: str = Field(
        "all_minilm_l6_v2",
        description="all_minilm_l6_v2, a Hugging Face folder, package:NAME/FOLDER, or a hub name with online",
    )
    max_length: Length = Field("auto", description=_LENGTH)
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="features of a text: mean over its tokens, or the first"
    )
    freeze: bool | Annotated[int, Field(ge=0)] = Field(
        False, description="true: the whole encoder; a number: its first groups of layers, embeddings first"
    )
    adapter: LoraOptions | None = Field(None, description="lora: only adapters and the head learn")
    online: bool = Field(False, description="whether a hub may be asked for the weights")

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> PretrainedOptions:
        if self.adapter is not None and self.freeze is not False:
            raise ValueError("an adapter leaves the encoder as it is: take `freeze` or `adapter` out")
        return self

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {
            "epochs": {"fast": 1, "balanced": 3, "best": 5}[preset],
            "batch_size": 32,
            "optimizer": {"use": "adamw", "lr": 1e-4, "weight_decay": 0.01, "layer_decay": 0.9},
            "schedule": {"use": "cosine", "warmup": 0.2},
            "early_stop": "off",
        }

    @classmethod
    def train_adjusted(cls, said: Mapping[str, Any]) -> dict[str, Any]:
        """What it prefers else when few weights learn: they need larger steps."""
        if said.get("adapter") is not None:
            return {"optimizer": {"use": "adamw", "lr": 1e-3, "weight_decay": 0.01}}
        if said.get("freeze") is True:
            return {"optimizer": {"use": "adamw", "lr": 5e-3, "weight_decay": 0.01}}
        return {}

    def files(self, folder: Path) -> list[Path]:
        """The files that the weights come from, for the step key."""
        from keepfit.core.catalog import load

        found: list[Path] = load("keepfit.modalities.text.weight_files:files_of")(self.source, folder)
        return found


class CustomOptions(Options):
    """Your own torch module on tokens of a vocabulary made from the training texts: `class: my_model.py:TextCnn`."""

    impl: ClassVar[str] = f"{_LEARNERS}.custom:start"
    rehearsal: ClassVar[str] = "keepfit.modalities.text.networks:rehearse"
    use: Literal["custom"] = "custom"
    class_: str = Field(alias="class", pattern=r"^.+\.py:[A-Za-z_]\w*$", description="file and class, file.py:Class")
    args: dict[str, Any] = Field(default_factory=dict, description="what the constructor is called with")
    vocabulary: int = Field(
        20_000, ge=10, le=1_000_000, description="most words that are told apart; the frequent stay"
    )
    max_length: Length = Field("auto", description=_LENGTH)

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {"epochs": {"fast": 3, "balanced": 10, "best": 30}[preset]}

    def files(self, folder: Path) -> list[Path]:
        """The file with the class, for the step key."""
        return [folder / self.class_.rpartition(":")[0]]


class AutoOptions(Options):
    """The same as tfidf with its defaults; with `source`, the name of weights, it is read as `pretrained`."""

    impl: ClassVar[str] = "keepfit.modalities.text.tfidf:fit"
    use: Literal["auto"] = "auto"
    refit: bool = Field(True, description="fit the linear model again on training and validation rows")

    def settled(self) -> TfidfOptions:
        """What is used."""
        said: dict[str, Any] = {"refit": self.refit}
        return TfidfOptions.model_validate(said)


class ExistingOptions(Options):
    """A text classifier that is trained already: a Hugging Face folder, an ONNX file, or weights with their class."""

    impl: ClassVar[str] = "keepfit.modalities.text.existing:fit"
    fits_itself: ClassVar[bool] = True
    use: Literal["existing"] = "existing"
    source: str = Field(description="the folder of save_pretrained, an ONNX file or a file of weights")
    class_: str | None = Field(
        None, alias="class", pattern=r"^.+\.py:[A-Za-z_]\w*$", description="for weights: file and class, file.py:Class"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="what the constructor is called with")
    tokenizer: str | None = Field(
        None, description="for a file: its tokenizer.json, or the folder of one; absent: the one beside the file"
    )
    max_length: int | None = Field(
        None, ge=4, le=8192, description="for a file: the most tokens of a text; absent: the tokenizer's own, else 512"
    )
    output: str = Field("auto", description="the output of an ONNX file that holds the scores")
    classes: list[str | int | bool | float] | None = Field(
        None, description="the classes in the order of the model's scores; its own names where it has some"
    )
    gives: Literal["auto", "probabilities", "scores"] = Field(
        "auto", description="what comes out: probabilities, or scores that a softmax follows"
    )

    def files(self, folder: Path) -> list[Path]:
        """The model's files, the tokenizer and the class, for the step key."""
        path = (folder / self.source).expanduser()
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if p.is_file())
        said = path.parent if self.tokenizer is None else (folder / self.tokenizer).expanduser()
        more = [said / "tokenizer.json" if said.is_dir() else said]
        more += [folder / self.class_.rpartition(":")[0]] if self.class_ is not None else []
        return [path, *(one for one in more if one.is_file())]
