"""Fills a hole with a diffusers inpainting pipeline that lies on this machine: an ``Inpainter`` of ``inpaint``."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..manifests.errors import BadImage
from ..manifests.weights import revision_of
from .diffusers_folders import inpainting_name, load_pipeline

Bytes = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


class DiffusersInpaint:
    """Any inpainting pipeline folder of diffusers (Stable Diffusion 1 to 3, SDXL, FLUX Fill, Qwen-Image …), offline.

    Its ``model_index.json`` names the pipeline class. Only diffusers' own classes and safetensors are loaded: no code
    and no pickle from the folder. The picture is resized to what the model takes and back; noise is drawn on the CPU.

    Args:
        path: the pipeline folder.
        name: what provenance records call it; the folder's name by default.
        prompt: Text2Layer found the empty one as good as "background".
        steps: sampling steps.
        guidance: classifier-free guidance scale; None = the pipeline's own.
        side: longest side in pixels that the model works at; None = the picture's.
        device: None = CUDA (bfloat16) where there is one, else the CPU (float32).

    Raises:
        UsageError: the folder holds no inpainting pipeline.
        MissingWeights: the pipeline's safetensors are not complete.

    """

    def __init__(
        self,
        path: Path,
        prompt: str = "",
        *,
        name: str | None = None,
        steps: int = 50,
        guidance: float | None = None,
        side: int | None = None,
        device: str | None = None,
    ) -> None:
        self.name, self.revision = name or f"diffusers:{path.resolve().name}", revision_of(path)
        self.prompt, self.steps, self.side = prompt, steps, side
        self._guidance = {} if guidance is None else {"guidance_scale": guidance}
        self._pipeline = load_pipeline(path, inpainting_name(path), device)

    def __call__(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        """Fill the hole of an 8-bit (H, W, 3) picture.

        Raises:
            BadImage: ``refused_by_safety_checker``, where the pipeline has one and it blanked the result.

        """
        import torch
        from PIL import Image

        height, width = hole.shape
        size = self._working_size(width, height)
        output = self._pipeline(
            prompt=self.prompt,
            image=Image.fromarray(_scaled(image, size)),
            mask_image=Image.fromarray((_scaled(hole.astype(np.float32), size) > 0).astype(np.uint8) * 255),
            width=size[0],
            height=size[1],
            num_inference_steps=self.steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **self._guidance,
        )
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise BadImage("refused_by_safety_checker", f"{self.name} blanked its result for seed {seed}")
        filled = (output.images[0] * 255).round().astype(np.uint8)
        return np.asarray(_scaled(filled, (width, height)), np.uint8)

    def _working_size(self, width: int, height: int) -> tuple[int, int]:
        """Choose the (width, height) nearest to the picture's that the VAE and three halvings of the network divide."""
        multiple = 8 * int(self._pipeline.vae_scale_factor)
        scale = 1.0 if self.side is None else self.side / max(width, height)
        return max(round(width * scale / multiple), 1) * multiple, max(round(height * scale / multiple), 1) * multiple


def _scaled(pixels: Any, size: tuple[int, int]) -> Any:
    """Resize an (H, W) or (H, W, 3) array to ``size`` (width, height): averaged down, interpolated up."""
    shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
