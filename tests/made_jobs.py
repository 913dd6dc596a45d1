"""Small training jobs for the tests of the trainer: rows varied by (seed, epoch, row), a network with norm and dropout."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from keepfit.recipe.train import train_class
from keepfit.training.job import Job
from keepfit.training.trainer import train


class Rows:
    """float32 [n, 6] and codes of three classes (or numbers); training batches get noise that depends on seed, epoch and row."""

    def __init__(self, count, seed, *, classes=3, noise=0.2):
        rng = np.random.default_rng(seed)
        self.inputs = rng.normal(size=(count, 6)).astype(np.float32)
        scores = self.inputs @ np.random.default_rng(0).normal(size=(6, 3))
        self.answers = torch.from_numpy(scores.argmax(1) if classes else scores[:, :1].astype(np.float32))
        self.noise, self.seed = noise, seed

    def __len__(self):
        return len(self.inputs)

    def batch(self, rows, epoch):
        inputs = self.inputs[rows]
        if epoch is not None and self.noise:
            made = [np.random.default_rng([self.seed, epoch, int(row)]).normal(size=6) for row in rows]
            inputs = inputs + np.float32(self.noise) * np.array(made, np.float32)
        return torch.from_numpy(inputs), self.answers[torch.from_numpy(rows)]


def network(*, norm=True, dropout=0.2, outputs=3, seed=0):
    torch.manual_seed(seed)
    norms = [nn.BatchNorm1d(16)] if norm else []
    return nn.Sequential(nn.Linear(6, 16), *norms, nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, outputs))


def options(**said):
    plain = {"epochs": 3, "batch_size": 16, "precision": "fp32", "early_stop": "off", "schedule": "constant"}
    return train_class().model_validate(plain | said)


def job(said=None, *, count=80, classes=3, noise=0.2, net=None, **more):
    made = net if net is not None else network(outputs=max(classes, 1))
    rows = more.pop("rows", None) or Rows(count, 1, classes=classes, noise=noise)
    valid = more.pop("valid", None) or Rows(32, 2, classes=classes)
    return Job(made, rows, valid, said or options(), classes, 5, threads=1, **more)


def fitted(said=None, **more):
    return train(job(said, **more))


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def digest(tensors):
    whole = b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(tensors.items()))
    return hashlib.sha256(whole).hexdigest()
