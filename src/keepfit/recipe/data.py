"""The `data` section: where rows come from, how they are read and split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from keepfit.core.options import Options
from keepfit.runtime.sources import Source

Kind = Literal["numeric", "categorical", "datetime", "text", "ignore"]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class QueriedOptions(Options):
    """A database and what it is asked."""

    source: str = Field(description="URL of a database: sqlite:///shop.db, or any that SQLAlchemy knows")
    query: str = Field(
        description="one select; with `order by` the rows come in the same order each time", min_length=1
    )


def _named(said: str | QueriedOptions) -> Source:
    return Source(said.source, said.query) if isinstance(said, QueriedOptions) else Source(said)


def _as_said(source: str) -> str | dict[str, str]:
    query = getattr(source, "query", None)
    return str(source) if query is None else {"source": str(source), "query": query}


if TYPE_CHECKING:
    Origin = str
else:
    Origin = Annotated[str | QueriedOptions, AfterValidator(_named), PlainSerializer(_as_said)]


class ReadOptions(Options):
    """How text files are read; whatever is not said is sniffed."""

    delimiter: str | None = Field(
        None, description="field separator of a text file; sniffed when absent", min_length=1, max_length=1
    )
    header: bool = Field(
        True, description="whether the first line is a header; false where `names` are given and this is not said"
    )
    names: list[str] | None = Field(None, description="column names, for files without a header")
    quote: str | None = Field(
        None, pattern=r"^(.|none)$", description="quote character, or none for no quoting; sniffed when absent"
    )
    missing: list[str] = Field(default_factory=list, description="more spellings of a missing value")
    encoding: str | None = Field(None, description="text encoding such as utf-8, latin-1, gb18030; sniffed when absent")

    sheet: str | int | None = Field(
        None, description="sheet of a workbook, by name or by number from 1; the first else"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_header_beside_names(cls, given: Any) -> Any:
        """Settled here, so that the recipe as saved says what was meant."""
        named = isinstance(given, dict) and bool(given.get("names")) and "header" not in given
        return {**given, "header": False} if named else given


class SplitOptions(Options):
    """Shares are of all rows; the split is a function of the seed and the content of a row."""

    test: Share = Field(0.2, description="share of rows held out for the final figures")
    validation: Share = Field(0.1, description="share of rows for choosing among models")
    by: Literal["auto", "random", "stratified", "group", "time", "given"] = Field(
        "auto", description="auto: stratified for classification, random for regression, given where files are given"
    )
    column: str | None = Field(
        None, description="the group or time column, where `by` is group or time; with given, the group"
    )

    @model_validator(mode="after")
    def _column_fits(self) -> SplitOptions:
        if self.by in ("group", "time") and self.column is None:
            raise ValueError(f"`by: {self.by}` needs `column`")
        if self.column is not None and self.by not in ("group", "time", "given"):
            raise ValueError("`column` goes with `by: group`, `by: time` and `by: given`, and only with them")
        if self.test + self.validation >= 0.95:
            raise ValueError("test and validation leave less than 5 % of the rows for training")
        return self


class DataOptions(Options):
    """Sources, target, column kinds, reading, splitting and balance."""

    source: Origin | None = Field(
        None,
        description="file, glob, URL, sklearn:NAME, records:FOLDER; .csv .tsv .parquet .jsonl .json .xlsx, gz too; a database "
        "with a query; a folder or .zip per class",
    )
    train: Origin | None = Field(None, description="training source, where the splits are given")
    validation: Origin | None = Field(None, description="validation source; cut from train when absent")
    test: Origin | None = Field(None, description="test source; with it no other test split is made")
    target: str = Field(description="the column to predict; not needed for a folder per class")
    image: str | None = Field(None, description="the column of picture paths, where a table lists pictures")
    text: str | None = Field(None, description="the column of texts, where modality is text")
    columns: dict[str, Kind] = Field(default_factory=dict, description="column kinds that override what is inferred")
    read: ReadOptions = Field(
        default_factory=lambda: ReadOptions.model_validate({}), description="how text files are read"
    )
    split: SplitOptions = Field(
        default_factory=lambda: SplitOptions.model_validate({}), description="how rows are shared out"
    )
    balance: Literal["none", "class_weight", "oversample", "undersample", "smote", "noise"] = Field(
        "none",
        description="for classes, in what is learned from only; class_weight: rare ones weigh more; oversample, undersample: "
        "rows repeated or left out until all are as frequent; smote, noise: rows made between "
        "neighbours, or repeated with numbers shifted a little (tables)",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> DataOptions:
        if (self.source is None) == (self.train is None):
            raise ValueError("give either `source` or `train` (with `validation` and `test` where there are any)")
        if self.source is not None and (self.validation or self.test):
            raise ValueError("`validation` and `test` go with `train`, not with `source`")
        if self.target == self.text:
            raise ValueError(f"{self.target!r} is the target, and cannot be the text too")
        if self.target in self.columns:
            raise ValueError(f"{self.target!r} is the target; its kind follows from `task`")
        return self
