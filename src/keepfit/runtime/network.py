"""Runs model.onnx with onnxruntime: float32 features [n, d] in, scores [n, k] out. Refuses files that point outside themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from keepfit.core.errors import EnvironmentFault
from keepfit.runtime.onnx_places import points_outside

Scores = NDArray[np.float32]


class Network:
    """An onnxruntime session made from bytes that are whole in themselves, so that no other file is read."""

    def __init__(self, model: bytes, threads: int = 1, where: str = "model.onnx") -> None:
        _check_whole(model, where)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes for every damaged or hostile file
            raise EnvironmentFault(
                "damaged_model",
                "model.onnx cannot be opened",
                where=where,
                seen=str(error)[:300],
                hint="package the run again, or take the bundle from its source",
            ) from None
        self._input = self._session.get_inputs()[0].name

    @property
    def inputs(self) -> list[str]:
        """The names of its inputs."""
        return [given.name for given in self._session.get_inputs()]

    @property
    def said(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def answers(self, inputs: dict[str, NDArray[Any]]) -> Scores:
        """Scores [n, k] of a network with several inputs."""
        return np.asarray(self._session.run(None, inputs)[0], np.float32)

    @property
    def width(self) -> int | None:
        """How many features it reads, None where the file does not say."""
        shape = self._session.get_inputs()[0].shape
        return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None

    @property
    def shape(self) -> list[Any]:
        """The shape of its input; text or None stands for any number."""
        return list(self._session.get_inputs()[0].shape)

    def scores(self, features: NDArray[np.float32]) -> Scores:
        """Probabilities [n, k] or values [n, 1]; at most 20,000 rows go through at once."""
        parts = [
            self._session.run(None, {self._input: features[start : start + 20_000]})[0]
            for start in range(0, max(len(features), 1), 20_000)
        ]
        return np.asarray(np.concatenate(parts), np.float32)


def _check_whole(model: bytes, where: str) -> None:
    try:
        reason = points_outside(model)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise EnvironmentFault(
            "damaged_model",
            "model.onnx cannot be opened",
            where=where,
            seen=reason,
            hint="package the run again, or take the bundle from its source",
        )
