"""A tiny BERT with random weights, saved as transformers saves models, that knows the words of the made-up reviews."""

from __future__ import annotations

from pathlib import Path

from made_texts import SAID, THINGS

WORDS = sorted(
    {word for said in SAID.values() for one in said for word in one.split()} | {*THINGS, "the", "was", "and", "day"}
)
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_encoder(folder: Path, kind: str = "bert") -> Path:
    """The folder with config.json, model.safetensors and tokenizer.json."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = [*MARKS, *WORDS, *"0123456789,", *(f"##{n}" for n in range(10))]
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(MARKS)
    torch.manual_seed(0)
    small = {"vocab_size": len(vocabulary), "max_position_embeddings": 64}
    if kind == "bert":
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **small
        )
        model = transformers.BertModel(config)
    else:
        config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **small)
        model = transformers.DistilBertModel(config)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
