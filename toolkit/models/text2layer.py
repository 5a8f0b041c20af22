"""Text2Layer (Zhang et al. 2023, arXiv 2307.09781): diffusion of layers from text, on the latent of CaT2I-AE.

A UNet of Stable Diffusion's design learns the noise of the latent that holds foreground, background and mask together
(equation 5); sampling is DDIM with classifier-free guidance, and the autoencoder's decoder takes the layers apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from ...manifests.errors import UsageError
from ..diffusers_folders import find_folder, load_part
from .system import Origin, Predicted, System, Triplets
from .tensor_files import check_tensors
from .text2layer_ae import load_codec, stacked, unstacked
from .text2layer_codec import CodecOptions, LayerCodec
from .text_encoders import Published, TextOptions, Words, load_text_encoder

_SMALL: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}
UNETS: dict[str, dict[str, Any]] = {
    "debug": {**_SMALL, "block_out_channels": (32, 64), "layers_per_block": 1, "attention_head_dim": 2},
    "small": {**_SMALL, "block_out_channels": (48, 96), "layers_per_block": 1, "attention_head_dim": 4},
    "sd": {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "attention_head_dim": 8},
}
"""Sizes of UNets; the kinds of blocks of ``sd`` are diffusers' own."""

_LEVELS = 1000

_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": _LEVELS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
"""Stable Diffusion's, as the paper begins with its code."""


@dataclass(frozen=True, kw_only=True)
class Text2LayerOptions:
    """Everything that makes a training.

    Attributes:
        codec: folder of a run of ``text2layer-ae``, whose latent is learnt; its options are the paper's ablations.
        size: of the UNet, of :data:`UNETS`.
        text: how captions are encoded.
        finetune: begin with the base's UNet where the latent has its channels, rather than with random weights: the
            paper's comparison ``(ft)``.
        init: folder of a run to begin with: the paper's model of 512 px goes on from that of 256.
        drop: share of captions that are left empty, for guidance; the paper does not say, a tenth is usual.
        steps: of DDIM.
        guidance: scale of classifier-free guidance; 1 is none.
    """

    codec: str = ""
    size: str = "sd"
    text: TextOptions = field(default_factory=TextOptions)
    finetune: bool = False
    init: str = ""
    drop: float = 0.1
    steps: int = 50
    guidance: float = 7.5

    def __post_init__(self) -> None:
        if self.size not in UNETS:
            raise UsageError(f"size: expected one of {', '.join(UNETS)}, got {self.size!r}")
        if not 0 <= self.drop <= 1:
            raise UsageError(f"drop: expected a share in 0..1, got {self.drop}")
        if self.steps < 1 or not 1 <= self.guidance < inf:
            raise UsageError(f"expected steps and guidance of 1 or more, got {self.steps} and {self.guidance}")
        if self.steps >= _LEVELS:
            raise UsageError(f"steps: expected fewer than the {_LEVELS} levels of noise, got {self.steps}")


class Text2Layer(System):
    """The diffusion of layers.

    Args:
        options: see :class:`Text2LayerOptions`.
        codec: is frozen here.
        threshold: see ``text2layer_ae.stacked``.
        text: the encoder of captions.
        unet: of the codec's channels and the encoder's width.
    """

    generates = True

    def __init__(
        self, options: Text2LayerOptions, codec: LayerCodec, threshold: float, text: Words | Published, unet: Any
    ) -> None:
        super().__init__()
        self.options, self.threshold = options, threshold
        self.codec, self.text, self.unet = codec.requires_grad_(False).eval(), text, unet
        self.multiple = codec.multiple * 2 ** (len(unet.config.block_out_channels) - 1)
        self._noise: Any = DDIMScheduler(**_SCHEDULE)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> "Text2Layer":
        """Set the mode; the codec stays as it is used, by the statistics that it gathered."""
        super().train(mode)
        self.codec.eval()
        return self

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`; pictures without a known foreground are not looked at."""
        with torch.no_grad():
            latent = self.codec.normalised(self.codec.encode(stacked(batch, self.threshold)).mode())
        count, device = len(latent), latent.device
        noise = torch.randn(latent.shape, generator=generator).to(latent)
        times = torch.randint(self._noise.config.num_train_timesteps, (count,), generator=generator).to(device)
        kept = (torch.rand(count, generator=generator) >= self.options.drop).tolist()
        texts = [text if keep else "" for text, keep in zip(batch.captions, kept, strict=True)]
        noisy = self._noise.add_noise(latent, noise, times)
        error = (self.unet(noisy, times, self.text(texts)).sample - noise).square().mean((1, 2, 3))
        known = batch.has_foreground.to(error)
        return {"loss": (error * known).sum() / known.sum().clamp(min=1)}

    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """Layers drawn from the captions alone."""
        seeds = torch.randint(2**62, (len(batch.captions),), generator=generator).tolist()
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        height, width = batch.image.shape[2:]
        return self.generate(batch.captions, draws, (height, width))

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        generators: Sequence[torch.Generator],
        size: tuple[int, int],
        negative: Sequence[str] = (),
    ) -> Predicted:
        """Draw layers.

        Args:
            prompts: what to draw.
            generators: of the CPU, one a prompt: a picture does not depend on those beside it.
            size: height and width, px, multiples of ``multiple``.
            negative: what to steer away from, a text for each prompt; none is the empty text.

        Returns:
            Backgrounds (N, 3, H, W) and foregrounds (N, 4, H, W).

        Raises:
            UsageError: the size is no such multiple.
        """
        if any(side < 1 or side % self.multiple for side in size):
            raise UsageError(f"expected sides that {self.multiple} divides, got {size[1]}x{size[0]} px")
        device = next(self.unet.parameters()).device
        shape = self.codec.latent_channels, size[0] // self.codec.multiple, size[1] // self.codec.multiple
        latent = torch.stack([torch.randn(shape, generator=one) for one in generators]).to(device)
        states = self.text([*prompts, *(negative or [""] * len(prompts))])
        self._noise.set_timesteps(self.options.steps, device=device)
        for time in self._noise.timesteps:
            latent = self._noise.step(self._guided(latent, time, states), time, latent).prev_sample
        return unstacked(self.codec.decode(self.codec.denormalised(latent)))

    def _guided(self, latent: Tensor, time: Tensor, states: Tensor) -> Tensor:
        """The noise of N latents, from 2N encoded texts: what is wanted, then what is not."""
        scale = self.options.guidance
        if scale == 1:
            return self.unet(latent, time, states[: len(latent)]).sample  # type: ignore[no-any-return]
        wanted, other = self.unet(torch.cat([latent, latent]), time, states).sample.chunk(2)
        return other + scale * (wanted - other)  # type: ignore[no-any-return]


def resolve(options: Text2LayerOptions, origin: Origin) -> Text2LayerOptions:
    """The options with whole paths, so that the run can be loaded from any folder."""
    return replace(options, codec=_whole(options.codec), init=_whole(options.init))


def _whole(run: str) -> str:
    return str(Path(run).expanduser().absolute()) if run else ""


def build(options: Text2LayerOptions, origin: Origin) -> Text2Layer:
    """The system: a UNet of random weights, of the base, or of another run.

    Raises:
        UsageError: no codec, no base where one is needed, or weights of other sizes.
        MissingWeights: the base is not on this machine.
    """
    if options.codec:
        codec, threshold = load_codec(Path(options.codec).expanduser(), meta=origin.meta)
    elif origin.meta:
        codec, threshold = LayerCodec(CodecOptions()), 0.1
    else:
        raise UsageError(
            "codec: expected the folder of a run of text2layer-ae, got none; train one, and add --set model.codec=RUN"
        )
    text = load_text_encoder(options.text, origin.base, meta=origin.meta)
    unet = _unet(options, codec.latent_channels, text.width)
    if options.finetune and origin.run is None and not origin.meta:
        unet.load_state_dict(_published_unet(origin.base, unet).state_dict())
    system = Text2Layer(options, codec, threshold, text, unet)
    if options.init and origin.run is None and not origin.meta:
        system.restore(Path(options.init).expanduser())
    return system


def _unet(options: Text2LayerOptions, channels: int, width: int) -> Any:
    sizes = {"in_channels": channels, "out_channels": channels, "cross_attention_dim": width, **UNETS[options.size]}
    return UNet2DConditionModel(**sizes)  # type: ignore[no-untyped-call]


def _published_unet(base: str, wanted: nn.Module) -> Any:
    """The base's UNet, held against the one that is to be trained.

    Raises:
        UsageError: it has other sizes: no base, or a latent of other channels.
    """
    if not base:
        raise UsageError("finetune: expected --base, a pipeline with a UNet to begin with, got none")
    folder = find_folder(base)
    unet = load_part("UNet2DConditionModel", folder / "unet")
    check_tensors(folder / "unet", unet.state_dict(), wanted)
    return unet
