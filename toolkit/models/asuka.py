"""ASUKA (arXiv 2312.04831, CVPR 2025): inpainting that draws no object that nobody asked for.

The text of a frozen inpainting model is replaced by what a masked autoencoder, which only ever learnt to reconstruct,
knows of the hole; a decoder that sees the unmasked pixels keeps their colours. Here are the training step and the
sampler; the condition and the base are of :mod:`.asuka_sd` or :mod:`.asuka_flux`.

What is trained is how the prior is told to the base, so the step is the base's own: a picture, a hole, and the picture
again as the truth.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...manifests.errors import UsageError
from . import holes
from .asuka_decoder import load_decoder
from .asuka_flux import AsukaFlux
from .asuka_options import AsukaOptions
from .asuka_sd import AsukaSd
from .flux_fill import PUBLISHED, load_flux_fill
from .mae import MaskedAutoencoder
from .mae_weights import load_mae
from .sd_inpaint import SD15, decode, load_sd_inpaint, pasted
from .system import Origin, System, Triplets


class Asuka(System):
    """ASUKA as the loop trains it.

    Args:
        options: see :class:`AsukaOptions`.
        mae: the prior; is frozen here.
        form: the condition and the base.
        decoder: from latents, picture and mask to the picture (N, 3, H, W) in 0..1; is frozen here.
    """

    def __init__(
        self, options: AsukaOptions, mae: MaskedAutoencoder, form: AsukaSd | AsukaFlux, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.options, self.form = options, form
        self.mae = mae.requires_grad_(False)
        self.decoder = None if decoder is None else decoder.requires_grad_(False)
        self.multiple = form.multiple

    def train(self, mode: bool = True) -> "Asuka":
        """Set the mode of what is trained; what is frozen stays as it is used."""
        super().train(mode)
        for module in (self.mae, self.decoder, *self.form.frozen):
            if module is not None:
                module.eval()
        return self

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`: the base's own loss, on holes that are drawn."""
        truth = getattr(batch, self.options.truth)
        mask = holes.draw(batch.mask, self.options.masks, generator)
        return {"loss": self.form(truth, mask, self._features(truth, mask), generator)}

    @torch.no_grad()
    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """See :meth:`System.decompose`: what is masked is painted anew, the rest comes back to the bit."""
        latents = self.form.paint(image, mask, self._features(image, mask), generator)
        made = decode(self.form.vae, latents) if self.decoder is None else self.decoder(latents, image, mask)
        return pasted(made, image, mask), None

    @torch.no_grad()
    def _features(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.mae.features(image, mask, self.options.block)


def resolve(options: AsukaOptions, origin: Origin) -> AsukaOptions:
    """The options with whole paths, so that the run can be loaded from any folder."""
    return replace(options, mae=_whole(options.mae), decoder=_whole(options.decoder))


def _whole(source: str) -> str:
    """A folder's whole path; what is none is a name."""
    folder = Path(source).expanduser()
    return str(folder.absolute()) if source and folder.is_dir() else source


def build(options: AsukaOptions, origin: Origin) -> Asuka:
    """An ASUKA before training, on the base that ``origin`` names.

    Raises:
        UsageError: there is no prior or no base, or they do not fit the options.
        MissingWeights: one of them is not on this machine.
    """
    mae = load_mae(options.mae, origin.weights, meta=origin.meta)
    if options.block > mae.sizes.decoder_depth:
        raise UsageError(
            f"block: expected one of the {mae.sizes.decoder_depth} blocks of the decoder of {options.mae}, "
            f"got {options.block}"
        )
    return Asuka(options, mae, _form(options, origin, mae), _decoder(options.decoder, meta=origin.meta))


def _form(options: AsukaOptions, origin: Origin, mae: MaskedAutoencoder) -> AsukaSd | AsukaFlux:
    dtype = getattr(torch, options.base_dtype)
    inputs, patches = mae.sizes.decoder_width, mae.sizes.grid**2
    published = PUBLISHED if options.form == "flux" else SD15
    origin = replace(origin, base=origin.base or published) if origin.meta else origin
    if options.form == "sd":
        return AsukaSd(options, load_sd_inpaint(origin, dtype), inputs, patches)
    tokens = options.queries or patches if options.variant == "four-cross" else patches
    return AsukaFlux(options, load_flux_fill(origin, dtype, options.flow.text, tokens), inputs, patches)


def _decoder(run: str, *, meta: bool) -> Any:
    """That of a run of ``asuka-decoder``, where one is named; on the meta device it may still be to be trained."""
    if not run or (meta and not Path(run).is_dir()):
        return None
    return load_decoder(Path(run).expanduser(), meta=meta)
