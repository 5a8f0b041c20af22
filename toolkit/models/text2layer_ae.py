"""The autoencoder of Text2Layer as the training loop sees it: layers reconstructed, and composed.

Text2Layer's foreground is the picture's own colour wherever its mask exceeds a tenth; here it is the foreground's
colour there, and the mask its alpha, so that a shadow is of the foreground, as in all of layerkit's triplets.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...manifests import schema
from ...manifests.errors import UsageError
from ...manifests.recipes import load_table
from .patch_discriminator import Adversarial, PatchDiscriminator, adversarial_losses, untouched
from .rgba_vae_training import load_perceptual
from .runs import CONFIG
from .system import Origin, Predicted, System, Triplets
from .text2layer_codec import LAYERS, CodecOptions, LayerCodec
from .text2layer_loss import composition_loss, laplacian_loss


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Weights of the parts of the loss, the paper's by default; a part of weight 0 is not computed.

    Attributes:
        l1: of the absolute error of foreground, background and, with an auxiliary head, picture.
        perceptual: of LPIPS of the same, where a network is given.
        kl: of the divergence from the normal distribution; latent diffusion's, for the paper names none.
        mask: λ, of the mask's three parts together.
        mask_l1: of the absolute error of the mask.
        composition: of ``composition_loss``.
        laplacian: of ``laplacian_loss``.
    """

    l1: float = 1.0
    perceptual: float = 1.0
    kl: float = 1e-6
    mask: float = 1.0
    mask_l1: float = 1.0
    composition: float = 2.0
    laplacian: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Text2LayerAeOptions:
    """Everything that makes a training of the autoencoder.

    Attributes:
        codec: its sizes and ablations.
        loss: weights of its parts.
        perceptual: network of the perceptual distance: LPIPS on AlexNet or VGG, or none.
        adversarial: of a discriminator of patches of all pictures; without one by default.
        threshold: of the mask, above which the foreground has its colour; below it is black.
        sampled: draw the latent from the posterior rather than take its mode.
    """

    codec: CodecOptions = field(default_factory=CodecOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    perceptual: Literal["", "alex", "vgg"] = ""
    adversarial: Adversarial = field(default_factory=Adversarial)
    threshold: float = 0.1
    sampled: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise UsageError(f"threshold: expected 0 or more, below 1, got {self.threshold}")


class Text2LayerAe(System):
    """CaT2I-AE in training.

    Args:
        options: see :class:`Text2LayerAeOptions`.
        perceptual: the distance; its network must be frozen.
    """

    def __init__(self, options: Text2LayerAeOptions, perceptual: Any = None) -> None:
        super().__init__()
        self.options, self.perceptual = options, perceptual
        self.codec = LayerCodec(options.codec)
        self.multiple = self.codec.multiple
        self.discriminator = PatchDiscriminator(3, options.adversarial) if options.adversarial.weight else None

    def train(self, mode: bool = True) -> "Text2LayerAe":
        """Set the mode of the networks; the perceptual distance stays as it is measured, without LPIPS's dropout."""
        super().train(mode)
        if isinstance(self.perceptual, nn.Module):
            self.perceptual.eval()
        return self

    def state(self) -> dict[str, Tensor]:
        """See :meth:`System.state`: the means and variances of the heads' norms are of it."""
        gathered = {name: buffer for name, buffer in self.named_buffers() if name.startswith("codec.")}
        return {**self.trained(), **gathered}

    def layers_of(self, batch: Triplets) -> Tensor:
        """See :func:`stacked`."""
        return stacked(batch, self.options.threshold)

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`."""
        layers, weights = self.layers_of(batch), self.options.loss
        spread = self.codec.encode(layers)
        latent = spread.sample(generator) if self.options.sampled else spread.mode()
        self.codec.gather(latent)
        made = self.codec.decode(latent)
        true = dict(zip(LAYERS, torch.split(layers, list(LAYERS.values()), 1), strict=True)) | {
            "image": 2 * batch.image - 1
        }
        pictures = [(made[name], true[name]) for name in ("foreground", "background", "image") if name in made]
        parts = {"l1": _mean([(one - other).abs().mean() for one, other in pictures])}
        if weights.perceptual and self.perceptual is not None:
            parts["perceptual"] = _mean([self.perceptual(*pair).mean() for pair in pictures])
        if weights.kl:
            parts["kl"] = spread.kl().mean() / layers[0].numel()
        masks = self._mask_losses(made, true)
        loss = sum((getattr(weights, name) * part for name, part in parts.items()), layers.new_zeros(()))
        loss = loss + weights.mask * sum((getattr(weights, name) * part for name, part in masks.items()), 0 * loss)
        judged = self._judged(pictures, loss, step)
        return {"loss": sum(judged.values(), loss), **parts, **masks, **judged}

    def _mask_losses(self, made: dict[str, Tensor], true: dict[str, Tensor]) -> dict[str, Tensor]:
        """l_1, l_comp and l_lap, of masks and colours in 0..1."""
        given, wanted = ({name: (one + 1) / 2 for name, one in some.items()} for some in (made, true))
        composite = wanted["mask"] * wanted["foreground"] + (1 - wanted["mask"]) * wanted["background"]
        return {
            "mask_l1": (given["mask"] - wanted["mask"]).abs().mean(),
            "composition": composition_loss(composite, *(given[name] for name in LAYERS)),
            "laplacian": laplacian_loss(given["mask"], wanted["mask"]),
        }

    def _judged(self, pictures: list[tuple[Tensor, Tensor]], loss: Tensor, step: int) -> dict[str, Tensor]:
        """What the discriminator adds; before it takes part a zero that depends on it."""
        if self.discriminator is None:
            return {}
        if step < self.options.adversarial.start:
            return {"discriminator": untouched(self.discriminator)}
        fake, real = (torch.cat([pair[k] for pair in pictures]) for k in (0, 1))
        return adversarial_losses(self.discriminator, fake, real, loss, self.codec.last, self.options.adversarial)

    @torch.no_grad()
    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """The layers, encoded and decoded."""
        return unstacked(self.codec.decode(self.codec.encode(self.layers_of(batch)).mode()))


def stacked(batch: Triplets, threshold: float) -> Tensor:
    """The stack (N, 7, H, W) in -1..1 that the codec encodes; of a pair without a foreground the mask is empty.

    Args:
        batch: of any size that the codec takes.
        threshold: of the mask, above which the foreground has its colour; below it is black.
    """
    alpha = batch.foreground[:, 3:] * batch.has_foreground[:, None, None, None]
    colour = batch.foreground[:, :3] * (alpha > threshold)
    return 2 * torch.cat([colour, batch.background, alpha], 1) - 1


def unstacked(made: dict[str, Tensor]) -> Predicted:
    """The layers that a codec decoded, cut to 0..1."""
    given = {name: ((made[name] + 1) / 2).clamp(0, 1) for name in LAYERS}
    return Predicted(background=given["background"], foreground=torch.cat([given["foreground"], given["mask"]], 1))


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean()


def load_codec(run: Path, *, meta: bool = False) -> tuple[LayerCodec, float]:
    """The codec of a trained run, frozen and in evaluation mode, and its threshold; see :func:`stacked`.

    Args:
        run: its folder.
        meta: only its sizes matter; no weights are read.

    Raises:
        UsageError: the folder is no run of ``text2layer-ae``.
    """
    if not (run / CONFIG).is_file():
        raise UsageError(
            f"model.codec: expected the folder of a run of text2layer-ae, found none at {run}; where it was moved, say "
            "so in the config.toml of the run that names it"
        )
    table = load_table(run / CONFIG)
    if table.get("system") != "text2layer-ae":
        raise UsageError(f"{run / CONFIG}: expected a run of text2layer-ae, got one of {table.get('system')}")
    options = schema.parse(Text2LayerAeOptions, table.get("model", {}), f"{run / CONFIG}: model")
    system = build(options, Origin(run=run))
    if not meta:
        system.restore(run)
    return system.codec.requires_grad_(False).eval(), options.threshold


def build(options: Text2LayerAeOptions, origin: Origin) -> Text2LayerAe:
    """An autoencoder of random weights: the paper's is trained from scratch.

    Raises:
        UsageError: a base, which it has no use for.
        MissingWeights: the network of the perceptual distance is not on this machine.
    """
    if origin.base:
        raise UsageError(f"--base: expected none, for text2layer-ae is trained from scratch, got {origin.base}")
    trains = not origin.meta and origin.run is None
    return Text2LayerAe(options, load_perceptual(options.perceptual, origin.weights) if trains else None)
