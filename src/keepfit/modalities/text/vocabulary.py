"""A tokenizer of whole words made from the training texts; every Chinese, Japanese or Korean character is a word of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keepfit.core.errors import missing_extra
from keepfit.runtime.tokens import MOST_LENGTH, TokenPreparation

PAD, UNKNOWN = 0, 1


def made(texts: Sequence[str | None], most: int) -> TokenPreparation:
    """Lower-case words that at least two texts have, the frequent ones, with [PAD] 0 and [UNK] 1.

    A word that a single text has teaches nothing of others, and would leave the house.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ModuleNotFoundError:
        raise missing_extra("text", "tokenizers") from None
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True)
    cut = pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        known = (text or "").encode("utf-8", "replace").decode("utf-8")
        counts.update({word for word, _ in cut.pre_tokenize_str(clean.normalize_str(known))})
    common = sorted((word for word, times in counts.items() if times > 1), key=lambda word: (-counts[word], word))
    words = ["[PAD]", "[UNK]", *(word for word in common if word not in ("[PAD]", "[UNK]"))][:most]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = clean
    tokenizer.pre_tokenizer = cut
    tokenizer.add_special_tokens(["[PAD]", "[UNK]"])
    return TokenPreparation(tokenizer.to_str().encode("utf-8"), MOST_LENGTH, PAD, UNKNOWN)
