"""SEELE's task inversion (arXiv 2401.16861): learnt prompts that tell a frozen inpainting model what to paint.

For each task a sequence of vectors stands in the place of the encoded text; it alone is learnt (equation 1). To remove,
holes of the object's shape are filled beside it; to complete, parts of it are. To harmonise, the model sees the whole
picture and has LoRA besides (equation 2, see ``seele_harmony``). Objects are moved by taking the three in turn.

The authors themselves note with their code that learnt prompts alone do not always keep new objects out of the hole,
and point to ASUKA. The paper prints 0.5 million parameters of prompts; three of its 50 x 1024 have 153,600.
"""

import copy
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from torch import Tensor, nn

from ...manifests.errors import UsageError
from ..task_masks import Mask, dilated, partial, shifted
from . import sd_inpaint, seele_harmony
from .recolour import draw_changes, recoloured
from .sd_inpaint import SdInpaint, decode, encode, load_sd_inpaint, pasted, seen
from .seele_options import COMPLETE, HARMONISE, REMOVE, TASKS, SeeleOptions
from .system import Origin, Predicted, System, Triplets
from .text_encoders import TextOptions, load_text_encoder

_HOLES: dict[str, Callable[[Mask, np.random.Generator], Mask]] = {REMOVE: shifted, COMPLETE: partial}
_OTHER = ""  # the text that guidance steers away from, beside the tasks


class Seele(System):
    """The prompts, and LoRA for harmonising, on a frozen base.

    Args:
        options: see :class:`SeeleOptions`.
        base: is frozen here.
        prompts: by task, (tokens, width).
        other: what guidance steers away from, (tokens, width).
    """

    other: Tensor

    def __init__(self, options: SeeleOptions, base: SdInpaint, prompts: Mapping[str, Tensor], other: Tensor) -> None:
        super().__init__()
        self.options, self.multiple, self._noise = options, base.multiple, base.noise
        self.tasks = options.tasks
        self.unet, self.vae = base.unet.requires_grad_(False), base.vae.requires_grad_(False).eval()
        self.prompts = nn.ParameterDict({task: nn.Parameter(prompt) for task, prompt in prompts.items()})
        # A UNet of its own on the same weights: that of the other tasks is the base, whatever is learnt beside it.
        self.adapted = _with_lora(base.unet, options) if HARMONISE in options.tasks else None
        self.register_buffer("other", other, persistent=False)

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`; a part for each task, whose sum is ``loss``.

        A task's draws are the same whichever tasks are beside it, and only its own prompt gets a gradient from its
        part, so that tasks may be trained together or apart (but for the norm at which gradients are cut).
        """
        seeds = torch.randint(2**62, (len(TASKS),), generator=generator, device="cpu").tolist()
        draws = {task: torch.Generator().manual_seed(seed) for task, seed in zip(TASKS, seeds, strict=True)}
        losses = {HARMONISE: self._harmonising, REMOVE: self._filling, COMPLETE: self._filling}
        parts = {task: losses[task](task, batch, draws[task]) for task in self.options.tasks}
        return {"loss": torch.stack([*parts.values()]).sum(), **parts}

    # ---- training

    def _filling(self, task: str, batch: Triplets, generator: torch.Generator) -> Tensor:
        """Equation 1; a base that predicts velocities is held against those of the same noise."""
        with torch.no_grad():
            hole = drawn_holes(_HOLES[task], batch.mask, generator)
            clean, view = encode(self.vae, batch.image), seen(self.vae, batch.image, hole)
        noise, times = self._drawn(clean, generator)
        noisy = self._noise.add_noise(clean, noise, times)
        is_noise = self._noise.config.prediction_type == "epsilon"
        target = noise if is_noise else self._noise.get_velocity(clean, noise, times)
        return _mean_square(self._predicted(task, torch.cat([noisy, view], 1), times), target)

    def _harmonising(self, task: str, batch: Triplets, generator: torch.Generator) -> Tensor:
        """Equation 2."""
        changes = draw_changes(self.options.recolour, len(batch.image), generator)
        with torch.no_grad():
            view = seen(self.vae, recoloured(batch.image, batch.mask, changes), batch.mask, hidden=False)
            given, wanted = view[:, 1:], encode(self.vae, batch.image)
        noise, times = self._drawn(given, generator)
        noisy = self._noise.add_noise(given if self.options.noised == "input" else wanted, noise, times)
        target = seele_harmony.target_of(noise, given, wanted)
        return _mean_square(self._predicted(task, torch.cat([noisy, view], 1), times), target)

    def _drawn(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and the levels of a batch."""
        noise = torch.randn(latents.shape, generator=generator, device="cpu").to(latents)
        count = self._noise.config.num_train_timesteps
        least, most = (round(share * count) for share in self.options.levels)
        times = torch.randint(min(least, count - 1), max(most, least + 1), (len(latents),), generator=generator)
        return noise, times.to(latents.device)

    def _predicted(self, task: str, inputs: Tensor, times: Tensor) -> Tensor:
        states = self.prompts[task].expand(len(inputs), -1, -1)
        unet = self._unet(task)
        made: Tensor = unet(inputs.to(unet.dtype), times, states.to(unet.dtype)).sample.float()
        return made

    def _unet(self, task: str) -> Any:
        return self.adapted if task == HARMONISE else self.unet

    # ---- in use

    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """The background, where removing is among the tasks; nothing otherwise."""
        return super().predict(batch, generator) if REMOVE in self.options.tasks else Predicted()

    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """See :meth:`System.decompose`: the picture with the object removed; there is no foreground."""
        return self.remove(image, mask, generator), None

    def remove(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the mask with what belongs around it.

        Args:
            image: (N, 3, H, W) in 0..1, sides multiples of ``multiple``.
            mask: (N, 1, H, W), 0 or 1; where one is empty, its picture comes back as it is.
            generator: of the CPU.

        Returns:
            (N, 3, H, W) in 0..1.

        Raises:
            UsageError: this task was not learnt.
        """
        holes = [dilated(one, self.options.dilate) for one in mask[:, 0].cpu().numpy() > 0]
        return self._filled(REMOVE, image, torch.from_numpy(np.stack(holes)[:, None]).to(image), generator)

    def complete(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the mask with what is missing of an object; see :meth:`remove`."""
        return self._filled(COMPLETE, image, mask, generator)

    @torch.no_grad()
    def harmonise(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Make the colours under the mask fit the rest; see :meth:`remove`."""
        prompt = self._prompt(HARMONISE)

        def predict(noisy: Tensor, time: Tensor) -> Tensor:
            return self._predicted(HARMONISE, torch.cat([noisy, view], 1), time)

        view = seen(self.vae, image, mask, hidden=False)
        noise = torch.randn(view[:, 1:].shape, generator=generator, device="cpu").to(prompt.device)
        steps, noised = self.options.steps, self.options.noised
        latents = seele_harmony.sample(predict, self._noise, view[:, 1:], noise, steps=steps, noised=noised)
        return self._returned(decode(self.vae, latents), image, mask)

    @torch.no_grad()
    def _filled(self, task: str, image: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        states, other = (one.expand(len(image), -1, -1) for one in (self._prompt(task), self.other))
        view = seen(self.vae, image, mask)
        noise = torch.randn(view[:, 1:].shape, generator=generator, device="cpu").to(states.device)
        base = SdInpaint(unet=self.unet, vae=self.vae, noise=self._noise, folder=None)
        steps, guidance = self.options.steps, self.options.guidance
        latents = sd_inpaint.sample(base, view, states, noise, steps=steps, guidance=guidance, other=other)
        return self._returned(decode(self.vae, latents), image, mask)

    def _prompt(self, task: str) -> Tensor:
        if task not in self.prompts:
            learnt = ", ".join(self.options.tasks)
            raise UsageError(f"expected a prompt of {task!r}, got those of {learnt}; train with it in model.tasks")
        prompt: Tensor = self.prompts[task]
        return prompt

    def _returned(self, made: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        return pasted(made, image, mask if self.options.paste else mask.amax((1, 2, 3), keepdim=True))


def drawn_holes(draw: Callable[[Mask, np.random.Generator], Mask], masks: Tensor, generator: torch.Generator) -> Tensor:
    """A hole for each mask, (N, 1, H, W), by a function of ``task_masks``; on the meta device only the shape."""
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device="cpu")))
    if masks.is_meta:
        return torch.zeros_like(masks)
    holes = [draw(mask, rng) for mask in masks[:, 0].cpu().numpy() > 0.5]
    return torch.from_numpy(np.stack(holes)[:, None]).to(masks)


def _mean_square(made: Tensor, target: Tensor) -> Tensor:
    return (made - target).square().mean()


# ---- making one


def build(options: SeeleOptions, origin: Origin) -> Seele:
    """A SEELE before training, on the base that ``origin`` names; on the meta device the base need not be here.

    Raises:
        UsageError: there is no base, or it does not fit the options.
        MissingWeights: it is not on this machine, or not completely.
    """
    base = load_sd_inpaint(origin, getattr(torch, options.base_dtype))
    _check_prediction(options, base.noise.config.prediction_type)
    place = next(base.unet.parameters()).device
    begun = {} if origin.meta else _encoded(_texts(options, begins=origin.run is None), base, options.tokens)
    shape = options.tokens, base.width
    prompts = {task: begun.get(task, options.spread * torch.randn(shape, device=place)) for task in options.tasks}
    return Seele(options, base, prompts, begun.get(_OTHER, torch.zeros(shape, device=place)))


def _check_prediction(options: SeeleOptions, kind: str) -> None:
    allowed = ("epsilon",) if HARMONISE in options.tasks else ("epsilon", "v_prediction")
    if kind not in allowed:
        raise UsageError(
            f"expected a base that predicts {' or '.join(allowed)} for the tasks {', '.join(options.tasks)}, got one "
            f"that predicts {kind}; take another base, or leave {HARMONISE} out of model.tasks"
        )


def _texts(options: SeeleOptions, *, begins: bool) -> dict[str, str]:
    """The texts that are to be encoded, by what they are for."""
    told = {task: options.instructions.get(task, "") for task in options.tasks if begins}
    return {task: text for task, text in told.items() if text} | ({_OTHER: ""} if options.guidance > 1 else {})


def _encoded(texts: Mapping[str, str], base: SdInpaint, tokens: int) -> dict[str, Tensor]:
    """Texts as prompts, where the base has a text encoder."""
    if not texts or base.folder is None or not (base.folder / "text_encoder").is_dir():
        return {}
    encoder = load_text_encoder(TextOptions(), str(base.folder))
    if encoder.width != base.width:
        raise UsageError(
            f"expected a text encoder of width {base.width}, as the UNet of {base.folder} has, got {encoder.width}"
        )
    states = fitted(encoder(list(texts.values())), tokens)
    return {name: state.clone() for name, state in zip(texts, states, strict=True)}


def fitted(states: Tensor, tokens: int) -> Tensor:
    """Sequences (N, L, width) of ``tokens`` vectors: the first of them, or all and then the last one again."""
    lacking = max(0, tokens - states.shape[1])
    return torch.cat([states[:, :tokens], states[:, -1:].expand(-1, lacking, -1)], 1)


def _with_lora(unet: Any, options: SeeleOptions) -> Any:
    """A UNet with LoRA in float32 that shares all weights with another, which stays as it is."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(unet.parameters(), unet.buffers())}
    adapted = copy.deepcopy(unet, shared)
    try:
        with torch.device(next(unet.parameters()).device):
            adapted.add_adapter(
                LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=list(options.adapted))
            )
    except ValueError as error:
        raise UsageError(
            f"adapted: expected ends of names of the UNet's layers, got {options.adapted}: {error}"
        ) from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted
