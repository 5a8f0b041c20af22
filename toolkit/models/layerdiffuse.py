"""Makes a cut-out from text: LayerDiffuse (Zhang & Agrawala 2024, arXiv 2402.17113) on an SDXL pipeline of diffusers.

Offsets on the attention make the pipeline draw a foreground alone; ``transparent_vae`` reads its alpha. The defaults
are those of the authors' demonstration, whose DPM-Solver++ (2M) on Karras' noise levels diffusers has as well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...manifests.errors import UsageError
from ...manifests.weights import WEIGHTS, locate, revision_of
from ..diffusers_folders import expect_pipeline, load_part, placement
from .sdxl_offsets import add_offsets

Bytes = npt.NDArray[np.uint8]

NEGATIVE = "face asymmetry, eyes asymmetry, deformed eyes, open mouth"

ATTENTION_FILE, _, DECODER_FILE = WEIGHTS["layerdiffuse-sdxl"].files


class CutoutGenerator(Protocol):
    """A named, versioned function from a text and a seed to a cut-out."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: commits or content hashes of its weights."""

    def __call__(self, prompt: str, seed: int, negative: str = "") -> Bytes:
        """Return an 8-bit (H, W, 4) picture, straight alpha, with no colour where nothing is visible."""


class LayerDiffuseGenerator:
    """LayerDiffuse on an SDXL pipeline folder. Noise is drawn on the CPU, so a seed means the same on every device.

    Nothing is downloaded, and only diffusers' own classes and safetensors are loaded. The pipeline runs in bfloat16 on
    CUDA and in float32 on the CPU; the transparent decoder always in float32, as 8 bits of alpha need more than 8 bits.

    Args:
        base: the pipeline folder; RealVisXL 4.0 is what the released offsets are shown with.
        layers: the folder of the released safetensors.
        name: what provenance records call it.
        size: width and height in pixels.
        steps: sampling steps.
        guidance: classifier-free guidance scale.
        negative: what the picture is steered away from, where a call does not say.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        UsageError: the folder holds no SDXL pipeline, the safetensors do not fit it, or the size does not fit them.
        MissingWeights: the pipeline's safetensors are not complete.
    """

    def __init__(
        self,
        base: Path,
        layers: Path,
        *,
        name: str = "layerdiffuse-sdxl",
        size: tuple[int, int] = (896, 1152),
        steps: int = 25,
        guidance: float = 7.0,
        negative: str = NEGATIVE,
        device: str | None = None,
    ) -> None:
        from .transparent_vae import load_decoder

        self.name, self.revision = name, f"{revision_of(base)}+{revision_of(layers)}"
        self.size, self.steps, self.guidance, self.negative = size, steps, guidance, negative
        decoder = load_decoder(layers / DECODER_FILE)
        expect_size(size, decoder.multiple)
        self._pipeline = _pipeline(base, layers / ATTENTION_FILE, device)
        self._decoder = decoder.to(self._pipeline.device)

    def __call__(self, prompt: str, seed: int, negative: str = "") -> Bytes:
        """Return an 8-bit (H, W, 4) picture, straight alpha as the decoder gives it; alpha 0 has no colour.

        Args:
            prompt: what to draw; CLIP reads its first 77 tokens.
            seed: of the noise, 0 or more; the same seed gives the same picture.
            negative: what to steer away from; empty = the generator's own.
        """
        from .transparent_vae import cutout

        return cutout(self._pipeline.vae, self._decoder, self._sampled(prompt, seed, negative or self.negative))

    def _sampled(self, prompt: str, seed: int, negative: str) -> Any:
        """The latent of a picture, (1, 4, H/8, W/8), scaled by the VAE's factor."""
        import torch

        pipeline, (width, height) = self._pipeline, self.size
        shape = (1, pipeline.unet.config.in_channels, height // 8, width // 8)
        # Drawn in float32: in bfloat16 the same seed would draw other noise.
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        return pipeline(
            prompt=prompt,
            negative_prompt=negative,
            width=width,
            height=height,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            latents=noise.to(pipeline.unet.dtype),
            output_type="latent",
        ).images


def _pipeline(base: Path, attention: Path, device: str | None) -> Any:
    """The SDXL pipeline with the attention's offsets added, in float32 before it is rounded to what the device runs."""
    from .tensor_files import read_tensors

    pipeline = sdxl_pipeline(base)
    add_offsets(pipeline.unet, read_tensors(attention), attention)
    return pipeline.to(*placement(device))


def sdxl_pipeline(base: Path) -> Any:
    """An SDXL pipeline folder with LayerDiffuse's sampler: float32, on the CPU, silent.

    Raises:
        UsageError: the folder holds no SDXL pipeline.
        MissingWeights: its safetensors are not complete.
    """
    import diffusers
    import torch

    expect_pipeline(base, "StableDiffusionXLPipeline")
    pipeline = load_part("StableDiffusionXLPipeline", base, dtype=torch.float32)
    sampler: Any = diffusers.DPMSolverMultistepScheduler
    pipeline.scheduler = sampler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++", solver_order=2, use_karras_sigmas=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def expect_size(size: tuple[int, int], multiple: int) -> None:
    """Make sure that a decoder can halve both sides as often as it does.

    Raises:
        UsageError: ``multiple`` does not divide a side, or one is not above 0.
    """
    if any(side < 1 or side % multiple for side in size):
        raise UsageError(f"expected sides that {multiple} divides, got {size[0]}x{size[1]} px")


def _layerdiffuse_sdxl(weights: Path | None) -> CutoutGenerator:
    return LayerDiffuseGenerator(locate("layerdiffuse-sdxl-base", weights), locate("layerdiffuse-sdxl", weights))


GENERATORS: dict[str, Callable[[Path | None], CutoutGenerator]] = {"layerdiffuse-sdxl": _layerdiffuse_sdxl}


def load_generator(name: str, weights: Path | None = None) -> CutoutGenerator:
    """Return the generator called ``name``, its weights from ``weights`` (``--weights``) or the hub cache.

    Raises:
        UsageError: unknown name, or the files there do not fit together.
        MissingWeights: files are in neither place; says which, and the command that gets them.
    """
    loader = GENERATORS.get(name)
    if loader is None:
        raise UsageError(f"expected a generator ({', '.join(GENERATORS)}), got {name!r}")
    return loader(weights)
