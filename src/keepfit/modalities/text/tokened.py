"""Text classifiers that exist as an ONNX file or as weights with their class: token ids in, scores out, a tokenizer.json beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from keepfit.modalities.text.encoders import unknown_of
from keepfit.runtime.network import Network
from keepfit.runtime.tokens import INPUT, MOST_LENGTH, TokenPreparation
from keepfit.training.checkpoint import apart
from keepfit.training.custom import network_of
from keepfit.training.existing import graphs, onnx_file
from keepfit.training.existing.form import Array, Head
from keepfit.training.existing.kinds import kind_of, refused
from keepfit.training.existing.torch_files import exported
from keepfit.training.exporting import to_onnx
from keepfit.training.weight_file import load_strictly, read_tensors

_PADS = ("[PAD]", "<pad>", "<|pad|>", "<PAD>")
_READS = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "kinds"}
Ids = NDArray[np.int64]


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


@dataclass(frozen=True)
class Tokened:
    """A model on token ids int64 [n, m]: `scores` gives float [n, k], `graph` the ONNX bytes with head and order."""

    kind: str
    library: str
    prepared: TokenPreparation
    scores: Callable[[Ids], Array]
    graph: Callable[[Head, list[int]], bytes]
    classes: list[Any] | None
    weights: dict[str, bytes]


def opened(options: Any, path: Path, folder: Path, outputs: int) -> Tokened:
    """The model of a recipe. Raises DataError where model or tokenizer cannot be taken."""
    kind = kind_of(path)
    if kind not in ("onnx", "state_dict"):
        hint = "a Hugging Face folder, an ONNX file, or weights with --class; the last two with model.tokenizer=FILE"
        raise refused("wrong_room", "for texts this kind of model is not read", path, kind.replace("_", " "), hint)
    prepared = preparation(options, path, folder)
    return (
        _of_onnx(options, path, prepared) if kind == "onnx" else _of_weights(options, path, folder, prepared, outputs)
    )


def preparation(options: Any, path: Path, folder: Path) -> TokenPreparation:
    """The tokenizer that the recipe names, or that lies beside the model; its own padding and longest text where it says them."""
    said = None if options.tokenizer is None else (folder / options.tokenizer).expanduser()
    file = path.parent / "tokenizer.json" if said is None else said / "tokenizer.json" if said.is_dir() else said
    hint = "model.tokenizer=FOLDER, or the tokenizer.json itself: tokenizer.save_pretrained(folder) writes it"
    if not file.is_file():
        raise refused("no_tokenizer", "the model reads token ids, and no tokenizer is there", path, str(file), hint)
    raw = file.read_bytes()
    try:
        described = json.loads(raw)
        cut, padding = described.get("truncation") or {}, described.get("padding") or {}
        added = {one["content"]: int(one["id"]) for one in described.get("added_tokens") or []}
        vocabulary = described["model"].get("vocab")
        known = {**(vocabulary if isinstance(vocabulary, dict) else {}), **added}
        pad = padding["pad_id"] if "pad_id" in padding else next((known[name] for name in _PADS if name in known), None)
        longest = int(options.max_length or cut.get("max_length") or 512)
        prepared = TokenPreparation(raw, min(longest, MOST_LENGTH), 0 if pad is None else int(pad), unknown_of(raw))
        prepared.encoded("a word")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refused("no_tokenizer", "the tokenizer cannot be read", file, str(error)[:200], hint) from None
    if pad is None:
        raise refused("no_padding", "the tokenizer has no padding token", file, ", ".join(list(added)[:8]),
                      "tokenizer.enable_padding(pad_id=...) before it is saved")  # fmt: skip
    return prepared


def _of_weights(options: Any, path: Path, folder: Path, prepared: TokenPreparation, outputs: int) -> Tokened:
    tensors = read_tensors(path)
    if options.class_ is None:
        seen = f"{len(tensors)} tensors, first {next(iter(tensors))!r}"
        raise refused("no_class", "weights alone are no network", path, seen, "give the class: --class my_model.py:Net")
    size = prepared.size
    offered = {
        **dict.fromkeys(("classes", "num_classes"), outputs),
        **dict.fromkeys(("vocabulary_size", "vocab_size", "vocabulary", "num_embeddings"), size),
        **dict.fromkeys(("pad", "padding_idx"), prepared.pad),
        "max_length": prepared.max_length,
    }
    network = network_of(options.class_, folder, options.args, offered)
    load_strictly(network, options.class_.rpartition(":")[2], tensors, path)
    network.eval()

    def scores(ids: Ids) -> Array:
        with torch.no_grad():
            try:
                return np.asarray(network(torch.from_numpy(ids)).float().numpy())
            except Exception as error:  # the user's own code may raise anything
                seen = f"fed ids {ids.shape}; {type(error).__name__}: {str(error)[:200]}"
                hint = "forward takes int64 token ids [n, m] and returns scores; is it this tokenizer?"
                raise refused("model_failed", "the model does not take token ids", path, seen, hint) from None

    def graph(head: Head, order: list[int]) -> bytes:
        return exported_ids(Answered(_OfIds(network), prepared.pad, head, order), prepared, path)

    weights = {"network.safetensors": save(apart(network.state_dict()))}
    return Tokened("state_dict", "torch", prepared, scores, graph, None, weights)


class _OfIds(nn.Module):
    """A network on ids alone, called as those of transformers are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Its scores as `.logits`."""
        return SimpleNamespace(logits=self.network(input_ids))


def exported_ids(network: nn.Module, prepared: TokenPreparation, path: Path) -> bytes:
    """ONNX of a network on token ids, with the size of its vocabulary as a note. Raises DataError."""
    example = torch.full((2, min(8, prepared.max_length)), prepared.encoded("a word").ids[0], dtype=torch.int64)
    made = exported(lambda: to_onnx(network.eval(), example, longest=prepared.max_length), path)
    made.metadata_props.add(key="tokens", value=str(prepared.size))
    return bytes(made.SerializeToString(deterministic=True))


def _of_onnx(options: Any, path: Path, prepared: TokenPreparation) -> Tokened:
    file = onnx_file.read(path, options.output)
    roles = {one.name: _READS.get(one.name, "") for one in file.inputs}
    if len(roles) == 1:
        roles = dict.fromkeys(roles, "ids")
    if "ids" not in roles.values() or "" in roles.values():
        hint = "input_ids, and at most attention_mask and token_type_ids beside it"
        raise refused("several_inputs", "the model reads other inputs than token ids", path, ", ".join(roles), hint)
    kinds = {one.name: one.element for one in file.inputs}
    dtypes = {7: np.int64, 6: np.int32, 1: np.float32, 9: np.bool_}
    odd = [name for name, element in kinds.items() if element not in dtypes]
    if odd:
        raise refused("not_tokens", "an input is no tensor of whole numbers", path, ", ".join(odd), "int64 token ids")

    def scores(ids: Ids) -> Array:
        mask = ids != prepared.pad
        mask[:, 0] = True
        fed = {"ids": ids, "mask": mask, "kinds": np.zeros_like(ids)}
        return file.run({name: fed[role].astype(dtypes[kinds[name]]) for name, role in roles.items()})

    def graph(head: Head, order: list[int]) -> bytes:
        made = _graph(file, roles, kinds, prepared, (head, order))
        try:
            Network(made)
        except Exception as error:  # onnxruntime raises its own classes
            seen = (str(error).strip().splitlines() or [""])[0][:200]
            hint = "export it with opset 13 or later, and a free number of texts and tokens"
            raise refused("model_broken", "the model does not follow masks of its own", path, seen, hint) from None
        return made

    return Tokened("onnx", "onnx", prepared, scores, graph, file.classes, {})


def _graph(
    file: Any, roles: dict[str, str], kinds: dict[str, int], prepared: TokenPreparation, ends: tuple[Head, list[int]]
) -> bytes:
    """The file's graph between token ids `x` int64 [n, m] and answers [n, k]: masks and kinds follow from the padding."""
    import copy

    from onnx import TensorProto, helper, numpy_helper

    model, head, order = copy.deepcopy(file.model), *ends
    constants = {"pad": [prepared.pad], "zero": [0], "one": [1], "most": [1 << 31], "axis": [1]}
    weights = [numpy_helper.from_array(np.array(value, np.int64), f"keepfit_{key}") for key, value in constants.items()]
    nodes = []
    if "mask" in roles.values():
        cut = ["keepfit_seen", "keepfit_one", "keepfit_most", "keepfit_axis"]
        first = [INPUT, "keepfit_zero", "keepfit_one", "keepfit_axis"]
        nodes += [
            helper.make_node("Equal", [INPUT, "keepfit_pad"], ["keepfit_padded"]),
            helper.make_node("Not", ["keepfit_padded"], ["keepfit_kept"]),
            helper.make_node("Cast", ["keepfit_kept"], ["keepfit_seen"], to=TensorProto.INT64),
            helper.make_node("Slice", cut, ["keepfit_after"]),
            helper.make_node("Slice", first, ["keepfit_first"]),
            helper.make_node("Mul", ["keepfit_first", "keepfit_zero"], ["keepfit_nothing"]),
            helper.make_node("Add", ["keepfit_nothing", "keepfit_one"], ["keepfit_start"]),
            helper.make_node("Concat", ["keepfit_start", "keepfit_after"], ["keepfit_mask"], axis=1),
        ]
    if "kinds" in roles.values():
        nodes.append(helper.make_node("Mul", [INPUT, "keepfit_zero"], ["keepfit_kinds"]))
    source = {"ids": INPUT, "mask": "keepfit_mask", "kinds": "keepfit_kinds"}
    nodes += [helper.make_node("Cast", [source[role]], [name], to=kinds[name]) for name, role in roles.items()]
    used = {name for node in nodes for name in node.input}
    before = (nodes, [one for one in weights if one.name in used])
    read = helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["n", "m"])
    after = graphs.head(model.graph.output[0].name, head, order)
    data = graphs.closed(model, before, after, read, max(len(order), 1))
    made = type(model).FromString(data)
    made.metadata_props.add(key="tokens", value=str(prepared.size))
    return bytes(made.SerializeToString(deterministic=True))
