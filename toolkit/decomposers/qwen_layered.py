"""Qwen-Image-Layered (2025, arXiv 2512.15603): takes a picture apart into RGBA layers, without a mask.

The layer above the lowest one whose opaque part fits the mask best is the foreground, all others over one another are
the background.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.weights import locate, revision_of
from ..compose import over_u8, resize_rgba
from ..decomposition import U8, Bool, Decomposition
from ..diffusers_folders import load_pipeline
from ..matte import mask_of
from .pipelines_diffusers import revision_under, torch_generator

_WHITE = 255


class QwenLayered:
    """The pipeline with the settings of its model card.

    Args:
        pipeline: ``QwenImageLayeredPipeline``, loaded.
        revision: of its weights.
        prompt: what the picture shows; empty = the pipeline's own vision model describes it.
        layers: how many to ask for.
        steps: sampling steps.
    """

    def __init__(self, pipeline: Any, revision: str, prompt: str = "", layers: int = 4, steps: int = 50) -> None:
        self.revision, self._pipeline = revision_under(revision, prompt), pipeline
        self._prompt, self._layers, self._steps = prompt, layers, steps

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers; the foreground is clear where no layer meets the mask."""
        from PIL import Image

        output = self._pipeline(
            image=Image.fromarray(image).convert("RGBA"),
            prompt=self._prompt or None,
            negative_prompt=" ",
            true_cfg_scale=4.0,
            layers=self._layers,
            num_inference_steps=self._steps,
            resolution=640,
            cfg_normalize=True,
            use_en_prompt=True,
            generator=torch_generator(generator),
            output_type="np",
        )
        stack = (np.asarray(output.images[0]) * 255).round().astype(np.uint8)
        return matched([resize_rgba(layer, image.shape[:2]) for layer in stack], mask)


def matched(layers: list[U8], mask: Bool) -> Decomposition:
    """Split layers, lowest first, into the one that fits the mask best by IoU and the rest.

    Args:
        layers: one or more (H, W, 4), 8-bit, straight alpha; the lowest is never the foreground.
        mask: bool (H, W).

    Returns:
        The rest is laid on white; the foreground is clear where no layer shares a pixel with the mask.
    """
    scores = [_iou(mask_of(layer[..., 3]), mask) for layer in layers[1:]]
    best = 1 + int(np.argmax(scores)) if any(scores) else None
    background = np.full((*mask.shape, 3), _WHITE, np.uint8)
    for index, layer in enumerate(layers):
        if index != best:
            background = over_u8(layer, background)
    return Decomposition(background, np.zeros((*mask.shape, 4), np.uint8) if best is None else layers[best])


def _iou(first: Bool, second: Bool) -> float:
    return int(np.count_nonzero(first & second)) / max(int(np.count_nonzero(first | second)), 1)


def load_qwen_layered(weights: Path | None = None, prompt: str = "", device: str | None = None) -> QwenLayered:
    """Load the released pipeline from ``--weights`` or the hub cache.

    Raises:
        MissingWeights: it is in neither place; says the command that gets it.
    """
    folder = locate("qwen-image-layered", weights)
    return QwenLayered(load_pipeline(folder, "QwenImageLayeredPipeline", device), revision_of(folder), prompt)
