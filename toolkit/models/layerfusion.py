"""Draws foreground and background from text together: LayerFusion (Dalva et al. 2024, arXiv 2412.04460).

Nothing is trained. Three pictures are sampled side by side by one SDXL network: the foreground, on LayerDiffuse's
attention weights; the scene with the object in it (the blend); and the scene alone. Masks read off the foreground's own
attention say where the foreground enters the blend, and where it takes the blend's light and colour in return; the
blend looks at the background as well. ``layerfusion_masks`` has the equations, ``layerfusion_options`` what
the paper leaves open. The sampler and its defaults are LayerDiffuse's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from ...manifests.prompts import Prompt
from ...manifests.weights import WEIGHTS, locate, revision_of
from ..diffusers_folders import placement
from ..generation import Generation
from .layerdiffuse import ATTENTION_FILE, DECODER_FILE, NEGATIVE, expect_size, sdxl_pipeline
from .layerfusion_options import FusionOptions

_BASE, _LAYERS = "layerdiffuse-sdxl-base", "layerdiffuse-sdxl"
_LICENCE = f"{WEIGHTS[_BASE].licence}, {WEIGHTS[_LAYERS].licence}"


@dataclass(frozen=True, eq=False)
class Fused(Generation):
    """A generation whose ``blend`` is the blended stream; generative blending, where ``image`` is alpha blending.

    Attributes:
        masks: m_soft as every step read it, float32 (steps, h, w) in 0..1; zero where nothing is blended.
    """

    masks: NDArray[np.float32] | None = None


class LayerFusionGenerator:
    """LayerFusion on an SDXL pipeline folder and LayerDiffuse's files. Noise is drawn on the CPU, in float32.

    So a seed means the same on every device, and the foreground's noise is that of LayerDiffuse. A prompt's layers have
    texts of their own where it gives them (``Prompt.foreground``, ``Prompt.background``); the blend has ``prompt``.
    Nothing is downloaded. Networks run in bfloat16 on CUDA and in float32 on the CPU, the transparent decoder always in
    float32. In memory stand the pipeline and the foreground's attention weights.

    Args:
        base: the pipeline folder; the paper's is RealVisXL 4.0.
        layers: the folder of LayerDiffuse's released safetensors.
        name: what provenance records call it.
        licence: of the weights.
        options: what the paper varies or leaves open.
        size: width and height in pixels.
        steps: sampling steps.
        guidance: classifier-free guidance scale; at most 1 is none.
        negative: what all layers are steered away from, where a prompt does not say.
        batch: pictures at a time, six rows of the network each; decides memory and speed alone.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        UsageError: the folder holds no SDXL pipeline, the safetensors do not fit it, or the size does not fit them.
        MissingWeights: the pipeline's safetensors are not complete.
    """

    has_background = True

    def __init__(
        self,
        base: Path,
        layers: Path,
        *,
        name: str = "layerfusion-sdxl",
        licence: str = _LICENCE,
        options: FusionOptions | None = None,
        size: tuple[int, int] = (896, 1152),
        steps: int = 25,
        guidance: float = 7.0,
        negative: str = NEGATIVE,
        batch: int = 1,
        device: str | None = None,
    ) -> None:
        from .layerfusion_attention import foreground_weights, fuse
        from .tensor_files import read_tensors
        from .transparent_vae import load_decoder

        self.name, self.licence, self.revision = name, licence, f"{revision_of(base)}+{revision_of(layers)}"
        self.size, self.steps, self.guidance, self.negative = size, steps, guidance, negative
        self.options, self.batch = options or FusionOptions(), batch
        decoder = load_decoder(layers / DECODER_FILE)
        expect_size(size, decoder.multiple)
        pipeline = sdxl_pipeline(base)
        path = layers / ATTENTION_FILE
        own = foreground_weights(pipeline.unet, read_tensors(path), path)
        self._pipeline = pipeline.to(*placement(device))
        self._fusion = fuse(pipeline.unet, self.options, own)
        self._decoder = decoder.to(pipeline.device)

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """Draw one generation a prompt; see :meth:`fused`."""
        return [*self.fused(prompts, seeds)]

    def fused(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Fused]:
        """Draw one generation a prompt, with the masks that made it.

        Args:
            prompts: what to draw; CLIP reads the first 77 tokens of a text.
            seeds: of the noise, one a prompt, 0 or more; a prompt's own ``seed`` is not looked at.

        Raises:
            UsageError: not one seed a prompt.
        """
        if len(prompts) != len(seeds):
            raise UsageError(f"expected a seed for each of {len(prompts)} prompts, got {len(seeds)}")
        parts = [slice(first, first + self.batch) for first in range(0, len(prompts), self.batch)]
        return [made for part in parts for made in self._drawn(prompts[part], seeds[part])]

    def _drawn(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Iterator[Fused]:
        from .layerfusion_streams import sample
        from .transparent_vae import cutout

        pipeline = self._pipeline
        made = sample(
            pipeline.unet,
            pipeline.scheduler,
            self._noise(seeds).to(pipeline.device, pipeline.unet.dtype),
            self._texts(prompts),
            self._fusion,
            steps=self.steps,
            guidance=self.guidance,
        )
        for index in range(len(prompts)):
            foreground, blend, background = made.latents[:, index, None]
            yield Fused(
                foreground=cutout(pipeline.vae, self._decoder, foreground),
                background=_decoded(pipeline.vae, background),
                blend=_decoded(pipeline.vae, blend),
                masks=made.masks[:, index].numpy(),
            )

    def _noise(self, seeds: Sequence[int]) -> Any:
        """(3, N, C, H/8, W/8); each picture's of its own seed, the foreground's first."""
        import torch

        width, height = self.size
        count = 1 if self.options.noise == "shared" else 3
        shape = (count, self._pipeline.unet.config.in_channels, height // 8, width // 8)
        drawn = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
        return torch.stack([noise.expand(3, -1, -1, -1) for noise in drawn], 1)

    def _texts(self, prompts: Sequence[Prompt]) -> Any:
        """All streams' texts, encoded; rows as ``layerfusion_streams.Texts`` has them."""
        import torch

        from .layerfusion_attention import STREAMS
        from .layerfusion_masks import eos_positions
        from .layerfusion_streams import Texts

        pipeline, guided = self._pipeline, self.guidance > 1
        foregrounds = [one.foreground or one.prompt for one in prompts]
        texts = [*foregrounds, *(one.prompt for one in prompts), *(one.background or one.prompt for one in prompts)]
        negatives = [one.negative or self.negative for one in prompts] * STREAMS
        with torch.no_grad():
            states, without, pooled, pooled_without = pipeline.encode_prompt(
                texts, negative_prompt=negatives, do_classifier_free_guidance=guided
            )
        tokens = pipeline.tokenizer(foregrounds, padding="max_length", truncation=True, return_tensors="pt").input_ids
        width, height = self.size
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=states.dtype, device=states.device)
        states, pooled = (
            torch.cat(each) if guided else each[1] for each in ((without, states), (pooled_without, pooled))
        )
        return Texts(
            states=states,
            added={"text_embeds": pooled, "time_ids": sizes.expand(len(states), -1)},
            eos=eos_positions(tokens, pipeline.tokenizer.eos_token_id).to(states.device),
            halves=2 if guided else 1,
        )


def _decoded(vae: Any, latent: Any) -> NDArray[np.uint8]:
    """The 8-bit picture of a latent (1, 4, H/8, W/8) scaled by the VAE's factor."""
    import torch

    with torch.no_grad():
        shown = vae.decode((latent / vae.config.scaling_factor).to(vae.dtype)).sample[0].float()
    pixels: Any = (shown / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


def load_layerfusion(
    weights: Path | None = None,
    *,
    options: FusionOptions | None = None,
    size: tuple[int, int] = (896, 1152),
    steps: int = 25,
    guidance: float = 7.0,
    batch: int = 1,
    device: str | None = None,
) -> LayerFusionGenerator:
    """LayerFusion on LayerDiffuse's base and files, from ``weights`` (``--weights``) or the hub cache.

    Args:
        weights: a folder that holds ``layerdiffuse-sdxl-base`` and ``layerdiffuse-sdxl``.
        options: see :class:`LayerFusionGenerator`, as for the others.
        size: width and height in pixels.
        steps: sampling steps.
        guidance: classifier-free guidance scale.
        batch: pictures at a time.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        UsageError: the files there do not fit together.
        MissingWeights: files are in neither place; says which, and the command that gets them.
    """
    return LayerFusionGenerator(
        locate(_BASE, weights),
        locate(_LAYERS, weights),
        options=options,
        size=size,
        steps=steps,
        guidance=guidance,
        batch=batch,
        device=device,
    )
