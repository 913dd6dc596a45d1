"""Counts what a tokenizer makes of texts: how many are cut, and how much of them it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.runtime.tokens import Encoded, TokenPreparation

MUCH_UNKNOWN, MUCH_CUT = 0.05, 0.2
LONGEST_AUTO = 256


@dataclass(frozen=True)
class Counts:
    """Of some texts: how many there are, how many are cut, and their tokens and unknown tokens."""

    texts: int
    cut: int
    tokens: int
    unknown: int
    max_length: int

    @property
    def share_unknown(self) -> float:
        """Share of [UNK] among the tokens."""
        return self.unknown / max(self.tokens, 1)

    def sentences(self) -> list[str]:
        """What report, card and `check` say."""
        return [
            f"{self.cut} of {self.texts} training texts are longer than {self.max_length} tokens and were cut there "
            f"({self.cut / max(self.texts, 1):.1%}).",
            f"{self.share_unknown:.1%} of the tokens are unknown to the tokenizer ([UNK]).",
        ]

    def warnings(self) -> list[str]:
        """What asks for another choice."""
        found = []
        if self.share_unknown >= MUCH_UNKNOWN:
            found.append(
                f"the tokenizer does not know {self.share_unknown:.0%} of the tokens of the training texts ([UNK]): "
                "the encoder was made for another language or alphabet; choose one for it, or model.use: tfidf"
            )
        if self.cut > MUCH_CUT * self.texts:
            found.append(
                f"{self.cut / max(self.texts, 1):.0%} of the training texts are cut after {self.max_length} tokens: "
                "raise model.max_length, or choose an encoder that takes longer texts"
            )
        return found


def counted(found: Sequence[Encoded], max_length: int) -> Counts:
    """The counts of encoded texts."""
    return Counts(
        len(found),
        sum(one.is_cut for one in found),
        sum(one.tokens for one in found),
        sum(one.unknown for one in found),
        max_length,
    )


def fitted_length(lengths: Sequence[int], most: int) -> int:
    """The length that 99 % of the training texts stay below, a multiple of eight, at most LONGEST_AUTO and `most`."""
    if not lengths:
        return min(most, LONGEST_AUTO)
    usual = sorted(lengths)[min(len(lengths) - 1, int(0.99 * len(lengths)))]
    return min(max(8, -(-usual // 8) * 8), LONGEST_AUTO, most)


def fitted(prepared: TokenPreparation, asked: Any, texts: Sequence[str | None]) -> tuple[TokenPreparation, Counts]:
    """The preparation with its length, and what it makes of the training texts."""
    most = prepared.max_length
    length = fitted_length([len(prepared.encoded(text).ids) for text in texts], most) if asked == "auto" else int(asked)
    said = TokenPreparation(prepared.tokenizer, min(length, most), prepared.pad, prepared.unknown)
    return said, counted([said.encoded(text) for text in texts], said.max_length)
