"""The sections that follow training: evaluate, explain, package, serve; and the budget."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from keepfit.core.options import Options, switch

Metric = Literal["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "mcc", "rmse", "mae", "r2"]
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def seconds(value: object) -> object:
    """`60s`, `10m`, `1.5h` or a number of seconds."""
    found = re.fullmatch(r"([0-9.]+)\s*([smh]?)", str(value).strip())
    if not found or float(found[1]) <= 0:
        raise ValueError("a time is a positive number with s, m or h, such as 60s or 10m")
    return float(found[1]) * _UNITS[found[2]]


def size_bytes(value: object) -> object:
    """`16MB`, `500kB` or a number of bytes."""
    found = re.fullmatch(r"([0-9.]+)\s*([kmg]?b?)", str(value).strip().lower())
    if not found or found[2] not in _SIZES:
        raise ValueError("a size is a number with kB, MB or GB, such as 16MB")
    return int(float(found[1]) * _SIZES[found[2]])


Seconds = Annotated[float, BeforeValidator(seconds, json_schema_input_type=float | str)]
MemoryBytes = Annotated[int, BeforeValidator(size_bytes, json_schema_input_type=int | str), Field(ge=100_000_000)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes, json_schema_input_type=int | str)]


def _without_password(url: str) -> str:
    if re.search(r"://[^/@:]*:(?!\$\{)[^@]+@", url):
        raise ValueError("a password does not belong into a recipe: write ${NAME} and set that variable")
    return url


class BudgetOptions(Options):
    """Contracts on time and memory."""

    time: Seconds = Field(300.0, description="time for trying models: 60s, 10m, 1h")
    memory: MemoryBytes | None = Field(
        None, description="memory for reading and cleaning a table: 2GB; of a larger one a random sample is taken"
    )


class EvaluateOptions(Options):
    """Figures on the held-out rows."""

    primary: Metric | Literal["auto"] = Field(
        "auto", description="the metric that leads report and leaderboard; accuracy or rmse when auto"
    )
    metrics: list[Metric] = Field(default_factory=list, description="which metrics; all that fit the task when empty")
    slices: list[str] = Field(default_factory=list, description="columns whose groups are compared")


class ExplainOptions(Options):
    """Which columns matter."""

    rows: int = Field(1000, ge=10, le=100_000, description="test rows used for permutation importance")


class PackageOptions(Options):
    """The bundle."""

    golden: Annotated[Literal["synthetic", "rows", "off"], BeforeValidator(switch)] = Field(
        "synthetic", description="sample inputs replayed at start; rows: real held-out rows leave the house"
    )


class BatchOptions(Options):
    """How questions that wait are answered together."""

    max: int = Field(
        32, ge=1, le=4096, description="most rows of several questions in one call of the model; 1: each alone"
    )
    wait_ms: float = Field(0.0, ge=0, le=1000, description="how long a question waits for company; 0: not at all")


class ServeOptions(Options):
    """Defaults of `keepfit serve`."""

    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs a token")
    port: int = Field(8000, ge=0, le=65535, description="port; 0 takes a free one")
    token_env: str | None = Field(None, description="environment variable that holds the bearer token")
    workers: int = Field(1, ge=1, le=64, description="processes that answer on the same port")
    batch: BatchOptions = Field(
        default_factory=lambda: BatchOptions.model_validate({}), description="questions that are answered together"
    )
    queue: int = Field(
        128, ge=1, le=100_000, description="most questions that wait in one process; the next gets 503 at once"
    )
    timeout: Seconds = Field(10.0, description="a question that waited longer gets 503: 10s")
    record: Annotated[Literal["full", "sketch", "off"], BeforeValidator(switch)] = Field(
        "full", description="what is kept of an answer; sketch: no inputs, only counts over many; off: nothing"
    )
    record_store: Annotated[str, AfterValidator(_without_password)] | None = Field(
        None,
        description="database URL for records of several hosts, such as ${RECORDS}; files in the workspace if absent",
    )
    publish: Annotated[str, AfterValidator(_without_password)] | None = Field(
        None,
        description="URL to which `keepfit up` copies the registry after each move, for replicas on other hosts: s3://models/churn",
    )
    record_days: float = Field(30.0, gt=0, description="records older than this are removed")
    record_size: SizeBytes = Field(1_000_000_000, description="most that records of one name may take: 1GB")
    new_classes: bool = Field(
        False, description="feedback may name classes that the model does not know; the loop learns them"
    )
    max_body: SizeBytes = Field(16_000_000, description="largest request body: 16MB")
