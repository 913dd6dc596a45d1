"""Low-rank adapters (LoRA, Hu et al. 2021, by peft): put on an encoder before training, merged into its weights after it."""

from __future__ import annotations

from typing import Any

from torch import nn

from keepfit.core.errors import RecipeError, missing_extra, nearest
from keepfit.modalities.backbone import BLOCK
from keepfit.modalities.text.options import LoraOptions


def add(model: nn.Module, said: LoraOptions) -> Any:
    """The model with adapters on the layers that are named; only they learn. `auto`: every linear layer of the blocks.

    Adapters on all linear layers came closest to full fine-tuning in Dettmers et al. 2023 (QLoRA). Raises RecipeError
    for a layer that is not there.
    """
    try:
        import peft
    except ImportError:
        raise missing_extra("lora", "peft") from None
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and BLOCK.match(name)]
    if said.targets == "auto":
        targets = linear
    else:
        targets = [name for name in linear if name in said.targets or name.rpartition(".")[2] in said.targets]
        known = sorted({name.rpartition(".")[2] for name in linear})
        for asked in said.targets:
            if not any(name == asked or name.rpartition(".")[2] == asked for name in linear):
                raise RecipeError(
                    "bad_value", f"the encoder has no linear layer {asked!r}", where="model.adapter.targets",
                    seen=", ".join(known), hint=nearest(asked, known),
                )  # fmt: skip
    alpha: Any = said.alpha  # peft divides by it; its annotation is narrower than its code
    config = peft.LoraConfig(r=said.r, lora_alpha=alpha, lora_dropout=said.dropout, target_modules=targets)
    return peft.LoraModel(model, config, "default")


def merge(model: Any) -> nn.Module:
    """The plain model with the adapters' products added to its weights."""
    merged: nn.Module = model.merge_and_unload(progressbar=False)
    return merged
