"""Removes objects with the inpainting pipelines of diffusers, each called as its authors call it.

``PUBLISHED`` is the table of those calls. Only diffusers' own classes and safetensors are loaded, never code or pickles
from a repository. PowerPaint's first version is here, since its task prompts are thirty learned tokens in an ordinary
pipeline; its second is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ...manifests.errors import BadImage, UsageError
from ...manifests.weights import locate, revision_of
from ..decomposition import U8, Bool, Decomposition
from ..diffusers_folders import inpainting_name, load_part, load_pipeline
from .attentive_eraser import blurred_over, redirect_attention
from .resizing import resized, resized_mask

_TOKENS_PER_TASK = 10


@dataclass(frozen=True, kw_only=True)
class Published:
    """How a published remover is loaded and called.

    Attributes:
        weights: rows of the weights table: of the pipeline, and of a ControlNet if there is one.
        native: the side it works at, px; 0 = the picture's own.
        fit: whether ``native`` is the longer side, the shorter side, or both.
        call: arguments of the pipeline.
        unprompted: arguments that replace them where no prompt is asked for and the published one is empty.
        pipeline: class of diffusers; empty = the one that the folder names.
        scheduler: class of diffusers that replaces the folder's, and its settings; None = keep the folder's.
        dilate: the mask is dilated by a square of so many pixels, at the working size.
        prepare: changes the loaded pipeline once.
        inputs: more arguments of the pipeline, from the resized picture and mask.
    """

    weights: tuple[str, ...]
    native: int
    fit: Literal["longer", "shorter", "square"] = "longer"
    call: Mapping[str, Any] = field(default_factory=dict)
    unprompted: Mapping[str, Any] = field(default_factory=dict)
    pipeline: str = ""
    scheduler: tuple[str, Mapping[str, Any]] | None = None
    dilate: int = 0
    prepare: Callable[[Any], None] | None = None
    inputs: Callable[[Any, U8, U8], Mapping[str, Any]] | None = None


class PipelineRemover:
    """A pipeline on one device; noise is drawn on the CPU.

    The result is the pipeline's whole picture: what it does outside the mask is scored, not hidden.

    Args:
        pipeline: of diffusers, loaded.
        published: how it is called.
        revision: of its weights.
        prompt: replaces the published one, if given.
    """

    def __init__(self, pipeline: Any, published: Published, revision: str, prompt: str = "") -> None:
        self.revision = revision_under(revision, prompt)
        self.published, self._pipeline = published, pipeline
        self._call = {"prompt": "", **published.call}
        if prompt:
            self._call["prompt"] = prompt
        elif not self._call["prompt"]:
            self._call |= published.unprompted

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return the background, and no foreground.

        Raises:
            BadImage: ``refused_by_safety_checker``, where the pipeline has one and it blanked the result.
        """
        from PIL import Image

        size = self.working_size(*image.shape[:2])
        picture, hole = resized(image, size), resized_mask(mask, size)
        if self.published.dilate:
            hole = np.asarray(cv2.dilate(hole, np.ones((self.published.dilate,) * 2, np.uint8)), np.uint8)
        more = self.published.inputs(self._pipeline, picture, hole) if self.published.inputs else {}
        output = self._pipeline(
            **{"image": Image.fromarray(picture), "mask_image": Image.fromarray(hole * 255), **self._call, **more},
            height=size[0],
            width=size[1],
            generator=torch_generator(generator),
            output_type="np",
        )
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise BadImage("refused_by_safety_checker", "the pipeline's safety checker blanked its result")
        filled = (output.images[0] * 255).round().astype(np.uint8)
        return Decomposition(resized(filled, image.shape[:2]))

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) nearest to the native size that the VAE and three halvings of the network divide."""
        multiple, native = 8 * int(self._pipeline.vae_scale_factor), self.published.native
        if native and self.published.fit == "square":
            width = height = native
        side = min(width, height) if self.published.fit == "shorter" else max(width, height)
        scale = native / side if native else 1.0
        return max(round(height * scale / multiple), 1) * multiple, max(round(width * scale / multiple), 1) * multiple


def revision_under(revision: str, prompt: str) -> str:
    """A revision that tells results under a prompt of the user's from those under the published one."""
    return f"{revision} prompt {prompt!r}" if prompt else revision


def torch_generator(generator: np.random.Generator) -> Any:
    """A torch generator on the CPU, seeded by the case's."""
    import torch

    return torch.Generator("cpu").manual_seed(int(generator.integers(2**63)))


# ---- the published calls


def _learned_tokens(task: str) -> str:
    """PowerPaint's name of a task, spelt out as the tokens that it was learnt as."""
    return " ".join(f"{task}_{index}" for index in range(_TOKENS_PER_TASK))


def _expect_learned_tokens(pipeline: Any) -> None:
    known = pipeline.tokenizer.get_vocab()
    wanted = f"{_learned_tokens('P_ctxt')} {_learned_tokens('P_obj')}".split()
    if missing := [token for token in wanted if token not in known]:
        raise UsageError(f"expected PowerPaint's learned tokens in the tokenizer, {', '.join(missing)} are missing")


def _picture_without_hole(pipeline: Any, picture: U8, hole: U8) -> Mapping[str, Any]:
    """The condition of ControlNet 1.1's inpainting network: the picture in 0..1, and -1 in the hole."""
    import torch

    colour = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return {"control_image": torch.where(torch.from_numpy(hole).bool(), -1.0, colour)}


def _redirected(pipeline: Any, picture: U8, hole: U8) -> Mapping[str, Any]:
    """Attentive Eraser's mask, which the attention is told as well."""
    from PIL import Image

    grown = blurred_over(hole)
    redirect_attention(pipeline.unet, grown)
    return {"mask_image": Image.fromarray(grown * 255)}


_SD_GUIDANCE = {"num_inference_steps": 50, "guidance_scale": 7.5}
# Under an empty prompt both sides of Stable Diffusion's guidance are the same: leaving it out halves the time.
_IDLE = {"guidance_scale": 1.0}

PUBLISHED: dict[str, Published] = {
    "sd-inpaint": Published(weights=("sd-inpaint",), native=512, call=_SD_GUIDANCE, unprompted=_IDLE),
    # The model card's call, which asks for a strength below 1.
    "sdxl-inpaint": Published(
        weights=("sdxl-inpaint",),
        native=1024,
        call={"num_inference_steps": 20, "guidance_scale": 8.0, "strength": 0.99},
    ),
    "flux-fill": Published(
        weights=("flux-fill",),
        native=1024,
        call={"num_inference_steps": 50, "guidance_scale": 30.0, "max_sequence_length": 512},
    ),
    # Zhuang et al. 2024 (arXiv 2312.03594), version 1: towards the context's tokens, away from the object's.
    "powerpaint": Published(
        weights=("powerpaint",),
        native=640,
        fit="shorter",
        call={
            "prompt": f"empty scene blur {_learned_tokens('P_ctxt')}",
            "negative_prompt": _learned_tokens("P_obj"),
            "num_inference_steps": 45,
            "guidance_scale": 12.0,
        },
        prepare=_expect_learned_tokens,
    ),
    # Zhang et al. 2023 (arXiv 2302.05543), called as diffusers documents the inpainting network.
    "controlnet-inpaint": Published(
        weights=("sd15", "controlnet-inpaint"),
        native=512,
        call={"num_inference_steps": 20, "eta": 1.0, "guidance_scale": 7.5},
        unprompted=_IDLE,
        pipeline="StableDiffusionControlNetInpaintPipeline",
        scheduler=("DDIMScheduler", {}),
        inputs=_picture_without_hole,
    ),
    # Li et al. 2025 (arXiv 2501.00740): the repository's inference script, which runs without guidance.
    "rorem": Published(
        weights=("rorem",),
        native=512,
        fit="square",
        call={
            "prompt": "4K, high quality, masterpiece, Highly detailed, Sharp focus, Professional, photorealistic, "
            "realistic",
            "num_inference_steps": 50,
            "guidance_scale": 1.0,
            "strength": 0.99,
        },
        dilate=20,
    ),
    # Sun et al. 2025 (arXiv 2412.12974). Its removal guidance has the form of classifier-free guidance between two
    # passes under the same empty prompt, of which the second sees redirected attention; see ``attentive_eraser``.
    "attentive-eraser": Published(
        weights=("sdxl-base",),
        native=1024,
        fit="square",
        call={"negative_prompt": "", "num_inference_steps": 50, "guidance_scale": 9.0, "strength": 0.8},
        pipeline="StableDiffusionXLInpaintPipeline",
        scheduler=(
            "DDIMScheduler",
            {
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "set_alpha_to_one": False,
            },
        ),
        inputs=_redirected,
    ),
}


# ---- loading


def load_published(
    name: str, weights: Path | None = None, prompt: str = "", device: str | None = None
) -> PipelineRemover:
    """Load a row of ``PUBLISHED``.

    Args:
        name: its key.
        weights: the folder given by ``--weights``, looked into before the hub cache.
        prompt: replaces the published one.
        device: None = CUDA (bfloat16) where there is one, else the CPU (float32).

    Raises:
        UsageError: the folder holds another pipeline.
        MissingWeights: weights are not on this machine; says which, and the command that gets them.
    """
    published = PUBLISHED[name]
    folder, *networks = (locate(row, weights) for row in published.weights)
    parts = {"controlnet": load_part("ControlNetModel", networks[0], variant="fp16")} if networks else {}
    pipeline = load_pipeline(folder, published.pipeline, device, **parts)
    if published.scheduler:
        pipeline.scheduler = _scheduler(pipeline.scheduler, *published.scheduler)
    if published.prepare:
        published.prepare(pipeline)
    revision = "+".join(revision_of(path) for path in (folder, *networks))
    return PipelineRemover(pipeline, published, revision, prompt)


def load_any(folder: Path, prompt: str = "", device: str | None = None) -> PipelineRemover:
    """Load any inpainting pipeline folder of diffusers; it runs at the picture's size with the pipeline's own settings.

    Raises:
        UsageError: the folder names no inpainting pipeline.
        MissingWeights: its safetensors are not complete.
    """
    pipeline = load_pipeline(folder, inpainting_name(folder), device)
    return PipelineRemover(pipeline, Published(weights=(), native=0), revision_of(folder), prompt)


def _scheduler(current: Any, kind: str, settings: Mapping[str, Any]) -> Any:
    """The class ``kind`` with the settings given, or where there are none with those of the current one."""
    import diffusers

    scheduler = getattr(diffusers, kind)
    return scheduler(**settings) if settings else scheduler.from_config(current.config)
