"""The fitted preparation of texts for networks: a tokenizer.json run by `tokenizers`, cut and padded; no transformers, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import missing_extra

INPUT = "x"
MOST_LENGTH = 8192
_SHORTEST = 2  # the least length that the network was exported for
_CHARACTERS = 100  # of a text, for each token that may stay: word-piece vocabularies know no longer word
# Of one call: tokens (the widest layer's values) and pairs of tokens (attention), each about 100 MB in a base-sized encoder.
_MOST_TOKENS, _MOST_PAIRS = 8_192, 2_000_000


@dataclass(frozen=True)
class Encoded:
    """A text as token ids; `tokens` and `unknown` count those that are not the frame ([CLS], [SEP]); `is_cut`: it was longer."""

    ids: list[int]
    tokens: int
    unknown: int
    is_cut: bool


@dataclass(frozen=True)
class TokenPreparation:
    """A tokenizer with the most tokens of a text, the padding id and the id of unknown words (None where there is none)."""

    tokenizer: bytes
    max_length: int
    pad: int
    unknown: int | None = None

    @cached_property
    def _made(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise missing_extra("text", "tokenizers") from None
        try:
            made = Tokenizer.from_str(self.tokenizer.decode("utf-8"))
        except Exception as error:  # tokenizers raises bare Exception for every fault
            raise ValueError(f"tokenizer.json: {str(error)[:200]}") from None
        made.no_padding()
        made.enable_truncation(self.max_length)
        return made

    @property
    def size(self) -> int:
        """How many tokens the vocabulary has, added ones included."""
        return int(self._made.get_vocab_size(with_added_tokens=True))

    def encoded(self, text: str | None) -> Encoded:
        """Token ids of one text, at most `max_length`; a missing text is an empty one."""
        whole = text or ""
        most = _CHARACTERS * self.max_length
        some = whole[:most]
        if not some.isascii():  # half a surrogate pair, which JSON may bring, is no text for the tokenizer
            some = some.encode("utf-8", "replace").decode("utf-8")
        found = self._made.encode(some)
        ids, frame = found.ids, found.special_tokens_mask
        own = [token for token, is_frame in zip(ids, frame, strict=True) if not is_frame]
        unknown = 0 if self.unknown is None else own.count(self.unknown)
        return Encoded(ids, len(own), unknown, len(whole) > most or bool(found.overflowing))

    def padded(self, some: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """int64 [n, m], as wide as the longest."""
        width = max([_SHORTEST, *(len(ids) for ids in some)])
        out = np.full((len(some), width), self.pad, np.int64)
        for row, ids in enumerate(some):
            out[row, : len(ids)] = ids
        return out

    def batches(self, texts: Sequence[str | None], width: int) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
        """Row numbers and the network's input for some texts at a time, those of like length together."""
        found = [self.encoded(text).ids for text in texts]
        rows = sorted(range(len(found)), key=lambda row: (len(found[row]), row))
        some: list[int] = []
        for row in rows:
            count, longest = len(some) + 1, max(len(found[row]), _SHORTEST)
            if some and (count * longest > _MOST_TOKENS or count * longest**2 > _MOST_PAIRS):
                yield np.array(some), {INPUT: self.padded([found[one] for one in some])}
                some = []
            some.append(row)
        if some:
            yield np.array(some), {INPUT: self.padded([found[one] for one in some])}

    def check(self, inputs: list[str], said: Mapping[str, str]) -> None:
        """Raises ValueError where a network with these inputs and notes reads other tokens."""
        if inputs != [INPUT] or said.get("tokens") != str(self.size):
            raise ValueError(
                f"model.onnx reads {inputs} of {said.get('tokens')} tokens, tokenizer.json has {self.size}"
            )

    def to_json(self) -> dict[str, Any]:
        """preparation.json; the tokenizer is a file of its own."""
        return {
            "kind": "tokens",
            "version": 1,
            "max_length": self.max_length,
            "pad": self.pad,
            "unknown": self.unknown,
            "tokenizer": digest.of_bytes(self.tokenizer),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], tokenizer: bytes | None) -> TokenPreparation:
        """Inverse of `to_json`. Raises ValueError where it is not one, or tokenizer.json is not the one."""
        if type(raw["version"]) is not int or raw["version"] != 1:
            raise ValueError(f"version {raw['version']!r}")
        if tokenizer is None or digest.of_bytes(tokenizer) != raw["tokenizer"]:
            raise ValueError("tokenizer.json is absent, or not the one of this preparation")
        length, pad, unknown = raw["max_length"], raw["pad"], raw["unknown"]
        if type(length) is not int or not 4 <= length <= MOST_LENGTH:
            raise ValueError(f"max_length {length!r}")
        made = cls(tokenizer, length, pad, unknown)
        for place in (pad, unknown):
            if place is not None and (type(place) is not int or not 0 <= place < 2**31):
                raise ValueError(f"pad {pad!r}, unknown {unknown!r}")
        if pad is None:
            raise ValueError("no padding")
        _ = made.size
        return made
