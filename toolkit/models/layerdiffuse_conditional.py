"""LayerDiffuse's conditional SDXL models (Zhang & Agrawala 2024): from a text and given pictures to the one that lacks.

Four forms are released, named by what is given and what is drawn: the foreground (``fg``), the background (``bg``), and
both together, the blend (``ble``). Each is SDXL with offsets, whose first convolution sees the latents of the given
pictures beside the noise. Two in a row draw the other layer::

    fg2bg: foreground → fg2ble → blend;  foreground, blend → fgble2bg → background
    bg2fg: background → bg2ble → blend;  background, blend → bgble2fg → foreground

Steps, guidance, samplers and the words to steer away from are those of the port to diffusers by rootonchair, which
follow the authors' extension for Forge; the paper's own are unverified, and none of this has been run here on the
released weights.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from ...manifests.prompts import Prompt
from ...manifests.weights import WEIGHTS
from ..diffusers_folders import expect_pipeline, load_part, placement
from ..generation import Generation
from .sdxl_offsets import widen

U8 = NDArray[np.uint8]

NEGATIVE = "bad, ugly"

_TO_FOREGROUND, _TO_BACKGROUND, DECODER = WEIGHTS["layerdiffuse-xl"].files
_FOREGROUND_TO_BLEND, _BACKGROUND_TO_BLEND = WEIGHTS["layerdiffuse-xl-blend"].files
_GREY = 127.5
_FACTOR = 8  # how much smaller a latent's sides are

_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of the released models.

    Attributes:
        file: of its offsets.
        given: how many pictures it sees.
        sampler: settings of a DPM-Solver++ that takes the place of the pipeline's sampler; empty = the pipeline's.
        share: of the noise levels, from the highest, that the offsets draw; the network without them draws the rest.
    """

    file: str
    given: int
    sampler: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0


FORMS: dict[str, Form] = {
    "fg2ble": Form(file=_FOREGROUND_TO_BLEND, given=1),
    "bg2ble": Form(file=_BACKGROUND_TO_BLEND, given=1, sampler=_SDE),
    "fgble2bg": Form(file=_TO_BACKGROUND, given=2, sampler=_SDE, share=0.62),
    "bgble2fg": Form(file=_TO_FOREGROUND, given=2),
}
"""By name; where two pictures are given, the layer comes first and the blend second."""


class ConditionalSdxl:
    """One form. Noise is drawn on the CPU, so a seed means the same on every device.

    Args:
        pipeline: of SDXL, without offsets; shared but for its UNet and its sampler, and left as it is.
        form: which.
        path: of the offsets.
        steps: sampling steps.
        guidance: classifier-free guidance scale.

    Attributes:
        pipeline: with the offsets.
        plain: the network without them, where the form hands over to it.

    Raises:
        UsageError: the offsets are not of this form, or not for this pipeline.
    """

    def __init__(self, pipeline: Any, form: Form, path: Path, *, steps: int = 20, guidance: float = 7.0) -> None:
        import diffusers

        self.form, self.steps, self.guidance = form, steps, guidance
        self.plain = pipeline.unet if form.share < 1 else None
        self.pipeline = copy.copy(pipeline)
        self.pipeline.unet = self._conditioned = copy.deepcopy(pipeline.unet)
        widen(self._conditioned, path)
        channels = pipeline.unet.conv_in.in_channels
        wanted, got = channels + form.given * pipeline.vae.config.latent_channels, self._conditioned.conv_in.in_channels
        if got != wanted:
            raise UsageError(f"expected offsets for {wanted} channels in {path}, got {got}; is it another form's file?")
        if form.sampler:
            sampler: Any = diffusers.DPMSolverMultistepScheduler
            self.pipeline.scheduler = sampler.from_config(pipeline.scheduler.config, **form.sampler)

    def to(self, place: str, dtype: Any) -> "ConditionalSdxl":
        """Move all networks."""
        self.pipeline.to(place, dtype)
        if self.plain is not None:
            self.plain.to(place, dtype)
        return self

    def picture(self, prompt: str, given: Sequence[U8], generator: Any, negative: str = "") -> U8:
        """Draw a picture, 8-bit (H, W, 3).

        Args:
            prompt: what it shows; CLIP reads its first 77 tokens.
            given: 8-bit (H, W, 3) each, as many as the form sees, in its order; sides that 8 divides.
            generator: of torch, on the CPU.
            negative: what to steer away from; empty = the port's words.

        Raises:
            UsageError: other pictures.
        """
        drawn = self._drawn(prompt, given, generator, negative, "np")[0]
        return np.asarray((drawn * 255).round(), np.uint8)

    def latent(self, prompt: str, given: Sequence[U8], generator: Any, negative: str = "") -> Any:
        """Draw a latent, (1, 4, H/8, W/8), scaled by the VAE's factor; see :meth:`picture`."""
        return self._drawn(prompt, given, generator, negative, "latent")

    def _drawn(self, prompt: str, given: Sequence[U8], generator: Any, negative: str, kind: str) -> Any:
        import torch

        self._expect(given)
        pipeline, (height, width) = self.pipeline, given[0].shape[:2]
        shape = (1, pipeline.unet.config.in_channels, height // _FACTOR, width // _FACTOR)
        # Drawn in float32: in bfloat16 the same seed would draw other noise.
        noise = torch.randn(shape, generator=generator).to(pipeline.unet.dtype)
        with self._beside(torch.cat([self._latent_of(picture) for picture in given], 1)):
            return pipeline(
                prompt=prompt,
                negative_prompt=negative or NEGATIVE,
                width=width,
                height=height,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                latents=noise,
                generator=generator,
                output_type=kind,
                callback_on_step_end=self._finish_plainly,
            ).images

    def _expect(self, given: Sequence[U8]) -> None:
        shapes = [picture.shape for picture in given]
        fits = len(shapes) == self.form.given and len(set(shapes)) == 1
        if not fits or any(side % _FACTOR for side in shapes[0][:2]):
            raise UsageError(
                f"{self.form.file}: expected pictures of one size whose sides {_FACTOR} divides, {self.form.given} in "
                f"number, got {shapes}"
            )

    @contextmanager
    def _beside(self, condition: Any) -> Iterator[None]:
        """While it lasts, the first convolution sees latents beside what it is given."""
        import torch

        def widened(module: Any, given: tuple[Any]) -> tuple[Any]:
            return (torch.cat([given[0], condition.expand(len(given[0]), -1, -1, -1)], 1),)

        hook = self._conditioned.conv_in.register_forward_pre_hook(widened)
        try:
            yield
        finally:
            hook.remove()
            self.pipeline.unet = self._conditioned

    def _latent_of(self, picture: U8) -> Any:
        import torch

        vae = self.pipeline.vae
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].to(vae.device, vae.dtype)
        with torch.no_grad():
            return vae.encode(pixels / 127.5 - 1).latent_dist.mean * vae.config.scaling_factor

    def _finish_plainly(self, pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        """After a step: hand the rest to the network without offsets, once the noise is low."""
        following = pipeline.scheduler.timesteps[step + 1 : step + 2]
        levels = pipeline.scheduler.config.num_train_timesteps
        if self.plain is not None and len(following) and following[0] < round(levels * (1 - self.form.share)):
            pipeline.unet = self.plain
        return state


def on_grey(rgba: U8) -> U8:
    """An 8-bit (H, W, 4) cut-out over mid grey, (H, W, 3), which is how the models are shown one."""
    straight = rgba.astype(np.float32)
    return np.rint((straight[..., :3] - _GREY) * (straight[..., 3:] / 255) + _GREY).astype(np.uint8)


def load_forms(
    base: Path, folders: Mapping[str, Path], device: str | None = None, **sampling: Any
) -> dict[str, ConditionalSdxl]:
    """Load forms that share one pipeline: bfloat16 on CUDA, float32 on the CPU; nothing is downloaded.

    Offsets are added in float32 before they are rounded to what the device runs. Each form has a UNet of its own, 5 GB
    in bfloat16.

    Args:
        base: the SDXL pipeline's folder.
        folders: of the released files, by name of the form.
        device: None = CUDA where there is one, else the CPU.
        sampling: ``steps`` and ``guidance`` of :class:`ConditionalSdxl`.

    Raises:
        UsageError: the folder holds no SDXL pipeline, or the offsets do not fit it.
        MissingWeights: the pipeline's safetensors are not complete.
    """
    import torch

    place, dtype = placement(device)
    expect_pipeline(base, "StableDiffusionXLPipeline")
    pipeline = load_part("StableDiffusionXLPipeline", base, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = {
        name: ConditionalSdxl(pipeline, FORMS[name], folder / FORMS[name].file, **sampling)
        for name, folder in folders.items()
    }
    return {name: form.to(place, dtype) for name, form in made.items()}


# ---- two forms in a row


class AroundForeground:
    """``fg2bg``: the blend that a cut-out stands in, and the background behind it.

    The blend shows the prompt, the background its own text where the prompt has one. Each form begins with the seed
    anew, as in the port's examples.

    Args:
        blend: ``fg2ble``.
        background: ``fgble2bg``.
    """

    def __init__(self, blend: ConditionalSdxl, background: ConditionalSdxl) -> None:
        self._blend, self._background = blend, background

    def __call__(self, foreground: U8, prompt: Prompt, seed: int) -> Generation:
        """Draw both around an 8-bit (H, W, 4) cut-out, sides that 8 divides, straight alpha.

        Raises:
            UsageError: a side that 8 does not divide.
        """
        shown = on_grey(foreground)
        blend = self._blend.picture(prompt.prompt, [shown], _seeded(seed), prompt.negative)
        text = prompt.background or prompt.prompt
        background = self._background.picture(text, [shown, blend], _seeded(seed), prompt.negative)
        return Generation(np.where(foreground[..., 3:] > 0, foreground, np.uint8(0)), background, blend)


class BeforeBackground:
    """``bg2fg``: the blend that a background takes part in, and the cut-out before it; texts and seed as above.

    Args:
        blend: ``bg2ble``.
        foreground: ``bgble2fg``.
        decoder: a ``TransparentDecoder``, on the pipeline's device.
    """

    def __init__(self, blend: ConditionalSdxl, foreground: ConditionalSdxl, decoder: Any) -> None:
        self._blend, self._foreground, self._decoder = blend, foreground, decoder

    def __call__(self, background: U8, prompt: Prompt, seed: int) -> Generation:
        """Draw both before an 8-bit (H, W, 3) background.

        Raises:
            UsageError: a side that the decoder cannot halve, 64 for the released one.
        """
        from .transparent_vae import cutout

        height, width = background.shape[:2]
        if height % self._decoder.multiple or width % self._decoder.multiple:
            raise UsageError(f"expected sides that {self._decoder.multiple} divides, got {width}x{height} px")
        blend = self._blend.picture(prompt.prompt, [background], _seeded(seed), prompt.negative)
        text = prompt.foreground or prompt.prompt
        latent = self._foreground.latent(text, [background, blend], _seeded(seed), prompt.negative)
        return Generation(cutout(self._foreground.pipeline.vae, self._decoder, latent), background, blend)


def _seeded(seed: int) -> Any:
    import torch

    return torch.Generator("cpu").manual_seed(seed)
