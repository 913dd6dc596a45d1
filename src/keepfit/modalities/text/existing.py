"""A text classifier that is trained already; one of the transformers library is fed by its own tokenizer, the bundle by ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from keepfit.core import digest
from keepfit.core.errors import missing_extra
from keepfit.modalities.brought import Fixed, result
from keepfit.modalities.hugging_face import first_line, quiet
from keepfit.modalities.room import Sample, Say, Trained, Way
from keepfit.modalities.text import tokened
from keepfit.modalities.text.encoders import preparation_of
from keepfit.modalities.text.tokened import Answered
from keepfit.runtime.coerce import ColumnRule
from keepfit.runtime.table import Table
from keepfit.runtime.text_predictor import COLUMN
from keepfit.runtime.tokens import TokenPreparation
from keepfit.training.checkpoint import apart
from keepfit.training.existing.form import Array, Head, Opened, squared
from keepfit.training.existing.kinds import kind_of, named_classes, refused

_SAMPLE, _AT_ONCE = 32, 32


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
    found = (
        _of_folder(path) if kind_of(path) == "hugging_face" else _of_file(options, path, way.folder, max(classes, 1))
    )
    prepared = found.prepared
    opened = Opened(found.kind, found.library, None, found.raw, lambda batch: None, found.classes, found.weights)
    sample = found.raw(list(train.table.columns[COLUMN][:_SAMPLE]))
    fixed = Fixed(opened, options, path, classes, list(way.names), sample)
    native, held = (fixed.of(found.raw(list(table.columns[COLUMN]))) for table in (probe, valid.table))
    onnx = found.graph(fixed.head, fixed.order)
    ids = [str(i) for i in valid.table.ids]
    said = digest.canonical(prepared.to_json())
    notes = fixed.judged(held, valid.truth, list(way.names))
    files = {"tokenizer.json": prepared.tokenizer}
    return result(said, onnx, native, (ids, held), opened, prepared.max_length, notes, files)


@dataclass(frozen=True)
class _Found:
    """A model from raw texts to scores, and its ONNX with head and order from token ids to answers."""

    kind: str
    library: str
    prepared: TokenPreparation
    raw: Callable[[Any], Array]
    graph: Callable[[Head, list[int]], bytes]
    classes: list[Any] | None
    weights: dict[str, bytes]


def _of_folder(path: Path) -> _Found:
    """A Hugging Face folder, fed by the tokenizer of transformers."""
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

    def graph(head: Head, order: list[int]) -> bytes:
        return tokened.exported_ids(Answered(model, prepared.pad, head, order), prepared, path)

    weights = {"network.safetensors": save(apart(model.state_dict()))}
    return _Found("hugging_face", "transformers", prepared, raw, graph, named_classes(path), weights)


def _of_file(options: Any, path: Path, folder: Path, outputs: int) -> _Found:
    """An ONNX file, or weights with their class, fed by the tokenizer that the recipe names."""
    model = tokened.opened(options, path, folder, outputs)
    prepared = model.prepared

    def raw(texts: Any) -> Array:
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            some = [prepared.encoded(text).ids for text in texts[start : start + _AT_ONCE]]
            found.append(squared(model.scores(prepared.padded(some)), path))
        return np.concatenate(found)

    return _Found(model.kind, model.library, prepared, raw, model.graph, model.classes, model.weights)


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
