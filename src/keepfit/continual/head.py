"""The last linear layer of a network: where it is, what it is fed, and how it is carried over to other classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import RecipeError
from keepfit.training.loading import Examples, plain


def head_of(network: nn.Module, outputs: int) -> tuple[str, nn.Linear]:
    """Name and module of the last linear layer with so many outputs. Raises RecipeError where there is none."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs
    ]
    if not found:
        raise RecipeError(
            "no_head",
            "the network has no last linear layer with an output for each class, which learning on needs",
            where="retrain.strategy",
            seen=f"{outputs} classes in {type(network).__name__}",
            hint="retrain.strategy: full or fresh",
        )
    return found[-1]


def carried(
    network: nn.Module, weights: Mapping[str, Tensor], before: Sequence[str], classes: Sequence[str]
) -> nn.Module:
    """The network with the weights of its predecessor; classes that are not among those `before` keep their fresh rows.

    Raises RecipeError where the two are not the same network.
    """
    name, _ = head_of(network, len(classes))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    places = [(place, before.index(one)) for place, one in enumerate(classes) if one in before]
    for key, value in state.items():
        given = weights.get(key)
        is_head = key in (f"{name}.weight", f"{name}.bias")
        if given is None or given.shape[is_head:] != value.shape[is_head:] or (is_head and len(given) != len(before)):
            raise RecipeError(
                "another_network",
                "the champion is another network than the recipe's: there is nothing to start from",
                where="model",
                seen=f"{key}: {'absent' if given is None else list(given.shape)}, wanted {list(value.shape)}",
                hint="retrain.strategy: full or fresh, once; then learning on can begin",
            )
        if is_head:
            for new, old in places:
                value[new] = given[old]
        else:
            state[key] = given.clone()
    network.load_state_dict(state)
    return network


def features(network: nn.Module, head: str, examples: Examples, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """What the head is fed, float64 [b, d + 1] with a last column of ones, and the answers [b], batch by batch in order."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, given: Any) -> None:
        caught.append(given[0].detach())

    handle = network.get_submodule(head).register_forward_pre_hook(catch)
    was, place = network.training, next(network.parameters()).device
    network.eval()
    try:
        with torch.no_grad():
            for inputs, answers in plain(examples, size):
                caught.clear()
                network(inputs.to(place))
                found = caught[0].reshape(len(inputs), -1).double().cpu()
                yield torch.cat([found, torch.ones(len(found), 1, dtype=torch.float64)], 1), answers
    finally:
        handle.remove()
        network.train(was)
