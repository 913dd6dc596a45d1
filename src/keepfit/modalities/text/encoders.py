"""Pretrained encoders of the transformers library as one kind of thing: token ids to features, with their tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.core.errors import EnvironmentFault
from keepfit.modalities.backbone import BLOCK
from keepfit.modalities.hugging_face import check_complete, fetched, first_line, model_of, quiet, refused
from keepfit.modalities.text.weight_files import folder_of
from keepfit.runtime.tokens import MOST_LENGTH, TokenPreparation


class Pooled(nn.Module):
    """A transformers encoder as int64 ids [n, m] to float32 [n, d]: the mean over tokens, or the first token."""

    def __init__(self, model: Any, pad: int, pooling: str) -> None:
        super().__init__()
        self.model, self.pad, self.pooling = model, pad, pooling

    def forward(self, ids: Tensor) -> Tensor:
        """[n, m] to [n, d]; padding is not seen. The first place always is, for a text may be empty."""
        mask = ids != self.pad
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], 1)
        states = self.model(input_ids=ids, attention_mask=mask.long(), return_dict=True).last_hidden_state.float()
        if self.pooling == "cls":
            return states[:, 0]
        weight = mask.unsqueeze(2).float()
        return (states * weight).sum(1) / weight.sum(1)


@dataclass(frozen=True)
class Encoder:
    """An encoder with its tokenizer; `preparation` cuts at the most tokens that the encoder can take."""

    module: Pooled
    features: int
    preparation: TokenPreparation
    name: str


def load_encoder(source: str, folder: Path, *, pooling: str = "mean", online: bool = False) -> Encoder:
    """The encoder of a known name, a folder, a package's folder or a hub name. Raises DataError, EnvironmentFault."""
    path = folder_of(source, folder)
    if path is None:
        if not online:
            raise EnvironmentFault(
                "offline", f"{source!r} is no folder here, and hub models are fetched only when that is allowed",
                seen=f"no folder {folder / source}", hint="model.online=true, or give a local folder",
            )  # fmt: skip
        path = fetched(source)
    model, report = model_of(path)
    kind = str(model.config.model_type)
    if model.main_input_name != "input_ids" or getattr(model.config, "is_encoder_decoder", False):
        raise refused(
            "not_an_encoder", f"a {kind!r} model is no text encoder", path, "BERT, DistilBERT, MiniLM, RoBERTa ..."
        )
    check_complete(model, report, path)
    if hasattr(model, "pooler"):
        model.pooler = None  # its output is not read, and weights that never learn would be counted and shipped
    prepared = preparation_of(path, model)
    module = Pooled(model, prepared.pad, pooling).eval()
    try:
        with torch.no_grad():
            made = module(torch.from_numpy(prepared.padded([prepared.encoded("a word").ids] * 2)))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise refused(
            "backbone_broken", f"a {kind!r} model makes no features of tokens", path, "", first_line(error)
        ) from error
    if made.dim() != 2 or not bool(torch.isfinite(made).all()):
        raise refused("backbone_broken", f"a {kind!r} model makes no finite features", path, "", str(list(made.shape)))
    return Encoder(module, made.shape[1], prepared, kind)


def preparation_of(folder: Path, model: Any) -> TokenPreparation:
    """The tokenizer of a folder, with the padding and the longest text of its model."""
    raw = tokenizer_of(folder)
    config = model.config
    pad = getattr(config, "pad_token_id", None)
    if not isinstance(pad, int):
        raise refused("no_padding", "the model has no padding token", folder, "pad_token_id in config.json", str(pad))
    positions = getattr(config, "max_position_embeddings", None) or 512
    # RoBERTa and its kin count positions from the padding id on.
    positions -= pad + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    prepared = TokenPreparation(raw, min(int(positions), MOST_LENGTH), pad, unknown_of(raw))
    rows = model.get_input_embeddings().num_embeddings
    if prepared.size > rows:
        raise refused(
            "tokenizer_too_large", "the tokenizer has more tokens than the model knows", folder,
            "take tokenizer and weights from one place", f"{prepared.size} tokens, {rows} embeddings",
        )  # fmt: skip
    return prepared


def tokenizer_of(folder: Path) -> bytes:
    """tokenizer.json; made from the older files of a vocabulary where the folder has no such file."""
    file = folder / "tokenizer.json"
    if file.is_file():
        return file.read_bytes()
    import transformers

    try:
        with quiet(transformers):
            made = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
            )
            return str(made.backend_tokenizer.to_str()).encode("utf-8")
    except Exception as error:
        hint = "save the tokenizer beside the model: tokenizer.save_pretrained(folder)"
        raise refused(
            "no_tokenizer", "the folder has no tokenizer that can be read", folder, hint, first_line(error)
        ) from error


def unknown_of(tokenizer: bytes) -> int | None:
    """The id by which a tokenizer answers what it does not know; None where it knows every byte."""
    import json

    model = json.loads(tokenizer).get("model", {})
    token, vocabulary = model.get("unk_token"), model.get("vocab")
    if isinstance(vocabulary, dict) and isinstance(token, str):
        found = vocabulary.get(token)
        return found if isinstance(found, int) else None
    place = model.get("unk_id")  # sentence pieces: a list of pairs
    return place if isinstance(place, int) else None


def layers_of(module: nn.Module) -> list[list[str]]:
    """Names of the parameters in groups from input to output: all embeddings, then each block."""
    groups: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        block = BLOCK.match(name)
        groups.setdefault(block[1] if block else "embeddings", []).append(name)
    return list(groups.values())
