"""ASUKA's decoder as the training loop sees it (arXiv 2312.04831): a decoder that fits the hole to what is around it.

Encoder and latent space are the base's, frozen. The decoder sees the picture around the hole (``condition``), learns to
take its colours from there (``colour``), and from latents that the base's own UNet denoised (``latent``): the rungs of
the paper's ladder. The paper gives neither losses nor schedule; the losses are those of latent diffusion's
autoencoders, whose decoder it is: L1, LPIPS and a discriminator of patches.

What a picture is trained on is the triplet's background: what a hole is filled with is more of it.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...manifests import schema
from ...manifests.errors import UsageError
from ...manifests.recipes import load_table
from .asuka_decoder_network import AsukaDecoder
from .asuka_decoder_views import Colour, Denoised, draw_times, holes, off_colour, one_step
from .bases import cast, factor_of
from .patch_discriminator import Adversarial, PatchDiscriminator, adversarial_losses, untouched
from .rgba_vae_training import load_perceptual
from .runs import CONFIG, WEIGHTS
from .sd_inpaint import SdInpaint, encode, load_sd_inpaint, seen
from .system import Origin, Predicted, System, Triplets
from .tensor_files import check_tensors, read_tensors
from .text_encoders import TextOptions, load_text_encoder

_NAME = "asuka-decoder"
_PROMPT = 77  # tokens of CLIP


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights of the parts of the loss, latent diffusion's by default; a part of weight 0 is not computed.

    Attributes:
        l1: of the absolute error in -1..1, of every pixel, in the hole or not.
        perceptual: of LPIPS, where a network is given.
    """

    l1: float = 1.0
    perceptual: float = 1.0

    def __post_init__(self) -> None:
        if min(self.l1, self.perceptual) < 0:
            raise UsageError(f"loss: expected weights of 0 or more, got {self.l1} and {self.perceptual}")


@dataclass(frozen=True, kw_only=True)
class AsukaDecoderOptions:
    """Everything that makes a training of ASUKA's decoder.

    Attributes:
        condition: with the branch that sees the picture around the hole. Without it this is the base's decoder, trained
            on; the ladder's first row in the paper is the base's decoder as it is.
        colour: how colours in the hole are perturbed.
        latent: how latents are taken from the base's UNet.
        shapes: share of the holes that are random ellipses rather than the masks of the data; ours.
        loss: weights of its parts.
        perceptual: network of the perceptual distance: LPIPS on AlexNet or VGG, or none.
        adversarial: of a discriminator of patches; without one by default.
        base_dtype: of the frozen UNet; all else is float32.
        vae: JSON of the configuration of the base's VAE; filled in from the base, which a decoder needs no more.
    """

    condition: bool = True
    colour: Colour = field(default_factory=Colour)
    latent: Denoised = field(default_factory=Denoised)
    shapes: float = 0.5
    loss: LossOptions = field(default_factory=LossOptions)
    perceptual: Literal["", "alex", "vgg"] = ""
    adversarial: Adversarial = field(default_factory=Adversarial)
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    vae: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.shapes <= 1:
            raise UsageError(f"shapes: expected a share in 0..1, got {self.shapes}")


class AsukaDecoderTraining(System):
    """ASUKA's decoder in training on a frozen base.

    Args:
        options: see :class:`AsukaDecoderOptions`.
        base: whose VAE encodes, whose decoder is begun with, and whose UNet denoises; frozen here.
        states: what the UNet attends to, (1, L, width); None where nothing is denoised, which drops the UNet.
        perceptual: the distance; its network must be frozen.
    """

    states: Tensor | None

    def __init__(
        self, options: AsukaDecoderOptions, base: SdInpaint, states: Tensor | None = None, perceptual: Any = None
    ) -> None:
        super().__init__()
        self.options, self.perceptual, self.schedule = options, perceptual, base.noise
        self.decoder = AsukaDecoder(base.vae, condition=options.condition)
        self.vae: Any = base.vae.requires_grad_(False).eval()
        self.unet: Any = None if states is None else base.unet.requires_grad_(False).eval()
        self.register_buffer("states", states, persistent=False)
        self.discriminator = PatchDiscriminator(3, options.adversarial) if options.adversarial.weight else None
        self.multiple = factor_of(base.vae) if states is None else base.multiple

    def train(self, mode: bool = True) -> "AsukaDecoderTraining":
        """Set the mode of what is trained; what is frozen stays as it is used."""
        super().train(mode)
        for frozen in (self.vae, self.unet, self.perceptual):
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`."""
        picture, mask = batch.background, holes(batch.mask, self.options.shapes, generator)
        latent = self.latents(picture, mask, generator)
        made = 2 * self.decoder(latent, picture, mask, paste=False) - 1
        wanted, weights = 2 * picture - 1, self.options.loss
        parts = {"l1": (made - wanted).abs().mean()} if weights.l1 else {}
        if weights.perceptual and self.perceptual is not None:
            parts["perceptual"] = self.perceptual(made, wanted).mean()
        loss = sum((getattr(weights, name) * part for name, part in parts.items()), 0 * made.sum())
        judged = self._judged(made, wanted, loss, step)
        return {"loss": sum(judged.values(), loss), **parts, **judged}

    @torch.no_grad()
    def latents(self, picture: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """What the decoder is given in training for a picture that it is to give back, (N, C, h, w)."""
        latents = encode(self.vae, off_colour(picture, mask, self.options.colour, generator))
        options = self.options.latent
        chosen = torch.rand(len(latents), generator=generator) < options.probability
        times = draw_times(options, len(latents), self.schedule.config.num_train_timesteps, generator)
        eps = torch.randn(latents.shape, generator=generator, device="cpu")
        rows = chosen.nonzero().flatten().tolist()
        if self.states is None or not rows:
            return latents
        view = seen(self.vae, picture[rows], mask[rows])
        noise = eps[rows].to(latents.device)
        latents[rows] = one_step(self.unet, self.schedule, latents[rows], view, self.states, times[rows], noise)
        return latents

    def _judged(self, made: Tensor, wanted: Tensor, loss: Tensor, step: int) -> dict[str, Tensor]:
        """What the discriminator adds; before it takes part a zero that depends on it."""
        if self.discriminator is None:
            return {}
        if step < self.options.adversarial.start:
            return {"discriminator": untouched(self.discriminator)}
        last, options = self.decoder.base.conv_out.weight, self.options.adversarial
        return adversarial_losses(self.discriminator, made, wanted, loss, last, options)

    @torch.no_grad()
    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """The background, decoded in the mask from its own latent, and as it is elsewhere."""
        latent = encode(self.vae, batch.background)
        return Predicted(background=self.decoder(latent, batch.background, batch.mask))


# ---- making one


def resolve(options: AsukaDecoderOptions, origin: Origin) -> AsukaDecoderOptions:
    """Fill in what the base decides: the sizes of its VAE.

    Raises:
        UsageError: no base, or not one that inpaints.
        MissingWeights: it is not on this machine.
    """
    base = load_sd_inpaint(replace(origin, meta=True), torch.float32)
    own = {name: value for name, value in base.vae.config.items() if not name.startswith("_")}
    return replace(options, vae=json.dumps(own))


def build(options: AsukaDecoderOptions, origin: Origin) -> AsukaDecoderTraining:
    """A decoder of the base's weights, with a branch of random ones, on the frozen base.

    Raises:
        UsageError: no base, or not one that inpaints.
        MissingWeights: the base, or the network of the perceptual distance, is not on this machine.
    """
    base = load_sd_inpaint(origin, torch.float32)
    trains = origin.run is None
    states = _states(options.latent.text, base, meta=origin.meta) if trains and options.latent.probability else None
    if states is not None:
        cast(base.unet, getattr(torch, options.base_dtype))
    perceptual = load_perceptual(options.perceptual, origin.weights) if trains and not origin.meta else None
    return AsukaDecoderTraining(options, base, states, perceptual)


def _states(text: str, base: SdInpaint, *, meta: bool) -> Tensor:
    """What the base's UNet attends to, (1, L, width), float32."""
    if text == "zeros" or meta:
        return torch.zeros(1, _PROMPT, base.width)
    if base.folder is None:
        raise UsageError(
            "latent.text = 'empty': expected a base with a text encoder, got debug; add --set model.latent.text=zeros"
        )
    states: Tensor = load_text_encoder(TextOptions(), str(base.folder))([""])
    return states.float()


def load_decoder(run: Path, *, meta: bool = False) -> AsukaDecoder:
    """The decoder of a trained run, frozen and in evaluation mode, on the CPU; the base is not looked for.

    Args:
        run: its folder.
        meta: only its sizes matter; no weights are read.

    Returns:
        What maps a latent, an image and a mask to a picture, see :meth:`AsukaDecoder.forward`.

    Raises:
        UsageError: the folder is no run of ``asuka-decoder``, or its weights do not fit its options.
    """
    options = _options_of(run)
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(json.loads(options.vae))  # type: ignore[no-untyped-call]
        decoder = AsukaDecoder(vae, condition=options.condition)
    if not meta:
        named = {name.partition(".")[::2]: tensor for name, tensor in read_tensors(run / WEIGHTS).items()}
        tensors = {name: tensor for (part, name), tensor in named.items() if part == "decoder"}
        check_tensors(run / WEIGHTS, tensors, decoder)
        decoder.load_state_dict(tensors, assign=True)
    return decoder.requires_grad_(False).eval()


def _options_of(run: Path) -> AsukaDecoderOptions:
    if not (run / CONFIG).is_file():
        raise UsageError(f"expected the folder of a run of {_NAME}, found none at {run}; train one with that recipe")
    table = load_table(run / CONFIG)
    if table.get("system") != _NAME:
        raise UsageError(f"{run / CONFIG}: expected a run of {_NAME}, got one of {table.get('system')}")
    options = schema.parse(AsukaDecoderOptions, table.get("model", {}), f"{run / CONFIG}: model")
    if not options.vae:
        raise UsageError(f"{run / CONFIG}: expected the base's VAE in model.vae, got none; take the run's own file")
    return options
