"""CLIP (Radford et al. 2021) by transformers: image and text vectors, CLIP scores, and the vectors of CLIP-FID.

Pictures are resized as openai/CLIP and clean-fid do: shorter side by PIL's bicubic of 8 bits, centre crop.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...manifests.errors import MissingWeights, UsageError
from ...manifests.weights import WEIGHTS, locate
from .checks import U8, require_paired, require_picture
from .features import full_precision

Vectors = NDArray[np.float32]

MODELS = ("clip-vit-l-14", "clip-vit-b-32", "clip-vit-bigg-14")
"""Names of weights: torchmetrics' and Text2Layer's model, that of clean-fid's CLIP-FID, and LayerFusion's CLIP-G."""

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class Clip:
    """A CLIP model and its tokenizer; vectors are as the model projects them, not normalised.

    Args:
        model: transformers' CLIPModel in evaluation mode.
        tokenizer: of texts; None where only pictures are looked at.
        device: where it runs.
        batch: pictures or texts at once.
    """

    def __init__(self, model: Any, tokenizer: Any = None, device: str = "cpu", batch: int = 8) -> None:
        self.model, self.tokenizer, self.device, self.batch = model.to(device), tokenizer, device, batch

    @classmethod
    def load(cls, name: str = "clip-vit-l-14", weights: Path | None = None, device: str = "cpu") -> Self:
        """One of ``MODELS`` with published weights.

        Raises:
            UsageError: another name.
            MissingWeights: its folder is not on this machine, or not complete; says how to get it.
        """
        if name not in MODELS:
            raise UsageError(f"expected a CLIP model ({', '.join(MODELS)}), got {name!r}")
        from transformers import CLIPModel, CLIPTokenizer

        folder = locate(name, weights)
        try:
            model: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except OSError as error:
            raise MissingWeights(
                f"weights {name!r} in {folder} are not complete ({error}); {WEIGHTS[name].how_to_get()}"
            ) from error
        return cls(model.eval(), tokenizer, device)

    def images(self, pictures: Sequence[U8]) -> Vectors:
        """(n, d) float32 of n pictures, 8-bit (H, W, 3), of any sizes; UsageError for anything else."""
        for number, picture in enumerate(pictures):
            require_picture(picture, f"picture {number}")
        side = self.model.config.vision_config.image_size
        return self._vectors(pictures, lambda some: {"pixel_values": np.stack([_prepared(p, side) for p in some])})

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32 of n texts, each cut off after the model's 77 tokens; UsageError without a tokenizer."""
        if self.tokenizer is None:
            raise UsageError("expected a CLIP model with a tokenizer to score texts, got one without")
        length = self.model.config.text_config.max_position_embeddings

        def tokens(some: Sequence[str]) -> dict[str, Any]:
            found = self.tokenizer(list(some), padding=True, truncation=True, max_length=length, return_tensors="np")
            return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

        return self._vectors(texts, tokens)

    def _vectors(self, items: Sequence[Any], prepared: Any) -> Vectors:
        import torch

        chunks = []
        with torch.inference_mode(), full_precision():
            for low in range(0, len(items), self.batch):
                inputs = {
                    name: torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                    for name, array in prepared(items[low : low + self.batch]).items()
                }
                of = self.model.get_image_features if "pixel_values" in inputs else self.model.get_text_features
                found = of(**inputs)
                # A tensor until transformers 4, an output object since.
                chunks.append(getattr(found, "pooler_output", found).float().cpu().numpy())
        return np.concatenate(chunks) if chunks else np.empty((0, self.model.config.projection_dim), np.float32)


def clip_scores(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """100 cos of row i of both, (n,): the CLIP score of pictures and their texts, or of pictures and pictures.

    Not clamped at 0, so that a mean of samples is a mean; torchmetrics clamps its mean. Text2Layer and ASUKA print
    cos, a hundredth of it. NaN for a vector of zeros.

    Raises:
        UsageError: the numbers of rows differ.
    """
    require_paired(first, second)
    one, two = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    scores: NDArray[np.float64] = 100 * np.divide(
        (one * two).sum(axis=1), lengths, out=np.full(len(one), np.nan), where=lengths > 0
    )
    return scores


def _prepared(picture: U8, side: int) -> Vectors:
    """(3, side, side), normalised."""
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    size = max(side, int(width * scale)), max(side, int(height * scale))
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(small.crop((left, top, left + side, top + side)), np.float32)
    prepared: Vectors = ((pixels / np.float32(255) - _MEAN) / _DEVIATION).transpose(2, 0, 1)
    return prepared
