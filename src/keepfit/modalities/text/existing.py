"""A text classifier of the transformers library that is trained already: its own tokenizer feeds the source, ours the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from keepfit.core import digest
from keepfit.core.errors import missing_extra
from keepfit.modalities.brought import Fixed, result
from keepfit.modalities.hugging_face import first_line, quiet
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.modalities.text.encoders import preparation_of
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN
from keepfit.training.checkpoint import apart
from keepfit.training.existing.form import Array, Head, Opened
from keepfit.training.existing.kinds import kind_of, named_classes, refused
from keepfit.training.existing.torch_files import exported
from keepfit.training.exporting import to_onnx

_SAMPLE, _AT_ONCE = 32, 32


class Answered(nn.Module):
    """int64 ids [n, m] to probabilities [n, k] in the task's order, or numbers [n, 1]; padding is not seen."""

    def __init__(self, model: Any, pad: int, head: Head, order: list[int]) -> None:
        super().__init__()
        self.model, self.pad, self.head, self.order = model, pad, head, order

    def forward(self, ids: Tensor) -> Tensor:
        """As `form.answers` does it."""
        mask = ids != self.pad
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], 1)
        scores: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).logits.float()
        if self.head == "number":
            return scores
        if self.head in ("share", "logit"):
            second = scores.sigmoid() if self.head == "logit" else scores
            scores = torch.cat([1 - second, second], 1)
        elif self.head == "scores":
            scores = scores.softmax(1)
        return scores[:, self.order]


def fit(
    options: Any,
    rules: Sequence[ColumnRule],
    train: Sample,
    valid: Sample,
    probe: Table,
    classes: int,
    way: Way,
    say: Say,
) -> Trained:
    """Nothing is learned: training texts tell what the scores look like."""
    path = (way.folder / options.source).expanduser()
    if kind_of(path) != "hugging_face":
        hint = "a folder of save_pretrained, with config.json, safetensors and the tokenizer"
        raise refused("wrong_room", "for texts a Hugging Face folder is read", path, path.suffix, hint)
    model, tokenizer = _opened(path)
    prepared = preparation_of(path, model)

    def raw(texts: Any) -> Array:
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            some = [text or "" for text in texts[start : start + _AT_ONCE]]
            fed = tokenizer(some, padding=True, truncation=True, max_length=prepared.max_length, return_tensors="pt")
            with torch.no_grad():
                found.append(model(**fed).logits.float().numpy())
        return np.concatenate(found)

    weights = {"network.safetensors": save(apart(model.state_dict()))}
    opened = Opened("hugging_face", "transformers", None, raw, lambda batch: None, named_classes(path), weights)
    sample = raw(list(train.table.columns[COLUMN][:_SAMPLE]))
    fixed = Fixed(opened, options, path, classes, list(way.names), sample)
    native, held = (fixed.of(raw(list(table.columns[COLUMN]))) for table in (probe, valid.table))
    network = Answered(model, prepared.pad, fixed.head, fixed.order).eval()
    length = min(8, prepared.max_length)
    example = torch.full((2, length), prepared.encoded("a word").ids[0], dtype=torch.int64)
    graph = exported(lambda: to_onnx(network, example, longest=prepared.max_length), path)
    graph.metadata_props.add(key="tokens", value=str(prepared.size))
    ids = [str(i) for i in valid.table.ids]
    onnx = graph.SerializeToString(deterministic=True)
    said = digest.canonical(prepared.to_json())
    notes = fixed.judged(held, valid.truth, list(way.names))
    files = {"tokenizer.json": prepared.tokenizer}
    return result(said, onnx, native, (ids, held), opened, prepared.max_length, notes, files)


def _opened(path: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder. Raises DataError for one without a head, and for what does not fit."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("networks", "transformers") from None
    hint = "only safetensors and models that transformers itself knows are read; save it again with save_pretrained"
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet(transformers):
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                str(path), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **local)
    except Exception as error:  # transformers raises its own and others' classes
        raise refused(
            "model_broken", "the model cannot be loaded as a text classifier", path, first_line(error), hint
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise refused(
            "no_head", "the folder has no trained head for classes", path, f"missing {', '.join(missing[:3])}",
            "train one on it: model: {use: pretrained, source: FOLDER} in a recipe, then keepfit run",
        )  # fmt: skip
    return model.eval(), tokenizer
