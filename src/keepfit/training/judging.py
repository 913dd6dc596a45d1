"""How good a network is on rows it does not learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from keepfit.training import precision
from keepfit.training.loading import Examples, blocks, plain
from keepfit.training.strategies import Single, Strategy


def judge(
    network: nn.Module,
    examples: Examples,
    loss: Callable[[Tensor, Tensor], Tensor],
    size: int,
    classes: int,
    number_format: str,
    device: str,
    weights: Tensor | None = None,
    strategy: Strategy | None = None,
) -> tuple[dict[str, float], NDArray[np.int64], NDArray[np.float64]]:
    """Figures (`loss`, and `accuracy` for classes), the classes that were answered, and the class shares [k] of the truth.

    `weights` [k] are those of the loss: a batch counts by the weight of its rows, so that their order does not matter. With
    several processes each judges its share of every batch, and the figures are those of all rows.
    """
    network.eval()
    ways: Strategy = strategy if strategy is not None else Single()
    total, mass, rows, right = 0.0, 0.0, 0, 0
    answered, counts = np.zeros(max(classes, 1)), np.zeros(max(classes, 1))
    with torch.no_grad():
        for whole in blocks(len(examples), max(size, 128)):
            ways.at(whole)
            inputs, answers = examples.batch(ways.cut(whole), None)
            with precision.context(number_format, device):
                scores = network(inputs.to(device)).float()
            if ways.world > 1 and not ways.share.count:
                continue  # a row that counts for nothing
            truth = answers.to(device)
            rows += len(inputs)
            codes = truth if truth.ndim == 1 else truth.argmax(1)
            heavy = float(len(inputs)) if weights is None else float(weights.to(codes.device)[codes].sum())
            total, mass = total + float(loss(scores, truth)) * heavy, mass + heavy
            if classes:
                best = scores.argmax(1)
                right += int((best == codes).sum())
                answered += np.bincount(best.cpu().numpy(), minlength=classes)
                counts += np.bincount(codes.cpu().numpy(), minlength=classes)
    total, mass, seen, good, *rest = ways.talk.sums([total, mass, rows, right, *answered, *counts])
    answered, counts = np.split(np.array(rest), 2)
    found = {"loss": total / max(mass, 1e-12)}
    if not classes:
        return found, np.empty(0, np.int64), counts
    found["accuracy"] = good / max(seen, 1)
    return found, np.flatnonzero(answered), counts / max(seen, 1)


def rank(found: dict[str, float], classes: int) -> tuple[float, ...]:
    """What the best epoch is chosen by: accuracy, then loss; loss alone for numbers."""
    return (found["accuracy"], -found["loss"]) if classes else (-found["loss"],)


def scores_of(network: nn.Module, examples: Examples, classes: int, size: int = 128) -> NDArray[np.float64]:
    """Probabilities [n, k] in fp32, or numbers [n, 1] as the network gives them."""
    found = []
    with torch.no_grad():
        for inputs, _ in plain(examples, size):
            scores = network(inputs)
            found.append((scores.softmax(1) if classes else scores).double().numpy())
    return np.concatenate(found)
