"""A CLIP of single letters and a few random weights: for tiny bases that are saved to disk, and for tests."""

import json
from pathlib import Path
from typing import Any

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LENGTH = 16  # tokens of a text


def tiny_text_config(width: int = 8) -> Any:
    """Sizes of the encoder, a ``CLIPTextConfig``; ``width`` is that of its sequences."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=_LENGTH,
        projection_dim=width,
        bos_token_id=53,
        eos_token_id=54,
        pad_token_id=54,
    )


def tiny_tokenizer(folder: Path) -> Any:
    """Its ``CLIPTokenizer``, written to a folder that is not there yet, and read back."""
    from transformers import CLIPTokenizer

    words = ["!", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=_LENGTH)
