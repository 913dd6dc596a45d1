"""What a user may say about pictures: the ways to vary them while training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from keepfit.core.options import Options

_AUGMENT = "keepfit.modalities.image.augment"
_LEARNERS = "keepfit.modalities.image.learners"
Of = Literal["picture", "batch"]  # whether a part changes one picture or mixes those of a batch


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number must not be above the second: {list(pair)}")
    return pair


Size = Annotated[int, Field(ge=8, le=2048)] | Literal["auto"]
_Share = Annotated[float, Field(gt=0, le=1)]
_Factor = Annotated[float, Field(ge=0.1, le=10)]
_Shares = Annotated[tuple[_Share, _Share], AfterValidator(_ascending)]
_Factors = Annotated[tuple[_Factor, _Factor], AfterValidator(_ascending)]


class RotateOptions(Options):
    """Turns a picture around its centre; the corners get the mean colour of its border."""

    impl: ClassVar[str] = f"{_AUGMENT}:rotated"
    of: ClassVar[Of] = "picture"
    use: Literal["rotate"] = "rotate"
    degrees: float = Field(15.0, ge=0, le=180, description="largest angle, to either side")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class CropOptions(Options):
    """Cuts out a part and stretches it to the full size."""

    impl: ClassVar[str] = f"{_AUGMENT}:cropped"
    of: ClassVar[Of] = "picture"
    use: Literal["crop"] = "crop"
    scale: _Shares = Field((0.8, 1.0), description="least and largest share of the area that is kept")
    ratio: _Factors = Field(
        (0.75, 1.3333), description="narrowest and widest shape of the part: its width over its height"
    )
    p: float = Field(1.0, ge=0, le=1, description="share of the pictures that are changed")


class FlipOptions(Options):
    """Mirrors a picture left to right, or top to bottom."""

    impl: ClassVar[str] = f"{_AUGMENT}:flipped"
    of: ClassVar[Of] = "picture"
    use: Literal["flip"] = "flip"
    vertical: bool = Field(False, description="top to bottom instead of left to right")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class ScaleOptions(Options):
    """Zooms in or out around the centre; what comes into view gets the mean colour of the border."""

    impl: ClassVar[str] = f"{_AUGMENT}:scaled"
    of: ClassVar[Of] = "picture"
    use: Literal["scale"] = "scale"
    range: _Factors = Field((0.9, 1.1), description="smallest and largest factor; below 1 zooms out")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class TranslateOptions(Options):
    """Shifts a picture by whole pixels; what comes into view gets the mean colour of the border."""

    impl: ClassVar[str] = f"{_AUGMENT}:translated"
    of: ClassVar[Of] = "picture"
    use: Literal["translate"] = "translate"
    share: float = Field(0.1, ge=0, le=1, description="largest shift, as a share of width and height")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class ColourOptions(Options):
    """Varies hue, saturation, contrast and brightness; grey pictures have only the last two."""

    impl: ClassVar[str] = f"{_AUGMENT}:coloured"
    of: ClassVar[Of] = "picture"
    use: Literal["colour"] = "colour"
    brightness: float = Field(0.2, ge=0, le=1, description="0.2: factors from 0.8 to 1.2")
    contrast: float = Field(0.2, ge=0, le=1, description="0.2: factors from 0.8 to 1.2, around the mean grey")
    saturation: float = Field(0.2, ge=0, le=1, description="0.2: factors from 0.8 to 1.2")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour circle, to either side")
    p: float = Field(1.0, ge=0, le=1, description="share of the pictures that are changed")


class BlurOptions(Options):
    """Gaussian blur."""

    impl: ClassVar[str] = f"{_AUGMENT}:blurred"
    of: ClassVar[Of] = "picture"
    use: Literal["blur"] = "blur"
    radius: float = Field(1.0, ge=0, le=50, description="largest radius in pixels")
    p: float = Field(0.3, ge=0, le=1, description="share of the pictures that are changed")


class NoiseOptions(Options):
    """Adds normal noise to every pixel and channel."""

    impl: ClassVar[str] = f"{_AUGMENT}:noisy"
    of: ClassVar[Of] = "picture"
    use: Literal["noise"] = "noise"
    std: float = Field(0.05, ge=0, le=1, description="standard deviation, where black is 0 and white is 1")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class EraseOptions(Options):
    """Covers a rectangle with random pixels (random erasing, Zhong et al. 2017)."""

    impl: ClassVar[str] = f"{_AUGMENT}:erased"
    of: ClassVar[Of] = "picture"
    use: Literal["erase"] = "erase"
    area: _Shares = Field((0.02, 0.2), description="least and largest share of the area that is covered")
    p: float = Field(0.5, ge=0, le=1, description="share of the pictures that are changed")


class MixupOptions(Options):
    """Blends every picture of a batch, and its answer, with another one (Zhang et al. 2017)."""

    impl: ClassVar[str] = f"{_AUGMENT}:blended"
    of: ClassVar[Of] = "batch"
    use: Literal["mixup"] = "mixup"
    alpha: float = Field(0.2, gt=0, le=100, description="shares follow Beta(alpha, alpha): larger blends more evenly")
    p: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")


class CutmixOptions(Options):
    """Pastes a rectangle of another picture of the batch, and shares the answer by area (Yun et al. 2019)."""

    impl: ClassVar[str] = f"{_AUGMENT}:pasted"
    of: ClassVar[Of] = "batch"
    use: Literal["cutmix"] = "cutmix"
    alpha: float = Field(1.0, gt=0, le=100, description="kept shares of the area follow Beta(alpha, alpha)")
    p: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")


Augmentation = (
    RotateOptions
    | CropOptions
    | FlipOptions
    | ScaleOptions
    | TranslateOptions
    | ColourOptions
    | BlurOptions
    | NoiseOptions
    | EraseOptions
    | MixupOptions
    | CutmixOptions
)


def _from_scratch(preset: str) -> dict[str, Any]:
    """What a small network prefers in the `train` section."""
    return {
        "epochs": {"fast": 3, "balanced": 8, "best": 12}[preset],
        "batch_size": 128,
        "optimizer": {"use": "adamw", "lr": 5e-3, "weight_decay": 0.02},
        "schedule": {"use": "onecycle"},
        "channels_last": True,
        "early_stop": "off",
    }


class CnnOptions(Options):
    """A small convolutional network from scratch."""

    impl: ClassVar[str] = f"{_LEARNERS}.cnn:start"
    use: Literal["cnn"] = "cnn"
    size: Size = Field("auto", description="height and width that pictures are brought to")
    width: float = Field(1.0, gt=0, le=8, description="channels of every layer, times this")

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return _from_scratch(preset)


class PretrainedOptions(Options):
    """A pretrained backbone with a head of its own, fine-tuned."""

    impl: ClassVar[str] = f"{_LEARNERS}.pretrained:start"
    use: Literal["pretrained"] = "pretrained"
    source: str = Field(
        "mobilenet_v2",
        description="mobilenet_v2, efficientnet_lite0 to 2, a weights file, a Hugging Face folder, or a hub name with online",
    )
    size: Size = Field("auto", description="height and width that pictures are brought to")
    freeze: bool | int = Field(False, description="true: the whole backbone; a number: its first layers")
    online: bool = Field(False, description="whether a hub may be asked for the weights")

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {
            "epochs": {"fast": 3, "balanced": 8, "best": 16}[preset],
            "batch_size": 32,
            "optimizer": {"use": "adamw", "lr": 1e-3, "weight_decay": 0.05, "layer_decay": 0.9},
            "schedule": {"use": "cosine", "warmup": 1.0},
            "channels_last": True,
            "early_stop": "off",
        }

    def files(self, folder: Path) -> list[Path]:
        """The files that the weights come from, for the step key."""
        from keepfit.core.catalog import load

        found: list[Path] = load("keepfit.modalities.image.weight_files:files_of")(self.source, folder)
        return found


class CustomOptions(Options):
    """Your own network, torch or Keras: `class: my_model.py:SimpleCNN`."""

    impl: ClassVar[str] = f"{_LEARNERS}.custom:start"
    rehearsal: ClassVar[str] = "keepfit.modalities.image.learn:rehearse"
    use: Literal["custom"] = "custom"
    class_: str = Field(
        alias="class", pattern=r"^.+\.py:[A-Za-z_]\w*$", description="file and class or function, file.py:Class"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="what the constructor is called with")
    size: Size = Field("auto", description="height and width that pictures are brought to")

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return {"epochs": {"fast": 3, "balanced": 10, "best": 30}[preset]}

    def files(self, folder: Path) -> list[Path]:
        """The file with the class, for the step key."""
        return [folder / self.class_.rpartition(":")[0]]


class AutoOptions(Options):
    """A small convolutional network; its size and colour follow the pictures."""

    impl: ClassVar[str] = f"{_LEARNERS}.cnn:start"
    use: Literal["auto"] = "auto"
    size: Size = Field("auto", description="height and width that pictures are brought to")
    width: float = Field(1.0, gt=0, le=8, description="channels of every layer, times this")

    @classmethod
    def train_defaults(cls, preset: str) -> dict[str, Any]:
        """What this learner prefers in the `train` section."""
        return _from_scratch(preset)


class ExistingOptions(Options):
    """A model that is trained already: ONNX, a torch state dict with its class, torch.export, Keras, a Hugging Face folder."""

    impl: ClassVar[str] = "keepfit.modalities.image.existing:fit"
    fits_itself: ClassVar[bool] = True
    use: Literal["existing"] = "existing"
    source: str = Field(description="the model: a file, or a folder")
    size: Size = Field("auto", description="height and width that pictures are brought to; as the model says when auto")
    resize: Literal["squash", "cover"] = Field(
        "squash", description="cover: the shorter side to the size, then the centre"
    )
    mean: list[float] | None = Field(None, description="what is taken from each channel; one number for all")
    std: list[Annotated[float, Field(gt=0)]] | None = Field(None, description="what each channel is divided by")
    scale: Literal[1, 255] = Field(1, description="pixels are 0 to 1, or 0 to 255, before mean and std")
    colour: Literal["auto", "rgb", "bgr", "grey"] = Field(
        "auto", description="order of the channels that it was trained on"
    )
    layout: Literal["auto", "nchw", "nhwc"] = Field("auto", description="where the channels stand in its input")
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
