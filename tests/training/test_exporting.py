"""ONNX from torch: the same answers for any number of rows, and nothing of the machine inside."""

from __future__ import annotations

import getpass
import os
import socket
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from made_jobs import fitted

from keepfit.training.exporting import Answering, to_onnx


@pytest.fixture(scope="module", params=[3, 0])
def exported(request):
    answering = Answering(fitted(classes=request.param).network, request.param, 2.5, 1.5).eval()
    return answering, to_onnx(answering, torch.randn(2, 6)).SerializeToString(deterministic=True)


def test_answers_are_the_same_for_any_number_of_rows(exported):
    answering, data = exported
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    for rows in (1, 2, 7, 33):
        inputs = np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)
        with torch.no_grad():
            wanted = answering(torch.from_numpy(inputs)).numpy()
        found = session.run(None, {"x": inputs})[0]
        assert found.shape == wanted.shape == (rows, 3 if answering.classes else 1)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_nothing_of_the_machine_is_inside(exported):
    _, data = exported
    words = [
        os.getcwd(),
        os.path.dirname(__file__),
        sys.prefix,
        socket.gethostname(),
        f"/{getpass.getuser()}/",
        ".py",
        "site-packages",
        "Traceback",
    ]
    assert [word for word in words if word.encode() in data] == [] and len(data) > 500


def test_the_same_network_gives_the_same_bytes(exported):
    answering, data = exported
    assert to_onnx(answering, torch.randn(2, 6)).SerializeToString(deterministic=True) == data
