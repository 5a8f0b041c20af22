"""The RGBA VAE as the training loop sees it: what foregrounds and opaque pictures teach it, after AlphaVAE.

A run holds the VAE in ``vae/``, as ``save_pretrained`` of diffusers writes it.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...manifests.errors import UsageError
from . import rgba_vae
from .patch_discriminator import Adversarial, PatchDiscriminator, adversarial_losses, untouched
from .rgba_vae import Vae
from .rgba_vae_loss import Perceptual, RgbaVaeOptions, losses
from .system import Origin, Predicted, System, Triplets


@dataclass(frozen=True, kw_only=True)
class RgbaVaeTraining:
    """Everything that makes a training of an RGBA VAE.

    Attributes:
        loss: weights of its parts.
        perceptual: network of the perceptual distance: LPIPS on AlexNet or VGG, or none.
        opaque: share of the samples that are the opaque image rather than the foreground, so that the VAE stays good at
            what it could before; LayerDecomp wants it "minimally disturbed" and does not say how.
        adversarial: of a discriminator of patches; without one by default.
        sampled: draw the latent from the posterior, as VAEs are trained, rather than take its mode.
        scratch: sizes of an untrained RGB VAE to begin with where no base is given, of ``rgba_vae.PRESETS``; or empty.
    """

    loss: RgbaVaeOptions = field(default_factory=RgbaVaeOptions)
    perceptual: Literal["", "alex", "vgg"] = ""
    opaque: float = 0.3
    adversarial: Adversarial = field(default_factory=Adversarial)
    sampled: bool = True
    scratch: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.opaque <= 1:
            raise UsageError(f"opaque: expected a share in 0..1, got {self.opaque}")


class RgbaVae(System):
    """An RGBA VAE, all of which is trained.

    Args:
        options: see :class:`RgbaVaeTraining`.
        vae: to train.
        reference: the RGB VAE that it was made from, for ``loss.reference_kl``; frozen here.
        perceptual: the distance; its network must be frozen.
        discriminator: trained beside the VAE, for ``adversarial``; not saved.
    """

    def __init__(
        self,
        options: RgbaVaeTraining,
        vae: Vae,
        reference: Vae | None = None,
        perceptual: Perceptual | None = None,
        discriminator: PatchDiscriminator | None = None,
    ) -> None:
        super().__init__()
        self.options, self.vae, self.perceptual, self.discriminator = options, vae, perceptual, discriminator
        self.reference = None if reference is None else reference.requires_grad_(False)
        self.multiple = 2 ** (len(vae.config.block_out_channels) - 1)

    def train(self, mode: bool = True) -> "RgbaVae":
        """Set the mode of the VAE; the perceptual distance stays as it is measured, without LPIPS's dropout."""
        super().train(mode)
        if isinstance(self.perceptual, nn.Module):
            self.perceptual.eval()
        return self

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`."""
        pictures = 2 * foregrounds(batch, self.options.opaque, generator) - 1
        judges = self.discriminator is not None and step >= self.options.adversarial.start
        parts = losses(
            self.vae,
            pictures,
            self.options.loss,
            generator=generator if self.options.sampled else None,
            reference=self.reference,
            perceptual=self.perceptual,
            judge=self._judge if judges else None,
        )
        if self.discriminator is not None and not judges:
            parts["loss"] = parts["loss"] + untouched(self.discriminator)
        return parts

    def _judge(self, fake: Tensor, real: Tensor, loss: Tensor) -> dict[str, Tensor]:
        assert self.discriminator is not None
        last = self.vae.decoder.conv_out.weight
        return adversarial_losses(self.discriminator, fake, real, loss, last, self.options.adversarial)

    @torch.no_grad()
    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """The foreground, encoded and decoded."""
        pictures = rgba_vae.decode(self.vae, rgba_vae.encode(self.vae, 2 * batch.foreground - 1))
        return Predicted(foreground=((pictures + 1) / 2).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write the VAE to ``vae/``, whole; aside first, so that what is there is never half a VAE."""
        aside = folder / ".vae"
        shutil.rmtree(aside, ignore_errors=True)
        self.vae.save_pretrained(aside)
        shutil.rmtree(folder / "vae", ignore_errors=True)
        aside.rename(folder / "vae")

    def restore(self, folder: Path) -> None:
        """Nothing is left to do: :func:`build` read the VAE of the run."""


def build(options: RgbaVaeTraining, origin: Origin) -> RgbaVae:
    """An RGBA VAE converted from the base's RGB VAE, or that of a run.

    Raises:
        UsageError: neither a base nor sizes to begin with.
        MissingWeights: the base, or the network of the perceptual distance, is not on this machine.
    """
    if origin.run is not None:
        return RgbaVae(options, rgba_vae.load(origin.run / "vae"))
    if origin.base and not origin.meta:
        rgb = rgba_vae.load_rgb(origin.base)
    elif options.scratch or origin.meta:
        rgb = rgba_vae.from_scratch(options.scratch or "sd")
    else:
        raise UsageError(
            "rgba-vae begins with an RGB VAE: expected --base with its folder or name in the hub cache, got none; "
            "to begin with random weights add --set model.scratch=debug"
        )
    perceptual = None if origin.meta else load_perceptual(options.perceptual, origin.weights)
    discriminator = PatchDiscriminator(4, options.adversarial) if options.adversarial.weight else None
    reference = rgb if options.loss.reference_kl else None
    return RgbaVae(options, rgba_vae.convert(rgb), reference, perceptual, discriminator)


def foregrounds(batch: Triplets, opaque: float, generator: torch.Generator) -> Tensor:
    """Foregrounds, (N, 4, H, W), and the opaque image in the place of some of them and of those that nobody knows.

    Args:
        batch: of triplets and pairs.
        opaque: probability of the image.
        generator: draws which.
    """
    drawn = torch.rand(len(batch.image), generator=generator).to(batch.image.device) < opaque
    image = torch.cat([batch.image, torch.ones_like(batch.mask)], 1)
    return torch.where((drawn | ~batch.has_foreground)[:, None, None, None], image, batch.foreground)


def load_perceptual(net: str, weights: Path | None) -> Any:
    """The frozen network of a perceptual distance; None where ``net`` is empty.

    Raises:
        MissingWeights: it is not on this machine.
    """
    if not net:
        return None
    from ..metrics.perceptual import load_lpips

    return load_lpips(net, weights).net.requires_grad_(False)
