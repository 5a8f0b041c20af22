"""LayerDiffuse's SDXL models that draw one layer from the picture and the other layer (Zhang & Agrawala 2024).

``bgble2fg`` draws the cut-out in front of a known background, ``fgble2bg`` the background behind a known foreground.
Neither takes a mask. Here the known layer comes from the mask by a classical method, PatchMatch or closed-form matting,
so the model's own layer is the one to judge.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import locate, revision_of
from ..compose import resize_rgba
from ..decomposition import U8, Bool, Decomposition
from ..inpaint import PatchMatch
from ..models.layerdiffuse_conditional import DECODER, load_forms, on_grey
from .classical import ClosedFormMatting
from .pipelines_diffusers import revision_under, torch_generator
from .resizing import resized

NATIVE = 1024

_MULTIPLE = 64


class LayerDiffuse:
    """What both models share: one of the conditional forms, and the layers that are known without it.

    Args:
        base: the SDXL pipeline's folder.
        layers: the folder of the released files.
        prompt: what the layer shows.
        native: longest side that it works at, px.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        UsageError: no prompt, or the files do not fit together.
        MissingWeights: the pipeline's safetensors are not complete.
    """

    form: str

    def __init__(self, base: Path, layers: Path, prompt: str, native: int = NATIVE, device: str | None = None) -> None:
        if not prompt:
            raise UsageError("expected a prompt that says what the layer shows, got none; give --prompt")
        self.revision = revision_under(f"{revision_of(base)}+{revision_of(layers)}", prompt)
        self._prompt, self._native = prompt, native
        self._known = ClosedFormMatting(PatchMatch())
        self._draw = load_forms(base, {self.form: layers}, device)[self.form]

    def _size(self, mask: Bool) -> tuple[int, int]:
        scale = self._native / max(mask.shape)
        height, width = (max(round(side * scale / _MULTIPLE), 1) * _MULTIPLE for side in mask.shape)
        return height, width


class BackgroundToForeground(LayerDiffuse):
    """``bgble2fg``: PatchMatch's background, and the cut-out that LayerDiffuse draws before it."""

    form = "bgble2fg"

    def __init__(self, base: Path, layers: Path, prompt: str, native: int = NATIVE, device: str | None = None) -> None:
        from ..models.transparent_vae import load_decoder

        super().__init__(base, layers, prompt, native, device)
        self._decoder = load_decoder(layers / DECODER).to(self._draw.pipeline.device)

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers; raises BadImage where the mask leaves no background."""
        from ..models.transparent_vae import cutout

        known, size = self._known(image, mask, generator), self._size(mask)
        given = [resized(known.background, size), resized(image, size)]
        latent = self._draw.latent(self._prompt, given, torch_generator(generator))
        foreground = cutout(self._draw.pipeline.vae, self._decoder, latent)
        return replace(known, foreground=resize_rgba(foreground, image.shape[:2]))


class ForegroundToBackground(LayerDiffuse):
    """``fgble2bg``: closed-form matting's foreground, and the background that LayerDiffuse draws behind it."""

    form = "fgble2bg"

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers; raises BadImage where the mask leaves no background."""
        known, size = self._known(image, mask, generator), self._size(mask)
        given = [on_grey(resize_rgba(np.asarray(known.foreground), size)), resized(image, size)]
        background = self._draw.picture(self._prompt, given, torch_generator(generator))
        return replace(known, background=resized(background, image.shape[:2]))


def load_layerdiffuse(
    kind: type[LayerDiffuse], weights: Path | None = None, prompt: str = "", device: str | None = None
) -> Any:
    """Load one of the two models from ``--weights`` or the hub cache.

    Raises:
        UsageError: no prompt, or the files do not fit together.
        MissingWeights: files are in neither place; says the command that gets them.
    """
    return kind(locate("sdxl-base", weights), locate("layerdiffuse-xl", weights), prompt, device=device)
