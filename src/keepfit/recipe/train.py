"""The `train` section: how networks learn. Optimizers and schedules are unions built from the catalog."""

from __future__ import annotations

import re
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model

from keepfit.core import catalog
from keepfit.core.options import Options, switch


def _every(value: object) -> object:
    """`epoch`, or a number of optimizer steps such as `200 steps`."""
    if value == "epoch":
        return 0
    found = re.fullmatch(r"([0-9]+)\s*(steps?)?", str(value).strip())
    if not found:
        raise ValueError("say epoch, or a number of steps such as 200 steps")
    return int(found[1])


Every = Annotated[int, BeforeValidator(_every, json_schema_input_type=int | str)]


class EarlyStopOptions(Options):
    """When to stop before the last epoch; the best weights are restored in any case."""

    patience: int = Field(3, ge=1, description="epochs without a better validation figure")


class CheckpointOptions(Options):
    """How often a run that may be killed is saved."""

    every: Every = Field(0, description="epoch (0), or a number of steps: 200 steps")
    keep: int = Field(2, ge=1, le=100, description="how many of the last checkpoints stay")


class TrainFields(Options):
    """How a network learns. What a learner prefers stands in `keepfit render`."""

    epochs: int = Field(10, ge=1, le=100_000, description="passes over the training rows")
    batch_size: int = Field(
        64,
        ge=2,
        le=1_000_000,
        description="rows per step and process; a step has at most a quarter of the training rows (but 8)",
    )
    loss: Literal["auto", "cross_entropy", "focal", "mse", "mae", "huber"] = Field(
        "auto", description="cross_entropy for classes, mse for numbers when auto"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each answer given to all classes alike")
    class_weight: Literal["auto", "none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = Field(
        "auto", description="balanced, or a weight per class; auto follows data.balance"
    )
    optimizer: Any = None
    schedule: Any = None
    distributed: Any = None
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout of the network; its own default when absent")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto measures at the start whether bf16 is faster here, and says what it chose"
    )
    accumulate: int = Field(1, ge=1, le=10_000, description="batches per optimizer step")
    clip_norm: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null for no clipping")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the running average of the weights; 0 is off")
    compile: bool = Field(False, description="torch.compile: slow to start, faster steps on accelerators")
    channels_last: bool = Field(False, description="memory layout NHWC, faster for some convolutions")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    workers: int = Field(0, ge=0, le=64, description="processes that prepare batches; the result is the same")
    early_stop: Annotated[EarlyStopOptions | Literal["off"], BeforeValidator(switch)] = Field(
        default_factory=lambda: EarlyStopOptions.model_validate({}), description="patience, or off"
    )
    checkpoint: CheckpointOptions = Field(
        default_factory=lambda: CheckpointOptions.model_validate({}), description="saving while training"
    )


def _part(kind: str, default: str) -> tuple[Any, Any]:
    """The union of a kind's options; a bare name and a mapping without `use` are read too."""
    parts = [catalog.options_of(kind, name) for name in catalog.TABLE[kind]]
    union: Any = Annotated[reduce(or_, parts), Field(discriminator="use")]

    def filled(value: object) -> object:
        if isinstance(value, str):
            return {"use": value}
        return {"use": default, **value} if isinstance(value, dict) else value

    made = catalog.options_of(kind, default)
    spelled: Any = reduce(or_, parts) | Literal[tuple(catalog.TABLE[kind])]
    return Annotated[union, BeforeValidator(filled, json_schema_input_type=spelled)], Field(
        default_factory=lambda: made.model_validate({}), description=f"the {kind}"
    )


def _absent(annotation: Any, described: Any) -> tuple[Any, Any]:
    """A part that is not there unless it is asked for."""
    return annotation | None, Field(None, description="several processes or hosts: ddp or fsdp; absent: one process")


@cache
def train_class() -> type[TrainFields]:
    """The section with the optimizers and schedules of the catalog."""
    parts: dict[str, Any] = {
        "optimizer": _part("optimizer", "adamw"),
        "schedule": _part("schedule", "plateau"),
        "distributed": _absent(*_part("distributed", "ddp")),
    }
    made: type[TrainFields] = create_model("TrainOptions", __base__=TrainFields, **parts)
    return made


def processes_of(options: TrainFields) -> int:
    """How many processes share a step."""
    return 1 if options.distributed is None else int(options.distributed.world)
