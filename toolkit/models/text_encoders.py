"""Texts as sequences of vectors for cross-attention: a published text encoder, or learnt vectors of words without one.

Sequences are (N, L, width), float32.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...manifests.errors import MissingWeights, UsageError
from ..diffusers_folders import find_folder

_PADDING, _END = 0, 1
_SPECIAL = 2  # tokens that are no word
_LONGEST = 512  # tokens of a text, where neither encoder nor tokenizer has a limit: what T5 was trained on

_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
"""CLIP ViT-L/14's text encoder, Stable Diffusion's, where only sizes matter."""


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How texts are encoded.

    Attributes:
        encoder: ``base`` is the frozen one of the base, a folder of diffusers with ``text_encoder`` and ``tokenizer``;
            ``words`` learns a vector for every word with the rest, and needs no weights.
        length: of the sequence in tokens, of ``words``; longer texts are cut.
        buckets: of ``words``: a word is known by a hash of it, so there is no vocabulary to keep; words may share one.
        width: of ``words``.
    """

    encoder: Literal["base", "words"] = "base"
    length: int = 16
    buckets: int = 1024
    width: int = 64

    def __post_init__(self) -> None:
        for name, least in {"length": 2, "buckets": _SPECIAL + 1, "width": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(f"text.{name}: expected {least} or more, got {getattr(self, name)}")


class Words(nn.Module):
    """Learnt vectors of words and of their places; the sequence ends with a token of its own and is padded.

    Args:
        options: see :class:`TextOptions`.
    """

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        self.options, self.width = options, options.width
        self.tokens = nn.Embedding(options.buckets, options.width)
        self.places = nn.Parameter(torch.zeros(options.length, options.width))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """See the module."""
        ids = torch.tensor([self.ids(text) for text in texts], device=self.places.device)
        sequence: Tensor = self.tokens(ids) + self.places
        return sequence

    def ids(self, text: str) -> list[int]:
        """The tokens of a text: its words in lower case, the end, padding."""
        words = re.findall(r"\w+", text.lower())[: self.options.length - 1]
        found = [_bucket(word, self.options.buckets) for word in words]
        return [*found, _END, *[_PADDING] * (self.options.length - 1 - len(found))]


def _bucket(word: str, buckets: int) -> int:
    """The same on every machine, which Python's own hash is not."""
    digest = hashlib.sha256(word.encode()).digest()
    return _SPECIAL + int.from_bytes(digest[:8], "big") % (buckets - _SPECIAL)


class Published(nn.Module):
    """A frozen text encoder of transformers: its last hidden state, of texts padded to one length, as diffusers does.

    Args:
        model: such as ``CLIPTextModel`` or ``T5EncoderModel``.
        tokenizer: its own; None where only shapes matter.
        length: tokens of the sequence.
    """

    def __init__(self, model: Any, tokenizer: Any, length: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.length = model.requires_grad_(False).eval(), tokenizer, length
        self.width = int(getattr(model.config, "hidden_size", 0) or model.config.d_model)

    def train(self, mode: bool = True) -> "Published":
        """Stay in evaluation mode: what is frozen has no dropout."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """See the module."""
        device = self.model.device
        if self.tokenizer is None:
            ids = torch.zeros(len(texts), self.length, dtype=torch.long, device=device)
        else:
            settings = {"padding": "max_length", "truncation": True, "max_length": self.length}
            ids = self.tokenizer(list(texts), return_tensors="pt", **settings).input_ids.to(device)
        states: Tensor = self.model(ids).last_hidden_state
        return states


def load_text_encoder(options: TextOptions, base: str, *, meta: bool = False) -> Words | Published:
    """The encoder that options name.

    Args:
        options: see :class:`TextOptions`.
        base: the folder, or the name in the hub cache, of a pipeline with the encoder.
        meta: only sizes matter: those of CLIP ViT-L/14 stand for a base that is not on this machine.

    Raises:
        UsageError: no base, or one without a text encoder of transformers.
        MissingWeights: the base is not on this machine, or not complete.
    """
    if options.encoder == "words":
        return Words(options)
    if not base:
        raise UsageError(
            "text.encoder = 'base': expected --base, a pipeline with text_encoder and tokenizer, got none; "
            "or learn vectors of words by --set model.text.encoder=words"
        )
    if meta:
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(**_CLIP_L)
        return Published(CLIPTextModel(config), None, config.max_position_embeddings)
    return _published(find_folder(base))


def _published(folder: Path) -> Published:
    import transformers

    expected = f"expected a text encoder with safetensors in {folder / 'text_encoder'}, and a tokenizer beside it"
    try:
        config = transformers.AutoConfig.from_pretrained(folder / "text_encoder", local_files_only=True)
        kind = getattr(transformers, (config.architectures or [""])[0], None)
        if kind is None:
            raise UsageError(f"{expected}, got {config.architectures} in its config.json")
        model = kind.from_pretrained(folder / "text_encoder", local_files_only=True, use_safetensors=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise MissingWeights(f"{expected}: {error}") from error
    longest = getattr(config, "max_position_embeddings", _LONGEST)  # T5's places have no end
    return Published(model, tokenizer, min(tokenizer.model_max_length, longest, _LONGEST))
