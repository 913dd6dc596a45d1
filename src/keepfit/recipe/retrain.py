"""The `retrain` section: when the loop makes a challenger, from which rows, and what it must prove."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from keepfit.core.options import Options
from keepfit.recipe.outcome import Seconds

When = Literal["drift", "accuracy", "schedule", "new_rows"]


class GateOptions(Options):
    """What a challenger must prove before it answers."""

    metric: Literal["primary"] = Field("primary", description="what must be better: the recipe's primary metric")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="probability that an equal or worse challenger is ever promoted"
    )
    labels: int = Field(5000, ge=50, description="labels after which a challenger that has proved nothing is refused")
    class_floor: float = Field(
        0.1, ge=0, le=1, description="share of a class or slice that may be lost against the champion"
    )
    latency: float = Field(3.0, gt=0, description="how many times the champion's time for one row is allowed")
    size: float = Field(4.0, gt=0, description="how many times the champion's size is allowed")
    probation: int = Field(
        1000, ge=0, description="labels after a promotion in which the champion before may take its place back"
    )


class RetrainOptions(Options):
    """Triggers, rows and proof of the closed loop."""

    when: list[When] = Field(
        default=["drift", "accuracy"],
        description="drift: inputs have changed; accuracy: errors have risen; schedule: every so often; new_rows: so many labels",
    )
    strategy: Literal["auto", "full", "fresh", "replay", "ewc", "lwf"] = Field(
        "auto",
        description="full: old and new rows; fresh: rows after the change; replay: new rows beside remembered ones, for networks"
        " from the champion's weights on; ewc and lwf: new rows alone, held near the champion's weights or answers;"
        " auto: several compete on the newest rows",
    )
    memory: int = Field(2000, ge=0, description="remembered old rows, the same number of each class")
    hold: float = Field(1.0, gt=0, description="how strongly ewc and lwf hold a network to its champion")
    rise: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="rise of the error rate that is worth a run; a smaller one is noted and lived with",
    )
    cost: float = Field(
        0.0,
        ge=0,
        description="what one run costs, in wrong answers: after a change the loop waits until the stale model has given that many"
        " more than before; 0: a run costs nothing",
    )
    rows: int = Field(300, ge=20, description="labelled rows since the change that a challenger needs")
    growth: float = Field(
        8.0,
        gt=1,
        description="once the rows since the change are this many times those trained on, it is worth another run",
    )
    every: Seconds | None = Field(None, description="time between runs, where `when` has schedule: 1h")
    new_rows: int | None = Field(None, ge=20, description="labels between runs, where `when` has new_rows")
    cool_down: Seconds = Field(10.0, description="least time between two decisions to retrain")
    gate: GateOptions = Field(default_factory=lambda: GateOptions.model_validate({}), description="the proof")

    @model_validator(mode="after")
    def _complete(self) -> RetrainOptions:
        for trigger, value in (("schedule", self.every), ("new_rows", self.new_rows)):
            key = "every" if trigger == "schedule" else trigger
            if (trigger in self.when) != (value is not None):
                raise ValueError(f"`{key}` goes with {trigger} in `when`, and only with it")
        return self
