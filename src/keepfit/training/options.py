"""What a recipe may say about optimizers and schedules; cheap to import."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_serializer, model_validator

from keepfit.core import catalog
from keepfit.core.errors import nearest
from keepfit.core.options import Options

Rate = Annotated[float, Field(gt=0, le=100)] | Literal["auto"]
_Moment = Annotated[float, Field(ge=0, lt=1)]


class AdamOptions(Options):
    """Adam (Kingma and Ba 2015); the penalty is added to the gradient."""

    impl: ClassVar[str] = "keepfit.training.optimizers:adam"
    use: Literal["adam"] = "adam"
    lr: Rate = Field(1e-3, description="learning rate; auto runs the finder (Smith 2017)")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty; norms and biases are spared")
    betas: tuple[_Moment, _Moment] = Field((0.9, 0.999), description="decay of the two moments")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of each layer is this times that of the one above")


class AdamWOptions(Options):
    """AdamW (Loshchilov and Hutter 2019); decay apart from the gradient."""

    impl: ClassVar[str] = "keepfit.training.optimizers:adamw"
    use: Literal["adamw"] = "adamw"
    lr: Rate = Field(1e-3, description="learning rate; auto runs the finder (Smith 2017)")
    weight_decay: float = Field(0.01, ge=0, description="decoupled decay; norms and biases are spared")
    betas: tuple[_Moment, _Moment] = Field((0.9, 0.999), description="decay of the two moments")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of each layer is this times that of the one above")


class SgdOptions(Options):
    """Stochastic gradient descent with momentum."""

    impl: ClassVar[str] = "keepfit.training.optimizers:sgd"
    use: Literal["sgd"] = "sgd"
    lr: Rate = Field(0.05, description="learning rate; auto runs the finder (Smith 2017)")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty; norms and biases are spared")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last step that is kept")
    nesterov: bool = Field(True, description="look ahead (Nesterov); needs momentum")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of each layer is this times that of the one above")


class PlateauOptions(Options):
    """Lower the rate when the validation loss stands still."""

    impl: ClassVar[str] = "keepfit.training.schedules:plateau"
    use: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1, description="what the rate is multiplied by")
    patience: int = Field(2, ge=0, description="epochs without a better validation loss before that")
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")


class CosineOptions(Options):
    """Half a cosine from the full rate down to `floor` (Loshchilov and Hutter 2017)."""

    impl: ClassVar[str] = "keepfit.training.schedules:cosine"
    use: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, lt=1, description="last rate as a share of the full one")
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")


class OneCycleOptions(Options):
    """Up by a cosine to the full rate, then down to nearly nothing (Smith 2018)."""

    impl: ClassVar[str] = "keepfit.training.schedules:onecycle"
    use: Literal["onecycle"] = "onecycle"
    up: float = Field(0.3, gt=0, lt=1, description="share of the steps on the way up")
    start: float = Field(0.04, gt=0, le=1, description="first rate as a share of the full one")


class StepOptions(Options):
    """Multiply the rate every few epochs."""

    impl: ClassVar[str] = "keepfit.training.schedules:step"
    use: Literal["step"] = "step"
    every: int = Field(10, ge=1, description="epochs between two steps")
    factor: float = Field(0.1, gt=0, lt=1, description="what the rate is multiplied by")
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")


class ConstantOptions(Options):
    """The full rate throughout."""

    impl: ClassVar[str] = "keepfit.training.schedules:constant"
    use: Literal["constant"] = "constant"
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")


class TorchrunOptions(Options):
    """torch's own launcher, `python -m torch.distributed.run`: one process per share on this host."""

    impl: ClassVar[str] = "keepfit.training.launching:torchrun"
    use: Literal["torchrun"] = "torchrun"
    timeout_s: int = Field(300, ge=1, description="seconds that the hosts wait for each other at the start")


def _launcher(value: object) -> object:
    """A name, or a mapping with `use`, by the catalog: launchers may be added there."""
    if isinstance(value, Options):
        return value
    said = {"use": value} if isinstance(value, str) else value
    if not isinstance(said, dict):
        raise ValueError("say a launcher's name, such as torchrun")
    name = str(said.get("use", "torchrun"))
    if name not in catalog.TABLE["launcher"]:
        raise ValueError(f"there is no launcher {name!r}; {nearest(name, catalog.TABLE['launcher'])}")
    return catalog.options_of("launcher", name).model_validate(said)


class DistributedFields(BaseModel):
    """How many processes train together, and where they meet."""

    processes: int = Field(2, ge=1, le=1024, description="processes on each host")
    nodes: int = Field(1, ge=1, le=4096, description="hosts; `keepfit run` is started on each of them")
    node_rank: int = Field(0, ge=0, description="which host this is; host 0 writes")
    rendezvous: str | None = Field(
        None, pattern=r"^[^\s:]+:[0-9]{1,5}$", description="host:port of host 0, where several hosts meet"
    )
    launcher: Annotated[Any, BeforeValidator(_launcher, json_schema_input_type=str | dict[str, Any])] = Field(
        default_factory=lambda: TorchrunOptions.model_validate({}), description="what starts the processes of a host"
    )

    @field_serializer("launcher")
    def _plain(self, value: Options) -> dict[str, Any]:
        return value.model_dump(mode="json")

    @model_validator(mode="after")
    def _fits(self) -> DistributedFields:
        if self.node_rank >= self.nodes:
            raise ValueError(f"node_rank counts from 0 and there are {self.nodes} nodes")
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError("several nodes need rendezvous: host:port, an address of host 0 with a free port")
        return self

    @property
    def world(self) -> int:
        """Processes on all hosts."""
        return self.processes * self.nodes


class DdpOptions(DistributedFields, Options):
    """Every process holds the whole network; gradients are averaged (torch DistributedDataParallel)."""

    impl: ClassVar[str] = "keepfit.training.strategies:Ddp"
    use: Literal["ddp"] = "ddp"


class FsdpOptions(DistributedFields, Options):
    """Weights, gradients and optimizer state are split over the processes (torch FSDP2, `fully_shard`)."""

    impl: ClassVar[str] = "keepfit.training.strategies:Fsdp"
    use: Literal["fsdp"] = "fsdp"
