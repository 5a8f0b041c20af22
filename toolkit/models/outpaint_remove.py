"""Outpaint-and-Remove (arXiv 2511.20996): an image and a mask to a background and an RGBA foreground.

The background is the image painted anew inside the mask, the foreground the object painted on outside of it, both by
one inpainting model (``outpaint_remove_network``) in one go. Its options, training step and sampler; what the paper
leaves open is an option, whose default is ours. All pictures here are float tensors in 0..1, alpha straight.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...manifests.errors import UsageError
from . import rgba_vae
from .bases import cast, factor_of
from .codecs import VaeCodec
from .context_fusion import ContextFusion
from .contexts import Contexts, require_known
from .flow_matching import Scheme, Velocity, drawn_levels, sample
from .flux_fill import FluxFill, Text, dynamic_shift, load_flux_fill
from .outpaint_remove_network import OutpaintRemoveNetwork, Streams
from .system import Origin, System, Triplets

ForegroundSees = Literal["complement", "empty", "background"]

_GREY = 0.5  # what the base sees where a picture is masked: zero in -1..1


@dataclass(frozen=True, kw_only=True)
class OutpaintRemoveOptions:
    """Everything that makes an Outpaint-and-Remove. The paper states rank, contexts and where LoRA is.

    Attributes:
        rank: of LoRA; the paper takes 256, and 128 and 1,024 in its ablation.
        alpha: LoRA adds alpha / rank times its product; 0 stands for the rank.
        streams: ``joint``, one sequence of both layers; ``batched``, two that do not see each other.
        foreground_context: whether the foreground's stream sees the object, to paint on outside the mask; an ablation.
        without_context: what it sees otherwise: ``empty``, nothing, and everything to paint; or ``background``, what
            the background's stream sees.
        contexts: kinds of pictures of context, of ``contexts.CONTEXTS``; none is the ablation without.
        fusion_width: of the fusion's attention; a multiple of ``fusion_heads`` and of 4.
        fusion_heads: of it.
        fusion_blocks: of cross-attention and feed-forward layer.
        rgba_vae: folder of the foreground's VAE, or of a run of ``rgba-vae``. Empty: the base's VAE with an alpha that
            is not trained, so that every foreground is opaque.
        text: what stands for the text: ``empty``, the empty prompt as the base's encoders see it; or ``zeros``.
        text_tokens: how many tokens of it there are.
        base_dtype: of all that is frozen; what is trained is float32.
        levels: how noise levels are drawn in training.
        level_mean: of the normal distribution behind ``logit-normal``.
        level_deviation: of it.
        shift_training: whether drawn levels move up with the picture's size, as the sampler's do.
        shift_sampling: whether the sampler's levels do; FLUX.1-Fill's do.
        guidance_training: what a base distilled by guidance is told in training.
        guidance: the same in sampling; 30 is FLUX.1-Fill's default.
        steps: of the sampler; 50 is FLUX.1-Fill's default.
    """

    rank: int = 256
    alpha: int = 0
    streams: Streams = "joint"
    foreground_context: bool = True
    without_context: Literal["empty", "background"] = "empty"
    contexts: tuple[str, ...] = ("edges", "segmentation", "depth")
    fusion_width: int = 512
    fusion_heads: int = 8
    fusion_blocks: int = 1
    rgba_vae: str = ""
    text: Text = "empty"
    text_tokens: int = 512
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    levels: Scheme = "logit-normal"
    level_mean: float = 0.0
    level_deviation: float = 1.0
    shift_training: bool = False
    shift_sampling: bool = True
    guidance_training: float = 30.0
    guidance: float = 30.0
    steps: int = 50

    def __post_init__(self) -> None:
        require_known(self.contexts)
        for name in ("rank", "fusion_heads", "fusion_blocks", "text_tokens", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected 1 or more, got {getattr(self, name)}")

    @property
    def foreground_sees(self) -> ForegroundSees:
        """What the foreground's stream sees, in one word."""
        return "complement" if self.foreground_context else self.without_context


class OutpaintRemove(System):
    """Outpaint-and-Remove as the loop trains it.

    Args:
        options: see :class:`OutpaintRemoveOptions`.
        network: predicts velocities; what of it requires a gradient is trained.
        codec: the frozen VAEs.
        contexts: draws the pictures of context.
    """

    def __init__(
        self, options: OutpaintRemoveOptions, network: OutpaintRemoveNetwork, codec: VaeCodec, contexts: Contexts
    ) -> None:
        super().__init__()
        self.options, self.network, self.codec, self.contexts = options, network, codec, contexts
        self.multiple = 2 * codec.factor

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`; ``background`` and ``foreground`` are the parts of ``loss``, which is their sum.

        A foreground that is not known adds zero to its part and is never read.
        """
        layers = self._encoded(batch)
        noise = _noise(layers.shape, generator).to(layers.device)
        levels = draw_levels(self.options, len(layers), _tokens(layers), generator).to(layers.device)
        velocity = self._velocity(batch.image, batch.mask, self.options.guidance_training)
        return losses(velocity, layers, batch.has_foreground, noise, levels)

    @torch.no_grad()
    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`System.decompose`; the background is painted anew everywhere, not only inside the mask."""
        count, _, height, width = image.shape
        shape = (count, 2, self.codec.channels, height // self.codec.factor, width // self.codec.factor)
        noise = _noise(shape, generator).to(image.device)
        mu = dynamic_shift(_tokens(noise)) if self.options.shift_sampling else 0.0
        velocity = self._velocity(image, mask, self.options.guidance)
        background, foreground = sample(velocity, noise, self.options.steps, mu).unbind(1)
        return self.codec.decode(background).clamp(0, 1), self.codec.decode_rgba(foreground).clamp(0, 1)

    @torch.no_grad()
    def _encoded(self, batch: Triplets) -> Tensor:
        """Latents of both layers, (N, 2, C, h, w)."""
        return torch.stack([self.codec.encode(batch.background), self.codec.encode_rgba(batch.foreground)], 1)

    @torch.no_grad()
    def _velocity(self, image: Tensor, mask: Tensor, guidance: float) -> Velocity:
        """What the network predicts for this image and mask."""
        masks = paint_masks(mask, self.options.foreground_sees)
        views = self._latents(masked(image[:, None], masks))
        contexts = self._latents(self.contexts(image)) if self.options.contexts else None
        return lambda noisy, levels: self.network(noisy, views, masks, contexts, levels, guidance)

    def _latents(self, pictures: Tensor) -> Tensor:
        return torch.unflatten(self.codec.encode(pictures.flatten(0, 1)), 0, pictures.shape[:2])


# ---- what the streams see


def paint_masks(mask: Tensor, foreground: ForegroundSees) -> Tensor:
    """What each stream is to paint, (N, 2, 1, H, W): the background the mask, the foreground all but the mask.

    Args:
        mask: (N, 1, H, W), 0 or 1.
        foreground: ``complement``; or one of ``OutpaintRemoveOptions.without_context``.
    """
    choices = {"complement": 1 - mask, "empty": torch.ones_like(mask), "background": mask}
    return torch.stack([mask, choices[foreground]], 1)


def masked(image: Tensor, masks: Tensor) -> Tensor:
    """An image in 0..1, grey where the masks are 1."""
    return _GREY + (image - _GREY) * (1 - masks)


# ---- flow matching


def draw_levels(options: OutpaintRemoveOptions, count: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Noise levels of a training step, (count,) in 0..1, on the CPU.

    Args:
        options: say how.
        count: of samples.
        tokens: of one layer, which ``shift_training`` looks at.
        generator: of the CPU.
    """
    mu = dynamic_shift(tokens) if options.shift_training else 0.0
    return drawn_levels(count, generator, options.levels, options.level_mean, options.level_deviation, mu)


def losses(
    velocity: Velocity, layers: Tensor, has_foreground: Tensor, noise: Tensor, levels: Tensor
) -> dict[str, Tensor]:
    """Losses of flow matching: x_s = (1 - s) x_0 + s noise, whose velocity is noise - x_0.

    Squared errors are averaged over a layer's latent and over the whole batch; a sample without foreground adds zero to
    the latter, and the network sees zeros for its noisy foreground. So the loss of a batch is the mean of those of its
    parts, however the parts are mixed.

    Args:
        velocity: predicts.
        layers: clean latents x_0 of background and foreground, (N, 2, C, h, w).
        has_foreground: (N,), bool.
        noise: standard normal, shaped as ``layers``.
        levels: s, (N,).

    Returns:
        ``background``, ``foreground`` and ``loss``, their sum.
    """
    known = torch.stack([torch.ones_like(has_foreground), has_foreground], 1)
    where, s = known[:, :, None, None, None], levels[:, None, None, None, None]
    noisy = torch.where(where, (1 - s) * layers + s * noise, 0)
    target = torch.where(where, noise - layers, 0)
    errors = (velocity(noisy, levels) - target).square().mean((2, 3, 4)) * known
    background, foreground = errors.mean(0)
    return {"loss": background + foreground, "background": background, "foreground": foreground}


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device="cpu")


def _tokens(latents: Tensor) -> int:
    return latents.shape[-2] * latents.shape[-1] // 4


# ---- making one


def build_outpaint_remove(options: OutpaintRemoveOptions, origin: Origin) -> OutpaintRemove:
    """An Outpaint-and-Remove before training, on the base that ``origin`` names.

    Trained are LoRA, the input projection and the fusion: their names do not depend on the base, and they fit every
    base of its sizes. On the meta device neither the base nor the networks of contexts need be here.

    Raises:
        UsageError: there is no base, it is not one of FLUX-Fill, or the RGBA VAE is of another latent space.
        MissingWeights: the base or the network of a context is not on this machine.
    """
    contexts = Contexts(options.contexts, origin.weights, meta=origin.meta)
    base = load_flux_fill(origin, getattr(torch, options.base_dtype), options.text, options.text_tokens)
    codec = VaeCodec(_rgba_vae(options.rgba_vae, base.vae), base.vae)
    network = OutpaintRemoveNetwork(
        base,
        rank=options.rank,
        alpha=options.alpha or options.rank,
        streams=options.streams,
        fusion=_fusion(options, base) if options.contexts else None,
    )
    return OutpaintRemove(options, network, codec, contexts)


def _fusion(options: OutpaintRemoveOptions, base: FluxFill) -> ContextFusion:
    channels, kinds = 4 * base.vae.config.latent_channels, len(options.contexts)
    with torch.device(base.prompt.device):
        return ContextFusion(channels, kinds, options.fusion_width, options.fusion_heads, options.fusion_blocks)


def _rgba_vae(run: str, vae: rgba_vae.Vae) -> rgba_vae.Vae:
    """The foreground's VAE, where the base's is and in its dtype; on the meta device it may still be to be trained."""
    if not run or (vae.device.type == "meta" and not Path(run).is_dir()):
        return rgba_vae.convert(vae)
    rgba = rgba_vae.load(rgba_vae.folder_of(Path(run)))
    (channels, factor), wanted = ((v.config.latent_channels, factor_of(v)) for v in (rgba, vae))
    if (channels, factor) != wanted:
        raise UsageError(
            f"rgba_vae: expected {wanted[0]} latent channels at 1/{wanted[1]}, as the base's VAE has, got {channels} "
            f"at 1/{factor} in {run}; make it from the base's VAE with the recipe rgba-vae"
        )
    return cast(rgba, vae.dtype).to(vae.device)
