"""Pictures of context drawn from an image: its edges, regions, classes and depth.

Outpaint-and-Remove (arXiv 2511.20996) shows its network edges (Canny), a segmentation (SegFormer) and a depth map
(Depth Anything V2) of the image. The last two need weights; ``superpixels`` is a segmentation that needs none and knows
no classes: regions of like colour, for those without the weights. The paper gives no thresholds and no sizes of models.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...manifests.errors import MissingWeights, UsageError
from ...manifests.weights import locate
from ..depth import load_depth

Bytes = npt.NDArray[np.uint8]
Context = Callable[[Bytes], Bytes]
"""From an 8-bit (H, W, 3) picture to one of its context, of the same shape."""

_SEGMENTATION, _DEPTH = "segformer-b5-ade", "depth-anything-v2-small"
_CANNY = (100, 200)
_SUPERPIXELS = 100


# ---- each kind


def edges(image: Bytes) -> Bytes:
    """White edges on black: Canny with thresholds 100 and 200, ControlNet's defaults."""
    return _three(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *_CANNY))


def superpixels(image: Bytes) -> Bytes:
    """About a hundred regions of like colour (SLIC), each in its mean colour. Not a segmentation into objects."""
    from skimage.color import label2rgb
    from skimage.segmentation import slic

    labels = slic(image, n_segments=_SUPERPIXELS, start_label=1)
    return np.asarray(label2rgb(labels, image, kind="avg", bg_label=0), np.uint8)  # type: ignore[no-untyped-call]


class Segmentation:
    """SegFormer's classes as colours, from a folder of transformers, offline; no code and no pickle is loaded.

    Args:
        path: the folder: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        UsageError: the folder holds no network for semantic segmentation.
        MissingWeights: the folder is not complete, or holds no safetensors.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

        reader: Any = AutoImageProcessor
        try:
            network: Any = AutoModelForSemanticSegmentation.from_pretrained(
                path, local_files_only=True, use_safetensors=True
            )
            self._processor = reader.from_pretrained(path, local_files_only=True)
        except ValueError as error:
            raise UsageError(f"expected a segmentation network, but {path} cannot be read: {error}") from error
        except OSError as error:
            raise MissingWeights(f"expected a complete segmentation network in {path}: {error}") from error
        self._network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"), torch.float32).eval()

    def __call__(self, image: Bytes) -> Bytes:
        """Colour every pixel of an 8-bit (H, W, 3) picture by its class, (H, W, 3)."""
        pixels = self._processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = self._network(pixels.to(self._network.device)).logits
            full = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
        classes: npt.NDArray[np.int64] = full[0].argmax(0).cpu().numpy()
        return palette(full.shape[1])[classes]


def palette(classes: int) -> Bytes:
    """Colours of classes, (classes, 3), as Pascal VOC's: the bits of a class's number dealt out to red, green, blue."""
    numbers = np.arange(1, classes + 1)
    colours = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _depth(weights: Path | None) -> Context:
    network = load_depth(_DEPTH, weights)
    return lambda image: _three((network(image) * 255).round().astype(np.uint8))


def _three(grey: npt.NDArray[Any]) -> Bytes:
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, 2)


CONTEXTS: dict[str, Callable[[Path | None], Context]] = {
    "edges": lambda weights: edges,
    "superpixels": lambda weights: superpixels,
    "segmentation": lambda weights: Segmentation(locate(_SEGMENTATION, weights)),
    "depth": _depth,
}
"""How each kind is loaded, given the folder of ``--weights``."""


# ---- all of them


class Contexts:
    """Draws the pictures of context of a batch.

    Args:
        kinds: names in ``CONTEXTS``, in the order in which their pictures come.
        weights: the folder given by ``--weights``; the hub cache comes second.
        meta: only shapes will be asked for: no weights are read.

    Raises:
        UsageError: an unknown kind.
        MissingWeights: a kind's weights are not on this machine; says the command that gets them.
    """

    def __init__(self, kinds: Sequence[str], weights: Path | None = None, *, meta: bool = False) -> None:
        require_known(kinds)
        self.kinds = tuple(kinds)
        self._draw = () if meta else tuple(CONTEXTS[kind](weights) for kind in kinds)

    def __call__(self, images: Tensor) -> Tensor:
        """Draw, one picture after the other on the CPU or on the device of a kind's network.

        Args:
            images: (N, 3, H, W), float in 0..1; they are seen as 8-bit pictures.

        Returns:
            (N, kinds, 3, H, W), float32 in 0..1, on the device of ``images``; without contents on the meta device.
        """
        count, _, height, width = images.shape
        drawn = torch.empty(count, len(self.kinds), 3, height, width, device=images.device)
        if images.is_meta:
            return drawn
        for number, image in enumerate(images.permute(0, 2, 3, 1)):
            pixels = (image.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
            for kind, draw in enumerate(self._draw):
                drawn[number, kind] = torch.from_numpy(draw(pixels)).permute(2, 0, 1) / 255
        return drawn


def require_known(kinds: Sequence[str]) -> None:
    """Refuse kinds of context that nobody can draw.

    Raises:
        UsageError: names the unknown kind and those that there are.
    """
    for kind in kinds:
        if kind not in CONTEXTS:
            raise UsageError(f"expected kinds of context out of {', '.join(CONTEXTS)}, got {kind!r}")
