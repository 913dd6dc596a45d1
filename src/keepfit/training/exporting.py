"""A torch network as ONNX bytes: no paths, traces or names of the machine inside, any number of rows."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch
from torch import nn

from keepfit.core.errors import InternalFault


class Answering(nn.Module):
    """A network with what turns its scores into answers: softmax, or the target's own scale."""

    def __init__(self, network: nn.Module, classes: int, mean: float, scale: float) -> None:
        super().__init__()
        self.network, self.classes, self.mean, self.scale = network, classes, mean, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities [n, k], or numbers [n, 1]."""
        scores: torch.Tensor = self.network(x)
        return scores.softmax(1) if self.classes else scores * self.scale + self.mean


def to_onnx(
    network: nn.Module | torch.export.ExportedProgram,
    example: torch.Tensor,
    *,
    name: str = "keepfit",
    longest: int = 0,
) -> Any:
    """An ONNX model (opset 18) with one input `x` [n, ...] and one output; `example` has two rows. torch's exporter (dynamo).

    With `longest` the second axis may have any length from 2 up to it; the example's is between.
    """
    whole = isinstance(network, torch.export.ExportedProgram)
    network = network if whole else network.eval()
    axes = {0: torch.export.Dim("n", min=1)}
    if longest:
        axes[1] = torch.export.Dim("m", min=2, max=longest)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=18,
                input_names=["x"],
                output_names=["out"],
                dynamic_shapes=None if whole else (axes,),
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    if program is None:  # only without dynamo
        raise InternalFault("no_program", "torch exported nothing", seen=type(network).__name__)
    model = program.model_proto
    bare(model.graph)
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "keepfit", "", ""
    model.graph.name = name
    return model


def bare(graph: Any) -> None:
    """Take away stack traces, source paths and other notes."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.doc_string = ""
        del value.metadata_props[:]
    for constant in graph.initializer:
        constant.doc_string = ""
        del constant.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                bare(attribute.g)
