"""Latent transparency as the training loop sees it: an offset and a decoder on a frozen VAE (arXiv 2402.17113, sec. 3).

With I the picture's padded colour, α its alpha, x the colour that the VAE is fed, E* and D* the frozen VAE::

    z_a  = mean(E*(x)) + std(E*(x)) · 300 · E(α, I)         the adjusted latent
    α', I' = D(D*(z_a), z_a)                                read back from the latent and from what the VAE shows
    L    = |α - α'|² + |I - I'|² + |x - D*(z_a)|² + 0.01 L_disc

The third part, the identity, is that the offset must not change what the frozen VAE shows. The paper was not at hand
when this was written: the parts are those that others cite, their weights are from memory and unverified.

A run holds both networks under their released names, for ``transparent_vae.load_encoder`` and ``load_decoder``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...manifests.errors import UsageError
from ..files import write_atomically
from .padded_rgb import pad_batch
from .patch_discriminator import Adversarial, PatchDiscriminator, adversarial_losses, untouched
from .rgba_vae import PRESETS, Vae, load_rgb
from .rgba_vae_training import foregrounds
from .system import Origin, Predicted, System, Triplets
from .tensor_files import check_tensors, read_tensors
from .transparent_vae import TransparentDecoder, TransparentEncoder, encode_padded, vae_feed

ENCODER = "vae_transparent_encoder.safetensors"
DECODER = "vae_transparent_decoder.safetensors"

UNTRAINED = "untrained-tiny"
_UNTRAINED = {**PRESETS["sd"], "block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
_LATENT = (4, 8)  # channels, and how much smaller its sides are


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights of the parts of the loss; a part of weight 0 is not computed. From memory, unverified.

    Attributes:
        alpha: of the error of alpha, in 0..1.
        colour: of the error of the padded colour, in 0..1, visible or not.
        identity: of the error of what the frozen VAE shows, in -1..1.
        distance: of all three, a mean over channels and pixels: ``l2`` of squares, ``l1`` of absolute values. The
            choice is ours.
    """

    alpha: float = 1.0
    colour: float = 1.0
    identity: float = 1.0
    distance: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if min(self.alpha, self.colour, self.identity) < 0:
            raise UsageError(
                f"loss: expected weights of 0 or more, got {self.alpha}, {self.colour} and {self.identity}"
            )


@dataclass(frozen=True, kw_only=True)
class LayerDiffuseVaeOptions:
    """Everything that makes a training of latent transparency.

    Attributes:
        encoder: channels at full, half, quarter and eighth size; the released network's.
        decoder: channels a level, four levels or more, multiples of 8; the released network's.
        loss: weights of its parts.
        adversarial: of a discriminator of alpha and padded colour; without one by default. The recipe's weight of 0.01
            is from memory, unverified; that it stands alone and counts from the first step is our reading.
        opaque: share of the samples that are the opaque image rather than the foreground; none is our choice. Where no
            foreground is known it is always the image.
        scratch: ``untrained-tiny``, to stand on a small VAE of random weights where no base is given, always the same;
            or empty. What such a VAE shows is noise: a run on it says that the code trains, and nothing of the method.
    """

    encoder: tuple[int, ...] = (32, 64, 128, 256)
    decoder: tuple[int, ...] = (32, 32, 64, 128, 256, 512, 512)
    loss: LossOptions = field(default_factory=LossOptions)
    adversarial: Adversarial = field(default_factory=Adversarial)
    opaque: float = 0.0
    scratch: Literal["", "untrained-tiny"] = ""

    def __post_init__(self) -> None:
        if len(self.encoder) != 4 or min(self.encoder) < 1:
            raise UsageError(f"encoder: expected four widths above 0, got {list(self.encoder)}")
        if len(self.decoder) < 4 or any(width < 8 or width % 8 for width in self.decoder):
            raise UsageError(f"decoder: expected four widths or more, multiples of 8, got {list(self.decoder)}")
        if not 0 <= self.opaque <= 1:
            raise UsageError(f"opaque: expected a share in 0..1, got {self.opaque}")


class LayerDiffuseVae(System):
    """The offset encoder and the decoder of transparency, in training on a frozen VAE.

    Args:
        options: see :class:`LayerDiffuseVaeOptions`.
        vae: an RGB ``AutoencoderKL`` of 4 latent channels at an eighth of the picture; frozen here.
        judged: with the discriminator, which is trained beside and not saved.

    Raises:
        UsageError: the VAE is another.
    """

    def __init__(self, options: LayerDiffuseVaeOptions, vae: Vae, *, judged: bool = True) -> None:
        super().__init__()
        _expect_fitting(vae)
        self.options, self.vae = options, vae.requires_grad_(False).eval()
        self.encoder, self.decoder = TransparentEncoder(options.encoder), TransparentDecoder(options.decoder)
        judged = judged and options.adversarial.weight > 0
        self.discriminator = PatchDiscriminator(4, options.adversarial) if judged else None
        self.multiple = self.decoder.multiple

    def train(self, mode: bool = True) -> "LayerDiffuseVae":
        """Set the mode of the networks; the frozen VAE stays as it is used."""
        super().train(mode)
        self.vae.eval()
        return self

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`."""
        straight = foregrounds(batch, self.options.opaque, generator)
        padded = pad_batch(straight)
        latent, shown = self._encoded(straight, padded)
        made, wanted = self._read(shown, latent), torch.cat([straight[:, 3:], padded], 1)
        pairs = {
            "alpha": (made[:, :1], wanted[:, :1]),
            "colour": (made[:, 1:], wanted[:, 1:]),
            "identity": (shown, vae_feed(straight)),
        }
        weights = self.options.loss
        parts = {name: _distance(*pair, weights.distance) for name, pair in pairs.items() if getattr(weights, name)}
        loss = sum((getattr(weights, name) * part for name, part in parts.items()), made.new_zeros(()))
        judged = self._judged(made, wanted, loss, step)
        return {"loss": sum(judged.values(), loss), **parts, **judged}

    def _encoded(self, straight: Tensor, padded: Tensor) -> tuple[Tensor, Tensor]:
        """The adjusted latent, and what the frozen VAE shows of it, (N, 3, H, W) about -1..1."""
        latent = encode_padded(self.vae, self.encoder, straight, padded)
        return latent, self.vae.decode(latent.to(self.vae.dtype)).sample.float()

    def _read(self, shown: Tensor, latent: Tensor) -> Tensor:
        """Alpha and padded colour, (N, 4, H, W) about 0..1, in one pass."""
        made: Tensor = self.decoder((shown / 2 + 0.5).clamp(0, 1), latent)
        return made.float()

    def _judged(self, made: Tensor, wanted: Tensor, loss: Tensor, step: int) -> dict[str, Tensor]:
        """What the discriminator adds; before it takes part a zero that depends on it."""
        if self.discriminator is None:
            return {}
        if step < self.options.adversarial.start:
            return {"discriminator": untouched(self.discriminator)}
        last, options = self.decoder.conv_out.weight, self.options.adversarial
        return adversarial_losses(self.discriminator, 2 * made - 1, 2 * wanted - 1, loss, last, options)

    @torch.no_grad()
    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """The foreground, encoded and read back in one pass, without the median of eight."""
        latent, shown = self._encoded(batch.foreground, pad_batch(batch.foreground))
        return Predicted(foreground=self._read(shown, latent).clamp(0, 1).roll(-1, 1))

    def save(self, folder: Path) -> None:
        """Write both networks, named as the released ones; the VAE stays with its base."""
        for name, network in self._networks().items():
            tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
            write_atomically(folder / name, safetensors.torch.save(tensors))

    def restore(self, folder: Path) -> None:
        """Fill in what :meth:`save` wrote.

        Raises:
            UsageError: it is missing, or of other sizes.
        """
        for name, network in self._networks().items():
            tensors = read_tensors(folder / name)
            check_tensors(folder / name, tensors, network)
            network.load_state_dict(tensors)

    def _networks(self) -> dict[str, nn.Module]:
        return {ENCODER: self.encoder, DECODER: self.decoder}


def _distance(made: Tensor, wanted: Tensor, kind: str) -> Tensor:
    difference = made - wanted
    return difference.abs().mean() if kind == "l1" else difference.square().mean()


def _expect_fitting(vae: Vae) -> None:
    found = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
    if found != _LATENT:
        raise UsageError(
            f"layerdiffuse-vae: expected a VAE of {_LATENT[0]} latent channels at 1/{_LATENT[1]} of the picture, "
            f"got {found[0]} at 1/{found[1]}; give that of Stable Diffusion or SDXL as --base"
        )


def build(options: LayerDiffuseVaeOptions, origin: Origin) -> LayerDiffuseVae:
    """Fresh networks on the base's VAE.

    Raises:
        UsageError: neither a base nor leave to do without, or one with another latent.
        MissingWeights: the base is not on this machine.
    """
    return LayerDiffuseVae(options, _frozen(options, origin), judged=origin.run is None)


def _frozen(options: LayerDiffuseVaeOptions, origin: Origin) -> Vae:
    if origin.base and not origin.meta:
        return load_rgb(origin.base)
    if options.scratch:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # not the run's: whoever loads the run has to find the same VAE
            return AutoencoderKL(**_UNTRAINED)  # type: ignore[no-untyped-call]
    if origin.meta:
        return AutoencoderKL(**PRESETS["sd"])  # type: ignore[no-untyped-call]
    raise UsageError(
        "layerdiffuse-vae stands on a frozen VAE: expected --base with the folder or the name in the hub cache of a "
        "pipeline or a VAE, got none; to try the code on a VAE of random weights add --set "
        f"model.scratch={UNTRAINED}"
    )
