"""LayerDecomp (Yang et al. 2024, arXiv 2411.17864): an image and a mask to a clean background and an RGBA foreground.

Its ablations (table 1), its options, its training step, its sampler. The losses stand in ``layerdecomp_loss``, the
network in ``layerdecomp_network``. All pictures here are float tensors in 0..1, alpha straight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ...manifests.errors import UsageError
from .codecs import Codec, load_codec
from .layerdecomp_backbones import backbone_of, filled_from, sizes_of
from .layerdecomp_loss import Consistency, condition_of, encode_batch, losses, noise_schedule
from .layerdecomp_network import LayerDecompConfig
from .system import Origin, System, Triplets


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An ablation of table 1.

    Attributes:
        foreground: what the data give as foreground. ``none``: no foreground map at all
            (``LayerDecompConfig.foreground`` False, ``Batch.layers`` the background alone). ``object``: colour and
            alpha of the object without its shadow, which the image shows nevertheless. ``effects``: object and shadow.
        is_consistent: whether the consistency loss is on.
    """

    foreground: Literal["none", "object", "effects"]
    is_consistent: bool = False


VARIANTS = {
    "v0": Variant(foreground="none"),
    "v1": Variant(foreground="object"),
    "v2": Variant(foreground="effects"),
    "full": Variant(foreground="effects", is_consistent=True),
}
"""The paper's ablations by name."""


@dataclass(frozen=True, kw_only=True)
class LayerDecompOptions:
    """Everything that makes a LayerDecomp.

    Attributes:
        variant: an ablation, of :data:`VARIANTS`.
        consistency: options of that loss, for the variant that has it.
        codec: ``vae``, or ``pixels``, which needs no weights and suits small pictures.
        vae: folder or name in the hub cache of the RGB VAE; empty lets the RGBA VAE take its place.
        rgba_vae: folder of the RGBA VAE, a run of ``rgba-vae``.
        network: sizes of a network from scratch; those of a DiT that training begins with take their place.
        backbone: JSON of the configuration of a FLUX or SD3 transformer to build on; filled in from the base.
        steps: of the sampler; the paper takes 50.
    """

    variant: Literal["v0", "v1", "v2", "full"] = "full"
    consistency: Consistency = field(default_factory=Consistency)
    codec: Literal["vae", "pixels"] = "vae"
    vae: str = ""
    rgba_vae: str = ""
    network: LayerDecompConfig = field(default_factory=LayerDecompConfig)
    backbone: str = ""
    steps: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise UsageError(f"steps of the sampler: expected 1..1000, got {self.steps}")


class LayerDecomp(System):
    """LayerDecomp as the loop trains it.

    Args:
        options: see :class:`LayerDecompOptions`.
        network: predicts noise; all of it is trained.
        codec: frozen.
    """

    alphas_cumprod: Tensor

    def __init__(self, options: LayerDecompOptions, network: Any, codec: Any) -> None:
        super().__init__()
        self.options, self.network, self.codec = options, network, codec
        self.foreground = VARIANTS[options.variant].foreground
        self.effects = None if self.foreground == "none" else self.foreground == "effects"
        self.multiple = network.patch * codec.factor
        alphas = noise_schedule(network.schedule).alphas_cumprod
        self.register_buffer("alphas_cumprod", alphas, persistent=False)

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`."""
        foreground = None if self.foreground == "none" else batch.foreground
        encoded = encode_batch(self.codec, batch.image, batch.mask, batch.background, foreground, batch.has_foreground)
        noise = torch.randn(encoded.layers.shape, generator=generator).to(batch.image.device)
        timesteps = torch.randint(len(self.alphas_cumprod), (len(noise),), generator=generator).to(noise.device)
        consistency = self.options.consistency if VARIANTS[self.options.variant].is_consistent else None
        return losses(
            self.network,
            encoded,
            noise,
            timesteps,
            self.alphas_cumprod,
            codec=self.codec,
            consistency=consistency,
            prediction=self.network.prediction,
        )

    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """See :meth:`System.decompose`."""
        background, *foreground = decompose(self.network, self.codec, image, [mask], generator, self.options.steps)
        return background, foreground[0] if foreground else None


def resolve(options: LayerDecompOptions, origin: Origin) -> LayerDecompOptions:
    """The options with the sizes of the base that training begins with, so that a run can be loaded without it.

    Raises:
        UsageError: the base is no transformer that fits.
        MissingWeights: it is not on this machine.
    """
    network, backbone = (
        sizes_of(origin.base, options.network, meta=origin.meta) if origin.base else (options.network, options.backbone)
    )
    network = replace(network, foreground=VARIANTS[options.variant].foreground != "none")
    return replace(options, network=network, backbone=backbone)


def build(options: LayerDecompOptions, origin: Origin) -> LayerDecomp:
    """A LayerDecomp of resolved options; its network begins with the base's weights, if there is one.

    Raises:
        UsageError: network and codec do not fit each other, or no VAE lies where the options say.
    """
    codec = load_codec(options.codec, options.vae, options.rgba_vae, meta=origin.meta)
    channels = options.network.latent_channels
    if codec.channels != channels:
        raise UsageError(
            f"network.latent_channels: expected {codec.channels}, as the latents of the codec have, got {channels}"
        )
    network = backbone_of(options.backbone, options.network) if options.backbone else options.network.build()
    if origin.base and origin.run is None and not origin.meta:
        filled_from(network, origin.base)
    return LayerDecomp(options, network, codec)


# ---- inference


@torch.no_grad()
def sample(network: Any, condition: Tensor, generator: torch.Generator, steps: int = 50) -> Tensor:
    """Draw latents of the layers by DDIM.

    Args:
        network: a trained network.
        condition: (N, 2, C, h, w), of :func:`condition_of`.
        generator: of the CPU, so that a seed gives the same noise on every device.
        steps: of the sampler, at most 1,000; the paper takes 50.

    Returns:
        (N, layers, C, h, w), float32.
    """
    scheduler = noise_schedule(network.schedule, network.prediction)
    scheduler.set_timesteps(steps)
    count, _, *latent = condition.shape
    layers: Tensor = randn_tensor((count, network.layers, *latent), generator=generator, device=condition.device)
    condition = condition.to(network.dtype)
    for timestep in scheduler.timesteps:
        predicted = network(layers.to(network.dtype), condition, timestep.expand(count).to(condition.device))
        layers = scheduler.step(predicted.float(), timestep, layers, return_dict=False)[0]
    return layers


@torch.no_grad()
def decompose(
    network: Any,
    codec: Codec,
    image: Tensor,
    masks: Sequence[Tensor],
    generator: torch.Generator,
    steps: int = 50,
) -> list[Tensor]:
    """Take an image apart, one object after the other: each is looked for in the background that the last one left.

    Args:
        network: a trained network.
        codec: its encoders and decoders.
        image: (N, 3, H, W).
        masks: one an object, (N, 1, H, W), float 0 or 1, the topmost object first.
        generator: see :func:`sample`.
        steps: see :func:`sample`.

    Returns:
        Bottom to top, the background (N, 3, H, W) and a foreground (N, 4, H, W) a mask, in 0..1; the background alone
        for ``v0``.
    """
    remainder, foregrounds = image, []
    for mask in masks:
        background, *foreground = sample(network, condition_of(codec, remainder, mask), generator, steps).unbind(1)
        remainder = codec.decode(background).clamp(0, 1)
        foregrounds += [codec.decode_rgba(latent).clamp(0, 1) for latent in foreground]
    return [remainder, *reversed(foregrounds)]
