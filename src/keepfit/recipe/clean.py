"""The `clean` section: what is done about duplicates and missing values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from keepfit.core.options import Options


class MissingOptions(Options):
    """What takes the place of a missing cell; fitted on the training split."""

    numeric: Literal["auto", "mean", "median", "constant", "none"] = Field(
        "auto", description="auto: learners that can take missing values get them, others the median; constant is 0"
    )
    categorical: Literal["most_frequent", "missing", "none"] = Field(
        "missing", description="missing: a category of its own; none: the same, without a name"
    )


class CleanOptions(Options):
    """Cleaning of the training split; what serving must repeat goes into the preparation."""

    duplicates: Literal["drop", "report", "off"] = Field(
        "report", description="rows of the training split that repeat an earlier one in every cell"
    )
    missing: MissingOptions = Field(
        default_factory=lambda: MissingOptions.model_validate({}), description="missing cells"
    )
    drop_rows_missing_over: float | None = Field(
        None, ge=0.0, le=1.0, description="drop training rows with a larger share of missing cells"
    )
    labels: Literal["drop", "relabel", "report", "off"] = Field(
        "report",
        description="suspected wrong labels of training rows; drop, relabel: where a paired comparison does not get worse",
    )
    leaks: Literal["stop", "report", "off"] = Field(
        "stop",
        description="what gives the target away or stands on both sides of a split: end the run, tell, do not look",
    )
