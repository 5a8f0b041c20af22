"""LayerDiffuse's SDXL models that draw one layer from the picture and the other layer (Zhang & Agrawala 2024).

``bgble2fg`` draws the cut-out in front of a known background, ``fgble2bg`` the background behind a known foreground.
Neither takes a mask. Here the known layer comes from the mask by a classical method, PatchMatch or closed-form matting,
so the model's own layer is the one to judge. The released offsets are added to an SDXL pipeline whose first convolution
is widened to see both pictures' latents; settings are those of the port to diffusers by rootonchair.
"""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import WEIGHTS, locate, revision_of
from ..compose import resize_rgba
from ..decomposition import U8, Bool, Decomposition
from ..diffusers_folders import load_part, placement
from ..inpaint import PatchMatch
from ..models.layerdiffuse import add_offsets
from .classical import ClosedFormMatting
from .pipelines_diffusers import revision_under, torch_generator
from .resizing import resized

NEGATIVE = "bad, ugly"
NATIVE = 1024

_TO_FOREGROUND, _TO_BACKGROUND, _DECODER = WEIGHTS["layerdiffuse-xl"].files
_STEPS, _GUIDANCE = 20, 7.0
_MULTIPLE = 64
# The offsets of fgble2bg draw the first 62 % of the noise levels, the plain network the rest.
_CONDITIONED_SHARE = 0.62
_GREY = 127.5
_LAYERS_A_LEVEL = 3

_SCHEDULE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}


class LayerDiffuse:
    """What both models share: an SDXL pipeline that sees two pictures beside the noise.

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

    offsets: str

    def __init__(self, base: Path, layers: Path, prompt: str, native: int = NATIVE, device: str | None = None) -> None:
        import torch

        if not prompt:
            raise UsageError("expected a prompt that says what the layer shows, got none; give --prompt")
        place, dtype = placement(device)
        self.revision = revision_under(f"{revision_of(base)}+{revision_of(layers)}", prompt)
        self._prompt, self._native = prompt, native
        self._known = ClosedFormMatting(PatchMatch())
        pipeline = load_part("StableDiffusionXLPipeline", base, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        self._plain = copy.deepcopy(pipeline.unet).to(place, dtype)
        widen(pipeline.unet, layers / self.offsets)
        self._pipeline = pipeline.to(place, dtype)
        self._conditioned = pipeline.unet

    def _size(self, mask: Bool) -> tuple[int, int]:
        scale = self._native / max(mask.shape)
        height, width = (max(round(side * scale / _MULTIPLE), 1) * _MULTIPLE for side in mask.shape)
        return height, width

    def _drawn(self, first: U8, second: U8, generator: np.random.Generator, **more: Any) -> Any:
        """The output of one run that sees the latents of two 8-bit (H, W, 3) pictures of the working size."""
        import torch

        condition = torch.cat([self._latent(first), self._latent(second)], 1)

        def beside(module: Any, given: tuple[Any]) -> tuple[Any]:
            return (torch.cat([given[0], condition.expand(len(given[0]), -1, -1, -1)], 1),)

        hook = self._conditioned.conv_in.register_forward_pre_hook(beside)
        self._pipeline.unet = self._conditioned
        try:
            return self._pipeline(
                prompt=self._prompt,
                negative_prompt=NEGATIVE,
                width=first.shape[1],
                height=first.shape[0],
                num_inference_steps=_STEPS,
                guidance_scale=_GUIDANCE,
                generator=torch_generator(generator),
                **more,
            ).images
        finally:
            hook.remove()

    def _latent(self, picture: U8) -> Any:
        import torch

        vae = self._pipeline.vae
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].to(vae.device, vae.dtype)
        with torch.no_grad():
            return vae.encode(pixels / 127.5 - 1).latent_dist.mean * vae.config.scaling_factor


class BackgroundToForeground(LayerDiffuse):
    """``bgble2fg``: PatchMatch's background, and the cut-out that LayerDiffuse draws before it."""

    offsets = _TO_FOREGROUND

    def __init__(self, base: Path, layers: Path, prompt: str, native: int = NATIVE, device: str | None = None) -> None:
        from ..models.transparent_vae import load_decoder

        super().__init__(base, layers, prompt, native, device)
        self._decoder = load_decoder(layers / _DECODER).to(self._pipeline.device)

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers; raises BadImage where the mask leaves no background."""
        from ..models.transparent_vae import decode

        known, size = self._known(image, mask, generator), self._size(mask)
        latent = self._drawn(resized(known.background, size), resized(image, size), generator, output_type="latent")
        vae = self._pipeline.vae
        rgba = decode(vae, self._decoder, latent / vae.config.scaling_factor)[0].permute(1, 2, 0).cpu().numpy()
        foreground = np.ascontiguousarray((rgba * 255).round().astype(np.uint8))
        return replace(known, foreground=resize_rgba(foreground, image.shape[:2]))


class ForegroundToBackground(LayerDiffuse):
    """``fgble2bg``: closed-form matting's foreground, and the background that LayerDiffuse draws behind it."""

    offsets = _TO_BACKGROUND

    def __init__(self, base: Path, layers: Path, prompt: str, native: int = NATIVE, device: str | None = None) -> None:
        import diffusers

        super().__init__(base, layers, prompt, native, device)
        sampler: Any = diffusers.DPMSolverMultistepScheduler
        self._pipeline.scheduler = sampler.from_config(self._pipeline.scheduler.config, **_SCHEDULE)

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers; raises BadImage where the mask leaves no background."""
        known, size = self._known(image, mask, generator), self._size(mask)
        drawn = self._drawn(
            _on_grey(known.foreground, size),
            resized(image, size),
            generator,
            output_type="np",
            callback_on_step_end=self._finish_plainly,
        )
        background = (drawn[0] * 255).round().astype(np.uint8)
        return replace(known, background=resized(background, image.shape[:2]))

    def _finish_plainly(self, pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        """After a step: hand the rest to the network without offsets, once the noise is low."""
        following = pipeline.scheduler.timesteps[step + 1 : step + 2]
        levels = pipeline.scheduler.config.num_train_timesteps
        if len(following) and following[0] < round(levels * (1 - _CONDITIONED_SHARE)):
            pipeline.unet = self._plain
        return state


def _on_grey(foreground: U8 | None, size: tuple[int, int]) -> U8:
    """A cut-out of (height, width) over mid grey, which is how the models are shown one."""
    rgba = resize_rgba(np.asarray(foreground), size).astype(np.float32)
    return np.rint((rgba[..., :3] - _GREY) * (rgba[..., 3:] / 255) + _GREY).astype(np.uint8)


# ---- files


def widen(unet: Any, path: Path) -> None:
    """Widen a UNet's first convolution as the file asks, with zeros, and add the file's offsets to its weights.

    Raises:
        UsageError: the file cannot be read, or holds other tensors than the UNet has.
    """
    import torch

    from ..models.tensor_files import read_tensors

    offsets = {diffusers_name(name): offset for name, offset in read_tensors(path).items()}
    first = offsets.get("conv_in.weight")
    if first is None or first.ndim != 4:
        raise UsageError(f"expected offsets of a UNet's first convolution in {path}, found none; get the file again")
    old = unet.conv_in
    unet.conv_in = torch.nn.Conv2d(first.shape[1], old.out_channels, old.kernel_size, padding=old.padding)
    with torch.no_grad():
        unet.conv_in.weight.zero_()[:, : old.in_channels] = old.weight
        unet.conv_in.bias.copy_(old.bias)
    add_offsets(unet, offsets, path)


_ENDS = {
    "input_blocks.0.0.": "conv_in.",
    "middle_block.0.": "mid_block.resnets.0.",
    "middle_block.1.": "mid_block.attentions.0.",
    "middle_block.2.": "mid_block.resnets.1.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")


def diffusers_name(name: str) -> str:
    """What diffusers calls a weight of SDXL's UNet that the released files name as its authors do."""
    name = re.sub(r"::diff::\d+$", "", name).removeprefix("model.").removeprefix("diffusion_model.")
    for end, theirs in _ENDS.items():
        if name.startswith(end):
            return _resnet_name(theirs + name.removeprefix(end))
    if not (found := _BLOCK.fullmatch(name)):
        return name
    half, index, part, rest = found.groups()
    level, layer = divmod(int(index) - (half == "input"), _LAYERS_A_LEVEL)
    block = f"{'down' if half == 'input' else 'up'}_blocks.{level}"
    if rest.startswith("op."):
        return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if rest.startswith("conv."):
        return f"{block}.upsamplers.0.{rest}"
    return _resnet_name(f"{block}.{'attentions' if int(part) else 'resnets'}.{layer}.{rest}")


def _resnet_name(name: str) -> str:
    for old, new in _RESNET.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def load_layerdiffuse(
    kind: type[LayerDiffuse], weights: Path | None = None, prompt: str = "", device: str | None = None
) -> Any:
    """Load one of the two models from ``--weights`` or the hub cache.

    Raises:
        UsageError: no prompt, or the files do not fit together.
        MissingWeights: files are in neither place; says the command that gets them.
    """
    return kind(locate("sdxl-base", weights), locate("layerdiffuse-xl", weights), prompt, device=device)
