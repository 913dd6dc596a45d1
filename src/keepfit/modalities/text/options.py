"""What a user may say about texts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from keepfit.core.options import Options


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first number must not be above the second: {list(pair)}")
    return pair


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


class AutoOptions(Options):
    """The same as tfidf with its defaults."""

    impl: ClassVar[str] = "keepfit.modalities.text.tfidf:fit"
    use: Literal["auto"] = "auto"
    refit: bool = Field(True, description="fit the linear model again on training and validation rows")

    def settled(self) -> TfidfOptions:
        """What is used."""
        said: dict[str, Any] = {"refit": self.refit}
        return TfidfOptions.model_validate(said)
