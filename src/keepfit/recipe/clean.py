"""The `clean` section: what is done about duplicates, missing cells, outliers, spellings and contradictions.

The options of methods are built from the catalog; a bare word is what to do, a mapping has the method's own options too.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, create_model, model_validator

from keepfit.core import catalog
from keepfit.core.options import Options, switch


class MissingOptions(Options):
    """What takes the place of a missing cell; fitted on the training split."""

    numeric: Literal["auto", "mean", "median", "constant", "knn", "iterative", "none"] = Field(
        "auto",
        description="auto: learners that can take missing values get them, others the median; knn, iterative: training "
        "rows only, the served model fills with the median",
    )
    categorical: Literal["most_frequent", "missing", "none"] = Field(
        "missing", description="missing: a category of its own; none: the same, without a name"
    )
    constant: float = Field(0.0, allow_inf_nan=False, description="the number of numeric: constant")
    indicator: Literal["auto"] | bool = Field(
        "auto",
        description="a column that says where a number was missing; auto: from 5 training rows on; with knn and iterative "
        "there is none, since they leave no gap to learn from",
    )

    @model_validator(mode="after")
    def _of_use(self) -> Self:
        if self.indicator is True and self.numeric in ("knn", "iterative"):
            raise ValueError(
                f"indicator: true is of no use with numeric: {self.numeric}, which leaves no gap to learn from"
            )
        return self


class CleanFields(Options):
    """Cleaning of the training split; what serving must repeat goes into the preparation."""

    duplicates: Annotated[Literal["drop", "report", "off"], BeforeValidator(switch)] = Field(
        "report", description="rows of the training split that repeat an earlier one in every cell"
    )
    near_duplicates: Annotated[Literal["drop", "report", "off"], BeforeValidator(switch)] = Field(
        "report", description="training rows, texts or pictures that nearly repeat an earlier one"
    )
    missing: MissingOptions = Field(
        default_factory=lambda: MissingOptions.model_validate({}), description="missing cells"
    )
    drop_rows_missing_over: float | None = Field(
        None, ge=0.0, le=1.0, description="drop training rows with a larger share of missing cells"
    )
    labels: Annotated[Literal["drop", "relabel", "report", "off"], BeforeValidator(switch)] = Field(
        "report",
        description="suspected wrong labels of training rows; drop, relabel: where a paired comparison does not get worse, then of "
        "validation rows too",
    )
    leaks: Annotated[Literal["stop", "report", "off"], BeforeValidator(switch)] = Field(
        "stop",
        description="what gives the target away or stands on both sides of a split: end the run, tell, do not look",
    )
    undo: list[Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]] = Field(
        [], description="entries of the ledger that are taken back; `keepfit ledger RUN undo ID` keeps them for you"
    )
    outliers: Any = None
    spellings: Any = None
    rare: Any = None
    formats: Any = None
    dependencies: Any = None


def _method(name: str) -> tuple[Any, Any]:
    """A method's options, or a bare word for its `do`."""
    made = catalog.options_of("clean", name)
    words: Any = made.model_fields["do"].annotation

    def filled(value: object) -> object:
        said = switch(value)
        return {"do": said} if isinstance(said, str) else said

    spelled: Any = made | words
    part: Any = made
    kind = Annotated[part, BeforeValidator(filled, json_schema_input_type=spelled)]
    about = (made.__doc__ or "").partition(".")[0].lower()
    return kind, Field(default_factory=lambda: made.model_validate({}), description=about)


@cache
def clean_class() -> type[CleanFields]:
    """The section with the methods of the catalog."""
    parts: dict[str, Any] = {name: _method(name) for name in catalog.TABLE["clean"]}
    made: type[CleanFields] = create_model("CleanOptions", __base__=CleanFields, **parts)
    return made


CleanOptions = CleanFields
